//! Apps that have buffers, passes and devices of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use rayon::prelude::*;
use serde_json::json;
use tilewise::attention::{AttentionLayout, AttentionSpec, Mask};
use tilewise::tensor::{Dtype, HostTensor, Layout, TensorView};
use tilewise::verify::{Case, cases, run_case};
use tilewise::{Engine, EngineOptions, Error, PlanError};

use crate::support::{Tensors, assert_near, engine, floor_engine, inputs, problem, run, tensor};

/// Runs cases in one buffer each.
fn run_in_one_buffer(engine: impl Fn() -> &'static Engine + Sync, chosen: Vec<Case>) {
    let failures: Vec<String> = chosen
        .into_par_iter()
        .map(|case| Case { one_buffer: true, name: format!("{} in one buffer", case.name), ..case })
        .filter_map(|case| run_case(engine(), &case, None).err().map(|error| error.to_string()))
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn every_operator_takes_tensors_and_outputs_in_one_buffer() {
    run_in_one_buffer(engine, cases().into_iter().filter(|case| case.core).collect());
}

#[test]
fn one_buffer_serves_every_operator_at_the_floor_too() {
    let mut groups = std::collections::BTreeSet::new();
    let first = |case: &Case| {
        let dtype = case.spec["dtype"].to_string();
        groups.insert((case.group().to_owned(), case.spec["op"].to_string(), dtype))
    };
    let mut chosen = cases();
    chosen.retain(first);
    run_in_one_buffer(floor_engine, chosen);
}

/// A buffer of these floats, which a call may use.
fn arena(engine: &Engine, values: &[f64]) -> wgpu::Buffer {
    let tensor = HostTensor::from_f64(Dtype::F32, &[values.len() as u64], values);
    engine.upload("arena", &tensor).unwrap()
}

fn floats(engine: &Engine, buffer: &wgpu::Buffer) -> Vec<f64> {
    let bytes = engine.download(buffer, ..).unwrap();
    bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
}

const SHAPE: [u64; 4] = [1, 2, 3, 4];
const LEN: u64 = 24;

fn view(buffer: &wgpu::Buffer, offset: u64) -> TensorView<'_> {
    let layout = Layout::new(&SHAPE, &[24, 12, 4, 1], offset).unwrap();
    TensorView::strided(buffer, Dtype::F32, layout)
}

#[test]
fn an_output_over_another_tensor_is_an_error_that_names_both() {
    let buffer = arena(engine(), &[1.0; 100]);
    let submit = |out: u64| {
        let tensors = [
            ("q", view(&buffer, 0)),
            ("k", view(&buffer, LEN)),
            ("v", view(&buffer, 2 * LEN)),
            ("out", view(&buffer, out)),
        ];
        engine().submit(&AttentionSpec::default(), &tensors)
    };
    submit(3 * LEN).unwrap();
    submit(3 * LEN + 1).unwrap();
    for (out, message) in [
        (
            3 * LEN - 1,
            "out: expected bytes of its own, since it is written, got bytes 284..380 of a buffer in which v has 192..288",
        ),
        (
            1,
            "out: expected bytes of its own, since it is written, got bytes 4..100 of a buffer in which k has 96..192",
        ),
    ] {
        let error = submit(out).unwrap_err().to_string();
        assert!(error == message || out == 1 && error.contains("in which q has 0..96"), "{error}");
    }
    let error = submit(3 * LEN + 5).unwrap_err().to_string();
    assert!(error.starts_with("out's buffer: expected "), "{error}");
}

#[test]
fn an_output_may_be_columns_of_the_rows_that_it_is_computed_from() {
    let (tokens, row) = (5_u32, 4 * 8_u32);
    let values: Vec<f64> = (0..tokens * row).map(|i| f64::from(i * 37 % 19) / 8.0 - 1.0).collect();
    let buffer = arena(engine(), &values);
    let strides = [u64::from(tokens * row), u64::from(row), 8, 1];
    let columns = |index: u64| {
        let layout = Layout::new(&[1, u64::from(tokens), 1, 8], &strides, 8 * index).unwrap();
        TensorView::strided(&buffer, Dtype::F32, layout)
    };
    let spec = AttentionSpec { layout: AttentionLayout::Bshd, ..AttentionSpec::default() };
    let names = ["q", "k", "v", "out"].into_iter().zip(0..);
    let tensors: Vec<_> = names.map(|(name, index)| (name, columns(index))).collect();
    engine().submit(&spec, &tensors).unwrap();
    let taken = |values: &[f64], index: usize| -> Vec<f64> {
        values.chunks(row as usize).flat_map(|row| row[8 * index..][..8].to_vec()).collect()
    };
    let host = |index| HostTensor::from_f64(Dtype::F32, &[1, 1, 5, 8], &taken(&values, index));
    let inputs = ["q", "k", "v"].into_iter().zip(0..);
    let inputs = inputs.map(|(name, index)| (name.to_owned(), host(index))).collect();
    let after = floats(engine(), &buffer);
    assert_near("out", &taken(&after, 3), &run(&json!({}), &inputs)["out"], 1e-6);
    (0..3).for_each(|index| assert_eq!(taken(&after, index), taken(&values, index)));
}

