// Rows of a dense matmul whose inner dims are split: each split has tiles and rows of sums of its own, after those of the one before,
// and its dims of w as an expert has its weights.

struct Tile { expert: u32, row_first: u32, row_end: u32 }

fn tile_at(index: u32) -> Tile {
    let split = index / params.row_tiles;
    if (split >= params.splits) { return Tile(0u, 0u, 0u); }
    let first = split * params.rows + index % params.row_tiles * TILE_ROWS;
    return Tile(split, first, min(first + TILE_ROWS, (split + 1u) * params.rows));
}
fn a_start(row: u32) -> u32 { return params.a_first + row % params.rows * params.a_stride + row / params.rows * params.inner; }
fn a_scale(row: u32) -> f32 { return 1.0; }
