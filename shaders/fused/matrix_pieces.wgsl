// Pieces of the matrix family's outputs, which pass through workgroup memory where the scores were.

// Matrix n of a piece of the outputs. The last piece repeats its last one, for matrices want no branches.
fn piece_matrix(piece: u32, n: u32) -> u32 {
    return min(piece * KEY_MATRICES + n, VALUE_MATRICES - 1u);
}

// The dim of a column of a piece.
fn piece_dim(piece: u32, column: u32) -> u32 {
    return piece_matrix(piece, column / MATRIX) * MATRIX + column % MATRIX;
}

// Writes a piece of the outputs, as wide as a tile has keys, to where the scores were.
fn write_piece(row_first: u32, piece: u32, acc: ptr<function, array<SumMatrix, SUM_MATRICES>>) {
    for (var r = 0u; r < ROW_MATRICES; r++) { // unrolled
        for (var n = 0u; n < KEY_MATRICES; n++) { // unrolled
            let at = (row_first + r * MATRIX) * SCORE_STRIDE + n * MATRIX_VECS;
            coopStoreT((*acc)[r * VALUE_MATRICES + piece_matrix(piece, n)], &wg_scores[at], SCORE_STRIDE);
        }
    }
}
// Reads it from there.
fn read_piece(row_first: u32, piece: u32, acc: ptr<function, array<SumMatrix, SUM_MATRICES>>) {
    for (var r = 0u; r < ROW_MATRICES; r++) { // unrolled
        for (var n = 0u; n < KEY_MATRICES; n++) { // unrolled
            let at = (row_first + r * MATRIX) * SCORE_STRIDE + n * MATRIX_VECS;
            (*acc)[r * VALUE_MATRICES + piece_matrix(piece, n)] = coopLoadT<SumMatrix>(&wg_scores[at], SCORE_STRIDE);
        }
    }
}
