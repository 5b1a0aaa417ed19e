//! Which sequence a query is of, and where a sequence's keys lie.

use super::tables::Inputs;
use crate::attention::storage::Storage;
use crate::error::SpecError;

/// Lengths of sequences, and where their queries and keys lie.
pub(super) struct Places {
    q_lens: Vec<usize>,
    kv_lens: Vec<usize>,
    lie: Lie,
}

enum Lie {
    Padded,
    /// First query and first key of each sequence.
    Packed(Vec<[usize; 2]>),
    /// Page of each piece of keys, by batch.
    Paged {
        page_size: usize,
        pages: Vec<Vec<usize>>,
    },
}

impl Places {
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Self, SpecError> {
        let e = &inputs.problem.extents;
        let sequences = e.sequences as usize;
        let lie = match inputs.problem.storage {
            Storage::Padded => Lie::Padded,
            Storage::Packed => {
                let [q, kv] = [("cu_seqlens_q", e.seq_len_q), ("cu_seqlens_kv", e.seq_len_kv)]
                    .map(|(name, total)| starts(inputs, name, total));
                let (q, kv) = (q?, kv?);
                let lens = |starts: &[usize]| -> Vec<usize> {
                    starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
                };
                let first = (0..sequences).map(|sequence| [q[sequence], kv[sequence]]).collect();
                return Ok(Self { q_lens: lens(&q), kv_lens: lens(&kv), lie: Lie::Packed(first) });
            }
            Storage::Paged => {
                let (table, k) = (inputs.table("block_table")?, &inputs.problem.tensors["k_pages"]);
                let (count, last) = (
                    inputs.problem.tensors["block_table"].shape()[1] as usize,
                    k.shape()[0] as f64 - 1.0,
                );
                let page = |batch, piece| table.at(&[batch, piece]).min(last).max(0.0) as usize;
                let of = |batch| (0..count).map(|piece| page(batch, piece)).collect();
                let pages = (0..sequences).map(of).collect();
                Lie::Paged { page_size: k.shape()[2] as usize, pages }
            }
        };
        Ok(Self { q_lens: vec![e.seq_len_q as usize; sequences], kv_lens: kv_lens(inputs)?, lie })
    }

    pub(super) fn q_len(&self, sequence: usize) -> usize {
        self.q_lens[sequence]
    }

    pub(super) fn kv_len(&self, sequence: usize) -> usize {
        self.kv_lens[sequence]
    }

    /// Sequence and index of the query at a place of a batch.
    pub(super) fn query(&self, batch: usize, place: usize) -> Option<(usize, usize)> {
        let Lie::Packed(first) = &self.lie else { return Some((batch, place)) };
        let has = |(sequence, [first, _]): (usize, &[usize; 2])| {
            let index = place.checked_sub(*first)?;
            (index < self.q_lens[sequence]).then_some((sequence, index))
        };
        first.iter().enumerate().find_map(has)
    }

    /// Batch (or page) and place in it of a sequence's key.
    pub(super) fn key(&self, sequence: usize, index: usize) -> [usize; 2] {
        match &self.lie {
            Lie::Padded => [sequence, index],
            Lie::Packed(first) => [0, first[sequence][1] + index],
            Lie::Paged { page_size, pages } => {
                [pages[sequence][index / page_size], index % page_size]
            }
        }
    }
}

/// Where sequences begin, and the end of the last.
fn starts(inputs: &Inputs<'_>, name: &str, total: u32) -> Result<Vec<usize>, SpecError> {
    let table = inputs.table(name)?;
    let start = |index| table.at(&[index]).max(0.0).min(f64::from(total)) as usize;
    Ok((0..=inputs.problem.extents.sequences as usize).map(start).collect())
}

/// Keys that exist for each batch: `kv_lens`, cut to `0..=seq_len_kv`, or all.
fn kv_lens(inputs: &Inputs<'_>) -> Result<Vec<usize>, SpecError> {
    let extents = &inputs.problem.extents;
    if !inputs.has("kv_lens") {
        return Ok(vec![extents.seq_len_kv as usize; extents.batch as usize]);
    }
    let lens = inputs.table("kv_lens")?;
    let most = f64::from(extents.seq_len_kv);
    Ok((0..extents.batch as usize).map(|b| lens.at(&[b]).max(0.0).min(most) as usize).collect())
}
