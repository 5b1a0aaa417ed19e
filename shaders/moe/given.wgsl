// Routing that is not ours to choose: the caller's ids and weights, or the slots of a soft router in their order. A lane a pair.

fn give(pair: u32) {
    if (pair >= params.given_end) { return; }
    var expert = pair / SLOTS;
    var weight = 1.0;
    if (EXTERNAL) {
        let id = ids_get(pair / TOP_K * params.ids_in_stride + pair % TOP_K);
        let chosen = id >= 0 && id < i32(CHOICES) && pair % TOP_K < top_k_get(pair / TOP_K);
        expert = select(NONE, u32(id), chosen);
        weight = weights_get(pair / TOP_K * params.weights_in_stride + pair % TOP_K);
    }
    routing[params.ids + pair] = expert;
    if (CAPACITY) { routing[params.experts + pair] = expert; }
    weights[pair] = weight;
}
