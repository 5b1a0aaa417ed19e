//! The kernel half: rows of queries, sequences of keys and masks over them, as a domain of the fused frame.

mod addressing;
mod mask;
mod mask_lists;
mod mask_traits;
#[cfg(all(test, feature = "reference"))]
mod tests;

use std::ops::Range;

use self::mask_traits::map_differs;
pub(super) use self::mask_traits::traits;
use super::extents::Axis;
use super::mask::Mask;
use super::problem::AttentionProblem;
use super::roles::Role;
use super::snippets;
use super::storage::{KeyStorage, QueryStorage};
use crate::error::PlanError;
use crate::fused::classify::{CLASSIFY_SIZE, Classified};
use crate::fused::domain::{Domain, Part, Pass, Rows, Words, Work};
use crate::fused::{FusedShape, FusedTiles};
use crate::kernel::extra::{extra_id, table_index};
use crate::kernel::slices::{Cut, Slice, pieces};
use crate::kernel::source::{KernelSource, add_fragment, bound_range};
use crate::snippet::{Asked, Snippet};

/// Queries and keys as sequences, in the tiles of a call.
pub(super) struct Sequences<'a> {
    pub problem: &'a AttentionProblem,
    pub tiles: FusedTiles,
    /// Maps of tiles differ between batches, and between heads.
    pub map_differs: [bool; 2],
}

impl<'a> Sequences<'a> {
    pub fn new(problem: &'a AttentionProblem, tiles: FusedTiles) -> Self {
        Self { problem, tiles, map_differs: map_differs(problem) }
    }

    /// Query heads packed into a tile's rows: all that a group has when its queries leave most of a tile idle.
    pub fn group_rows(&self, group: u32) -> u32 {
        let [queries, _] = self.problem.typical_lens();
        let idle = queries * 2 <= u64::from(self.tiles.tile_q());
        if idle || queries == 1 { group } else { 1 }
    }

    /// Rows that a head group has: queries, packed heads, packed batches.
    fn rows(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        let batches = if pass.prefix { part.batches() } else { 1 };
        let queries = u64::from(part.queries()).saturating_mul(batches.into());
        queries.saturating_mul(pass.group_rows.into())
    }

    fn q_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        let tile_q = u64::from(self.tiles.tile_q());
        match self.problem.storage.queries {
            // Sequences end within tiles: see row_tile. The rows behind the last one count as one more.
            QueryStorage::Packed => {
                let sequences = u64::from(self.problem.extents.sequences) + 1;
                (self.rows(part, pass) / tile_q).saturating_add(sequences)
            }
            QueryStorage::Batched => self.rows(part, pass).div_ceil(tile_q),
        }
    }

    /// Groups of heads that workgroups iterate over.
    fn head_groups(part: &Part<'_>, pass: &Pass) -> u32 {
        part.q_heads() / pass.group_rows
    }

    /// Groups of heads that the map of tiles tells apart.
    fn map_head_groups(&self, part: &Part<'_>, pass: &Pass) -> u32 {
        if self.map_differs[1] { Self::head_groups(part, pass) } else { 1 }
    }

    /// Nothing is masked and no tile is cut off: where keys are cut, they are at multiples of tiles.
    fn every_tile_is_full(&self, pass: &Pass) -> bool {
        let p = self.problem;
        let (keys, differ) = if pass.prefix {
            (p.extents.prefix_len, false)
        } else {
            (p.extents.seq_len_kv, p.has_own_lens() || p.spec.mask != Mask::Full)
        };
        let differ = differ || self.keys_lie_outside(pass);
        !differ && keys.is_multiple_of(self.tiles.tile_kv())
    }

    /// Some keys of a sequence may lie outside what a pass binds, between others.
    fn keys_lie_outside(&self, pass: &Pass) -> bool {
        let [_, _, keys] = &pass.keys;
        match self.problem.storage.keys {
            KeyStorage::Batched => false,
            KeyStorage::Packed => keys.len() < self.problem.extents.seq_len_kv as usize,
            KeyStorage::Paged => {
                !pass.prefix && keys.len() < self.problem.extents.pages.count as usize
            }
        }
    }

    fn mask_of<'m>(&'m self, pass: &Pass) -> &'m Mask {
        if pass.prefix { &Mask::Full } else { &self.problem.spec.mask }
    }

    /// The constants of a workgroup's rows and keys.
    fn constants(&self, source: &mut KernelSource, pass: &Pass) {
        let (p, e) = (self.problem, &self.problem.extents);
        source.const_u32("TILE_Q", self.tiles.tile_q());
        source.const_u32("TILE_KV", self.tiles.tile_kv());
        source.const_u32("GROUP_SIZE", e.group_size());
        source.const_u32("GROUP_ROWS", pass.group_rows);
        source.const_bool("BATCH_ROWS", pass.prefix);
        source.const_bool("HAS_Q_OFFSET", p.spec.q_offset.is_some());
        source.const_bool("EVERY_TILE_FULL", self.every_tile_is_full(pass));
        source.const_bool("MASK_BY_HEAD", !pass.prefix && traits(p).by_head);
    }

    /// The params of its place among all workgroups, and its extents.
    fn params(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work) {
        let (p, e) = (self.problem, &self.problem.extents);
        let (kv_splits, head_groups) = match work {
            Work::Forward { .. } => (self.tiles.kv_splits(), Self::head_groups(part, pass)),
            Work::Map { .. } => (1, self.map_head_groups(part, pass)),
        };
        let (first, count) = work.range();
        source.params.u32("workgroup_first", first);
        source.params.u32("workgroups", first + count);
        source.const_bool("SPLIT_KEYS", kv_splits > 1);
        source.params.u32("kv_splits", kv_splits);
        source.params.u32("part_first", pass.part_first);
        source.params.u32("batch_first", part.slice.batch.start);
        source.params.u32("head_first", part.head_first());
        let [map_by_batch, map_by_head] = self.map_differs;
        source.const_bool("MAP_BY_BATCH", map_by_batch);
        source.const_bool("MAP_BY_HEAD", map_by_head);
        source.params.u32("head_groups", head_groups);
        source.params.u32("q_tiles", self.q_tiles(part, pass) as u32);
        source.params.u32("rows", self.rows(part, pass) as u32);
        source.params.u32("seq_len_q", e.seq_len_q);
        source.params.u32("seq_len_kv", e.seq_len_kv);
        source.params.u32("prefix_len", e.prefix_len);
        let [_, prefix, keys] = &part.slice.keys;
        let keys = if pass.prefix { prefix } else { keys };
        source.params.u32("key_first", keys.start);
        source.params.u32("key_end", keys.end);
        source.const_bool("QUERIES_CUT", part.queries() < e.seq_len_q);
        source.params.u32("queries", part.queries());
        source.params.u32("query_end", part.slice.queries[2].end);
        source.params.u32("map_words", self.map_words() as u32);
        source.params.i32("q_offset", p.spec.q_offset.unwrap_or(0));
    }
}

