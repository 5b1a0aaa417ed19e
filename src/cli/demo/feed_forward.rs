//! The feed-forward block of a real sentence encoder, and the same block as a mixture of experts.

use std::collections::BTreeMap;

use safetensors::SafeTensors;

use super::groups::balanced_groups;
use crate::cli::common::CliError;
use crate::error::SpecError;
use crate::moe::{Activation, MoeOutput, MoeProblem, MoeSpec, Router, Score, TokenChoice};
use crate::tensor::{Dtype, HostTensor, Layout, TensorDesc, WeightFormat, parse_safetensors};

/// See `assets/README.md`.
const FILE: &[u8] = include_bytes!("../../../assets/minilm_feed_forward.safetensors");

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, HostTensor>;

/// One layer's feed-forward block, `gelu(x · w_upᵀ + b_up) · w_downᵀ + b_down`, on a few texts.
pub(super) struct FeedForward {
    /// `x [tokens, model_dim]`, `w_up [neurons, model_dim]`, `b_up [neurons]`, `w_down [model_dim, neurons]`,
    /// `b_down [model_dim]`.
    pub tensors: Tensors,
    /// `[tokens, model_dim]`: what the model itself computed.
    pub model_out: HostTensor,
    /// Which model and layer.
    pub model: String,
}

impl FeedForward {
    /// Reads the file that the program carries.
    pub fn read() -> Result<Self, CliError> {
        let broken = |message: String| CliError::Failed(format!("the demo's own file: {message}"));
        let mut tensors = parse_safetensors("minilm_feed_forward.safetensors", FILE)?;
        for name in ["x", "w_up", "b_up", "w_down", "b_down"] {
            tensors.get(name).ok_or_else(|| broken(format!("no tensor {name}")))?;
        }
        let model_out = tensors.remove("out").ok_or_else(|| broken("no tensor out".to_owned()))?;
        let (_, header) =
            SafeTensors::read_metadata(FILE).map_err(|error| broken(error.to_string()))?;
        let notes = header.metadata().clone().unwrap_or_default();
        let note = |name: &str| notes.get(name).cloned().unwrap_or_default();
        let model = format!("{}, layer {}", note("model"), note("layer"));
        Ok(Self { tensors, model_out, model })
    }

    /// Tokens, model_dim, neurons.
    pub fn extents(&self) -> [u64; 3] {
        let (x, w_up) = (&self.tensors["x"].shape, &self.tensors["w_up"].shape);
        [x[0], x[1], w_up[0]]
    }
}

/// The block's neurons as experts: each is a slice of the same matrices, whose neurons were put in order once.
pub(super) struct Carved {
    /// The block's tensors with the neurons of an expert side by side, and `router_w [experts, model_dim]`,
    /// `router_b [experts]`: the mean key and bias of an expert's neurons.
    pub tensors: Tensors,
    extents: [u64; 3],
    experts: u64,
}

impl Carved {
    /// Groups neurons by the directions of their keys, the rows of `w_up` (Zhang et al. 2022, "MoEfication"), and
    /// routes by each group's mean key (Qiu et al. 2024, "Unlocking Emergent Modularity"). Nothing is trained.
    pub fn of(block: &FeedForward, experts: u32) -> Self {
        let extents = block.extents();
        let [_, dim, neurons] = extents.map(|extent| extent as usize);
        let count = experts as usize;
        let up = block.tensors["w_up"].to_f64();
        let keys: Vec<Vec<f64>> = up.chunks_exact(dim).map(<[f64]>::to_vec).collect();
        let groups = balanced_groups(&keys, count);
        let mut order: Vec<usize> = (0..neurons).collect();
        order.sort_by_key(|neuron| groups[*neuron]);
        let mut tensors = block.tensors.clone();
        for (name, axis) in [("w_up", 0), ("b_up", 0), ("w_down", 1)] {
            tensors.insert(name.to_owned(), reordered(&block.tensors[name], axis, &order));
        }
        for (from, to, width) in [("w_up", "router_w", dim), ("b_up", "router_b", 1)] {
            let means = part_means(&tensors[from].to_f64(), count, width);
            let shape = &[u64::from(experts), width as u64][..if width == 1 { 1 } else { 2 }];
            tensors.insert(to.to_owned(), HostTensor::from_f64(Dtype::F32, shape, &means));
        }
        Self { tensors, extents, experts: u64::from(experts) }
    }

    /// The problem who goes where: each token takes the `top_k` experts of the largest logits.
    pub fn router(&self, top_k: u32) -> Result<MoeProblem, CliError> {
        let choice = TokenChoice { score: Score::Logit, ..TokenChoice::default() };
        let spec = MoeSpec {
            top_k: Some(top_k),
            router: Router::TokenChoice(choice),
            outputs: vec![MoeOutput::TopkIds, MoeOutput::RouterLogits],
            ..MoeSpec::default()
        };
        let named = ["x", "router_w", "router_b"];
        let descs = named.map(|name| (name.to_owned(), self.tensors[name].desc()));
        Ok(MoeProblem::new(&spec, &descs.into())?)
    }

