//! Where queries and keys lie, as text: one fragment for each storage of either.

use super::Sequences;
use crate::attention::storage::{KeyStorage, QueryStorage};
use crate::fused::domain::{Domain, Part, Pass};
use crate::kernel::source::{KernelSource, add_fragment};

impl Sequences<'_> {
    /// Where a sequence's queries lie: `q_len`, `q_place`, `row_tile`.
    pub(super) fn queries(&self, source: &mut KernelSource, part: &Part<'_>) {
        match self.problem.storage.queries {
            QueryStorage::Batched => add_fragment!(source, "fused/queries_strided.wgsl"),
            QueryStorage::Packed => {
                self.starts(source, part, "query_start", "cu_seqlens_q", "seq_len_q");
                add_fragment!(source, "fused/queries_packed.wgsl");
            }
        }
    }

    /// Where its keys lie: `kv_place`, `own_len`, and which of them a pass binds, from `kv_first` to `kv_end`. The shared
    /// prefix lies by strides.
    pub(super) fn keys(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass) {
        match self.problem.storage.keys {
            KeyStorage::Packed => {
                self.starts(source, part, "first_key", "cu_seqlens_kv", "seq_len_kv");
                add_fragment!(source, "fused/keys_packed.wgsl");
            }
            KeyStorage::Paged if !pass.prefix => {
                self.own_len(source, part);
                self.pages(source, part);
            }
            KeyStorage::Batched | KeyStorage::Paged => {
                self.own_len(source, part);
                let len = if pass.prefix { "params.prefix_len" } else { "own_len(b)" };
                source.accessor(&format!("fn kv_len(b: u32) -> u32 {{ return {len}; }}\n"));
                add_fragment!(source, "fused/keys_strided.wgsl");
            }
        }
    }

    fn pages(&self, source: &mut KernelSource, part: &Part<'_>) {
        let pages = self.problem.extents.pages;
        source.const_u32("PAGE_SIZE", pages.size);
        source.params.u32("pages", pages.count);
        source.params.u32("table_pages", pages.of_sequence);
        let get = self.extra_get(source, part, "block_table");
        source.accessor(&format!(
            "fn page_at(b: u32, i: u32) -> i32 {{ return {get}(b * params.table_pages + i); }}\n"
        ));
        add_fragment!(source, "fused/keys_paged.wgsl");
    }

    /// Makes an extra input readable; gives the name of its reader.
    fn extra_get(&self, source: &mut KernelSource, part: &Part<'_>, name: &str) -> String {
        self.bind_extra(source, part, name);
        format!("{}_get", self.id(name))
    }

    /// Where sequences begin, kept within the tensor whatever the numbers are.
    fn starts(
        &self,
        source: &mut KernelSource,
        part: &Part<'_>,
        function: &str,
        name: &str,
        total: &str,
    ) {
        let get = self.extra_get(source, part, name);
        if !source.has_param("sequences") {
            source.params.u32("sequences", self.problem.extents.sequences);
        }
        source.accessor(&format!(
            "fn {function}(b: u32) -> u32 {{ return u32(clamp({get}(min(b, params.sequences)), 0, i32(params.{total}))); }}\n"
        ));
    }

    /// Keys of a sequence: `kv_lens`, cut to what there is, or all.
    fn own_len(&self, source: &mut KernelSource, part: &Part<'_>) {
        if !self.problem.tensors.contains_key("kv_lens") {
            source.accessor("fn own_len(b: u32) -> u32 { return params.seq_len_kv; }\n");
            return;
        }
        let get = self.extra_get(source, part, "kv_lens");
        // Callers may ask for the position in a sequence that is none; rows that no sequence owns have no keys.
        source.params.u32("batch_last", self.problem.extents.sequences.saturating_sub(1));
        let len =
            format!("u32(clamp({get}(min(b, params.batch_last)), 0, i32(params.seq_len_kv)))");
        let len = match self.problem.storage.queries {
            QueryStorage::Batched => len,
            QueryStorage::Packed => format!("select(0u, {len}, has_sequence(b))"),
        };
        source.accessor(&format!("fn own_len(b: u32) -> u32 {{ return {len}; }}\n"));
    }
}
