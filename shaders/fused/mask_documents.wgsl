// Least and greatest ids of a tile's rows and of its keys: where they lie apart no row sees a key.
    var of_rows = vec2(Q_ID(b * params.seq_len_q + q));
    for (var row = q + 1u; row <= q_last; row++) {
        let id = Q_ID(b * params.seq_len_q + row);
        of_rows = vec2(min(of_rows.x, id), max(of_rows.y, id));
    }
    var of_keys = vec2(KV_ID(b * params.seq_len_kv + key));
    for (var kv = key + 1u; kv <= key_last; kv++) {
        let id = KV_ID(b * params.seq_len_kv + kv);
        of_keys = vec2(min(of_keys.x, id), max(of_keys.y, id));
    }
    return ids_tile(of_rows, of_keys);
