//! Tuning: what is measured, what is stored, what is never trusted.

use std::cell::Cell;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::PlanError;
use crate::gpu::limits::GpuLimits;
use crate::gpu::recording::{Bound, Grid, Plan, Slot, Step};
use crate::gpu::shader::{Declared, Params, Part, Shader};
use crate::operator::{Operator, Tiles};
use crate::tensor::{Dtype, HostTensor, TensorDesc};
use crate::tune::{TilesFrom, TunePolicy, Tuned, Tunings, Verdict};
use crate::{CachePlace, Engine, EngineOptions};

const LONG: Duration = Duration::from_secs(60);

/// Doubles numbers, with tiles of every kind of fault. Of two rows, the second becomes a thousandth as large.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Doubler {
    length: u32,
    /// Equal parts of the numbers.
    rows: u32,
    /// Tiles that the device no longer takes.
    refused: Option<Way>,
    /// Changes the kernels' text.
    kernel: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Slow,
    Fast,
    Wrong,
    /// The small row is half as large as it should be.
    WrongInSmall,
    Unwritten,
    Unplanned,
    Broken,
}

const WAYS: [Way; 7] = [
    Way::Slow,
    Way::Wrong,
    Way::WrongInSmall,
    Way::Unwritten,
    Way::Unplanned,
    Way::Broken,
    Way::Fast,
];

impl Tiles for Way {}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl fmt::Display for Doubler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "double {}", self.length)
    }
}

impl Way {
    fn body(self) -> &'static str {
        match self {
            Self::Slow => {
                "var sum = 0.0; for (var i = 0u; i < params.loops; i++) { sum = sin(sum + x[lane]); }
                 y[lane] = factor * x[lane] + select(0.0, 1.0, sum > 1.5);"
            }
            Self::Wrong => "y[lane] = select(1.0, 1.005, lane == 77u) * factor * x[lane];",
            Self::WrongInSmall => "y[lane] = select(1.0, 0.5, is_small || params.rows == 1u) * factor * x[lane];",
            Self::Unwritten => "if (lane != 78u) { y[lane] = factor * x[lane]; }",
            Self::Broken => "y[lane] = nonsense;",
            Self::Fast | Self::Unplanned => "y[lane] = factor * x[lane];",
        }
    }
}

fn doubler(length: u32) -> Doubler {
    Doubler { length, rows: 1, refused: None, kernel: 0 }
}

impl crate::operator::sealed::Sealed for Doubler {}

impl Operator for Doubler {
    type Tiles = Way;

    fn candidates(&self, _: &GpuLimits) -> Result<Vec<Way>, PlanError> {
        Ok(WAYS.to_vec())
    }

    fn plan(&self, _: &GpuLimits, way: &Way) -> Result<Plan, PlanError> {
        if *way == Way::Unplanned || self.refused == Some(*way) {
            let (tiles, reason) = (way.to_string(), "no device takes it".to_owned());
            return Err(PlanError::Tiles { tiles, reason });
        }
        let mut params = Params::default();
        // Slow enough to be told apart while other tests share the process whose time is measured.
        params.u32("loops", (20_000_000 / self.length).clamp(400, 20_000));
        params.u32("rows", self.rows);
        let text = format!(
            "{}@group(0) @binding(1) var<storage, read> x: array<f32>;
             @group(0) @binding(2) var<storage, read_write> y: array<f32>;
             // {}
             @compute @workgroup_size(64) fn double(@builtin(global_invocation_id) id: vec3<u32>) {{
                 let lane = id.x; if (lane >= arrayLength(&x)) {{ return; }} let loops = params.loops;
                 let is_small = params.rows == 2u && lane >= arrayLength(&x) / 2u;
                 let factor = select(2.0, 0.002, is_small);
                 {}
             }}",
            params.wgsl(),
            self.kernel,
            way.body()
        );
        let declared = |name: &str, writes| Declared { name: name.to_owned(), writes };
        let shader = Shader {
            entry: "double",
            parts: vec![Part { file: "header".to_owned(), text }],
            bindings: vec![declared("x", false), declared("y", true)],
            workgroup_size: 64,
            workgroup_bytes: 0,
            proven: None,
        };
        let bound = |name: &str| Bound {
            slot: Slot::Tensor(name.to_owned()),
            offset: 0,
            size: u64::from(self.length) * 4,
        };
        let step = Step {
            shader: Arc::new(shader),
            params: params.bytes(),
            bindings: vec![bound("x"), bound("y")],
            grid: Grid::Direct([self.length.div_ceil(64), 1, 1]),
        };
        Ok(Plan { steps: vec![step], scratch: Vec::new() })
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        let shape = [self.rows, self.length / self.rows].map(u64::from);
        let floats = || TensorDesc::contiguous(Dtype::F32, &shape);
        vec![("x", floats()), ("y", floats())]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["y"]
    }

