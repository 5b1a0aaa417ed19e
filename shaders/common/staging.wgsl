// The place of a staging load: past the end of what is staged it repeats the last one, which staged() then drops.

fn staging(place: u32, count: u32) -> u32 {
    if (count % WORKGROUP_SIZE == 0u) { return place; }
    return min(place, count - 1u);
}

fn staged(place: u32, count: u32) -> bool {
    return count % WORKGROUP_SIZE == 0u || place < count;
}
