// Looks at every element of 32 key tiles of one tile of rows: bit t of x says that some element of tile t is kept, of y that
// some is not. The forward kernel then skips what is empty and tests nothing in what is full.

var<workgroup> wg_kept: atomic<u32>;
var<workgroup> wg_dropped: atomic<u32>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_classify(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let linear = workgroup.x + workgroup.y * workgroups.x;
    let block = domain_block(linear / params.map_words);
    let word = linear % params.map_words;
    if (lane == 0u) {
        atomicStore(&wg_kept, 0u);
        atomicStore(&wg_dropped, 0u);
    }
    workgroupBarrier(); // the words are zero
    var kept = 0u;
    var dropped = 0u;
    for (var t = 0u; t < 32u; t++) {
        let tile = word * 32u + t;
        if (tile < block.tile_first || tile >= block.tile_end) { continue; }
        let state = domain_form_state(block, tile);
        if (state == EMPTY_TILE) { continue; }
        for (var r = lane / KEY_LANES; r < TILE_Q; r += WORKGROUP_SIZE / KEY_LANES) {
            let row = domain_row(block, r);
            if (!row.valid) { continue; }
            for (var c = lane % KEY_LANES; c < TILE_KV; c += KEY_LANES) {
                // A key that is not there is not asked about; no row keeps it.
                let key = domain_key(block, tile, c);
                let keeps = key < block.kv_end && mask_keeps(row.batch, row.head, row.q, key);
                kept |= u32(keeps) << t;
                dropped |= u32(!keeps) << t;
            }
        }
    }
    atomicOr(&wg_kept, kept);
    atomicOr(&wg_dropped, dropped);
    workgroupBarrier(); // every lane has said what it saw
    if (lane == 0u && block.row_first < block.row_end) {
        tile_map[block.q_tile * params.map_words + word] = vec2(atomicLoad(&wg_kept), atomicLoad(&wg_dropped));
    }
}