impl AttentionProblem {
    /// What tiles are chosen for.
    pub(crate) fn fused_shape(&self) -> FusedShape {
        let e = &self.extents;
        FusedShape { head_dim: e.head_dim, value_dim: e.value_dim, dtype: self.spec.dtype }
    }
}

impl Domain for Sequences<'_> {
    const NAME: &'static str = "attention";

    fn extents(&self) -> Cut {
        let e = &self.problem.extents;
        let keys = match self.problem.storage.keys {
            KeyStorage::Batched | KeyStorage::Packed => e.seq_len_kv,
            KeyStorage::Paged => e.pages.count,
        };
        Cut {
            batches: e.batch,
            kv_heads: e.kv_heads,
            group: e.group_size(),
            queries: [1, 1, e.seq_len_q],
            keys: [1, e.prefix_len, keys],
        }
    }

    fn key_units(&self) -> [u32; 3] {
        let tile = self.tiles.tile_kv();
        match self.problem.storage.keys {
            KeyStorage::Batched | KeyStorage::Packed => [1, tile, tile],
            KeyStorage::Paged => [1, tile, 1],
        }
    }

    fn widest(&self, cut: &Cut) -> Slice {
        let [x, y, z] = cut.queries;
        let keys = self.extents().keys.map(|extent| 0..extent);
        let queries = [0..x, 0..y, 0..z];
        Slice {
            batch: 0..cut.batches,
            kv_heads: 0..cut.kv_heads,
            group: 0..cut.group,
            queries,
            keys,
        }
    }

    fn way_out(&self, name: &str) -> String {
        match self.problem.role(name) {
            Some(Role::Aux) => "a function's tensors are bound whole: a smaller table".to_owned(),
            _ => "fewer heads or smaller dims a call".to_owned(),
        }
    }

    fn passes(&self, slice: &Slice, cut: &Cut) -> Vec<Pass> {
        let [one, prefix, keys] = &slice.keys;
        let [_, prefix_step, step] = cut.keys;
        let of_prefix = pieces(prefix.clone(), prefix_step).map(|piece| Pass {
            prefix: true,
            group_rows: slice.group.len() as u32,
            by_map: false,
            part_first: 0,
            keys: [one.clone(), piece, keys.clone()],
        });
        let of_keys = |piece: Range<u32>| Pass {
            prefix: false,
            group_rows: self.group_rows(slice.group.len() as u32),
            by_map: traits(self.problem).by_map,
            part_first: 0,
            keys: [one.clone(), prefix.clone(), piece],
        };
        // Without keys there is a pass all the same: it writes rows that see none.
        let all = std::iter::once(keys.clone()).filter(|keys| keys.is_empty());
        let mut passes: Vec<Pass> =
            of_prefix.chain(all.chain(pieces(keys.clone(), step)).map(of_keys)).collect();
        for (number, pass) in passes.iter_mut().enumerate() {
            pass.part_first = (number as u32).saturating_mul(self.tiles.kv_splits());
        }
        passes
    }

    fn row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        let batches = if pass.prefix { 1 } else { u64::from(part.batches()) };
        let groups = u64::from(Self::head_groups(part, pass));
        self.q_tiles(part, pass).saturating_mul(groups).saturating_mul(batches)
    }

    fn map_row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        let batches = if self.map_differs[0] { u64::from(part.batches()) } else { 1 };
        let groups = u64::from(self.map_head_groups(part, pass));
        self.q_tiles(part, pass).saturating_mul(groups).saturating_mul(batches)
    }

    fn map_words(&self) -> u64 {
        let keys = u64::from(self.problem.extents.seq_len_kv);
        keys.div_ceil(u64::from(self.tiles.tile_kv())).div_ceil(32).max(1)
    }

    fn keys_visited(&self, part: &Part<'_>, pass: &Pass) -> f64 {
        let e = &self.problem.extents;
        let [_, prefix, keys] = &part.slice.keys;
        match self.problem.storage.keys {
            _ if pass.prefix => prefix.len() as f64,
            KeyStorage::Batched | KeyStorage::Packed => keys.len() as f64,
            // About as many as the pass has of all pages.
            KeyStorage::Paged => {
                f64::from(e.seq_len_kv) * keys.len() as f64 / f64::from(e.pages.count.max(1))
            }
        }
    }

    fn classified(&self) -> Classified {
        // Lanes side by side read neighbouring elements of a dense mask.
        let key_lanes = self.tiles.tile_kv().next_power_of_two().min(CLASSIFY_SIZE);
        Classified { asks_elements: traits(self.problem).by_element, key_lanes }
    }

    fn element_range(&self, name: &str, slice: &Slice) -> (u64, u64) {
        element_range(self.problem, name, slice)
    }

    fn core(&self, pass: &Pass) -> [&'static str; 3] {
        let [q, k, v] = self.problem.storage.core();
        if pass.prefix { [q, "prefix_k", "prefix_v"] } else { [q, k, v] }
    }

    fn bind_rows(&self, source: &mut KernelSource, part: &Part<'_>, rows: Rows<'_>) {
        let Rows { name, role, tensor, element, writes } = rows;
        let desc = &self.problem.tensors[tensor];
        let (first, end) = self.element_range(tensor, &part.slice);
        let alignment = part.call.limits.storage_alignment;
        let (bound, origin) = bound_range(tensor, desc.dtype, first, end, alignment);
        source.bind(name, element, writes, bound);
        // Offsets are sums modulo 2^32 that end inside the binding, whatever their terms.
        source
            .params
            .u32(format!("{role}_first"), origin.wrapping_add(desc.layout.offset() as u32));
        // A prefix is the same for all batches.
        let batch_stride = if desc.layout.strides().len() == 3 && tensor.starts_with("prefix_") {
            [&[0], desc.layout.strides()].concat()
        } else {
            desc.layout.strides().to_vec()
        };
        for (axis, stride) in ["batch", "head", "seq"].into_iter().zip(batch_stride) {
            source.params.u32(format!("{role}_{axis}_stride"), stride as u32);
        }
        source.accessor(&rows_of(role));
    }

    fn no_rows(&self, source: &mut KernelSource, name: &str) {
        source.accessor(&format!(
            "fn {name}_row(batch: u32, head: u32, place: Place) -> u32 {{ return 0u; }}\n"
        ));
    }

    fn places(&self, source: &mut KernelSource, part: &Part<'_>) {
        places(source, part.slice.queries[2].start);
    }

    fn write(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work) {
        self.places(source, part);
        self.constants(source, pass);
        self.params(source, part, pass, work);
        self.queries(source, part);
        self.keys(source, part, pass);
        add_fragment!(source, "fused/splits.wgsl");
        add_fragment!(source, "fused/domain_dense.wgsl");
    }

    fn mask(
        &self,
        source: &mut KernelSource,
        part: &Part<'_>,
        pass: &Pass,
    ) -> Result<bool, PlanError> {
        let mut checked = false;
        if !pass.prefix {
            for named in self.problem.extra_inputs().filter(|it| it.field.starts_with("mask.")) {
                self.bind_extra(source, part, &named.name);
            }
            let asked = snippets::of_mask(&self.problem.spec.mask);
            for (index, asked) in asked.into_iter().enumerate() {
                checked |= part.extra.snippet(source, asked, &mask::snippet_prefix(index))?;
            }
        }
        mask::write(source, self, self.mask_of(pass), self.keys_lie_outside(pass));
        Ok(checked)
    }

    fn words(&self) -> Words {
        Words { query_type: "u32", q: "q".to_owned(), kv: "kv".to_owned(), has_place: None }
    }

    fn score_snippet<'s>(&self, snippet: &'s Snippet) -> Asked<'s> {
        (&snippets::SCORE_MOD, snippet, snippets::SCORE_FIELD)
    }

    fn bind_extra(&self, source: &mut KernelSource, part: &Part<'_>, name: &str) {
        let p = self.problem;
        part.extra.bind(source, name, self.element_range(name, &part.slice));
        let id = part.extra.id(name);
        let is_table = p.roles().iter().any(|it| it.name == name && it.role.is_score_table());
        if is_table && !source.has_param(&format!("{id}_batch_stride")) {
            source.table_strides(&id, &p.tensors[name].layout);
        }
    }

    fn table_index(&self, name: &str) -> String {
        self.index(name, "q", "kv")
    }

    fn distance(&self, pass: &Pass) -> String {
        let shift = if pass.prefix { " - i32(params.prefix_len)" } else { "" };
        format!("abs(f32(pos_q(b, q) - (i32(kv){shift})))")
    }
}

