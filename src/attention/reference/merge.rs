//! Merging partial results.

use super::AttentionReference;
use crate::error::SpecError;

/// `out = Σ outs_i · exp(lses_i − lse)` with `lse = ln Σ exp(lses_i)`, in f64: `outs` is `[parts, rows, value_dim]`,
/// `lses` `[parts, rows]`. A part without keys (lse −inf) counts nothing; a row of such parts alone is 0, lse −inf. A row
/// with a part whose lse is NaN or +inf is NaN, lse too.
///
/// # Errors
/// [`SpecError::Value`] where a length is not what the extents say.
pub fn merge_reference(
    outs: &[f64],
    lses: &[f64],
    parts: usize,
    rows: usize,
    value_dim: usize,
) -> Result<AttentionReference, SpecError> {
    for (name, got, expected) in
        [("lses", lses.len(), parts * rows), ("outs", outs.len(), parts * rows * value_dim)]
    {
        if got != expected {
            return Err(SpecError::value(name, format!("{expected} elements"), got));
        }
    }
    let mut out = vec![0.0; rows * value_dim];
    let mut lse = vec![f64::NEG_INFINITY; rows];
    let mut value_max = vec![0.0_f64; rows];
    for row in 0..rows {
        let present = || {
            let all = (0..parts).map(|part| (part, lses[part * rows + row]));
            all.filter(|(_, lse)| *lse != f64::NEG_INFINITY)
        };
        if present().next().is_none() {
            continue;
        }
        let max = present().fold(f64::NEG_INFINITY, |max, (_, lse)| max.max(lse));
        let sum: f64 = present().map(|(_, lse)| (lse - max).exp()).sum();
        lse[row] = max + sum.ln();
        for (part, part_lse) in present() {
            // Not exp(lse_i − lse): where |lse| is huge, ln(sum) is lost in it.
            let weight = (part_lse - max).exp() / sum;
            for dim in 0..value_dim {
                let value = outs[(part * rows + row) * value_dim + dim];
                out[row * value_dim + dim] += weight * value;
                value_max[row] = value_max[row].max(value.abs());
            }
        }
    }
    Ok(AttentionReference { out, lse, value_max })
}
