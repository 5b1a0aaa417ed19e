// What a unit of blocks is as it is stored.
struct Raw { scale: array<f32, BLOCK_COUNT>, words: array<u32, WORD_COUNT> }
fn w_scale(raw: Raw, block: u32) -> f32 {
    var scale = raw.scale;
    return scale[block];
}
