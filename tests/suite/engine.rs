//! The engine as apps use it.

use std::sync::{Arc, Weak};

use serde_json::{Value, json};
use tilewise::attention::AttentionSpec;
use tilewise::matmul::MatmulSpec;
use tilewise::neighborhood::NeighborhoodSpec;
use tilewise::operator::{Operator, Spec};
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, TensorView};
use tilewise::{Engine, EngineOptions, Error, GpuError, SpecError};

use crate::support::{Tensors, engine, floor_engine, inputs, problem, run};

const EXTENTS: [u64; 6] = [1, 4, 2, 33, 70, 40];

fn spec(json: &Value) -> AttentionSpec {
    serde_json::from_value(json.clone()).unwrap()
}

fn causal() -> Value {
    json!({"mask": {"band": {"right": 0}}})
}

/// The inputs' buffers and one for out.
fn uploaded(engine: &Engine, tensors: &Tensors) -> Vec<(String, wgpu::Buffer)> {
    let mut buffers: Vec<(String, wgpu::Buffer)> = tensors
        .iter()
        .map(|(name, tensor)| (name.clone(), engine.upload(name, tensor).unwrap()))
        .collect();
    buffers.push(("out".to_owned(), engine.upload("out", &tensors["q"]).unwrap()));
    buffers
}

fn views<'a>(
    tensors: &Tensors,
    buffers: &'a [(String, wgpu::Buffer)],
) -> Vec<(&'a str, TensorView<'a>)> {
    let shape = |name: &str| tensors[if name == "out" { "q" } else { name }].shape.clone();
    buffers
        .iter()
        .map(|(name, buffer)| {
            (name.as_str(), TensorView::contiguous(buffer, Dtype::F32, &shape(name)))
        })
        .collect()
}

fn read(engine: &Engine, buffer: &wgpu::Buffer) -> Vec<f64> {
    let bytes = engine.download(buffer, ..).unwrap();
    bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

#[test]
fn the_devices_own_clock_times_calls_and_their_steps() {
    let tensors = inputs(EXTENTS);
    let problem = problem(&causal(), &tensors);
    let tiles = problem.candidates(engine().limits()).unwrap()[0].with_kv_splits(2);
    let call = Resident::new(engine(), &problem, Some(tiles), &tensors).unwrap();
    let offered = engine().device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
    // More calls than begin or end what is timed.
    for times in [1, 5] {
        let ms = call.run_timed(times).unwrap();
        assert_eq!(ms.is_some(), offered);
        assert!(ms.is_none_or(|ms| (0.0..60e3).contains(&ms)), "{ms:?}");
    }
    let steps = call.run_steps().unwrap();
    assert_eq!(steps.as_ref().map(Vec::len), offered.then_some(2), "forward and merge");
    assert!(steps.is_none_or(|steps| steps.iter().all(|ms| (0.0..60e3).contains(ms))));
    let floor = Resident::new(floor_engine(), &problem, None, &tensors).unwrap();
    assert!(floor.run_timed(1).unwrap().is_none() && floor.run_steps().unwrap().is_none());
}

#[test]
fn many_threads_use_one_engine() {
    let tensors = inputs(EXTENTS);
    let expected = run(&causal(), &tensors);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let buffers = uploaded(engine(), &tensors);
                    engine().submit(&spec(&causal()), &views(&tensors, &buffers)).unwrap();
                    assert_eq!(read(engine(), &buffers.last().unwrap().1), expected["out"]);
                }
            });
        }
    });
}

/// A device as an app would open it.
fn own_device() -> (wgpu::Device, wgpu::Queue) {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.first().expect("an adapter");
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        ..wgpu::DeviceDescriptor::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).unwrap()
}

#[test]
fn an_app_records_attention_between_its_own_work() {
    let (device, queue) = own_device();
    let engine = Engine::from_device(device.clone(), queue.clone());
    let tensors = inputs(EXTENTS);
    let mut buffers = uploaded(&engine, &tensors);
    let source = engine.upload("q's source", &tensors["q"]).unwrap();
    for (name, buffer) in &mut buffers {
        if name == "q" {
            *buffer = engine
                .upload("q", &crate::support::tensor(Dtype::F32, &tensors["q"].shape, 99))
                .unwrap();
        }
    }
    let result = engine.upload("result", &tensors["q"]).unwrap();
    let find = |name: &str| &buffers.iter().find(|(known, _)| known == name).unwrap().1;
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(&source, 0, find("q"), 0, source.size());
    engine.record(&mut encoder, &spec(&causal()), &views(&tensors, &buffers)).unwrap();
    encoder.copy_buffer_to_buffer(find("out"), 0, &result, 0, result.size());
    encoder.clear_buffer(find("out"), 0, None);
    queue.submit([encoder.finish()]);
    crate::support::assert_near(
        "out",
        &read(&engine, &result),
        &run(&causal(), &tensors)["out"],
        1e-6,
    );
    assert!(read(&engine, find("out")).iter().all(|value| *value == 0.0));
}

