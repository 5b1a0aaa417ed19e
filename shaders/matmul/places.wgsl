// What a lane stages, and where it lies: a chunk of the inner dims of the workgroup's rows of a, then of its columns of w, one part
// after the other where GATED; of a by runs of A_RUN vectors of four numbers, of w by runs of RUN.

const VECS: u32 = CHUNK / 4u;
const PARTS: u32 = select(1u, 2u, GATED);
const PART_COLUMNS: u32 = TILE_COLUMNS / PARTS;
const A_RUNS: u32 = VECS / A_RUN;
const A_COUNT: u32 = TILE_ROWS * A_RUNS;
const RUNS: u32 = VECS / RUN;
const W_COUNT: u32 = PART_COLUMNS * RUNS;
const A_LOADS: u32 = (A_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const W_LOADS: u32 = (W_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;

// Where rows lie of what the lane stages, the same for every chunk.
struct StageRows {
    a: array<u32, A_LOADS>,
    w: array<array<u32, W_LOADS>, PARTS>,
}

fn stage_rows(lane: u32, tile: Tile, column_first: u32) -> StageRows {
    var rows: StageRows;
    let row_last = max(tile.row_end, 1u) - 1u;
    for (var i = 0u; i < A_LOADS; i++) {
        let at = staging(lane + i * WORKGROUP_SIZE, A_COUNT);
        rows.a[i] = a_start(min(tile.row_first + at / A_RUNS, row_last));
    }
    for (var i = 0u; i < W_LOADS; i++) {
        let at = staging(lane + i * WORKGROUP_SIZE, W_COUNT);
        let column = min(column_first + at / RUNS, params.columns - 1u);
        for (var part = 0u; part < PARTS; part++) { rows.w[part][i] = w_row(part, tile.expert, column); }
    }
    return rows;
}

// The dim that load i of the lane begins at, of `count` in all, each of `vectors`.
fn stage_dim(lane: u32, i: u32, count: u32, vectors: u32, chunk: u32) -> u32 {
    return chunk + staging_column(lane, i, count, VECS / vectors) * vectors * 4u;
}
