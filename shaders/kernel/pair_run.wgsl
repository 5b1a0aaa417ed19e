// The vectors that the words taken hold.
fn NAME_run(taken: Taken) -> Run {
    let scale = e8m0((taken.head >> taken.shift) & 0xffu);
    var run: Run;
    MAKE_VECTORS
    return run;
}