#[test]
fn the_one_door_takes_the_spec_of_any_operator() {
    let tensor = |shape: &[u64], seed| crate::support::tensor(Dtype::F32, shape, seed);
    let (x, w) = (tensor(&[3, 32], 1), tensor(&[5, 32], 2));
    let matmul = Tensors::from([("x".to_owned(), x), ("w".to_owned(), w)]);
    assert_asked_as_prepared(&MatmulSpec::default(), &matmul, &[3, 5]);
    let shape = [1, 6, 7, 2, 8];
    let inputs = ["q", "k", "v"].iter().zip(1..);
    let inputs = inputs.map(|(name, seed)| ((*name).to_owned(), tensor(&shape, seed))).collect();
    let spec = NeighborhoodSpec { window: vec![3, 3], ..NeighborhoodSpec::default() };
    assert_asked_as_prepared(&spec, &inputs, &shape);
}

/// Holds what [`Engine::submit`] writes to `out` against [`Engine::run`].
fn assert_asked_as_prepared<S: Spec>(spec: &S, inputs: &Tensors, shape: &[u64]) {
    let problem = spec.ask(&tilewise::tensor::descs(inputs)).unwrap();
    let expected = engine().run(&problem, None, inputs).unwrap();
    let upload = |(name, host): (&String, _)| (name.clone(), engine().upload(name, host).unwrap());
    let buffers: Vec<_> = inputs.iter().map(upload).collect();
    let out = buffer(4 * shape.iter().product::<u64>(), buffers[0].1.usage());
    let view = |(name, buffer)| {
        let shape = &inputs[name].shape;
        (String::as_str(name), TensorView::contiguous(buffer, Dtype::F32, shape))
    };
    let mut views: Vec<_> = buffers.iter().map(|(name, buffer)| view((name, buffer))).collect();
    views.push(("out", TensorView::contiguous(&out, Dtype::F32, shape)));
    for _ in 0..2 {
        engine().submit(spec, &views).unwrap();
        assert_eq!(read(engine(), &out), expected["out"].to_f64());
    }
}

#[test]
fn the_async_door_needs_no_threads() {
    let tensors = inputs(EXTENTS);
    let problem = problem(&causal(), &tensors);
    let out = pollster::block_on(async {
        let engine = Engine::open_async(&EngineOptions::default()).await.unwrap();
        let prepared = engine.prepare_async(&problem, None).await.unwrap();
        let buffers = uploaded(&engine, &tensors);
        let bound: Vec<(&str, &wgpu::Buffer)> =
            buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
        let mut encoder =
            engine.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        prepared.record(&mut encoder, &bound).unwrap();
        engine.queue().submit([encoder.finish()]);
        let (_, out) = buffers.last().unwrap();
        engine.download_async(out, ..).await.unwrap()
    });
    let expected = run(&causal(), &tensors);
    let out: Vec<f64> =
        out.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
    assert_eq!(out, expected["out"]);
}

#[test]
fn a_lost_device_is_an_error_and_a_new_engine_goes_on() {
    let tensors = inputs(EXTENTS);
    let problem = problem(&causal(), &tensors);
    let lost = Engine::open(&EngineOptions::default()).unwrap();
    assert!(lost.run(&problem, None, &tensors).is_ok());
    lost.device().destroy();
    let _ = lost.device().poll(wgpu::PollType::Poll);
    for _ in 0..2 {
        let error = lost.run(&problem, None, &tensors).unwrap_err();
        assert!(matches!(error, Error::Gpu(GpuError::Lost { .. })), "{error:?}");
    }
    let next = Engine::open(&EngineOptions::default()).unwrap();
    assert!(next.run(&problem, None, &tensors).is_ok());
}

