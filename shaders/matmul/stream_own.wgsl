// Every lane reads all rows of a by itself.

const A_LOADS: u32 = ROWS;

fn lane_of(local: u32) -> u32 { return local; }
// Which row of the tile load i of a lane is.
fn loaded_row(lane: u32, i: u32) -> u32 { return i; }
fn row_of(a: ptr<function, array<vec4<f32>, A_LOADS>>, r: u32) -> vec4<f32> { return (*a)[r]; }
