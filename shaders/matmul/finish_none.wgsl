// The sum is the result.
fn finish(expert: u32, column: u32, first: f32, second: f32) -> f32 { return first; }