    fn bucket(&self) -> Self {
        let length = crate::operator::rounded(self.length);
        Self { length, refused: None, ..self.clone() }
    }
}

fn opened(tuning: TunePolicy, cache: CachePlace) -> Engine {
    Engine::open(&EngineOptions { tuning, cache, ..EngineOptions::default() }).unwrap()
}

fn in_memory() -> Engine {
    opened(TunePolicy::Stored, CachePlace::Memory)
}

fn stored_in(folder: &Path) -> Engine {
    opened(TunePolicy::Stored, CachePlace::Folder(folder.to_owned()))
}

fn verdict(tuned: &Tuned<Way>, way: Way) -> &Verdict {
    &tuned.timings.iter().find(|timing| timing.tiles == way).unwrap().verdict
}

fn choice(engine: &Engine, question: &Doubler) -> (Way, TilesFrom) {
    let prepared = engine.prepare(question, None).unwrap();
    (prepared.tiles, prepared.tiles_from)
}

const HEURISTIC: (Way, TilesFrom) = (Way::Slow, TilesFrom::Heuristic);
const TUNED: (Way, TilesFrom) = (Way::Fast, TilesFrom::Stored);

#[test]
fn wrong_candidates_are_refused_and_the_fastest_right_one_is_taken() {
    let engine = in_memory();
    let question = doubler(50_000);
    assert_eq!(choice(&engine, &question), HEURISTIC);
    let tuned = engine.tune(&question, LONG).unwrap();
    assert_eq!(tuned.tiles, Way::Fast, "{tuned:?}");
    assert!(tuned.heuristic_ratio().unwrap() > 1.5, "{tuned:?}");
    assert!(matches!(verdict(&tuned, Way::Slow), Verdict::Timed { .. }));
    let Verdict::Wrong(message) = verdict(&tuned, Way::Wrong) else { panic!("{tuned:?}") };
    assert!(message.contains("y: 1 of 50000") && message.contains("[77]"), "{message}");
    let Verdict::Wrong(message) = verdict(&tuned, Way::Unwritten) else { panic!("{tuned:?}") };
    assert!(message.contains("[78]: NaN"), "{message}");
    assert!(
        matches!(verdict(&tuned, Way::Unplanned), Verdict::Failed(m) if m.contains("no device"))
    );
    assert!(matches!(verdict(&tuned, Way::Broken), Verdict::Failed(m) if m.contains("nonsense")));
    assert_eq!(choice(&engine, &question), TUNED);
    assert_eq!(choice(&engine, &doubler(33_000)), TUNED, "the same bucket");
    assert_eq!(choice(&engine, &doubler(70_000)), HEURISTIC, "another bucket");
    assert_eq!(choice(&engine, &Doubler { kernel: 1, ..question.clone() }), HEURISTIC);
    let prepared = engine.prepare(&question, Some(Way::Slow)).unwrap();
    assert_eq!(prepared.tiles_from, TilesFrom::Forced);
}

#[test]
fn a_candidate_that_is_wrong_in_a_small_row_alone_is_refused() {
    let question = Doubler { rows: 2, ..doubler(50_000) };
    let tuned = in_memory().tune(&question, LONG).unwrap();
    let Verdict::Wrong(message) = verdict(&tuned, Way::WrongInSmall) else { panic!("{tuned:?}") };
    assert!(message.contains("of 50000 elements") && message.contains("[25000]"), "{message}");
    assert_eq!(tuned.tiles, Way::Fast, "{tuned:?}");
}

