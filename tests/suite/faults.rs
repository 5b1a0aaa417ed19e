//! Faults of an app's device are errors of the calls that meet them, and the app's handlers hear of none.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tilewise::attention::{AttentionProblem, AttentionSpec};
use tilewise::problems::Resident;
use tilewise::tensor::{Dtype, HostTensor, TensorView};
use tilewise::{Engine, Error, GpuError, Prepared, SpecError};

use crate::support::{Tensors, inputs, problem, tensor};

const EXTENTS: [u64; 6] = [1, 2, 1, 5, 9, 16];

/// The first adapter, by an instance that gives devices up when so much of their memory is in use, in percent.
fn adapter(for_device_loss: Option<u8>) -> wgpu::Adapter {
    let guard = wgpu::MemoryBudgetThresholds { for_device_loss, ..Default::default() };
    let descriptor = wgpu::InstanceDescriptor {
        memory_budget_thresholds: guard,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let adapters = wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all());
    pollster::block_on(adapters).into_iter().next().expect("an adapter")
}

/// An app with a device of its own, whose handler of uncaught errors ends the test.
struct App {
    device: wgpu::Device,
    engine: Engine,
    losses: Arc<AtomicUsize>,
}

impl App {
    fn new() -> Self {
        Self::on(&adapter(None))
    }

    fn on(adapter: &wgpu::Adapter) -> Self {
        let opened = adapter.request_device(&wgpu::DeviceDescriptor::default());
        let (device, queue) = pollster::block_on(opened).unwrap();
        device.on_uncaptured_error(Arc::new(|error| panic!("the app was told: {error}")));
        let losses = Arc::new(AtomicUsize::new(0));
        let told = Arc::clone(&losses);
        device.set_device_lost_callback(move |_, _| {
            told.fetch_add(1, Ordering::Relaxed);
        });
        Self { engine: Engine::from_device(device.clone(), queue), device, losses }
    }

    fn losses(&self) -> usize {
        self.losses.load(Ordering::Relaxed)
    }

    fn buffer(&self, label: &str, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }
}

/// A call of attention, made ready while the device lived.
struct Call {
    tensors: Tensors,
    problem: AttentionProblem,
    prepared: Arc<Prepared<AttentionProblem>>,
    resident: Resident<AttentionProblem>,
    buffers: Vec<(&'static str, wgpu::Buffer)>,
}

impl Call {
    fn new(engine: &Engine) -> Self {
        let tensors = inputs(EXTENTS);
        let problem = problem(&json!({}), &tensors);
        let prepared = engine.prepare(&problem, None).unwrap();
        let resident = Resident::new(engine, &problem, None, &tensors).unwrap();
        let upload = |name| (name, engine.upload(name, &tensors[name]).unwrap());
        let mut buffers = ["q", "k", "v"].map(upload).to_vec();
        buffers.push(("out", engine.upload("out", &tensors["q"]).unwrap()));
        Self { tensors, problem, prepared, resident, buffers }
    }

    fn bound(&self) -> Vec<(&str, &wgpu::Buffer)> {
        self.buffers.iter().map(|(name, buffer)| (*name, buffer)).collect()
    }

