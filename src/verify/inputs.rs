//! What a case's tensors hold. The noise depends on what each is for, and is the same for the same seed.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, Fill, Style};
use crate::any::{AnyProblem, with_problem};
use crate::attention::{AttentionProblem, KeyStorage, MergeProblem, Role};
use crate::moe::MoeProblem;
use crate::neighborhood::NeighborhoodProblem;
use crate::operator::Operator;
use crate::tensor::{Dtype, HostTensor, Random, TensorDesc};

/// Tensors by name, without gaps, axes in the caller's order.
pub(crate) type Inputs = BTreeMap<String, HostTensor>;

/// The inputs of a case's problem.
pub(super) fn inputs(case: &Case, problem: &AnyProblem) -> Inputs {
    match problem {
        AnyProblem::Attention(problem) => attention_inputs(case, problem),
        AnyProblem::AttentionMerge(problem) => merge_inputs(case, problem),
        AnyProblem::Neighborhood(problem) => neighborhood_inputs(case, problem),
        AnyProblem::Moe(problem) => moe_inputs(case, problem),
        other => with_problem!(other, problem => problem.sample(case.seed)),
    }
}

/// The inputs of an attention. Keys and values beyond `kv_lens` are NaN.
fn attention_inputs(case: &Case, problem: &AttentionProblem) -> Inputs {
    let mut inputs = Inputs::new();
    let outputs = problem.outputs();
    for (name, desc) in problem.tensors() {
        if outputs.contains(&name) {
            continue;
        }
        let values = match problem.role(name) {
            Some(role) if role.is_extra() => extra_values(case, problem, name, role, &desc),
            _ => core_values(case, name, &desc),
        };
        inputs.insert(name.to_owned(), filled(case, name, &desc, values));
    }
    hide_missing_keys(problem, &mut inputs);
    inputs
}

/// The inputs of a neighborhood.
fn neighborhood_inputs(case: &Case, problem: &NeighborhoodProblem) -> Inputs {
    let mut inputs = Inputs::new();
    let outputs = problem.outputs();
    for (name, desc) in problem.tensors() {
        if outputs.contains(&name) {
            continue;
        }
        let values = match name {
            "q" | "k" | "v" | "extra_k" | "extra_v" => core_values(case, name, &desc),
            _ => aux_values(&mut Random::of(case.seed, name), &desc),
        };
        inputs.insert(name.to_owned(), filled(case, name, &desc, values));
    }
    inputs
}

/// The inputs of a mixture of experts. Weights shrink with what they sum, so that results are about as large as x.
fn moe_inputs(case: &Case, problem: &MoeProblem) -> Inputs {
    // Blocks are bytes of a format's own.
    let mut inputs = problem.sample(case.seed);
    inputs.retain(|_, tensor| tensor.dtype == Dtype::U8);
    let outputs = problem.outputs();
    for (name, desc) in problem.tensors() {
        if outputs.contains(&name) || desc.dtype == Dtype::U8 {
            continue;
        }
        let mut noise = Random::of(case.seed, name);
        let inner = desc.shape().last().map_or(1.0, |&dim| (dim.max(1) as f64).sqrt());
        let top_k = i64::from(problem.extents.top_k);
        let values: Vec<f64> = match name {
            "x" => core_values(case, name, &desc),
            _ => (0..desc.layout.len())
                .map(|_| match name {
                    "topk_ids" => noise.whole(-1, i64::from(problem.extents.choices())),
                    "token_top_k" => noise.whole(-1, top_k),
                    "logit_mask" => f64::from(u8::from(noise.unit() < 0.7)),
                    "router_w" | "phi" => 2.0 * noise.normal() / inner,
                    _ if desc.shape().len() == 1 || name.starts_with("b_") => 0.5 * noise.normal(),
                    "router_logits" | "topk_weights" => noise.normal(),
                    _ => noise.normal() / inner,
                })
                .collect(),
        };
        inputs.insert(name.to_owned(), filled(case, name, &desc, values));
    }
    inputs
}

