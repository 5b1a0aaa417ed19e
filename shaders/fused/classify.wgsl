// What the key tiles of one tile of rows are, 32 a word: bit t of x says that some element of tile t is kept, of y that some is
// not. The forward kernel then skips what is empty and tests nothing in what is full. A lane asks a tile what it is; the
// elements of those that leave it open are looked at by all lanes together, where there can be such tiles (ASKS_ELEMENTS).

var<workgroup> wg_kept: array<atomic<u32>, WORDS>;
var<workgroup> wg_dropped: array<atomic<u32>, WORDS>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn fused_classify(
    @builtin(workgroup_id) workgroup: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let linear = workgroup.x + workgroup.y * workgroups.x;
    let shares = (params.map_words + WORDS - 1u) / WORDS;
    let block = domain_block(linear / shares);
    let first_word = linear % shares * WORDS;
    if (lane < WORDS) {
        atomicStore(&wg_kept[lane], 0u);
        atomicStore(&wg_dropped[lane], 0u);
    }
    workgroupBarrier(); // the words are zero
    for (var i = lane; i < WORDS * 32u; i += WORKGROUP_SIZE) {
        let tile = first_word * 32u + i;
        if (tile >= block.tile_first && tile < block.tile_end) {
            let state = domain_form_state(block, tile);
            if (state != EMPTY_TILE) { atomicOr(&wg_kept[i / 32u], 1u << (i % 32u)); }
            if (state == PARTIAL_TILE) { atomicOr(&wg_dropped[i / 32u], 1u << (i % 32u)); }
        }
    }
    workgroupBarrier(); // every tile has said what it is
    if (ASKS_ELEMENTS) {
        for (var word = 0u; word < WORDS; word++) {
            let known = atomicLoad(&wg_kept[word]);
            var open = known & atomicLoad(&wg_dropped[word]);
            workgroupBarrier(); // the word is read
            if (lane == 0u) {
                atomicStore(&wg_kept[word], known & ~open);
                atomicStore(&wg_dropped[word], 0u);
            }
            workgroupBarrier(); // and has what is known
            var kept = 0u;
            var dropped = 0u;
            for (; open != 0u; open &= open - 1u) {
                let t = firstTrailingBit(open);
                for (var r = lane / KEY_LANES; r < TILE_Q; r += WORKGROUP_SIZE / KEY_LANES) {
                    let row = domain_row(block, r);
                    if (!row.valid) { continue; }
                    for (var c = lane % KEY_LANES; c < TILE_KV; c += KEY_LANES) {
                        // A key that is not there is not asked about; no row keeps it.
                        let key = domain_key(block, (first_word + word) * 32u + t, c);
                        let keeps = key < block.kv_end && mask_keeps(row.batch, row.head, row.q, key);
                        kept |= u32(keeps) << t;
                        dropped |= u32(!keeps) << t;
                    }
                    if (((kept & dropped) >> t) % 2u == 1u) { break; } // it is both
                }
            }
            atomicOr(&wg_kept[word], kept);
            atomicOr(&wg_dropped[word], dropped);
        }
        workgroupBarrier(); // every lane has said what it saw
    }
    if (lane < WORDS && first_word + lane < params.map_words && block.row_first < block.row_end) {
        let word = block.q_tile * params.map_words + first_word + lane;
        tile_map[word] = vec2(atomicLoad(&wg_kept[lane]), atomicLoad(&wg_dropped[lane]));
    }
}
