//! Kernel texts: they validate, and are what the host says of them.

use std::collections::{BTreeSet, HashSet};

use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, Module, Statement, StorageAccess, TypeInner};
use rayon::prelude::*;
use tilewise::PlanError;
use tilewise::any::AnyProblem;
use tilewise::gpu::limits::{GpuLimits, SubgroupSizes};
use tilewise::gpu::recording::{Plan, Step};
use tilewise::operator::Operator;
use tilewise::verify::{Case, cases};

use crate::support::{gpu, repository, templates};

/// Each distinct kernel of the suite's problems: every tile set for the core ones on a GPU, the first elsewhere.
fn kernels() -> Vec<Step> {
    let processor = SubgroupSizes { least: 8, most: 8 };
    let cpu = GpuLimits { is_cpu: true, subgroup: Some(processor), matrix: Some(8), ..gpu() };
    let steps: Vec<Step> = cases()
        .par_iter()
        .flat_map_iter(|case| {
            let most = if case.core { usize::MAX } else { 1 };
            let limits = [(gpu(), most), (cpu.clone(), 1), (GpuLimits::floor(), 1)];
            limits.into_iter().flat_map(|(limits, most)| steps(case, &limits, most))
        })
        .collect();
    let mut seen = HashSet::new();
    steps.into_iter().filter(|step| seen.insert(step.shader().clone())).collect()
}

/// The plans of a problem with its first tile sets.
fn plans<O: Operator>(
    problem: &O,
    limits: &GpuLimits,
    most: usize,
) -> Vec<Result<Plan, PlanError>> {
    let tiles = problem.candidates(limits).unwrap();
    tiles.iter().take(most).map(|tiles| problem.plan(limits, tiles)).collect()
}

