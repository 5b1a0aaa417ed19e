// Sums over LANES lanes, by butterflies within a subgroup: wants a minimum subgroup size of LANES.

struct LanePlace {
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) lane: u32,
}

// Lanes that add up must be neighbours in a subgroup, which local_invocation_index does not promise.
fn lane_of(place: LanePlace) -> u32 { return place.subgroup * place.size + place.lane; }

fn lanes_sum(lane: u32, values: ptr<function, array<f32, ROWS * COLUMNS>>) {
    for (var i = 0u; i < ROWS * COLUMNS; i++) {
        var v = (*values)[i];
        if (LANES > 1u) { v += subgroupShuffleXor(v, 1u); }
        if (LANES > 2u) { v += subgroupShuffleXor(v, 2u); }
        if (LANES > 4u) { v += subgroupShuffleXor(v, 4u); }
        if (LANES > 8u) { v += subgroupShuffleXor(v, 8u); }
        if (LANES > 16u) { v += subgroupShuffleXor(v, 16u); }
        if (LANES > 32u) { v += subgroupShuffleXor(v, 32u); }
        (*values)[i] = v;
    }
}
