//! Where queries and keys lie: in batches of one length, packed one sequence after another, or with keys in pages.

use super::plan::Context;
use super::problem::{AttentionProblem, MAX_SEQ_LEN, TensorDescs};
use super::side::{SideRole, SideTensor};
use super::spec::AttentionLayout;
use crate::error::{Error, PlanError, SpecError};
use crate::fused::source::{KernelSource, add_fragment};
use crate::tensor::Layout;

/// Where queries and keys lie. Tensors tell it by being there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Storage {
    /// q, k and v have an axis of batches.
    #[default]
    Padded,
    /// `q [total_q, heads, dim]`, `k v [total_kv, heads, dim]`, `out` as q, `lse` and `head_gate [heads, total_q]`.
    /// Sequence b is the rows from `cu_seqlens_q[b]` to `cu_seqlens_q[b + 1]`, its keys those of `cu_seqlens_kv`; both
    /// are i32 `[batch + 1]`, rise, begin with 0 and end with the total. Indices count within a sequence.
    Packed,
    /// `k_pages v_pages [pages, page_size, kv_heads, dim]` (Kwon et al. 2023): key t of batch b is the row t mod
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
        let all = |names: &[&str], why: &str| {
            let absent = names.iter().find(|name| !tensors.contains_key(**name));
            absent.map_or(Ok(()), |name| {
                let (name, why) = ((*name).to_owned(), format!("asked for by {why}"));
                Err(SpecError::MissingTensor { name, why })
            })
        };
        match (first(packed), first(paged)) {
            (None, None) => Ok(Self::Padded),
            (Some(_), Some(_)) => {
                Err(unsupported("packed queries over paged keys", "no kernel reads both").into())
            }
            (Some(name), None) => {
                all(packed, name)?;
                match first(&["kv_lens", "prefix_k", "prefix_v"]) {
                    None => Ok(Self::Packed),
                    Some(other) => {
                        let what = format!("{other} beside packed sequences");
                        let reason = "their lengths are those of cu_seqlens_kv";
                        Err(unsupported(&what, reason).into())
                    }
                }
            }
            (None, Some(name)) => {
                all(&["k_pages", "v_pages", "block_table", "kv_lens"], name)?;
                Ok(Self::Paged)
            }
        }
    }

    /// The tensors of queries, keys and values, and axes that they have.
    pub(super) const fn core(self) -> [&'static str; 3] {
        match self {
            Self::Padded | Self::Packed => ["q", "k", "v"],
            Self::Paged => ["q", "k_pages", "v_pages"],
        }
    }

    /// Axes of the caller's q, k, v and out, in words.
    pub(super) const fn axes(self) -> (usize, &'static str) {
        match self {
            Self::Padded | Self::Paged => {
                (4, "4 axes (batch, heads, seq, dim in the order of layout)")
            }
            Self::Packed => (3, "3 axes (tokens of all sequences, heads, dim)"),
        }
    }

    /// From the caller's axes to batch, head, seq, dim (or batch, head, seq). Pages are batches of keys; packed
    /// sequences are a single one.
    pub(super) fn inward(self, name: &str, layout: &Layout, order: AttentionLayout) -> Layout {
        let axes = match (self, name) {
            (Self::Paged, "k_pages" | "v_pages") => AttentionLayout::Bshd.axes(),
            (Self::Padded | Self::Paged, "q" | "k" | "v" | "out") => order.axes(),
            (Self::Packed, "q" | "k" | "v" | "out") => {
                return layout.with_axes(&[1, 0, 2]).with_unit_axis();
            }
            (Self::Packed, "lse" | "head_gate") => return layout.with_unit_axis(),
            _ => return layout.clone(),
        };
        layout.with_axes(&axes)
    }

    /// Back to the caller's axes.
    pub(super) fn outward(self, name: &str, layout: &Layout, order: AttentionLayout) -> Layout {
        match (self, name) {
            (Self::Packed, "q" | "k" | "v" | "out") => layout.with_axes(&[2, 1, 3]),
            (Self::Packed, "lse" | "head_gate") => layout.with_axes(&[1, 2]),
            _ => self.inward(name, layout, order), // swapping two axes is its own inverse
        }
    }
}

fn unsupported(what: &str, reason: &str) -> PlanError {
    PlanError::Unsupported { what: what.to_owned(), reason: reason.to_owned() }
}

/// Sequences, and the most keys that one has, as the side tensors of a storage tell. `keys` are the axes of k.
pub(super) fn sequences(
    storage: Storage,
    tensors: &TensorDescs,
    batch: u64,
    keys: &[u64],
) -> Result<(u64, u64), SpecError> {
    let axis = |name: &str, axes: usize, axis: usize, words: &str| {
        let shape = tensors[name].shape();
        match shape.len() == axes {
            true => Ok(shape[axis]),
            false => Err(SpecError::value(name, words, format!("shape {shape:?}"))),
        }
    };
    match storage {
        Storage::Padded => Ok((batch, keys[2])),
        Storage::Packed => {
            let starts = axis("cu_seqlens_q", 1, 0, "1 axis (batch + 1)")?;
            match starts {
                0 => Err(SpecError::value("cu_seqlens_q", "at least one entry", "none")),
                _ => Ok((starts - 1, keys[2])),
            }
        }
        Storage::Paged => {
            let pages = axis("block_table", 2, 1, "2 axes (batch, max_pages)")?;
            let most = u64::from(MAX_SEQ_LEN);
            if !(1..=most).contains(&keys[2]) {
                let expected = format!("page_size 1 to {most}");
                return Err(SpecError::value("k_pages", expected, keys[2]));
            }
            if keys[0] > most {
                return Err(SpecError::value("k_pages", format!("at most {most} pages"), keys[0]));
            }
            // Without pages there are no keys, whatever the table says.
            Ok((batch, if keys[0] == 0 { 0 } else { pages.saturating_mul(keys[2]) }))
        }
    }
}

