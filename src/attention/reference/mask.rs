//! Which keys a query sees, one score at a time.

use super::tables::{Inputs, Table};
use crate::attention::mask::{BatchCount, HeadCount, Mask};
use crate::attention::snippets;
use crate::error::SpecError;
use crate::snippet::interpret::{Interpreter, Precision, Value};

/// One score's place: batch, head, indices and the query's position.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) batch: usize,
    pub(super) head: usize,
    pub(super) q_index: usize,
    pub(super) kv_index: usize,
    pub(super) pos_q: i64,
}

impl Place {
    pub(super) fn axes(&self) -> [usize; 4] {
        [self.batch, self.head, self.q_index, self.kv_index]
    }

    /// As a caller's function takes them.
    pub(super) fn arguments(&self) -> Vec<Value> {
        self.axes().map(|index| Value::U32(index as u32)).to_vec()
    }
}

/// A mask with its tensors.
pub(super) enum Keeps {
    Full,
    Band {
        left: Option<Count>,
        right: Option<Count>,
    },
    /// The first keys; counted by batch or by head.
    FirstOfBatch(Count),
    FirstOfHead(Count),
    Documents {
        q: Table,
        kv: Table,
    },
    Dense(Table),
    Blocks {
        block: [usize; 2],
        keep: Table,
    },
    Program(Box<Interpreter>),
    PerHead(Vec<Keeps>),
    All(Vec<Keeps>),
    Any(Vec<Keeps>),
    Not(Box<Keeps>),
}

/// A number for all, or one for each.
pub(super) enum Count {
    Same(i64),
    Each(Vec<i64>),
    Table(Table),
}

impl Count {
    fn of_heads(count: &HeadCount, inputs: &Inputs<'_>) -> Result<Self, SpecError> {
        Ok(match count {
            HeadCount::All(count) => Self::Same(i64::from(*count)),
            HeadCount::Each(counts) => Self::Each(counts.iter().map(|&n| i64::from(n)).collect()),
            HeadCount::Tensor(name) => Self::Table(inputs.table(name)?),
        })
    }

    fn of_batches(count: &BatchCount, inputs: &Inputs<'_>) -> Result<Self, SpecError> {
        Ok(match count {
            BatchCount::All(count) => Self::Same(i64::from(*count)),
            BatchCount::Tensor(name) => Self::Table(inputs.table(name)?),
        })
    }

    fn get(&self, index: usize) -> i64 {
        match self {
            Self::Same(count) => *count,
            Self::Each(counts) => counts.get(index).copied().unwrap_or(0),
            Self::Table(table) => table.at(&[index]) as i64,
        }
    }
}

impl Keeps {
    pub(super) fn new(
        mask: &Mask,
        inputs: &Inputs<'_>,
        precision: Precision,
    ) -> Result<Self, SpecError> {
        let list = |masks: &[Mask]| {
            masks.iter().map(|mask| Self::new(mask, inputs, precision)).collect::<Result<_, _>>()
        };
        let of_heads = |count: &Option<HeadCount>| {
            count.as_ref().map(|count| Count::of_heads(count, inputs)).transpose()
        };
        Ok(match mask {
            Mask::Full => Self::Full,
            Mask::Band { left, right } => {
                Self::Band { left: of_heads(left)?, right: of_heads(right)? }
            }
            Mask::Prefix(count) => Self::FirstOfBatch(Count::of_batches(count, inputs)?),
            Mask::Sink(count) => Self::FirstOfHead(Count::of_heads(count, inputs)?),
            Mask::Documents { q, kv } => {
                Self::Documents { q: inputs.table(q)?, kv: inputs.table(kv)? }
            }
            Mask::Dense(name) => Self::Dense(inputs.table(name)?),
            Mask::BlockSparse { block, keep } => {
                Self::Blocks { block: block.map(|n| n as usize), keep: inputs.table(keep)? }
            }
            Mask::Wgsl(snippet) => {
                let asked = (&snippets::MASK_MOD, snippet, snippets::MASK_FIELD);
                Self::Program(Box::new(inputs.program(asked, precision)?))
            }
            Mask::PerHead(masks) => Self::PerHead(list(masks)?),
            Mask::And(masks) => Self::All(list(masks)?),
            Mask::Or(masks) => Self::Any(list(masks)?),
            Mask::Not(mask) => Self::Not(Box::new(Self::new(mask, inputs, precision)?)),
        })
    }

    /// Whether the score at `place` counts; `pos_q` gives any query's position.
    pub(super) fn keeps(
        &self,
        place: &Place,
        pos_q: &dyn Fn(u32, u32) -> i32,
    ) -> Result<bool, SpecError> {
        let Place { batch, head, q_index, kv_index, pos_q: position } = *place;
        let pos_kv = kv_index as i64;
        Ok(match self {
            Self::Full => true,
            Self::Band { left, right } => {
                left.as_ref().is_none_or(|left| position - left.get(head) <= pos_kv)
                    && right.as_ref().is_none_or(|right| pos_kv <= position + right.get(head))
            }
            Self::FirstOfBatch(count) => pos_kv < count.get(batch),
            Self::FirstOfHead(count) => pos_kv < count.get(head),
            Self::Documents { q, kv } => q.at(&[batch, q_index]) == kv.at(&[batch, kv_index]),
            Self::Dense(table) => table.at(&place.axes()) != 0.0,
            Self::Blocks { block, keep } => {
                keep.at(&[batch, head, q_index / block[0], kv_index / block[1]]) != 0.0
            }
            Self::Program(program) => program.truth(place.arguments(), pos_q)?,
            Self::PerHead(masks) => match masks.get(head) {
                Some(mask) => mask.keeps(place, pos_q)?,
                None => false,
            },
            Self::All(masks) => {
                for mask in masks {
                    if !mask.keeps(place, pos_q)? {
                        return Ok(false);
                    }
                }
                true
            }
            Self::Any(masks) => {
                for mask in masks {
                    if mask.keeps(place, pos_q)? {
                        return Ok(true);
                    }
                }
                false
            }
            Self::Not(mask) => !mask.keeps(place, pos_q)?,
        })
    }
}
