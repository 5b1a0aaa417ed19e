//! Every kernel with all runtime checks on.

use std::collections::{BTreeMap, BTreeSet};

use rayon::prelude::*;
use tilewise::Engine;
use tilewise::verify::{CaseReport, CaseTiles, CheckedTrial, TileSets, checked_trials};

use crate::support::{checked_engine, checked_floor_engine, repository, templates};

/// What the small cases took on an engine, each right.
fn reports(engine: &Engine) -> Vec<CaseReport> {
    let trials = checked_trials(engine.limits(), TileSets::OneOfFamily, 1).unwrap();
    let run = |CheckedTrial { trial, tiles }: &CheckedTrial| {
        let run = |tiles: &Option<CaseTiles>| {
            trial.run(engine, *tiles).unwrap_or_else(|failure| panic!("{failure}"))
        };
        tiles.iter().map(run).collect::<Vec<_>>()
    };
    trials.par_iter().flat_map_iter(run).collect()
}

/// Entry points by the file that has them; a file of functions alone has none.
fn shader_files() -> BTreeMap<String, Option<String>> {
    let root = repository("shaders");
    let folders = std::fs::read_dir(&root).unwrap().map(|folder| folder.unwrap().path());
    let paths = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = paths.map(|path| {
        let path = path.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let entry = text.find("@compute").map(|at| {
            let name = text[at..].split("fn ").nth(1).unwrap();
            name[..name.find('(').unwrap()].to_owned()
        });
        let file = path.strip_prefix(&root).unwrap().display().to_string();
        (file.replace('\\', "/"), entry)
    });
    files.collect()
}

/// Together with [`reports`], that every result is right: no shader file and no entry point is left out.
#[test]
fn every_kernel_is_right_with_all_runtime_checks_on() {
    let engines = [checked_engine(), checked_floor_engine()];
    let reports: Vec<CaseReport> = engines.par_iter().flat_map_iter(|e| reports(e)).collect();
    let kernels = || reports.iter().flat_map(|report| &report.kernels);
    let files: BTreeSet<&str> =
        kernels().flat_map(|kernel| kernel.parts()).map(|part| part.file.as_str()).collect();
    let entries: BTreeSet<&str> = kernels().map(|kernel| kernel.entry()).collect();
    let has_matrices = checked_engine().limits().matrix.is_some();
    let has_halves = checked_engine().limits().f16;
    let templates = templates();
    for (file, entry) in shader_files() {
        // Devices are measured and checked with these; matrices are for devices that have them; a processor splits no
        // inner dims, which the library's own tests do with checks on.
        let apart =
            file.contains("/measure_") || file.contains("/check_") || file.ends_with("_split.wgsl");
        let is_here = has_matrices || !file.contains("matrix");
        // Templates are filled in, and part of a header.
        if apart || !is_here || templates.contains(&format!("\"{file}\"")) {
            continue;
        }
        assert!(files.contains(file.as_str()), "no checked kernel has shaders/{file}");
        if let Some(entry) = entry {
            assert!(entries.contains(entry.as_str()), "{entry} was not run with checks");
        }
    }
    let halves = reports.iter().any(|report| report.tiles.contains(r#""half":true"#));
    assert_eq!(halves, has_halves);
}
