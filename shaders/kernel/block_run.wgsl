// The vectors that the words taken hold; the scale's shift is that of the words, less the scale itself.
fn NAME_run(taken: Taken) -> Run {
    let shift = taken.shift;
    let head = taken.head >> ((shift - HEAD_BITS) & 31u);
    let scale = SCALE_OF_HEAD;
    var run: Run;
    var word: u32;
    MAKE_VECTORS
    return run;
}
