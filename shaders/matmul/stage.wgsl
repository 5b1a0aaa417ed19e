// What a workgroup stages: a chunk of the inner dims of its rows of a, then of its columns of w, one part after the other where
// GATED. Rows and columns lie STRIDE vectors apart. A lane has its share in registers before it is its turn to store: of a
// vectors, of w runs of RUN vectors as the words that they lie in.

const VECS: u32 = CHUNK / 4u;
const PARTS: u32 = select(1u, 2u, GATED);
const PART_COLUMNS: u32 = TILE_COLUMNS / PARTS;
const A_COUNT: u32 = TILE_ROWS * VECS;
const RUNS: u32 = VECS / RUN;
const W_COUNT: u32 = PART_COLUMNS * RUNS;
const A_LOADS: u32 = (A_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const W_LOADS: u32 = (W_COUNT + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
const W_FIRST: u32 = TILE_ROWS * STRIDE;

var<workgroup> wg_stage: array<Staged, (TILE_ROWS + TILE_COLUMNS) * STRIDE>;

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
        rows.a[i] = a_start(min(tile.row_first + at / VECS, row_last));
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

// Which vector of a chunk the lane's vector j of run n is.
fn run_vector(n: u32, j: u32) -> u32 {
    if (!RUN_SPREAD) { return n * RUN + j; }
    let half = max(RUN / 2u, 1u);
    return n * RUN / 8u * 8u + n * RUN % 8u / 2u + j / half * 4u + j % half;
}

// Stores what the lane has, between the barriers that keep others from reading.
fn stage(
    lane: u32, a: ptr<function, array<Staged, A_LOADS>>, w: ptr<function, array<array<Taken, W_LOADS>, PARTS>>,
) {
    workgroupBarrier(); // the last chunk is no longer read
    for (var i = 0u; i < A_LOADS; i++) {
        let at = lane + i * WORKGROUP_SIZE;
        if (staged(at, A_COUNT)) { wg_stage[at / VECS * STRIDE + at % VECS] = (*a)[i]; }
    }
    for (var part = 0u; part < PARTS; part++) {
        for (var i = 0u; i < W_LOADS; i++) {
            let at = lane + i * WORKGROUP_SIZE;
            if (staged(at, W_COUNT)) {
                let column = (at / RUNS + part * PART_COLUMNS) * STRIDE + W_FIRST;
                var run = w_run(part, (*w)[part][i]);
                for (var j = 0u; j < RUN; j++) { wg_stage[column + run_vector(at % RUNS, j)] = run[j]; }
            }
        }
    }
    workgroupBarrier(); // the chunk is staged
}
