// The place of a staging load: past the end of what is staged it repeats the last one, which staged() then drops.

fn staging(place: u32, count: u32) -> u32 {
    if (count % WORKGROUP_SIZE == 0u) { return place; }
    return min(place, count - 1u);
}

fn staged(place: u32, count: u32) -> bool {
    return count % WORKGROUP_SIZE == 0u || place < count;
}

// Which of `width` columns the lane's load `i` is: always the same one where the lanes fill whole rows.
fn staging_column(lane: u32, i: u32, count: u32, width: u32) -> u32 {
    if (WORKGROUP_SIZE % width == 0u) { return lane % width; }
    return staging(lane + i * WORKGROUP_SIZE, count) % width;
}
