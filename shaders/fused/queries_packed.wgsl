// Queries of sequences that lie one after another. The rows behind the last one are a sequence without keys. The row tiles of sequence b begin with number first_row_tile(b): its rows'
// tiles counted over all rows, and one more for each sequence before it, because sequences end within tiles. Sequences never
// share a number, some numbers are no sequence's, and a number's sequence is found by bisection.

struct RowTile {
    batch: u32,
    row_first: u32,
    row_end: u32,
}

fn first_query(b: u32) -> u32 {
    return select(query_start(b), params.seq_len_q, b > params.sequences);
}

fn q_len(b: u32) -> u32 {
    let first = first_query(b);
    return max(first_query(b + 1u), first) - first;
}

fn q_place(b: u32, q: u32) -> vec2<u32> {
    return vec2(0u, first_query(b) + q);
}

fn has_sequence(b: u32) -> bool {
    return b < params.sequences;
}

fn first_row_tile(b: u32) -> u32 {
    return first_query(b) * GROUP_ROWS / TILE_Q + b;
}

fn row_tile(batch: u32, index: u32) -> RowTile {
    var low = 0u;
    var high = params.sequences;
    while (low < high) {
        let middle = (low + high + 1u) / 2u;
        if (first_row_tile(middle) <= index) { low = middle; } else { high = middle - 1u; }
    }
    let rows = q_len(low) * GROUP_ROWS;
    return RowTile(low, min((index - min(first_row_tile(low), index)) * TILE_Q, rows), rows);
}
