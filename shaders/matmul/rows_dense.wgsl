// Rows of a dense matmul: a's in order from the first that this dispatch has, with one set of weights.

struct Tile { expert: u32, row_first: u32, row_end: u32 }

fn tile_at(index: u32) -> Tile {
    let first = min(params.row_first + index * TILE_ROWS, params.rows);
    return Tile(0u, first, min(first + TILE_ROWS, params.rows));
}
fn a_start(row: u32) -> u32 { return params.a_first + row * params.a_stride; }
fn a_scale(row: u32) -> f32 { return 1.0; }
