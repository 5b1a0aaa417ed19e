// What the shared expert's row of a token is weighted by; NaN stays what it is.
fn shared_weight(token: u32) -> f32 {
    let gate = shared_gate[token - params.token_first];
    if (is_nan(gate)) { return gate; }
    return sigmoid(gate);
}