/// The dispatches of a case with its first tile sets.
fn steps(case: &Case, limits: &GpuLimits, most: usize) -> Vec<Step> {
    let plans = match case.problem().unwrap() {
        AnyProblem::Attention(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::AttentionMerge(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::Neighborhood(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::NeighborhoodScores(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::NeighborhoodAggregate(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::Moe(problem) => plans(problem.as_ref(), limits, most),
        AnyProblem::Matmul(problem) => plans(problem.as_ref(), limits, most),
    };
    let right =
        plans.into_iter().map(|plan| plan.unwrap_or_else(|error| panic!("{}: {error}", case.name)));
    right.flat_map(|plan| plan.steps().to_vec()).collect()
}

fn parsed(step: &Step) -> (Module, ModuleInfo) {
    let text = step.shader().text();
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(&text)));
    let capabilities = Capabilities::SUBGROUP
        | Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | Capabilities::SHADER_FLOAT16
        | Capabilities::COOPERATIVE_MATRIX;
    let mut validator = Validator::new(ValidationFlags::all(), capabilities);
    let info = validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}\n{text}", error.emit_to_string(&text)));
    (module, info)
}

#[test]
fn every_kernel_validates_and_is_what_the_host_says() {
    let kernels = kernels();
    assert!(kernels.len() > 100, "{}", kernels.len());
    kernels.par_iter().for_each(|step| {
        let (module, info) = parsed(step);
        vectors_are_written_whole(step, &module, &info);
        bindings_are_as_declared(step, &module);
        sizes_are_as_said(step, &module);
    });
    let parts = kernels.iter().flat_map(|step| step.shader().parts());
    let used: BTreeSet<&String> = parts.map(|part| &part.file).collect();
    // The other operators' tests look after theirs; devices are measured and checked with kernels of their own.
    let own = |file: &&String| file.starts_with("common/") || file.starts_with("fused/");
    let apart = |file: &str| file.contains("/measure_") || file.contains("/check_");
    let templates = templates();
    let apart = |file: &str| apart(file) || templates.contains(&format!("\"{file}\""));
    for file in shader_files().iter().filter(own).filter(|file| !apart(file)) {
        assert!(used.contains(file), "no kernel uses shaders/{file}");
    }
}

/// Whoever writes a part of a vector that others see may write all of it: WGSL allows that, and compilers do it.
fn vectors_are_written_whole(step: &Step, module: &Module, info: &ModuleInfo) {
    let functions =
        module.functions.iter().map(|(handle, function)| (function, &info[handle])).chain(
            module
                .entry_points
                .iter()
                .enumerate()
                .map(|(i, e)| (&e.function, info.get_entry_point(i))),
        );
    for (function, types) in functions {
        let mut blocks = vec![&function.body];
        while let Some(block) = blocks.pop() {
            for statement in block.iter() {
                match statement {
                    Statement::Block(inner) => blocks.push(inner),
                    Statement::If { accept, reject, .. } => blocks.extend([accept, reject]),
                    Statement::Switch { cases, .. } => {
                        blocks.extend(cases.iter().map(|case| &case.body));
                    }
                    Statement::Loop { body, continuing, .. } => blocks.extend([body, continuing]),
                    Statement::Store { pointer, .. } => {
                        let part = matches!(
                            types[*pointer].ty.inner_with(&module.types),
                            TypeInner::ValuePointer {
                                size: None,
                                space: AddressSpace::WorkGroup | AddressSpace::Storage { .. },
                                ..
                            }
                        );
                        let name = function.name.as_deref().unwrap_or(step.shader().entry());
                        assert!(!part, "{name} writes a part of a shared vector");
                    }
                    _ => {}
                }
            }
        }
    }
}

fn bindings_are_as_declared(step: &Step, module: &Module) {
    let shader = step.shader();
    assert_eq!(shader.bindings().len(), step.bindings().len(), "{}", shader.entry());
    let mut found = vec![None; shader.bindings().len()];
    for (_, global) in module.global_variables.iter() {
        let Some(binding) = &global.binding else { continue };
        assert_eq!(binding.group, 0);
        if binding.binding == 0 {
            assert_eq!(global.space, AddressSpace::Uniform);
            continue;
        }
        let AddressSpace::Storage { access } = global.space else { panic!("{:?}", global.space) };
        let writes = access.contains(StorageAccess::STORE);
        found[binding.binding as usize - 1] = Some((global.name.clone().unwrap(), writes));
    }
    for (found, declared) in found.into_iter().zip(shader.bindings()) {
        assert_eq!(found, Some((declared.name.clone(), declared.writes)), "{}", shader.entry());
    }
}

fn sizes_are_as_said(step: &Step, module: &Module) {
    let shader = step.shader();
    let size = |inner: &TypeInner| u64::from(inner.size(module.to_ctx()));
    let mut workgroup = 0;
    for (_, global) in module.global_variables.iter() {
        let bytes = size(&module.types[global.ty].inner);
        match global.space {
            AddressSpace::Uniform => {
                let whole = bytes.next_multiple_of(16).max(16);
                assert_eq!(whole, step.params().len() as u64, "params of {}", shader.entry());
            }
            AddressSpace::WorkGroup => workgroup += bytes,
            _ => {}
        }
    }
    let text = || shader.parts()[0].text.lines().take(30).collect::<Vec<_>>().join("\n");
    assert_eq!(workgroup, u64::from(shader.workgroup_bytes()), "{}\n{}", shader.entry(), text());
    let [entry] = &module.entry_points[..] else {
        panic!("{} entry points", module.entry_points.len())
    };
    assert_eq!(entry.name, shader.entry());
    assert_eq!(entry.workgroup_size, [shader.workgroup_size(), 1, 1], "{}", shader.entry());
}

fn shader_files() -> Vec<String> {
    let root = repository("shaders");
    let mut files = Vec::new();
    for folder in std::fs::read_dir(&root).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            files.push(path.strip_prefix(&root).unwrap().display().to_string().replace('\\', "/"));
        }
    }
    assert!(files.len() > 10);
    files
}

/// Fragments and templates alike are read by macros that name their file.
#[test]
fn every_shader_file_is_named_in_the_source() {
    let mut folders = vec![repository("src")];
    let mut source = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            match entry.unwrap().path() {
                path if path.is_dir() => folders.push(path),
                path => source += &std::fs::read_to_string(path).unwrap(),
            }
        }
    }
    for file in shader_files() {
        assert!(source.contains(&format!("\"{file}\"")), "no source names shaders/{file}");
    }
}

#[test]
fn shader_files_are_short_and_end_in_their_entry_point() {
    for file in shader_files() {
        let text = std::fs::read_to_string(repository("shaders").join(&file)).unwrap();
        assert!(text.lines().count() <= 260, "{file}: {} lines", text.lines().count());
        let entry = text.find("@compute");
        let later = entry.map_or("", |at| &text[at..]).matches("\nfn ").count();
        assert!(later <= 1, "{file}: functions behind its entry point");
    }
}