/// What the caller's functions read.
fn aux_values(noise: &mut Random, desc: &TensorDesc) -> Vec<f64> {
    let value = |_| match desc.dtype {
        Dtype::I32 => noise.whole(-5, 5),
        _ => noise.normal(),
    };
    (0..desc.layout.len()).map(value).collect()
}

/// The inputs of a merge. A fifth of the parts of rows are without keys, as is all of row 0. Their outs are NaN.
fn merge_inputs(case: &Case, problem: &MergeProblem) -> Inputs {
    let (outs, lses) = (&problem.tensors["outs"], &problem.tensors["lses"]);
    let mut noise = Random::of(case.seed, "lses");
    let rows = lses.layout.len() / lses.shape()[0].max(1);
    let lse = |index| match index % rows.max(1) == 0 || noise.unit() < 0.2 {
        true => f64::NEG_INFINITY,
        false => 10.0 * noise.normal(),
    };
    let lse_values: Vec<f64> = (0..lses.layout.len()).map(lse).collect();
    let mut noise = Random::of(case.seed, "outs");
    let dim = outs.shape()[4];
    let out = |index: u64| match lse_values[(index / dim) as usize] == f64::NEG_INFINITY {
        true => f64::NAN,
        false => noise.normal(),
    };
    let out_values = (0..outs.layout.len()).map(out).collect::<Vec<_>>();
    Inputs::from([
        ("outs".to_owned(), filled(case, "outs", outs, out_values)),
        ("lses".to_owned(), filled(case, "lses", lses, lse_values)),
    ])
}

fn core_values(case: &Case, name: &str, desc: &TensorDesc) -> Vec<f64> {
    let mut noise = Random::of(case.seed, name);
    let mut value = || match (case.style, name) {
        // Half of the heads' experts are not chosen.
        (_, "head_gate") => (2.0 * noise.unit() - 1.0).max(0.0),
        (Style::Normal, _) => noise.normal(),
        (Style::Eight, _) => 16.0 * noise.unit() - 8.0,
        (Style::Extreme, "q") => 2e4 * noise.unit() - 1e4,
        (Style::Extreme, _) => 2.0 * noise.unit() - 1.0,
        (Style::Equal, _) => 0.75,
    };
    (0..desc.layout.len()).map(|_| value()).collect()
}

fn extra_values(
    case: &Case,
    problem: &AttentionProblem,
    name: &str,
    role: Role,
    desc: &TensorDesc,
) -> Vec<f64> {
    let e = &problem.extents;
    let mut noise = Random::of(case.seed, name);
    if role == Role::Aux {
        return aux_values(&mut noise, desc);
    }
    let keys = i64::from(e.seq_len_kv);
    let value = |index: u64| match role {
        Role::AlibiSlopes | Role::BatchedAlibiSlopes => {
            let head = index % u64::from(e.q_heads) + 1;
            (-8.0 * head as f64 / f64::from(e.q_heads)).exp2() * (1.0 + 0.1 * noise.unit())
        }
        Role::KvLens => noise.whole(0, keys),
        // Of uneven lengths, the first often none.
        Role::Starts { of_keys } => {
            let total = if of_keys { e.seq_len_kv } else { e.seq_len_q };
            let share = index as f64 / f64::from(e.sequences.max(1));
            (f64::from(total) * share * share).floor()
        }
        Role::BlockTable => noise.whole(0, problem.tensors["k_pages"].shape()[0] as i64 - 1),
        Role::BatchCount => noise.whole(0, keys + 2),
        Role::HeadCount => noise.whole(0, 12.min(keys)),
        Role::QueryDocuments | Role::KeyDocuments => (index / 9 % 5) as f64,
        Role::DenseMask => f64::from(u8::from(noise.unit() < 0.7)),
        Role::BlockMask { .. } => f64::from(u8::from(noise.unit() < 0.5)),
        _ => noise.normal(),
    };
    (0..desc.layout.len()).map(value).collect()
}

