// What 32 key tiles of one tile of rows are: bit t of x says that some element of tile t is kept, of y that some is not. The
// forward kernel then skips what is empty and tests nothing in what is full. A lane asks a tile what it is; the elements of
// those that leave it open are looked at by all lanes together, where there can be such tiles (ASKS_ELEMENTS).

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
    let own = word * 32u + lane;
    if (lane < 32u && own >= block.tile_first && own < block.tile_end) {
        let state = domain_form_state(block, own);
        if (state != EMPTY_TILE) { atomicOr(&wg_kept, 1u << lane); }
        if (state == PARTIAL_TILE) { atomicOr(&wg_dropped, 1u << lane); }
    }
    workgroupBarrier(); // every tile has said what it is
    var kept = atomicLoad(&wg_kept);
    var dropped = atomicLoad(&wg_dropped);
    if (ASKS_ELEMENTS) {
        workgroupBarrier(); // the words are read
        var open = kept & dropped;
        if (lane == 0u) {
            atomicStore(&wg_kept, kept & ~open);
            atomicStore(&wg_dropped, 0u);
        }
        workgroupBarrier(); // and have what is known
        kept = 0u;
        dropped = 0u;
        for (; open != 0u; open &= open - 1u) {
            let t = firstTrailingBit(open);
            for (var r = lane / KEY_LANES; r < TILE_Q; r += WORKGROUP_SIZE / KEY_LANES) {
                let row = domain_row(block, r);
                if (!row.valid) { continue; }
                for (var c = lane % KEY_LANES; c < TILE_KV; c += KEY_LANES) {
                    // A key that is not there is not asked about; no row keeps it.
                    let key = domain_key(block, word * 32u + t, c);
                    let keeps = key < block.kv_end && mask_keeps(row.batch, row.head, row.q, key);
                    kept |= u32(keeps) << t;
                    dropped |= u32(!keeps) << t;
                }
                if (((kept & dropped) >> t) % 2u == 1u) { break; } // it is both
            }
        }
        atomicOr(&wg_kept, kept);
        atomicOr(&wg_dropped, dropped);
        workgroupBarrier(); // every lane has said what it saw
        kept = atomicLoad(&wg_kept);
        dropped = atomicLoad(&wg_dropped);
    }
    if (lane == 0u && block.row_first < block.row_end) {
        tile_map[block.q_tile * params.map_words + word] = vec2(kept, dropped);
    }
}
