// What a workgroup stages of numbers: rows of a, then columns of w, STRIDE vectors apart. A lane has its share in registers before it
// is its turn to store: of a vectors, of w runs of RUN vectors as the words that they lie in.

const W_FIRST: u32 = TILE_ROWS * STRIDE;

var<workgroup> wg_stage: array<Staged, (TILE_ROWS + TILE_COLUMNS) * STRIDE>;

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
