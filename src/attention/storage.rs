//! Where queries and keys lie: queries in batches or packed, keys in batches, packed or in pages.

use super::extents::MAX_SEQ_LEN;
use crate::error::{Error, PlanError, SpecError};
use crate::tensor::TensorDescs;

/// Where queries and keys lie. Tensors tell it by being there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Storage {
    /// Where queries lie.
    pub queries: QueryStorage,
    /// Where keys and values lie.
    pub keys: KeyStorage,
}

/// Where queries lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueryStorage {
    /// q and out have an axis of batches.
    #[default]
    Batched,
    /// `q [total_q, heads, dim]`, `out` as q, `lse` and `head_gate [heads, total_q]`. Sequence b is the rows from
    /// `cu_seqlens_q[b]` to `cu_seqlens_q[b + 1]`, i32 `[batch + 1]`, which rise and begin with 0. Indices count within a
    /// sequence. Rows that no sequence owns give out 0 and lse −∞.
    Packed,
}

/// Where keys and values lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyStorage {
    /// k and v have an axis of batches.
    #[default]
    Batched,
    /// `k v [total_kv, heads, dim]`: the keys of sequence b are those from `cu_seqlens_kv[b]` to `cu_seqlens_kv[b + 1]`.
    Packed,
    /// `k_pages v_pages [pages, page_size, kv_heads, dim]` (Kwon et al. 2023): key t of sequence b is the row t mod
    /// page_size of page `block_table[b, t / page_size]`, i32 `[batch, max_pages]`, for t below `kv_lens[b]`. Entries
    /// beyond are never read; one within that is no page is taken as the nearest.
    Paged,
}

impl Storage {
    /// What the tensors tell.
    pub(super) fn of(tensors: &TensorDescs) -> Result<Self, Error> {
        let first =
            |names: &[&'static str]| names.iter().copied().find(|name| tensors.contains_key(*name));
        let (packed, paged) = (&["cu_seqlens_q", "cu_seqlens_kv"], &["k_pages", "block_table"]);
        match (first(packed), first(paged)) {
            (None, None) => Ok(Self::default()),
            (Some(name), None) => {
                all(tensors, packed, name)?;
                match first(&["kv_lens", "prefix_k", "prefix_v"]) {
                    None => Ok(Self { queries: QueryStorage::Packed, keys: KeyStorage::Packed }),
                    Some(other) => {
                        let what = format!("{other} beside packed sequences");
                        Err(unsupported(&what, "their lengths are those of cu_seqlens_kv").into())
                    }
                }
            }
            (packed, Some(name)) => {
                all(tensors, &["k_pages", "v_pages", "block_table", "kv_lens"], name)?;
                Ok(Self { queries: queries_of_pages(tensors, packed)?, keys: KeyStorage::Paged })
            }
        }
    }

    /// The tensors of queries, keys and values.
    pub(super) const fn core(self) -> [&'static str; 3] {
        match self.keys {
            KeyStorage::Batched | KeyStorage::Packed => ["q", "k", "v"],
            KeyStorage::Paged => ["q", "k_pages", "v_pages"],
        }
    }
}

pub(super) fn unsupported(what: &str, reason: &str) -> PlanError {
    PlanError::Unsupported { what: what.to_owned(), reason: reason.to_owned() }
}

/// All of `names` are there, since `why` is.
fn all(tensors: &TensorDescs, names: &[&str], why: &str) -> Result<(), SpecError> {
    let absent = names.iter().find(|name| !tensors.contains_key(**name));
    absent.map_or(Ok(()), |name| {
        let (name, why) = ((*name).to_owned(), format!("asked for by {why}"));
        Err(SpecError::MissingTensor { name, why })
    })
}

/// Where the queries of keys in pages lie; `packed` is the first tensor that says packed.
fn queries_of_pages(tensors: &TensorDescs, packed: Option<&str>) -> Result<QueryStorage, Error> {
    if packed.is_none() {
        return Ok(QueryStorage::Batched);
    }
    let refused = |what: &str, reason: &str| Err(unsupported(what, reason).into());
    if tensors.contains_key("cu_seqlens_kv") {
        return refused("cu_seqlens_kv beside keys in pages", "their lengths are those of kv_lens");
    }
    if tensors.contains_key("prefix_k") || tensors.contains_key("prefix_v") {
        let reason = "rows of a prefix are those of batches of one length";
        return refused("a shared prefix beside packed queries", reason);
    }
    Ok(QueryStorage::Packed)
}

/// Number of sequences, as the tensors of a storage tell. `batch` is q's.
pub(super) fn sequences(
    storage: Storage,
    tensors: &TensorDescs,
    batch: u64,
) -> Result<u64, SpecError> {
    if storage.queries == QueryStorage::Batched {
        return Ok(batch);
    }
    match tensors["cu_seqlens_q"].shape() {
        [0] => Err(SpecError::value("cu_seqlens_q", "at least one entry", "none")),
        [ends] => Ok(ends - 1),
        shape => {
            let got = format!("shape {shape:?}");
            Err(SpecError::value("cu_seqlens_q", "1 axis (batch + 1)", got))
        }
    }
}

/// Pages that the table holds for a sequence, where keys lie in pages of a size that kernels take.
pub(super) fn pages_of_sequence(tensors: &TensorDescs, page_size: u64) -> Result<u64, SpecError> {
    let most = u64::from(MAX_SEQ_LEN);
    if !(1..=most).contains(&page_size) {
        return Err(SpecError::value("k_pages", format!("page_size 1 to {most}"), page_size));
    }
    match tensors["block_table"].shape() {
        [_, pages] => Ok(*pages),
        shape => {
            let got = format!("shape {shape:?}");
            Err(SpecError::value("block_table", "2 axes (batch, max_pages)", got))
        }
    }
}
