//! Random inputs for any attention, by what each tensor is for. The same seed gives the same numbers everywhere.

use std::collections::BTreeMap;

use super::problem::AttentionProblem;
use super::roles::Role;
use crate::operator::{Operator, noise};
use crate::tensor::{Dtype, HostTensor, Random, TensorDesc};

/// Every input of a problem, under its name, as the problem has its shape and type.
///
/// q, k, v, bias, sink logits and aux numbers have mean 0 and variance 1; ALiBi slopes are the paper's; lengths and
/// counts are within range, the first of the lengths full; document ids rise along the keys, and a query has the id
/// of the key it stands on; dense and block masks have a diagonal, a few columns that all see, and a few rows that
/// see nothing. A tensor's numbers depend on the seed and its name alone.
pub(super) fn sample(problem: &AttentionProblem, seed: u64) -> BTreeMap<String, HostTensor> {
    let outputs = problem.outputs();
    let tensors = problem.tensors().into_iter().filter(|(name, _)| !outputs.contains(name));
    let fill = |(name, desc): (&str, TensorDesc)| {
        let tensor = Tensor { problem, desc: &desc, seed, name };
        (name.to_owned(), tensor.fill(problem.role(name)))
    };
    tensors.map(fill).collect()
}

/// A tensor to be filled.
struct Tensor<'a> {
    problem: &'a AttentionProblem,
    desc: &'a TensorDesc,
    seed: u64,
    name: &'a str,
}

impl Tensor<'_> {
    fn fill(&self, role: Option<Role>) -> HostTensor {
        let mut random = Random::of(self.seed, self.name);
        let count = self.desc.layout.len() as usize;
        let keys = self.problem.extents.seq_len_kv;
        let Some(role) = role else { return noise(self.name, self.desc, self.seed, 1.0) };
        let values: Vec<f64> = match role {
            Role::Queries
            | Role::Keys
            | Role::Values
            | Role::PrefixKeys
            | Role::PrefixValues
            | Role::HeadGate
            | Role::Bias
            | Role::SinkLogits
            | Role::Out
            | Role::Lse => random.normals(count),
            Role::Aux if self.desc.dtype == Dtype::I32 => random.counts(count, 0, 15),
            Role::Aux => random.normals(count),
            Role::AlibiSlopes | Role::BatchedAlibiSlopes => self.slopes(count),
            Role::KvLens => {
                let mut lens = random.counts(count, keys.div_ceil(4), keys);
                lens.iter_mut().take(1).for_each(|len| *len = f64::from(keys));
                lens
            }
            Role::Starts { of_keys } => {
                let e = &self.problem.extents;
                let total = if of_keys { e.seq_len_kv } else { e.seq_len_q };
                let share = f64::from(total) / f64::from(e.sequences.max(1));
                (0..count).map(|index| (index as f64 * share).floor()).collect()
            }
            Role::BlockTable => (0..count).map(|index| index as f64).collect(),
            Role::BatchCount => random.counts(count, 0, keys / 2),
            Role::HeadCount => random.counts(count, 0, keys / 4),
            Role::QueryDocuments => self.documents(self.problem.extents.seq_len_q),
            Role::KeyDocuments => self.documents(keys),
            Role::DenseMask => self.pattern(&mut random, 16, 64),
            Role::BlockMask { .. } => self.pattern(&mut random, 1, 8),
        };
        HostTensor::from_f64(self.desc.dtype, self.desc.shape(), &values)
    }

    /// `2^(-8 (h + 1) / q_heads)`, Press et al. 2022, the same for each batch.
    fn slopes(&self, count: usize) -> Vec<f64> {
        let heads = self.problem.extents.q_heads;
        let slope = |index| f64::from(index as u32 % heads + 1) * -8.0 / f64::from(heads);
        (0..count).map(|index| slope(index).exp2()).collect()
    }

    /// Ids that rise along the keys of each batch, about four documents; the last `length` of them.
    fn documents(&self, length: u32) -> Vec<f64> {
        let e = &self.problem.extents;
        let mut ids = Vec::new();
        for batch in 0..e.batch {
            let mut random = Random::of(self.seed, &format!("documents {batch}"));
            let all = e.seq_len_kv.max(1);
            let mut id = 0u32;
            let rising: Vec<u32> = (0..all)
                .map(|key| {
                    id += u32::from(key > 0 && random.below(u64::from(all.div_ceil(4))) == 0);
                    id
                })
                .collect();
            let at = |i: u32| (i64::from(i) + i64::from(all) - i64::from(length)).max(0) as usize;
            ids.extend((0..length).map(|i| f64::from(rising[at(i)])));
        }
        ids
    }

    /// A mask over the last two axes: a diagonal of `width`, an eighth of the columns, and of the rest a quarter;
    /// one row in `hole` sees nothing.
    fn pattern(&self, random: &mut Random, width: u64, hole: u64) -> Vec<f64> {
        let shape = self.desc.shape();
        let (rows, columns) = (shape[2], shape[3]);
        let mut values = Vec::with_capacity(self.desc.layout.len() as usize);
        for _ in 0..shape[0] * shape[1] {
            let seen_by_all: Vec<bool> = (0..columns).map(|_| random.below(8) == 0).collect();
            for row in 0..rows {
                let empty = random.below(hole) == 0;
                let centre = row * columns / rows.max(1);
                values.extend(seen_by_all.iter().zip(0u64..).map(|(&global, column)| {
                    let near = column.abs_diff(centre) < width;
                    let chosen = random.below(4) == 0;
                    f64::from(u8::from(!empty && (near || global || chosen)))
                }));
            }
        }
        values
    }
}

#[cfg(all(test, feature = "verify"))]
mod tests {
    use super::*;
    use crate::any::AnyProblem;
    use crate::problems;

    fn find(name: &str) -> AttentionProblem {
        match problems::find(name).unwrap().problem().unwrap() {
            AnyProblem::Attention(problem) => *problem,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_inputs_and_another_seed_others() {
        let problem = find("bert_padded");
        assert_eq!(sample(&problem, 7), sample(&problem, 7));
        assert_ne!(sample(&problem, 7)["q"], sample(&problem, 8)["q"]);
        assert_ne!(sample(&problem, 7)["q"].bytes, sample(&problem, 7)["k"].bytes);
    }

    #[test]
    fn queries_have_mean_0_and_variance_1() {
        let problem = find("prefill_64");
        let q = sample(&problem, 1)["q"].to_f64();
        let mean = q.iter().sum::<f64>() / q.len() as f64;
        let variance = q.iter().map(|x| x * x).sum::<f64>() / q.len() as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn lengths_are_within_range_and_documents_rise() {
        let problem = find("bert_padded");
        let lens = sample(&problem, 3)["kv_lens"].to_f64();
        assert!(lens[0] == 128.0 && lens.iter().all(|len| (32.0..=128.0).contains(len)));
        let problem = find("packed_documents");
        let ids = sample(&problem, 3)["documents"].to_f64();
        assert!(ids.is_sorted() && ids[0] == 0.0 && ids[1023] >= 1.0, "{:?}", ids.last());
    }
}
