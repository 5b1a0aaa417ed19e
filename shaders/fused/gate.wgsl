// A gate for each row: what its outputs are multiplied by.

fn row_gate(row: Row) -> f32 {
    let at = row_place(row);
    return head_gate(at.batch, row.head, at.place);
}

// Every row's gate is 0: whatever the block would compute comes to 0.
fn block_gated_off(block: Block) -> bool {
    for (var r = 0u; r < TILE_Q; r++) {
        let row = domain_row(block, r);
        if (row.valid && row_gate(row) != 0.0) { return false; }
    }
    return true;
}
