// A lane's number, where lanes share values through workgroup memory.

struct LanePlace {
    @builtin(local_invocation_index) lane: u32,
}

fn lane_index(place: LanePlace) -> u32 {
    return place.lane;
}
