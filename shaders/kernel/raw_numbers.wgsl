// What a unit of numbers is as it is stored.
alias Raw = STORED_VECTOR;
fn w_scale(raw: Raw, block: u32) -> f32 { return 1.0; }
