//! What a problem's tensors may hold, where the host sees their numbers: kernels stay within their bindings whatever these
//! say, but compute nothing that anybody asked for.

use std::collections::BTreeMap;

use super::problem::AttentionProblem;
use crate::error::SpecError;
use crate::tensor::HostTensor;

type Inputs = BTreeMap<String, HostTensor>;

/// Refuses starts that fall or leave their tensor, lengths beyond the keys, and pages that there are not.
pub(super) fn check(problem: &AttentionProblem, inputs: &Inputs) -> Result<(), SpecError> {
    let e = &problem.extents;
    check_starts("cu_seqlens_q", inputs, e.seq_len_q)?;
    check_starts("cu_seqlens_kv", inputs, e.seq_len_kv)?;
    check_lens(inputs, e.seq_len_kv)?;
    check_pages(problem, inputs)
}

fn numbers(name: &str, inputs: &Inputs) -> Vec<i64> {
    let values = inputs.get(name).map(HostTensor::to_f64).unwrap_or_default();
    values.into_iter().map(|value| value as i64).collect()
}

fn check_starts(name: &str, inputs: &Inputs, total: u32) -> Result<(), SpecError> {
    let mut least = 0;
    for (index, start) in numbers(name, inputs).into_iter().enumerate() {
        if !(least..=i64::from(total)).contains(&start) {
            let expected = format!("{least} to {total}: starts never fall, nor leave their tensor");
            return Err(SpecError::value(format!("{name}[{index}]"), expected, start));
        }
        least = start;
    }
    Ok(())
}

fn check_lens(inputs: &Inputs, keys: u32) -> Result<(), SpecError> {
    for (batch, len) in numbers("kv_lens", inputs).into_iter().enumerate() {
        if !(0..=i64::from(keys)).contains(&len) {
            let expected = format!("0 to {keys}, the keys that there are");
            return Err(SpecError::value(format!("kv_lens[{batch}]"), expected, len));
        }
    }
    Ok(())
}

/// Entries of a sequence's own pages; those behind them may hold anything.
fn check_pages(problem: &AttentionProblem, inputs: &Inputs) -> Result<(), SpecError> {
    let pages = &problem.extents.pages;
    let table = numbers("block_table", inputs);
    let lens = numbers("kv_lens", inputs);
    for (batch, row) in table.chunks(pages.of_sequence.max(1) as usize).enumerate() {
        let keys = lens.get(batch).copied().unwrap_or(i64::from(problem.extents.seq_len_kv));
        let own = (keys as u64).div_ceil(u64::from(pages.size.max(1))) as usize;
        for (index, &page) in row.iter().take(own).enumerate() {
            if !(-1..i64::from(pages.count)).contains(&page) {
                let expected = format!("a page from 0 to {}, or -1", i64::from(pages.count) - 1);
                return Err(SpecError::value(
                    format!("block_table[{batch}, {index}]"),
                    expected,
                    page,
                ));
            }
        }
    }
    Ok(())
}