#[test]
fn tunings_go_from_process_to_process_and_stored_ones_that_no_longer_fit_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let question = doubler(20_000);
    stored_in(folder.path()).tune(&question, LONG).unwrap();
    let next = stored_in(folder.path());
    assert_eq!(next.tunings().len(), 1);
    assert_eq!(choice(&next, &question), TUNED);
    let no_longer = Doubler { refused: Some(Way::Fast), ..question.clone() };
    assert_eq!(choice(&next, &no_longer), HEURISTIC);
    assert!(next.tunings().is_empty());
    let off = opened(TunePolicy::Off, CachePlace::Folder(folder.path().to_owned()));
    assert_eq!(choice(&off, &question), HEURISTIC);
    assert_eq!(choice(&in_memory(), &question), HEURISTIC);
}

/// The one file of tunings in a folder.
fn file_in(folder: &Path) -> std::path::PathBuf {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let tunings = |path: &std::path::PathBuf| path.display().to_string().contains("/tunings-");
    let files: Vec<_> = files.filter(tunings).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

#[test]
fn a_file_that_is_none_of_ours_is_ignored_and_then_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let question = doubler(10_000);
    stored_in(folder.path()).tune(&question, LONG).unwrap();
    let file = file_in(folder.path());
    let right = std::fs::read_to_string(&file).unwrap();
    let tiles = right.replace("\"fast\"", "\"unheard_of\"");
    let version = right.replace("\"tilewise_tunings\": 1", "\"tilewise_tunings\": 99");
    let driver = right.replace("\"driver\": \"", "\"driver\": \"other ");
    let release = right.replace(env!("CARGO_PKG_VERSION"), "0.0.1");
    for (index, foreign) in
        ["", "{", "null", "[1, 2]", &right[..right.len() / 2], &tiles, &version, &driver, &release]
            .into_iter()
            .enumerate()
    {
        std::fs::write(&file, foreign).unwrap();
        assert_eq!(choice(&stored_in(folder.path()), &question), HEURISTIC, "{index}");
    }
    std::fs::write(&file, [0xff, 0xfe, 0, 0x80]).unwrap();
    assert_eq!(choice(&stored_in(folder.path()), &question), HEURISTIC);
    std::fs::write(&file, &right).unwrap();
    assert_eq!(choice(&stored_in(folder.path()), &question), TUNED);
    std::fs::write(&file, "broken").unwrap();
    stored_in(folder.path()).tune(&question, LONG).unwrap();
    assert_eq!(choice(&stored_in(folder.path()), &question), TUNED);
}

#[test]
fn a_folder_that_cannot_be_written_costs_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("a file");
    std::fs::write(&taken, "").unwrap();
    let engine = stored_in(&taken);
    engine.tune(&doubler(5_000), LONG).unwrap();
    assert_eq!(choice(&engine, &doubler(5_000)), TUNED);
}

