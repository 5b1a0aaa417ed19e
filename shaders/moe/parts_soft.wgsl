// A token's parts with a soft router: what the slots here gave, weighted by the softmax over all slots of its logits.

fn part_of(token: u32, index: u32) -> Part {
    let slot = params.slot_first + index;
    let most = stats[params.stats_first + 2u * token];
    let inverse = stats[params.stats_first + 2u * token + 1u];
    return Part(index, exp(logits_get(token * params.slots + slot) - most) * inverse);
}
