//! Which sequence a query is of, and where a sequence's keys lie.

use super::tables::Inputs;
use crate::attention::storage::{KeyStorage, QueryStorage};
use crate::error::SpecError;

/// Lengths of sequences, and where their queries and keys lie.
pub(super) struct Places {
    q_lens: Vec<usize>,
    kv_lens: Vec<usize>,
    /// First query of each sequence, where they are packed.
    q_first: Option<Vec<usize>>,
    keys: Keys,
}

enum Keys {
    Batched,
    /// First key of each sequence.
    Packed(Vec<usize>),
    /// Page of each piece of keys, by sequence.
    Paged {
        page_size: usize,
        pages: Vec<Vec<usize>>,
    },
}

impl Places {
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Self, SpecError> {
        let e = &inputs.problem.extents;
        let sequences = e.sequences as usize;
        let (q_lens, q_first) = match inputs.problem.storage.queries {
            QueryStorage::Batched => (vec![e.seq_len_q as usize; sequences], None),
            QueryStorage::Packed => {
                let starts = starts(inputs, "cu_seqlens_q", e.seq_len_q)?;
                (lens_of(&starts), Some(starts))
            }
        };
        let (kv_lens, keys) = match inputs.problem.storage.keys {
            KeyStorage::Batched => (kv_lens(inputs)?, Keys::Batched),
            KeyStorage::Packed => {
                let starts = starts(inputs, "cu_seqlens_kv", e.seq_len_kv)?;
                (lens_of(&starts), Keys::Packed(starts))
            }
            KeyStorage::Paged => (kv_lens(inputs)?, paged(inputs)?),
        };
        Ok(Self { q_lens, kv_lens, q_first, keys })
    }

    pub(super) fn q_len(&self, sequence: usize) -> usize {
        self.q_lens[sequence]
    }

    pub(super) fn kv_len(&self, sequence: usize) -> usize {
        self.kv_lens[sequence]
    }

    /// Sequence and index of the query at a place of a batch; of none where no packed sequence has it.
    pub(super) fn query(&self, batch: usize, place: usize) -> Option<(usize, usize)> {
        let Some(first) = &self.q_first else { return Some((batch, place)) };
        let has = |sequence: usize| {
            let index = place.checked_sub(first[sequence])?;
            (index < self.q_lens[sequence]).then_some((sequence, index))
        };
        (0..self.q_lens.len()).find_map(has)
    }

    /// Batch (or page) and place in it of a sequence's key.
    pub(super) fn key(&self, sequence: usize, index: usize) -> [usize; 2] {
        match &self.keys {
            Keys::Batched => [sequence, index],
            Keys::Packed(first) => [0, first[sequence] + index],
            Keys::Paged { page_size, pages } => {
                [pages[sequence][index / page_size], index % page_size]
            }
        }
    }
}

fn lens_of(starts: &[usize]) -> Vec<usize> {
    starts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect()
}

fn paged(inputs: &Inputs<'_>) -> Result<Keys, SpecError> {
    let (table, e) = (inputs.table("block_table")?, &inputs.problem.extents);
    let last = f64::from(e.pages.count) - 1.0;
    let page =
        |sequence: usize, piece: usize| table.at(&[sequence, piece]).min(last).max(0.0) as usize;
    let of =
        |sequence| (0..e.pages.of_sequence as usize).map(|piece| page(sequence, piece)).collect();
    let pages = (0..e.sequences as usize).map(of).collect();
    Ok(Keys::Paged { page_size: e.pages.size as usize, pages })
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
        return Ok(vec![extents.seq_len_kv as usize; extents.sequences as usize]);
    }
    let lens = inputs.table("kv_lens")?;
    let most = f64::from(extents.seq_len_kv);
    Ok((0..extents.sequences as usize).map(|b| lens.at(&[b]).max(0.0).min(most) as usize).collect())
}