    fn views(&self) -> Vec<(&str, TensorView<'_>)> {
        let shape = |name: &str| &self.tensors[if name == "out" { "q" } else { name }].shape;
        let view = |(name, buffer)| (name, TensorView::contiguous(buffer, Dtype::F32, shape(name)));
        self.bound().into_iter().map(view).collect()
    }
}

/// A problem that no engine has seen.
fn another() -> (AttentionProblem, Tensors) {
    let tensors = inputs([1, 2, 2, 3, 4, 8]);
    (problem(&json!({"mask": {"band": {"right": 0}}}), &tensors), tensors)
}

type Meets = fn(&App, &Call) -> Result<(), Error>;

/// Every call that needs the device.
const CALLS: [(&str, Meets); 16] = [
    ("prepare", |app, _| app.engine.prepare(&another().0, None).map(drop)),
    ("prepare_async", |app, _| {
        pollster::block_on(app.engine.prepare_async(&another().0, None)).map(drop)
    }),
    ("Prepared::record", |app, call| call.prepared.record(&mut app.encoder(), &call.bound())),
    ("record", |app, call| {
        app.engine.record(&mut app.encoder(), &AttentionSpec::default(), &call.views())
    }),
    ("record_async", |app, call| {
        let spec = AttentionSpec::default();
        let (mut encoder, views) = (app.encoder(), call.views());
        pollster::block_on(app.engine.record_async(&mut encoder, &spec, &views))
    }),
    ("record_in", |app, call| {
        let mut encoder = app.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        app.engine.record_in(&mut pass, &AttentionSpec::default(), &call.views())
    }),
    ("Prepared::record_in", |app, call| {
        let mut encoder = app.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        call.prepared.record_in(&mut pass, &call.bound())
    }),
    ("wait_async", |app, _| Ok(pollster::block_on(app.engine.wait_async())?)),
    ("submit", |app, call| app.engine.submit(&AttentionSpec::default(), &call.views())),
    ("run", |app, call| app.engine.run(&call.problem, None, &call.tensors).map(drop)),
    ("Resident::run", |_, call| call.resident.run(1)),
    ("upload", |app, call| app.engine.upload("q", &call.tensors["q"]).map(drop)),
    ("download", |app, call| app.engine.download(&call.buffers[0].1, ..).map(drop)),
    ("download_async", |app, call| {
        pollster::block_on(app.engine.download_async(&call.buffers[0].1, ..)).map(drop)
    }),
    ("wait", |app, _| Ok(app.engine.wait()?)),
    ("tune", |app, call| app.engine.tune(&call.problem, Duration::from_millis(50)).map(drop)),
];

fn assert_lost(name: &str, met: Result<(), Error>) {
    assert!(matches!(met, Err(Error::Gpu(GpuError::Lost { .. }))), "{name}: {met:?}");
}

#[test]
fn a_destroyed_device_is_an_error_of_every_call_that_meets_it() {
    // A device's buffers go when it is next looked after.
    for looked_after in [false, true] {
        for (name, meets) in CALLS {
            let app = App::new();
            let call = Call::new(&app.engine);
            app.device.destroy();
            if looked_after {
                app.device.poll(wgpu::PollType::Poll).unwrap();
            }
            assert_lost(name, meets(&app, &call));
            assert_lost(name, meets(&app, &call));
            app.device.poll(wgpu::PollType::Poll).unwrap();
            assert_eq!(app.losses(), 1, "the app's callback stays its own");
        }
    }
}

#[test]
fn an_engine_on_a_device_that_is_gone_already_says_so() {
    let app = App::new();
    app.device.destroy();
    let engine = Engine::from_device(app.device.clone(), app.engine.queue().clone());
    let (problem, tensors) = another();
    assert_lost("run", engine.run(&problem, None, &tensors).map(drop));
    assert_lost("wait", engine.wait().map_err(Error::from));
}

#[test]
fn a_device_that_is_lost_in_a_call_is_that_calls_error() {
    let adapter = adapter(Some(0));
    // Not every driver tells how much memory is in use.
    let unused = App::on(&adapter);
    unused.device.poll(wgpu::PollType::Poll).unwrap();
    let app = App::on(&adapter);
    let (problem, tensors) = another();
    let met = app.engine.run(&problem, None, &tensors).map(drop);
    assert_eq!(app.losses(), unused.losses());
    if app.losses() == 0 {
        return met.unwrap();
    }
    assert_lost("run", met);
    assert_lost("wait", app.engine.wait().map_err(Error::from));
    assert_lost("upload", app.engine.upload("q", &tensors["q"]).map(drop));
}

#[test]
fn a_wrong_buffer_is_the_calls_error_and_leaves_the_encoder_whole() {
    let adapter = adapter(None);
    let (app, other) = (App::on(&adapter), App::on(&adapter));
    let mut call = Call::new(&app.engine);
    let kept = call.buffers[1].1.clone();
    let storage = wgpu::BufferUsages::STORAGE;
    let gone = app.buffer("the app's k", kept.size(), storage);
    gone.destroy();
    let mut encoder = app.encoder();
    for (wrong, why) in
        [(gone, "the app's k"), (other.buffer("k", kept.size(), storage), "Buffer with 'k' label")]
    {
        call.buffers[1].1 = wrong;
        let error = call.prepared.record(&mut encoder, &call.bound()).unwrap_err();
        assert!(matches!(error, Error::Gpu(GpuError::Validation { .. })), "{error:?}");
        assert!(error.to_string().contains(why), "{error}");
    }
    for (wrong, why) in [
        (app.buffer("k", kept.size(), wgpu::BufferUsages::COPY_DST), "k's buffer: expected usage"),
        (app.buffer("k", kept.size() - 4, storage), "k's buffer: expected 576 bytes"),
    ] {
        call.buffers[1].1 = wrong;
        let error = call.prepared.record(&mut encoder, &call.bound()).unwrap_err();
        assert!(matches!(error, Error::Spec(SpecError::Value { .. })), "{error:?}");
        assert!(error.to_string().starts_with(why), "{error}");
    }
    call.buffers[1].1 = kept;
    call.prepared.record(&mut encoder, &call.bound()).unwrap();
    app.engine.queue().submit([encoder.finish()]);
    app.engine.wait().unwrap();
}

#[test]
fn the_apps_own_errors_stay_the_apps() {
    let adapter = adapter(None);
    let (app, other) = (App::on(&adapter), App::on(&adapter));
    let call = Call::new(&app.engine);
    let scope = app.device.push_error_scope(wgpu::ErrorFilter::Validation);
    drop(app.buffer("of no use", 16, wgpu::BufferUsages::empty()));
    call.resident.run(1).unwrap();
    assert!(app.engine.download(&other.buffer("x", 16, wgpu::BufferUsages::COPY_SRC), ..).is_err());
    let error = pollster::block_on(scope.pop()).expect("the app's error");
    assert!(error.to_string().contains("of no use"), "{error}");
}

#[test]
fn a_buffer_of_more_bytes_than_the_device_takes_is_out_of_memory() {
    let app = App::new();
    let most = app.engine.limits().buffer_bytes;
    let bytes = vec![0; most as usize + 4];
    let huge = HostTensor { dtype: Dtype::U8, shape: vec![most + 4], bytes };
    let error = app.engine.upload("huge", &huge).unwrap_err();
    let expected = GpuError::OutOfMemory { what: "huge".to_owned(), bytes: most + 4 };
    assert_eq!(error, Error::Gpu(expected));
}

#[test]
fn a_tensor_of_too_few_bytes_is_not_uploaded() {
    let app = App::new();
    let mut short = tensor(Dtype::F32, &[3, 2], 1);
    short.bytes.truncate(20);
    let error = app.engine.upload("x", &short).unwrap_err().to_string();
    assert_eq!(error, "x's bytes: expected 24 (shape [3, 2] of f32), got 20");
}

#[test]
fn any_range_of_a_buffer_is_read_back() {
    let app = App::new();
    let bytes: Vec<u8> = (1..=26).collect();
    let tensor = HostTensor { dtype: Dtype::U8, shape: vec![26], bytes: bytes.clone() };
    let buffer = app.engine.upload("bytes", &tensor).unwrap();
    let read = |range: std::ops::Range<u64>| app.engine.download(&buffer, range).unwrap();
    for (start, end) in [(0, 26), (0, 1), (3, 9), (4, 8), (7, 8), (13, 26), (25, 26), (5, 5)] {
        assert_eq!(read(start..end), bytes[start as usize..end as usize], "{start}..{end}");
    }
    assert_eq!(app.engine.download(&buffer, ..=2).unwrap(), [1, 2, 3]);
    assert_eq!(app.engine.download(&buffer, 24..).unwrap(), [25, 26, 0, 0], "a whole word");
}

#[test]
fn what_cannot_be_read_back_is_the_callers_error() {
    let app = App::new();
    let refused = |buffer: &wgpu::Buffer, (start, end): (u64, u64)| {
        let blocking = app.engine.download(buffer, start..end).unwrap_err();
        let waiting = app.engine.download_async(buffer, start..end);
        assert_eq!(pollster::block_on(waiting).unwrap_err(), blocking);
        assert!(matches!(blocking, Error::Spec(SpecError::Value { .. })), "{blocking:?}");
        blocking.to_string()
    };
    let buffer = app.buffer("odd", 18, wgpu::BufferUsages::COPY_SRC);
    for range in [(0, 17), (4, 20), (9, 8), (17, 17), (0, 1 << 40), (u64::MAX, u64::MAX)] {
        let got = format!("{}..{}", range.0, range.1);
        let expected =
            "the range to download: expected bytes within 0..16 (the buffer's whole words)";
        assert_eq!(refused(&buffer, range), format!("{expected}, got {got}"));
    }
    let unreadable = app.buffer("unreadable", 16, wgpu::BufferUsages::STORAGE);
    let error = refused(&unreadable, (0, 16));
    assert!(error.starts_with("the buffer to download: expected usage COPY_SRC, got"), "{error}");
}

#[test]
fn a_destroyed_buffer_is_not_read_back() {
    let app = App::new();
    let buffer = app.buffer("the app's", 16, wgpu::BufferUsages::COPY_SRC);
    buffer.destroy();
    let error = app.engine.download(&buffer, ..).unwrap_err();
    assert!(matches!(error, Error::Gpu(GpuError::Validation { .. })), "{error:?}");
    assert!(error.to_string().contains("the app's"), "{error}");
}

#[test]
fn a_tensor_named_twice_is_the_callers_error() {
    let app = App::new();
    let call = Call::new(&app.engine);
    let views = [call.views(), call.views()[1..2].to_vec()].concat();
    let error = app.engine.submit(&AttentionSpec::default(), &views).unwrap_err();
    assert_eq!(error.to_string(), "k: expected one tensor of this name, got several");
    let bound = [call.bound(), call.bound()[1..2].to_vec()].concat();
    let error = call.prepared.record(&mut app.encoder(), &bound).unwrap_err();
    assert_eq!(error.to_string(), "k: expected one tensor of this name, got several");
}

#[test]
fn a_panic_while_a_lost_device_is_waited_for_is_the_loss() {
    let app = App::new();
    let call = Call::new(&app.engine);
    app.engine.submit(&AttentionSpec::default(), &call.views()).unwrap();
    let device = app.device.clone();
    // As wgpu does where the driver tells of a loss.
    app.engine.queue().on_submitted_work_done(move || {
        device.destroy();
        panic!("the device is lost");
    });
    assert_lost("wait", app.engine.wait().map_err(Error::from));
}

#[test]
fn a_panic_of_the_apps_own_callback_goes_on() {
    let app = App::new();
    let call = Call::new(&app.engine);
    app.engine.submit(&AttentionSpec::default(), &call.views()).unwrap();
    app.engine.queue().on_submitted_work_done(|| panic!("the app's own"));
    let wait = std::panic::AssertUnwindSafe(|| app.engine.wait());
    let panic = std::panic::catch_unwind(wait).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the app's own"));
    app.engine.wait().unwrap();
}
