// The lanes of a subgroup, which is the whole workgroup, read the rows of a once between them.

const A_LOADS: u32 = (ROWS + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

// The subgroup's own numbering, which need not be the workgroup's.
fn lane_of(local: u32) -> u32 { return subgroupExclusiveAdd(1u); }
// Which row of the tile load i of a lane is.
fn loaded_row(lane: u32, i: u32) -> u32 { return i * WORKGROUP_SIZE + lane; }
fn row_of(a: ptr<function, array<vec4<f32>, A_LOADS>>, r: u32) -> vec4<f32> {
    return subgroupShuffle((*a)[r / WORKGROUP_SIZE], r % WORKGROUP_SIZE);
}
