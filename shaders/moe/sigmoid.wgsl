// The exponent is kept where exp cannot overflow: WGSL may assume no infinity.

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(min(-x, 88.0))); }