    /// The problem what the chosen experts give, each with weight 1. The block's down bias is shared out among them.
    pub fn layer(&self, top_k: u32) -> Result<MoeProblem, CliError> {
        let [tokens, dim, neurons] = self.extents;
        let (experts, top_k) = (self.experts, u64::from(top_k));
        let expert_dim = neurons / experts;
        let weights = self.tensors["w_up"].dtype;
        let view = |dtype, shape: &[u64], strides: &[u64]| {
            Ok::<_, SpecError>(TensorDesc { dtype, layout: Layout::new(shape, strides, 0)? })
        };
        let chosen = [tokens, top_k];
        let descs = [
            ("x", self.tensors["x"].desc()),
            ("topk_ids", TensorDesc::contiguous(Dtype::I32, &chosen)),
            ("topk_weights", view(Dtype::F32, &chosen, &[0, 1])?),
            ("w_up", view(weights, &[experts, expert_dim, dim], &[expert_dim * dim, dim, 1])?),
            ("w_down", view(weights, &[experts, dim, expert_dim], &[expert_dim, neurons, 1])?),
            ("b_up", view(Dtype::F32, &[experts, expert_dim], &[expert_dim, 1])?),
            ("b_down", view(Dtype::F32, &[experts, dim], &[0, 1])?),
        ];
        let spec = MoeSpec {
            router: Router::External,
            activation: Activation::Gelu,
            weights: Some(WeightFormat::plain(weights)),
            outputs: vec![MoeOutput::Out, MoeOutput::Counts],
            ..MoeSpec::default()
        };
        let descs = descs.into_iter().map(|(name, desc)| (name.to_owned(), desc)).collect();
        Ok(MoeProblem::new(&spec, &descs)?)
    }

    /// What [`Carved::layer`] asks for beside the block's tensors and the choice.
    pub fn shares(&self, top_k: u32) -> Tensors {
        let share = 1.0 / f64::from(top_k);
        let bias: Vec<f64> =
            self.tensors["b_down"].to_f64().into_iter().map(|bias| bias * share).collect();
        let ones = vec![1.0; top_k as usize];
        let floats =
            |values: &[f64]| HostTensor::from_f64(Dtype::F32, &[values.len() as u64], values);
        Tensors::from([
            ("b_down".to_owned(), floats(&bias)),
            ("topk_weights".to_owned(), floats(&ones)),
        ])
    }

    /// Multiplications and additions as a share of the dense block's, router included.
    pub fn arithmetic(&self, top_k: u32) -> f64 {
        let [_, _, neurons] = self.extents;
        u64::from(top_k) as f64 / self.experts as f64 + self.experts as f64 / (2 * neurons) as f64
    }
}

/// A matrix or vector with the entries of an axis in another order, bytes untouched.
fn reordered(host: &HostTensor, axis: usize, order: &[usize]) -> HostTensor {
    let width: u64 = host.shape[axis + 1..].iter().product::<u64>() * host.dtype.bytes();
    let block = order.len() * width as usize;
    let entry = |of: &[u8], at: usize| of[at * width as usize..][..width as usize].to_vec();
    let bytes = host.bytes.chunks_exact(block);
    let bytes = bytes.flat_map(|of| order.iter().flat_map(move |at| entry(of, *at))).collect();
    HostTensor { bytes, ..host.clone() }
}

/// Means of equal parts of a matrix's rows.
fn part_means(values: &[f64], parts: usize, width: usize) -> Vec<f64> {
    let part = values.len() / parts;
    let mean = |part: &[f64], column: usize| {
        let column = part.iter().skip(column).step_by(width);
        column.sum::<f64>() * width as f64 / part.len() as f64
    };
    let parts = values.chunks_exact(part);
    parts.flat_map(|part| (0..width).map(move |column| mean(part, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neurons_move_with_all_that_is_theirs() {
        let rows = HostTensor::from_f64(Dtype::F16, &[3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(reordered(&rows, 0, &[2, 0, 1]).to_f64(), [4.0, 5.0, 0.0, 1.0, 2.0, 3.0]);
        let columns = HostTensor::from_f64(Dtype::F32, &[2, 3], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(reordered(&columns, 1, &[2, 0, 1]).to_f64(), [2.0, 0.0, 1.0, 5.0, 3.0, 4.0]);
        assert_eq!(part_means(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 2, 2), [1., 2., 5., 6.]);
    }
}