/// Tables of queries and keys have no place for the indices of packed sequences, which have lengths of their own.
pub(super) fn check_tables(storage: Storage, sides: &[SideTensor]) -> Result<(), PlanError> {
    let table = sides.iter().find(|side| {
        use SideRole::{Bias, BlockMask, DenseMask, KeyDocuments, QueryDocuments};
        let by_index = matches!(
            side.role,
            Bias | DenseMask | BlockMask { .. } | QueryDocuments | KeyDocuments
        );
        by_index && storage == Storage::Packed
    });
    table.map_or(Ok(()), |side| {
        let what = format!("{} beside packed sequences", side.field);
        Err(unsupported(&what, "its tensor is indexed by batch, which packed sequences have not"))
    })
}

impl AttentionProblem {
    /// Rows of q that a sequence has, and keys: of packed ones the mean, rounded up.
    pub(super) fn typical_lens(&self) -> [u64; 2] {
        let e = &self.extents;
        let lens = [e.seq_len_q, e.seq_len_kv].map(u64::from);
        match self.storage {
            Storage::Padded | Storage::Paged => lens,
            Storage::Packed => lens.map(|total| total.div_ceil(u64::from(e.sequences).max(1))),
        }
    }
}

impl Context<'_> {
    /// Where a sequence's queries lie: `q_len`, `q_place`, `row_tile`.
    pub fn queries(&self, source: &mut KernelSource) {
        if self.problem.storage != Storage::Packed {
            return add_fragment!(source, "fused/queries_strided.wgsl");
        }
        self.starts(source, "first_query", "cu_seqlens_q", "seq_len_q");
        add_fragment!(source, "fused/queries_packed.wgsl");
    }

    /// Where its keys lie: `kv_place`, and `own_len`. The shared prefix lies by strides.
    pub fn keys(&self, source: &mut KernelSource, prefix: bool) {
        let p = self.problem;
        match p.storage {
            Storage::Packed => {
                self.starts(source, "first_key", "cu_seqlens_kv", "seq_len_kv");
                add_fragment!(source, "fused/keys_packed.wgsl");
            }
            Storage::Paged if !prefix => {
                self.own_len(source);
                let [pages, _, page_size, _] = p.tensors["k_pages"].shape()[..] else { return };
                source.const_u32("PAGE_SIZE", page_size as u32);
                source.params.u32("pages", pages as u32);
                source.params.u32("table_pages", p.tensors["block_table"].shape()[1] as u32);
                let get = self.side_get(source, "block_table");
                source.accessor(&format!(
                    "fn page_at(b: u32, i: u32) -> i32 {{ return {get}(b * params.table_pages + i); }}\n"
                ));
                add_fragment!(source, "fused/keys_paged.wgsl");
            }
            Storage::Padded | Storage::Paged => {
                self.own_len(source);
                add_fragment!(source, "fused/keys_strided.wgsl");
            }
        }
    }

    /// Makes a side tensor readable; gives the name of its reader.
    fn side_get(&self, source: &mut KernelSource, name: &str) -> String {
        self.bind_side(source, name);
        format!("{}_get", super::mask_wgsl::side(self.problem, name))
    }

    /// Where sequences begin, kept within the tensor whatever the numbers are.
    fn starts(&self, source: &mut KernelSource, function: &str, name: &str, total: &str) {
        let get = self.side_get(source, name);
        if !source.has_param("sequences") {
            source.params.u32("sequences", self.problem.extents.sequences);
        }
        source.accessor(&format!(
            "fn {function}(b: u32) -> u32 {{ return u32(clamp({get}(min(b, params.sequences)), 0, i32(params.{total}))); }}\n"
        ));
    }

    /// Keys of a batch: `kv_lens`, cut to what there is, or all.
    fn own_len(&self, source: &mut KernelSource) {
        if !self.problem.tensors.contains_key("kv_lens") {
            source.accessor("fn own_len(b: u32) -> u32 { return params.seq_len_kv; }\n");
            return;
        }
        let get = self.side_get(source, "kv_lens");
        // Callers may ask for the position in a batch that is none.
        source.params.u32("batch_last", self.problem.extents.batch - 1);
        source.accessor(&format!(
            "fn own_len(b: u32) -> u32 {{ return u32(clamp({get}(min(b, params.batch_last)), 0, i32(params.seq_len_kv))); }}\n"
        ));
    }
}