/// The lowest number of a type, which some masks are made of.
pub(super) fn lowest(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => half::f16::MIN.to_f64(),
        Dtype::Bf16 => half::bf16::MIN.to_f64(),
        _ => f64::from(f32::MIN),
    }
}

fn filled(case: &Case, name: &str, desc: &TensorDesc, mut values: Vec<f64>) -> HostTensor {
    let mut noise = Random::of(case.seed, &format!("{name} filled"));
    for (_, fill) in case.fills.iter().filter(|(known, _)| *known == name) {
        for (index, value) in values.iter_mut().enumerate() {
            match fill {
                Fill::Values(given) => *value = given[index % given.len().max(1)],
                Fill::SomeNegInf if noise.unit() < 0.33 => *value = f64::NEG_INFINITY,
                Fill::SomeLowest if noise.unit() < 0.33 => *value = lowest(desc.dtype),
                Fill::Unsorted => *value = noise.whole(0, 3),
                Fill::SomeNegInf | Fill::SomeLowest => {}
            }
        }
    }
    HostTensor::from_f64(desc.dtype, desc.shape(), &values)
}

/// Keys from `kv_lens` on do not exist. Whoever reads them reads NaN.
fn hide_missing_keys(problem: &AttentionProblem, inputs: &mut Inputs) {
    if problem.storage.keys == KeyStorage::Paged {
        return hide_missing_pages(problem, inputs);
    }
    let Some(lens) = inputs.get("kv_lens").map(HostTensor::to_f64) else { return };
    let [_, _, seq_axis, _] = problem.spec.layout.axes();
    for name in ["k", "v"] {
        let Some(tensor) = inputs.get_mut(name) else { continue };
        let shape = tensor.shape.clone();
        let stride = |axis: usize| shape[axis + 1..].iter().product::<u64>();
        let mut values = tensor.to_f64();
        for (index, value) in values.iter_mut().enumerate() {
            let index = index as u64;
            let batch = index / stride(0).max(1);
            let key = index / stride(seq_axis).max(1) % shape[seq_axis];
            if key as f64 >= lens[batch as usize] {
                *value = f64::NAN;
            }
        }
        *tensor = HostTensor::from_f64(tensor.dtype, &shape, &values);
    }
}

/// Rows of pages that are no batch's keys are NaN. Entries of the table beyond the keys are −1.
fn hide_missing_pages(problem: &AttentionProblem, inputs: &mut Inputs) {
    let page_size = problem.tensors["k_pages"].shape()[2];
    let most = inputs["block_table"].shape[1];
    let lens = inputs["kv_lens"].to_f64();
    let mut table = inputs["block_table"].to_f64();
    let mut seen = BTreeSet::new();
    for (index, page) in table.iter_mut().enumerate() {
        let (batch, first) = (index / most as usize, index as u64 % most * page_size);
        let keys = (lens[batch] as u64).saturating_sub(first).min(page_size);
        seen.extend((0..keys).map(|key| *page as u64 * page_size + key));
        if keys == 0 {
            *page = -1.0;
        }
    }
    let table = HostTensor::from_f64(Dtype::I32, &inputs["block_table"].shape, &table);
    inputs.insert("block_table".to_owned(), table);
    for name in ["k_pages", "v_pages"] {
        let Some(tensor) = inputs.get_mut(name) else { continue };
        let (shape, mut values) = (tensor.shape.clone(), tensor.to_f64());
        let row = (shape[2] * shape[3]) as usize;
        for (key, row) in values.chunks_exact_mut(row).enumerate() {
            if !seen.contains(&(key as u64)) {
                row.fill(f64::NAN);
            }
        }
        *tensor = HostTensor::from_f64(tensor.dtype, &shape, &values);
    }
}