/// Halves of the last row of out share words with what lies behind, which stays as it was.
#[test]
fn an_outputs_last_half_word_is_its_neighbours_too() {
    let shape = [1, 1, 3, 5];
    let host = |seed| tensor(Dtype::F16, &shape, seed);
    let tensors =
        Tensors::from([("q", 1), ("k", 2), ("v", 3)].map(|(n, s)| (n.to_owned(), host(s))));
    let spec = AttentionSpec { dtype: Dtype::F16, ..AttentionSpec::default() };
    let poison = HostTensor { dtype: Dtype::F16, shape: shape.to_vec(), bytes: vec![0xff; 30] };
    let parts = [&tensors["q"], &poison, &tensors["k"], &tensors["v"], &tensors["q"]];
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.clone()).collect();
    let whole = HostTensor { dtype: Dtype::F16, shape: vec![75], bytes: bytes.clone() };
    let buffer = engine().upload("arena", &whole).unwrap();
    let view = |offset| {
        let layout = Layout::new(&shape, &[15, 15, 5, 1], offset).unwrap();
        TensorView::strided(&buffer, Dtype::F16, layout)
    };
    let views = [("q", view(0)), ("out", view(15)), ("k", view(30)), ("v", view(45))];
    engine().submit(&spec, &views).unwrap();
    let after = engine().download(&buffer, ..150).unwrap();
    assert_eq!((&after[..30], &after[60..]), (&bytes[..30], &bytes[60..]));
    let out =
        HostTensor { dtype: Dtype::F16, shape: shape.to_vec(), bytes: after[30..60].to_vec() };
    let expected = &run(&json!({"dtype": "f16"}), &tensors)["out"];
    assert_near("out", &out.to_f64(), expected, 1e-3);
}

#[test]
fn views_that_move_by_a_layer_make_nothing_anew() {
    let engine = Engine::open(&EngineOptions::default()).unwrap();
    let layers = 8;
    let kv = 4 * 64;
    let values: Vec<f64> =
        (0..layers * 2 * kv + 512).map(|i| f64::from(i as u32 % 23) / 9.0 - 1.0).collect();
    let buffer = arena(&engine, &values);
    let rows = |seq: u64, offset: u64| {
        let layout = Layout::new(&[1, 1, seq, 64], &[seq * 64, seq * 64, 64, 1], offset).unwrap();
        TensorView::strided(&buffer, Dtype::F32, layout)
    };
    let spec = AttentionSpec { mask: Mask::causal(), ..AttentionSpec::default() };
    let record = |layer: u64| {
        let first = 2 * layer * kv;
        let end = layers * 2 * kv;
        let tensors = [
            ("q", rows(1, end)),
            ("k", rows(4, first)),
            ("v", rows(4, first + kv)),
            ("out", rows(1, end + 256)),
        ];
        let mut encoder =
            engine.device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        engine.record_in(&mut pass, &spec, &tensors).unwrap();
        drop(pass);
        engine.queue().submit([encoder.finish()]);
        engine.memory()
    };
    let first = record(0);
    for layer in (0..layers).chain(0..layers) {
        assert_eq!(record(layer), first, "layer {layer}");
    }
    for layer in 0..layers {
        record(layer);
        let at = |first: u64, count: u64| values[first as usize..][..count as usize].to_vec();
        let host =
            |seq, values: Vec<f64>| HostTensor::from_f64(Dtype::F32, &[1, 1, seq, 64], &values);
        let inputs = Tensors::from([
            ("q".to_owned(), host(1, at(layers * 2 * kv, 64))),
            ("k".to_owned(), host(4, at(2 * layer * kv, kv))),
            ("v".to_owned(), host(4, at((2 * layer + 1) * kv, kv))),
        ]);
        let out = floats(&engine, &buffer)[(layers * 2 * kv + 256) as usize..][..64].to_vec();
        let expected = run(&json!({"mask": {"band": {"right": 0}}}), &inputs);
        assert_near("out", &out, &expected["out"], 1e-6);
    }
}

#[test]
fn a_call_of_any_plan_is_recorded_into_an_open_pass() {
    let tensors = inputs([1, 4, 2, 1, 600, 40]);
    let problem = problem(&json!({}), &tensors);
    use tilewise::operator::Operator as _;
    let tiles = problem.candidates(engine().limits()).unwrap()[0].with_kv_splits(3);
    let prepared = engine().prepare(&problem, Some(tiles)).unwrap();
    assert!(prepared.plan().steps().len() > 1);
    let mut buffers: Vec<(&str, wgpu::Buffer)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), engine().upload(name, tensor).unwrap()))
        .collect();
    buffers.push(("out", engine().upload("out", &tensors["q"]).unwrap()));
    let bound: Vec<(&str, &wgpu::Buffer)> = buffers.iter().map(|(n, b)| (*n, b)).collect();
    let mut encoder =
        engine().device().create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let timed = engine().device().features().contains(wgpu::Features::TIMESTAMP_QUERY);
    let queries = timed.then(|| {
        engine().device().create_query_set(&wgpu::QuerySetDescriptor {
            label: None,
            ty: wgpu::QueryType::Timestamp,
            count: 2,
        })
    });
    let timestamp_writes = queries.as_ref().map(|query_set| wgpu::ComputePassTimestampWrites {
        query_set,
        beginning_of_pass_write_index: Some(0),
        end_of_pass_write_index: Some(1),
    });
    let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
    let mut pass = encoder.begin_compute_pass(&descriptor);
    prepared.record_in(&mut pass, &bound).unwrap();
    prepared.record_in(&mut pass, &bound).unwrap();
    drop(pass);
    engine().queue().submit([encoder.finish()]);
    let out = floats(engine(), &buffers[3].1);
    assert_near("out", &out, &run(&json!({}), &tensors)["out"], 1e-5);
}

