// Rows of the experts' matmuls: a tile is one expert's; a row stands for a pair of token and expert. A dispatch has a window of
// the tiles of a slice of experts.

struct Tile { expert: u32, row_first: u32, row_end: u32 }

fn tile_at(index: u32) -> Tile {
    let tile = routing[params.tile_first + params.slice_start] + params.window_first + index;
    let ends = index >= params.window_tiles || tile >= routing[params.tile_first + params.slice_end];
    if (ends) { return Tile(0u, 0u, 0u); }
    let at = params.tiles + 3u * tile;
    return Tile(routing[at], routing[at + 1u], routing[at + 2u]);
}
// GATHER: a holds tokens; else it holds rows in their own order.
fn a_start(row: u32) -> u32 {
    var at = row;
    if (GATHER) { at = routing[params.row_pairs + row] / TOP_K; }
    return params.a_first + at * params.a_stride;
}
fn a_scale(row: u32) -> f32 {
    if (WEIGHT_ON_INPUT) { return pair_weight(routing[params.row_pairs + row]); }
    return 1.0;
}
