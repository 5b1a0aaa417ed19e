// A token's parts with a soft router: what the slots here gave, weighted by the softmax over all slots of its logits.

fn part_of(token: u32, index: u32) -> Part {
    let at = token * params.slots + params.slot_first + index;
    if (!is_open(at)) { return Part(NONE, 0.0); }
    let most = stats[params.stats_first + 2u * token];
    let inverse = stats[params.stats_first + 2u * token + 1u];
    return Part(index, power(logits_get(at), most) * inverse);
}