/// Counts how often a task is woken.
#[derive(Default)]
struct Wakes(AtomicUsize, std::sync::Condvar, std::sync::Mutex<bool>);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        *self.2.lock().unwrap() = true;
        self.1.notify_all();
    }
}

/// Polls a future when it is woken alone; how often that was.
fn polls_of<T>(future: impl Future<Output = T>) -> (T, usize) {
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    loop {
        polls += 1;
        if let Poll::Ready(made) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return (made, polls);
        }
        let woken = wakes.2.lock().unwrap();
        *wakes.1.wait_while(woken, |woken| !*woken).unwrap() = false;
    }
}

#[test]
fn a_submission_is_awaited_without_a_busy_core() {
    let tensors = inputs([1, 4, 4, 256, 256, 64]);
    let problem = problem(&json!({}), &tensors);
    engine().run(&problem, None, &tensors).unwrap();
    let upload = |(name, tensor): (&String, _)| engine().upload(name, tensor).unwrap();
    let buffers: Vec<_> = tensors.iter().map(upload).collect();
    let out = engine().upload("out", &tensors["q"]).unwrap();
    let mut views: Vec<_> = tensors
        .iter()
        .zip(&buffers)
        .map(|((name, host), buffer)| {
            (name.as_str(), TensorView::contiguous(buffer, Dtype::F32, &host.shape))
        })
        .collect();
    views.push(("out", TensorView::contiguous(&out, Dtype::F32, &tensors["q"].shape)));
    for _ in 0..3 {
        engine().submit(&AttentionSpec::default(), &views).unwrap();
        let (waited, polls) = polls_of(engine().wait_async());
        waited.unwrap();
        assert!(polls <= 4, "{polls} polls");
        let (read, polls) = polls_of(engine().download_async(&out, ..));
        assert_eq!(read.unwrap().len() as u64, out.size());
        assert!(polls <= 4, "{polls} polls");
    }
}

#[test]
fn a_device_below_the_floor_is_refused_with_both_numbers() {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let adapter = adapters.first().expect("an adapter");
    let opened = |required_limits| {
        let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        Engine::from_device(device, queue)
    };
    let tensors = inputs([1, 1, 1, 2, 2, 8]);
    let problem = problem(&json!({}), &tensors);
    let floor = wgpu::Limits::defaults();
    let fewer = |change: fn(&mut wgpu::Limits)| {
        let mut limits = floor.clone();
        change(&mut limits);
        match opened(limits).prepare(&problem, None) {
            Err(Error::Plan(error @ PlanError::Limit { .. })) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        fewer(|limits| limits.max_storage_buffers_per_shader_stage = 4),
        "any kernel: needs 8 storage buffers (max_storage_buffers_per_shader_stage), the device has 4"
    );
    let error = fewer(|limits| limits.max_compute_workgroup_storage_size = 8192);
    assert!(error.contains("16384") && error.contains("8192"), "{error}");
    let error = fewer(|limits| limits.max_compute_invocations_per_workgroup = 128);
    assert!(error.contains("256") && error.contains("128"), "{error}");
    opened(floor.clone()).prepare(&problem, None).unwrap();
}

/// What an engine holds of buffers goes when it is told to, and is not held at all of a call that comes once.
#[test]
fn buffers_that_the_app_drops_are_not_held_for_ever() {
    let (device, queue) = {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        let wanted = wgpu::DeviceDescriptor::default();
        pollster::block_on(adapters.first().expect("an adapter").request_device(&wanted)).unwrap()
    };
    let engine = Engine::from_device(device.clone(), queue);
    let held = |label: &str| {
        engine.wait().unwrap();
        let report = device.generate_allocator_report();
        report.map(|report| report.allocations.iter().any(|it| it.name == label))
    };
    for (label, times) in [("once", 1), ("often", 4)] {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size: 400,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
        let names = ["q", "k", "v", "out"].into_iter().zip(0..);
        let tensors: Vec<_> = names.map(|(name, at)| (name, view(&buffer, at * LEN))).collect();
        for _ in 0..times {
            engine.submit(&AttentionSpec::default(), &tensors).unwrap();
        }
        drop(tensors);
        drop(buffer);
        engine.wait().unwrap();
        if times > 1 {
            engine.free_scratch();
        }
        // Not every backend tells.
        assert!(!held(label).unwrap_or(false), "{label}");
    }
}
