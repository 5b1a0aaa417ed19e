// The window, and the caller's mask in it, which extra tokens are not asked about.
fn mask_keeps(b: u32, h: u32, q: Query, key: u32) -> bool {
    if (!window_keeps(q, key)) { return false; }
    if (HAS_EXTRA && key >= EXTRA_FIRST) { return true; }
    return mask_mask_mod(b, h, CALLERS_Q, CALLERS_KV);
}
