// Between an expert's two matmuls: biases, then the activation; `first` is the gate's sum where there is one, else up's.

const SILU_GLU: u32 = 0u;
const GELU_GLU: u32 = 1u;
const GELU_TANH_GLU: u32 = 2u;
const CLAMPED_SWIGLU: u32 = 3u;
const RELU: u32 = 4u;
const RELU2: u32 = 5u;
const GELU: u32 = 6u;
const GELU_TANH: u32 = 7u;
const SILU: u32 = 8u;

// 1 + erf(x / sqrt 2) by erfc's rational fit (Numerical Recipes, erfcc refined to 1.2e-7 relative), good in both tails.
fn one_plus_erf(x: f32) -> f32 {
    let z = abs(x) * 0.70710678;
    let t = 1.0 / (1.0 + 0.5 * z);
    let poly = fma(t, fma(t, fma(t, fma(t, fma(t, fma(t, fma(t, fma(t, fma(t, 0.17087277, -0.82215223), 1.48851587), -1.13520398),
        0.27886807), -0.18628806), 0.09678418), 0.37409196), 1.00002368), -1.26551223);
    let tail = t * exp(max(poly - z * z, -87.0));
    return select(2.0 - tail, tail, x < 0.0);
}
fn gelu(x: f32) -> f32 { return 0.5 * x * one_plus_erf(x); }
// tanh by the sigmoid: drivers' tanh overflows for large arguments.
fn gelu_tanh(x: f32) -> f32 { return x * sigmoid(1.5957691216 * (x + 0.044715 * x * x * x)); }

fn finish(expert: u32, column: u32, first: f32, second: f32) -> f32 {
    let gate = first + gate_bias_at(expert, column);
    let up = select(first, second, GATED) + up_bias_at(expert, column);
    switch ACTIVATION {
        case SILU_GLU: { return gate * sigmoid(gate) * up; }
        case GELU_GLU: { return gelu(gate) * up; }
        case GELU_TANH_GLU: { return gelu_tanh(gate) * up; }
        case CLAMPED_SWIGLU: {
            let g = select(gate, LIMIT, gate > LIMIT); // min and clamp may lose a NaN
            let u = select(select(up, LIMIT, up > LIMIT), -LIMIT, up < -LIMIT);
            return (u + 1.0) * g * sigmoid(ALPHA * g);
        }
        case RELU: { return select(up, 0.0, up < 0.0); }
        case RELU2: { return select(up * up, 0.0, up < 0.0); }
        case GELU: { return gelu(up); }
        case GELU_TANH: { return gelu_tanh(up); }
        default: { return up * sigmoid(up); }
    }
}
