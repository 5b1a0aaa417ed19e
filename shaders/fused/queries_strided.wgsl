// Queries of sequences of one length, that lie by strides.

struct RowTile {
    batch: u32,
    query_first: u32,   // the query of row 0
    row_first: u32,
    row_end: u32,
}

fn q_len(b: u32) -> u32 {
    return params.seq_len_q;
}

fn q_place(b: u32, q: u32) -> vec2<u32> {
    return vec2(b, q);
}

fn has_sequence(b: u32) -> bool {
    return true;
}

fn row_tile(batch: u32, index: u32) -> RowTile {
    return RowTile(batch, params.query_first, index * TILE_Q, params.rows);
}
