// A lane's number, and maximum and sum over LANES_X neighbours, by butterflies within a subgroup: wants a minimum subgroup size of LANES_X.

struct LanePlace {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

// Lanes that share values must be neighbours in a subgroup, which local_invocation_index does not promise.
fn lane_index(place: LanePlace) -> u32 {
    return place.subgroup * place.size + place.lane;
}

fn lanes_max(value: f32) -> f32 {
    var v = value;
    if (LANES_X > 1u) { v = max(v, subgroupShuffleXor(v, 1u)); }
    if (LANES_X > 2u) { v = max(v, subgroupShuffleXor(v, 2u)); }
    if (LANES_X > 4u) { v = max(v, subgroupShuffleXor(v, 4u)); }
    if (LANES_X > 8u) { v = max(v, subgroupShuffleXor(v, 8u)); }
    if (LANES_X > 16u) { v = max(v, subgroupShuffleXor(v, 16u)); }
    if (LANES_X > 32u) { v = max(v, subgroupShuffleXor(v, 32u)); }
    return v;
}

fn lanes_sum(value: f32) -> f32 {
    var v = value;
    if (LANES_X > 1u) { v += subgroupShuffleXor(v, 1u); }
    if (LANES_X > 2u) { v += subgroupShuffleXor(v, 2u); }
    if (LANES_X > 4u) { v += subgroupShuffleXor(v, 4u); }
    if (LANES_X > 8u) { v += subgroupShuffleXor(v, 8u); }
    if (LANES_X > 16u) { v += subgroupShuffleXor(v, 16u); }
    if (LANES_X > 32u) { v += subgroupShuffleXor(v, 32u); }
    return v;
}
