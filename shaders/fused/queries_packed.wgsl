// Queries of sequences that lie one after another. The rows behind the last one are a sequence without keys. A slice has the
// rows from query_first to query_end, and of each sequence those among them. The row tiles of sequence b begin with number
// first_row_tile(b): its rows' tiles counted over all rows of the slice, and one more for each sequence before it, because
// sequences end within tiles. Sequences never share a number, some numbers are no sequence's, and a number's sequence is found
// by bisection.

struct RowTile {
    batch: u32,
    query_first: u32,   // the query of row 0
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

// Queries of the slice before sequence b.
fn queries_before(b: u32) -> u32 {
    return clamp(first_query(b), params.query_first, params.query_end) - params.query_first;
}

fn first_row_tile(b: u32) -> u32 {
    return queries_before(b) * GROUP_ROWS / TILE_Q + b;
}

fn row_tile(batch: u32, index: u32) -> RowTile {
    var low = 0u;
    var high = params.sequences;
    while (low < high) {
        let middle = (low + high + 1u) / 2u;
        if (first_row_tile(middle) <= index) { low = middle; } else { high = middle - 1u; }
    }
    let before = queries_before(low);
    let rows = (max(queries_before(low + 1u), before) - before) * GROUP_ROWS;
    let row_first = min((index - min(first_row_tile(low), index)) * TILE_Q, rows);
    return RowTile(low, params.query_first + before - first_query(low), row_first, rows);
}