/// The error of a call whose buffer `name` is `buffer`.
fn misused(name: &str, buffer: &wgpu::Buffer) -> String {
    let tensors = inputs(EXTENTS);
    let mut buffers = uploaded(engine(), &tensors);
    for (known, place) in &mut buffers {
        if known == name {
            *place = buffer.clone();
        }
    }
    match engine().submit(&spec(&causal()), &views(&tensors, &buffers)) {
        Err(Error::Spec(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn buffer(size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
    let label = Some("misused");
    engine().device().create_buffer(&wgpu::BufferDescriptor {
        label,
        size,
        usage,
        mapped_at_creation: false,
    })
}

#[test]
fn a_misused_buffer_is_the_callers_error() {
    let storage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let error = misused("k", &buffer(1 << 20, wgpu::BufferUsages::COPY_DST));
    assert!(error.starts_with("k's buffer: expected usage STORAGE, got"), "{error}");
    let error = misused("v", &buffer(2 * 70 * 40 * 4 - 4, storage));
    assert_eq!(error, "v's buffer: expected 22400 bytes (whole words), got 22396");
}

#[test]
fn an_output_over_an_input_is_the_callers_error() {
    let tensors = inputs(EXTENTS);
    let mut buffers = uploaded(engine(), &tensors);
    let q = buffers.iter().find(|(name, _)| name == "q").unwrap().1.clone();
    buffers.last_mut().unwrap().1 = q;
    let error = engine().submit(&spec(&causal()), &views(&tensors, &buffers)).unwrap_err();
    assert!(matches!(error, Error::Spec(SpecError::Value { .. })), "{error:?}");
    assert!(error.to_string().starts_with("out: expected bytes of its own"), "{error}");
}

#[test]
fn a_missing_buffer_is_the_callers_error() {
    let tensors = inputs(EXTENTS);
    let problem = problem(&causal(), &tensors);
    let prepared = engine().prepare(&problem, None).unwrap();
    let buffers = uploaded(engine(), &tensors);
    let bound: Vec<(&str, &wgpu::Buffer)> = buffers
        .iter()
        .filter(|(name, _)| name != "k")
        .map(|(name, buffer)| (name.as_str(), buffer))
        .collect();
    let mut encoder =
        engine().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let error = prepared.record(&mut encoder, &bound).unwrap_err().to_string();
    assert_eq!(error, "tensor k is missing (no buffer was given)");
}

#[test]
fn a_dropped_engine_lets_its_device_go() {
    let (device, queue) = own_device();
    let token = Arc::new(());
    let held: Weak<()> = Arc::downgrade(&token);
    device.on_uncaptured_error(Arc::new(move |error| panic!("{error} {token:?}")));
    let engine = Engine::from_device(device, queue);
    let tensors = inputs(EXTENTS);
    let buffers = uploaded(&engine, &tensors);
    engine.submit(&spec(&causal()), &views(&tensors, &buffers)).unwrap();
    engine.run(&problem(&causal(), &tensors), None, &tensors).unwrap();
    engine.wait().unwrap();
    drop(buffers);
    assert!(held.upgrade().is_some());
    drop(engine);
    assert!(held.upgrade().is_none(), "something still holds the device");
}

#[test]
fn a_prepared_call_outlives_its_engine() {
    let tensors = inputs(EXTENTS);
    let problem = problem(&causal(), &tensors);
    let (device, queue) = own_device();
    let engine = Engine::from_device(device.clone(), queue.clone());
    let prepared = engine.prepare(&problem, None).unwrap();
    assert_eq!(problem.outputs(), ["out"]);
    let buffers = uploaded(&engine, &tensors);
    drop(engine);
    let bound: Vec<(&str, &wgpu::Buffer)> =
        buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    prepared.record(&mut encoder, &bound).unwrap();
    queue.submit([encoder.finish()]);
    let engine = Engine::from_device(device, queue);
    let out = read(&engine, &buffers.last().unwrap().1);
    crate::support::assert_near("out", &out, &run(&causal(), &tensors)["out"], 1e-6);
}

#[test]
fn a_prepared_call_is_recorded_again_without_a_new_buffer() {
    let tensors = inputs([1, 4, 2, 1, 600, 40]);
    let problem = problem(&causal(), &tensors);
    let (device, queue) = own_device();
    let engine = Engine::from_device(device.clone(), queue);
    let tiles = problem.candidates(engine.limits()).unwrap()[0].with_kv_splits(3);
    let prepared = engine.prepare(&problem, Some(tiles)).unwrap();
    let buffers = uploaded(&engine, &tensors);
    let bound: Vec<(&str, &wgpu::Buffer)> =
        buffers.iter().map(|(name, buffer)| (name.as_str(), buffer)).collect();
    let record = || {
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        prepared.record(&mut encoder, &bound).unwrap();
        engine.memory()
    };
    let first = record();
    let planned = prepared.plan().scratch_bytes();
    assert!(planned > 0 && first.scratch_bytes >= planned, "{first:?}, planned {planned}");
    assert!((0..8).all(|_| record() == first), "{first:?}, then {:?}", engine.memory());
    engine.free_scratch();
    assert_eq!(engine.memory().scratch_bytes, 0);
    assert!(record().buffers_made > first.buffers_made);
}
