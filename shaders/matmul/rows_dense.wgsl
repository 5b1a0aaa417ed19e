// Rows of a dense matmul: all of a's, in order, with one set of weights.

struct Tile { expert: u32, row_first: u32, row_end: u32 }

fn tile_at(index: u32) -> Tile {
    let first = min(index * TILE_ROWS, params.rows);
    return Tile(0u, first, min(first + TILE_ROWS, params.rows));
}
fn a_row(row: u32) -> u32 { return row; }
fn a_scale(row: u32) -> f32 { return 1.0; }
