//! What an expert computes, in f64 or as a plain implementation would.

use half::{bf16, f16};

use super::numbers::Numbers;
use crate::moe::problem::MoeProblem;
use crate::moe::spec::{Activation, WeightOn};
use crate::tensor::Dtype;

/// The experts' arithmetic.
pub(super) struct Experts<'a> {
    pub problem: &'a MoeProblem,
    pub numbers: &'a Numbers,
    /// The type that results are stored in; `None` rounds nothing.
    pub stored: Option<Dtype>,
}

impl Experts<'_> {
    /// A token's row of x.
    pub(super) fn token(&self, token: usize) -> &[f64] {
        let dim = self.problem.extents.model_dim as usize;
        &self.numbers.get("x")[token * dim..(token + 1) * dim]
    }

    /// A weight's share before the expert and after it.
    pub(super) fn weights(&self, weight: f64) -> (f64, f64) {
        match self.problem.spec.weight_on {
            WeightOn::Output => (1.0, weight),
            WeightOn::Input => (weight, 1.0),
        }
    }

    /// What an expert that is computed here gives.
    pub(super) fn expert(&self, expert: usize, x: &[f64], weight: f64) -> Vec<f64> {
        let e = &self.problem.extents;
        let (dim, inner) = (e.model_dim as usize, e.expert_dim as usize);
        let x: Vec<f64> = x.iter().map(|x| weight * x).collect();
        if expert >= e.experts as usize {
            let is_zero = expert < (e.experts + e.null_experts.zero) as usize;
            return if is_zero { vec![0.0; dim] } else { x };
        }
        let x = self.rounded(x);
        let expert = expert - e.expert_start as usize;
        let part = |name: &str| self.numbers.row(name, expert, inner * dim).unwrap_or_default();
        let bias = |name: &str, length| self.numbers.row(name, expert, length);
        let up = self.matmul(part("w_up"), &x, bias("b_up", inner));
        let gate = self.matmul(part("w_gate"), &x, bias("b_gate", inner));
        let hidden = self.rounded(self.activate(&gate, up));
        self.matmul(part("w_down"), &hidden, bias("b_down", dim))
    }

    /// What the shared expert gives a token, and its weight.
    pub(super) fn shared(&self, x: &[f64]) -> Option<(f64, Vec<f64>)> {
        if self.problem.extents.shared_dim == 0 {
            return None;
        }
        let rounded = self.rounded(x.to_vec());
        let up = self.matmul(self.numbers.get("shared_w_up"), &rounded, None);
        let gate = self.matmul(self.numbers.get("shared_w_gate"), &rounded, None);
        let hidden = self.rounded(self.activate(&gate, up));
        let values = self.matmul(self.numbers.get("shared_w_down"), &hidden, None);
        let weight = if self.problem.has("shared_gate_w") {
            sigmoid(self.numbers.get("shared_gate_w").iter().zip(x).map(|(w, x)| w * x).sum())
        } else {
            1.0
        };
        Some((weight, values))
    }

    /// What a plain implementation multiplies with weights, rounded where that is asked for.
    fn rounded(&self, x: Vec<f64>) -> Vec<f64> {
        match (self.stored, self.problem.spec.quantise_activations) {
            (Some(_), Some(format)) => format.round_f64(&x),
            _ => x,
        }
    }

    /// `w · x + bias`, a row of w for each result; nothing where there is no w.
    fn matmul(&self, w: &[f64], x: &[f64], bias: Option<&[f64]>) -> Vec<f64> {
        let row = |(index, w): (usize, &[f64])| {
            let bias = bias.map_or(0.0, |bias| bias[index]);
            let sum = match self.stored {
                None => w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + bias,
                Some(_) => {
                    let terms = w.iter().zip(x);
                    let sum = terms.fold(0.0_f32, |sum, (w, x)| sum + *w as f32 * *x as f32);
                    f64::from(sum + bias as f32)
                }
            };
            store(sum, self.stored)
        };
        w.chunks_exact(x.len()).enumerate().map(row).collect()
    }

    fn activate(&self, gate: &[f64], mut up: Vec<f64>) -> Vec<f64> {
        let activation = self.problem.spec.activation;
        for (index, up) in up.iter_mut().enumerate() {
            let gate = gate.get(index).copied().unwrap_or(0.0);
            *up = store(activate(activation, gate, *up), self.stored);
        }
        up
    }
}

/// Rounds to a storage type.
pub(super) fn store(value: f64, stored: Option<Dtype>) -> f64 {
    match stored {
        Some(Dtype::F16) => f16::from_f64(value).to_f64(),
        Some(Dtype::Bf16) => bf16::from_f64(value).to_f64(),
        Some(_) => f64::from(value as f32),
        None => value,
    }
}

fn sigmoid(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

fn activate(activation: Activation, gate: f64, up: f64) -> f64 {
    match activation {
        Activation::SiluGlu => gate * sigmoid(gate) * up,
        Activation::GeluGlu => gelu(gate) * up,
        Activation::GeluTanhGlu => gelu_tanh(gate) * up,
        Activation::ClampedSwiglu { alpha, limit } => {
            let (alpha, limit) = (f64::from(alpha.0), f64::from(limit.0));
            // `clamp` and `min` would lose a NaN.
            let gate = if gate > limit { limit } else { gate };
            let up = up.clamp(-limit, limit);
            (up + 1.0) * gate * sigmoid(alpha * gate)
        }
        Activation::Relu => relu(up),
        Activation::Relu2 => relu(up) * relu(up),
        Activation::Gelu => gelu(up),
        Activation::GeluTanh => gelu_tanh(up),
        Activation::Silu => up * sigmoid(up),
    }
}

fn relu(value: f64) -> f64 {
    if value < 0.0 { 0.0 } else { value }
}

fn gelu(value: f64) -> f64 {
    0.5 * value * erfc(-value * std::f64::consts::FRAC_1_SQRT_2)
}

fn gelu_tanh(value: f64) -> f64 {
    let inner = (2.0 / std::f64::consts::PI).sqrt() * (value + 0.044_715 * value.powi(3));
    0.5 * value * (1.0 + inner.tanh())
}

/// The complement of the error function: its series near 0, Laplace's continued fraction beyond.
fn erfc(x: f64) -> f64 {
    let magnitude = x.abs();
    let square = x * x;
    if magnitude < 2.5 {
        let (mut term, mut sum) = (magnitude, magnitude);
        for n in 1..80 {
            term *= -square / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        let erf = sum * std::f64::consts::FRAC_2_SQRT_PI;
        return if x < 0.0 { 1.0 + erf } else { 1.0 - erf };
    }
    let mut fraction = magnitude;
    for n in (1..120).rev() {
        fraction = magnitude + f64::from(n) / 2.0 / fraction;
    }
    let tail = (-square).exp() / fraction * std::f64::consts::FRAC_2_SQRT_PI / 2.0;
    if x < 0.0 { 2.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erfc_has_its_known_values() {
        let known = [
            (0.0, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (2.0, 0.004_677_734_981_047_266),
            (2.6, 2.360_344_165_293_492e-4),
            (4.0, 1.541_725_790_028_002e-8),
            (-1.0, 1.842_700_792_949_715),
            (-3.0, 1.999_977_909_503_001_4),
        ];
        for (x, expected) in known {
            let got = erfc(x);
            assert!((got - expected).abs() <= 1e-12 * expected, "{x}: {got}");
        }
    }
}
