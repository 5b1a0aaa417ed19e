//! Every kernel with all runtime checks on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::json;
use tilewise::gpu::limits::GpuLimits;
use tilewise::gpu::recording::Plan;
use tilewise::gpu::shader::Shader;
use tilewise::matmul::{MatmulProblem, MatmulTiles};
use tilewise::operator::Operator;
use tilewise::problems::Expected;
use tilewise::question::{OperatorSpec, Question};
use tilewise::tensor::TensorDesc;
use tilewise::verify::{CaseReport, CaseTiles, CheckedTrial, TileSets, checked_trials};
use tilewise::{Engine, PlanError};

use crate::support::{checked_engine, checked_floor_engine, repository};

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

/// A matmul as it is planned where the adapter is no processor: the sums of a few workgroups are split.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct OnGpu(MatmulProblem);

impl std::fmt::Display for OnGpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Operator for OnGpu {
    type Tiles = MatmulTiles;

    fn candidates(&self, limits: &GpuLimits) -> Result<Vec<MatmulTiles>, PlanError> {
        self.0.candidates(&GpuLimits { is_cpu: false, ..limits.clone() })
    }

    fn plan(&self, limits: &GpuLimits, tiles: &MatmulTiles) -> Result<Plan, PlanError> {
        self.0.plan(&GpuLimits { is_cpu: false, ..limits.clone() }, tiles)
    }

    fn tensors(&self) -> Vec<(&str, TensorDesc)> {
        self.0.tensors()
    }

    fn outputs(&self) -> Vec<&'static str> {
        self.0.outputs()
    }
}

/// The kernels of a matmul whose sums are split, which is right.
fn split_matmul(engine: &Engine) -> Vec<Arc<Shader>> {
    let spec: OperatorSpec =
        serde_json::from_value(json!({"op": "matmul", "rows": 9, "columns": 40, "inner": 1024}))
            .unwrap();
    let question = spec.ask(&spec.assumed_tensors().unwrap()).unwrap();
    let Question::Matmul(problem) = &question else { panic!("{question}") };
    let (problem, inputs) = (OnGpu(problem.as_ref().clone()), question.sample(1));
    let is_staged = |tiles: &MatmulTiles| matches!(tiles, MatmulTiles::Workgroup { .. });
    let candidates = problem.candidates(engine.limits()).unwrap().into_iter();
    let tiles = candidates.filter(is_staged).min_by_key(MatmulTiles::tile_rows);
    let outputs = engine.run(&problem, tiles, &inputs).unwrap();
    Expected::new(&question, &inputs).unwrap().check(&outputs).unwrap();
    let plan = problem.plan(engine.limits(), &tiles.unwrap()).unwrap();
    plan.steps.into_iter().map(|step| step.shader).collect()
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
    let split = split_matmul(checked_engine());
    let kernels = || reports.iter().flat_map(|report| &report.kernels).chain(&split);
    let files: BTreeSet<&str> =
        kernels().flat_map(|kernel| &kernel.parts).map(|part| part.file.as_str()).collect();
    let entries: BTreeSet<&str> = kernels().map(|kernel| kernel.entry).collect();
    let has_matrices = checked_engine().limits().matrix.is_some();
    let has_halves = checked_engine().limits().f16;
    for (file, entry) in shader_files() {
        // Devices are measured and checked with these; matrices are for devices that have them.
        let apart = file.contains("/measure_") || file.contains("/check_");
        let is_here = has_matrices || !file.contains("matrix");
        if apart || !is_here {
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