#[test]
fn shipped_tunings_serve_the_same_adapter_with_any_driver() {
    let engine = in_memory();
    let question = doubler(3_000);
    engine.tune(&question, LONG).unwrap();
    let json = engine.tunings().to_json();
    assert_eq!(Tunings::from_json(&json).unwrap(), engine.tunings());
    let other_driver = json.replace("\"driver\": \"", "\"driver\": \"other ");
    let next = in_memory();
    next.import_tunings(Tunings::from_json(&other_driver).unwrap());
    assert_eq!(choice(&next, &question), TUNED);
    assert_eq!(choice(&next, &doubler(9_000)), HEURISTIC);
    let other_adapter = json.replace("\"adapter\": \"", "\"adapter\": \"other ");
    let next = in_memory();
    assert_eq!(choice(&next, &question), HEURISTIC);
    next.import_tunings(Tunings::from_json(&other_adapter).unwrap());
    assert_eq!(choice(&next, &question), HEURISTIC);
    next.import_tunings(Tunings::from_json(&json).unwrap());
    assert_eq!(choice(&next, &question), TUNED, "what was prepared before is prepared anew");
    for (text, message) in [
        ("[]", "not tunings"),
        ("{\"tilewise_tunings\": 7, \"entries\": []}", "format 7, this crate reads 1"),
        ("{\"tilewise_tunings\": 1, \"entries\": [], \"more\": 1}", "more"),
    ] {
        let error = Tunings::from_json(text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn keys_do_not_change_from_run_to_run() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let keys = folders.each_ref().map(|folder| {
        let engine = stored_in(folder.path());
        engine.tune(&doubler(1_000), LONG).unwrap();
        let tunings = engine.tunings();
        let (key, _) = tunings.iter().next().unwrap();
        key.clone()
    });
    assert_eq!(keys[0], keys[1]);
    assert_eq!(keys[0].problem, "double 1024");
    assert_eq!(keys[0].version, env!("CARGO_PKG_VERSION"));
    assert_eq!(keys[0].kernels.len(), 16);
}

#[test]
fn the_budget_is_kept_and_what_was_not_tried_is_told() {
    let engine = in_memory();
    let question = doubler(40_000);
    let start = Instant::now();
    let tuned = engine.tune(&question, Duration::ZERO).unwrap();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(tuned.tiles, Way::Slow);
    assert_eq!(verdict(&tuned, Way::Fast), &Verdict::Untried);
    assert_eq!(tuned.heuristic_ratio(), None);
    assert_eq!(choice(&engine, &question), HEURISTIC, "too little was measured to choose by");
}

#[test]
fn measuring_waits_until_the_app_asks_for_it() {
    let engine = opened(TunePolicy::Measure { budget_ms: 60_000 }, CachePlace::Memory);
    assert_eq!(choice(&engine, &doubler(6_000)), HEURISTIC);
    assert_eq!(choice(&engine, &doubler(6_001)), HEURISTIC);
    assert_eq!(choice(&engine, &doubler(60)), HEURISTIC);
    assert_eq!(engine.tune_asked().unwrap(), 2);
    assert_eq!(engine.tune_asked().unwrap(), 0);
    assert_eq!(choice(&engine, &doubler(6_000)), TUNED);
    assert_eq!(in_memory().tune_asked().unwrap(), 0);
}

#[test]
fn the_async_form_returns_to_its_executor() {
    let engine = in_memory();
    let question = doubler(7_000);
    let polls = Cell::new(0);
    let tuned = pollster::block_on(async {
        let mut tuning = std::pin::pin!(engine.tune_async(&question, LONG));
        std::future::poll_fn(|context| {
            polls.set(polls.get() + 1);
            tuning.as_mut().poll(context)
        })
        .await
    });
    assert_eq!(tuned.unwrap().tiles, Way::Fast);
    assert!(polls.get() > 10, "{}", polls.get());
}

#[test]
fn two_threads_may_tune_and_run_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let engine = stored_in(folder.path());
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for length in [2_000, 30_000] {
            let (engine, done) = (engine.clone(), &done);
            scope.spawn(move || {
                engine.tune(&doubler(length), LONG).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        let values: Vec<f64> = (0..500).map(|x| f64::from(x) / 7.0).collect();
        let x = HostTensor::from_f64(Dtype::F32, &[500], &values);
        let doubled: Vec<f64> = x.to_f64().iter().map(|x| 2.0 * x).collect();
        let inputs = std::collections::BTreeMap::from([("x".to_owned(), x)]);
        while done.load(Ordering::Relaxed) < 2 {
            let outputs = engine.run(&doubler(500), None, &inputs).unwrap();
            assert_eq!(outputs["y"].to_f64(), doubled);
        }
    });
    let next = stored_in(folder.path());
    assert_eq!(next.tunings().len(), 2);
    for length in [2_000, 30_000] {
        assert_eq!(choice(&next, &doubler(length)).1, TilesFrom::Stored);
    }
}
