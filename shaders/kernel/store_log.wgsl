// A logarithm as bits: WGSL has no constant for minus infinity.
fn STORE(at: u32, value: f32, empty: bool) { NAME[at] = select(bitcast<u32>(value), 0xff800000u, empty); }