/// A query's place is its row in a batch; they are numbered from a slice's first on.
pub(super) fn places(source: &mut KernelSource, first: u32) {
    source.alias("Place", "u32");
    source.params.u32("query_first", first);
    source.accessor(
        "fn place_number(place: u32) -> u32 { return place - params.query_first; }\nfn place_of(number: u32) -> u32 { return params.query_first + number; }\n",
    );
}

/// Where rows with strides of batch, head and seq begin.
pub(super) fn rows_of(role: &str) -> String {
    format!(
        "fn {role}_row(batch: u32, head: u32, place: u32) -> u32 {{ return params.{role}_first + batch * params.{role}_batch_stride + head * params.{role}_head_stride + place * params.{role}_seq_stride; }}\n"
    )
}

impl Sequences<'_> {
    /// The name that an extra input has in kernels.
    fn id(&self, name: &str) -> String {
        extra_id(&self.problem.tensors, name)
    }

    /// The flat index of element (b, h, row, column) of a table with four axes, those of extent 1 broadcast.
    fn index(&self, name: &str, row: &str, column: &str) -> String {
        table_index(&self.id(name), self.problem.tensors[name].shape(), ["b", "h", row, column])
    }
}

/// First and one past the last element of a tensor that a slice touches, for all that it is there for.
fn element_range(problem: &AttentionProblem, name: &str, slice: &Slice) -> (u64, u64) {
    let layout = &problem.tensors[name].layout;
    let range = |role: Role| {
        let sliced = Some(role).filter(|role| role.is_sliced());
        let axes = sliced.and_then(|role| role.axes(problem.storage)).unwrap_or_default();
        layout.range_within(|axis| axes.get(axis).and_then(|axis| slice_of(problem, *axis, slice)))
    };
    let ranges = problem.roles().iter().filter(|named| named.name == name);
    let ranges = ranges.map(|named| range(named.role));
    ranges.reduce(|(first, end), other| (first.min(other.0), end.max(other.1))).unwrap_or((0, 0))
}

