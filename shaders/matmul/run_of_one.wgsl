// Runs of a single vector.
fn NAME_take(offset: u32, d: u32) -> Taken { return NAME_VECTOR(offset, d); }
fn NAME_run(taken: Taken) -> Run { return Run(taken); }
