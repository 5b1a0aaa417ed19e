// What a token's row of out is summed of: a row that an expert gave, the token itself (OWN) or nothing (NONE), and its weight.
const OWN: u32 = 0xfffffffeu;
struct Part { row: u32, weight: f32 }
