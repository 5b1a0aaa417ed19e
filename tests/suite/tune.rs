//! Tuning as apps see it: problems of similar size share tiles, and compiled pipelines are kept.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tilewise::operator::Operator;
use tilewise::tensor::Dtype;
use tilewise::tune::{TilesFrom, TunePolicy, Verdict};
use tilewise::{CachePlace, Engine, EngineOptions};

use crate::support::{inputs, problem};

fn opened(tuning: TunePolicy, cache: CachePlace) -> Engine {
    Engine::open(&EngineOptions { tuning, cache, ..EngineOptions::default() }).unwrap()
}

fn in_memory() -> Engine {
    opened(TunePolicy::Stored, CachePlace::Memory)
}

fn stored_in(folder: &Path) -> Engine {
    opened(TunePolicy::Stored, CachePlace::Folder(folder.to_owned()))
}

#[test]
fn attention_is_tuned_and_its_bucket_stands_for_similar_lengths() {
    let spec = json!({"mask": {"band": {"right": 0}}, "score": [{"bias": "bias"}]});
    let of = |keys: u64, batch: u64| {
        let mut tensors = inputs([batch, 4, 2, 3, keys, 40]);
        let bias = crate::support::tensor(Dtype::F32, &[1, 4, 3, keys], 5);
        tensors.insert("bias".to_owned(), bias);
        let lens = tilewise::tensor::HostTensor::from_f64(
            Dtype::I32,
            &[batch],
            &vec![keys as f64 / 2.0; batch as usize],
        );
        tensors.insert("kv_lens".to_owned(), lens);
        problem(&spec, &tensors)
    };
    assert_eq!(of(70, 3).bucket(), of(128, 4).bucket());
    assert_ne!(of(70, 3).bucket(), of(129, 3).bucket());
    assert_eq!(of(70, 3).bucket().descs()["bias"].shape(), [1, 4, 4, 128]);
    assert_eq!(of(70, 3).bucket().descs()["kv_lens"].shape(), [4]);
    let engine = in_memory();
    let tuned = engine.tune(&of(70, 3), Duration::from_secs(10)).unwrap();
    let wrong = |verdict: &Verdict| !matches!(verdict, Verdict::Timed { .. } | Verdict::Untried);
    assert!(!tuned.timings.iter().any(|timing| wrong(&timing.verdict)), "{tuned:?}");
    let prepared = engine.prepare(&of(100, 4), None).unwrap();
    assert_eq!((prepared.tiles(), prepared.tiles_from()), (tuned.tiles, TilesFrom::Stored));
}

#[test]
fn compiled_pipelines_are_kept_and_a_broken_file_of_them_costs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = inputs([1, 2, 2, 5, 9, 16]);
    let problem = problem(&json!({}), &tensors);
    let expected = stored_in(folder.path()).run(&problem, None, &tensors).unwrap();
    let files = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|end| end == "bin")).collect::<Vec<_>>()
    };
    let Some(file) = files().pop() else {
        assert!(!crate::support::engine().adapter().features.contains(&"pipeline cache"));
        return;
    };
    let whole = std::fs::read(&file).unwrap();
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut foreign = whole.clone();
    foreign[..8].copy_from_slice(b"somebody");
    let half = whole[..whole.len() / 2].to_vec();
    for bytes in [Vec::new(), b"tilewise".to_vec(), half, flipped, foreign, whole.clone()] {
        std::fs::write(&file, &bytes).unwrap();
        let engine = stored_in(folder.path());
        assert_eq!(engine.run(&problem, None, &tensors).unwrap(), expected);
        engine.save_pipelines().unwrap();
        drop(engine);
        assert_eq!(files().len(), 1);
        assert_eq!(&std::fs::read(&file).unwrap()[..8], b"tilewise");
    }
}