/// What a slice has of an axis; `None`: all of it.
fn slice_of(problem: &AttentionProblem, axis: Axis, slice: &Slice) -> Option<Range<u32>> {
    let [_, prefix, keys] = &slice.keys;
    let [_, _, queries] = &slice.queries;
    let blocks = |of: &Range<u32>, size: u32| of.start / size..of.end.div_ceil(size);
    let paged = problem.storage.keys == KeyStorage::Paged;
    match axis {
        Axis::Batch | Axis::Sequences => Some(slice.batch.clone()),
        Axis::QHeads => Some(slice.q_heads(problem.extents.group_size())),
        Axis::KvHeads => Some(slice.kv_heads.clone()),
        Axis::Queries => Some(queries.clone()),
        Axis::QueryBlocks(size) => Some(blocks(queries, size)),
        Axis::Prefix => Some(prefix.clone()),
        Axis::Pages => Some(keys.clone()),
        Axis::Keys if !paged => Some(keys.clone()),
        Axis::KeyBlocks(size) if !paged => Some(blocks(keys, size)),
        Axis::Keys | Axis::KeyBlocks(_) => None, // a pass over pages has keys here and there
        Axis::HeadDim
        | Axis::ValueDim
        | Axis::PageSize
        | Axis::PagesOfSequence
        | Axis::SequenceEnds => None,
    }
}
