//! The kernel half: boxes of queries and of keys over windows, as a domain of the fused frame.

use std::cell::OnceCell;
use std::ops::Range;

use super::bind::{self, no_rows};
use super::problem::NeighborhoodProblem;
use super::roles::Role;
use super::simulate::{every_key_is_seen, simulate};
use super::snippets;
use super::tiles::{NeighborhoodTiles, Packing};
use super::window::Axis;
use crate::error::PlanError;
use crate::fused::classify::{CLASSIFY_SIZE, Classified};
use crate::fused::domain::{Domain, Part, Pass, Rows, Words, Work};
use crate::gpu::limits::GpuLimits;
use crate::kernel::extra::{extra_id, table_index};
use crate::kernel::slices::{Cut, Ranges, Slice, pieces};
use crate::kernel::source::{Access, KernelSource, add_fragment};
use crate::kernel::template::template;
use crate::snippet::{Asked, Snippet, mask_reads};

/// Offsets from here on are those of extra tokens' tensors: no binding has so many elements.
const EXTRA_OFFSET: u32 = 1 << 31;

/// Queries and keys as boxes of tokens, in the tiles of a call. A workgroup is a box of queries of one dilation class of
/// one head.
pub(super) struct Boxes<'a> {
    problem: &'a NeighborhoodProblem,
    tiles: NeighborhoodTiles,
    packing: Packing,
    axes: [Axis; 3],
    /// Every row sees every key of every tile.
    every_tile_is_full: bool,
    /// Tiles are classified on the device.
    by_map: bool,
    /// All heads and batches have one map of tiles.
    map_is_shared: bool,
    /// Key tiles that a box of queries visits, on average: counted where it is asked for.
    visits: OnceCell<f64>,
    alignment: u32,
    is_cpu: bool,
}

/// The caller's mask may empty tiles, or keep them whole: a map tells, where the device has a binding to spare for it.
/// Else every element of a tile is tested.
pub(super) fn by_map(problem: &NeighborhoodProblem, limits: &GpuLimits) -> bool {
    let names = problem.extra_names();
    let others = problem.tensors.keys().filter(|name| !names.contains(name)).count();
    let bindings = others + usize::from(!names.is_empty());
    problem.spec.mask.is_some() && bindings < limits.storage_buffers as usize
}

/// The caller's mask and the windows are the same for all heads and batches.
fn map_is_shared(problem: &NeighborhoodProblem) -> bool {
    let mask = snippets::mask(&problem.spec, problem.axes.len());
    let reads = mask.map(|asked| mask_reads(&problem.tensors, asked));
    reads == Some([false; 2]) && problem.head_windows().len() == 1
}

impl<'a> Boxes<'a> {
    /// The boxes of a call.
    ///
    /// # Errors
    /// [`PlanError::Unsupported`] where the coordinates of a block's keys outgrow a word.
    pub fn new(
        problem: &'a NeighborhoodProblem,
        tiles: NeighborhoodTiles,
        limits: &GpuLimits,
    ) -> Result<Self, PlanError> {
        let axes = problem.axes3();
        let packing = tiles.packing(&axes).ok_or_else(|| PlanError::Unsupported {
            what: format!("a window of {:?} keys", problem.spec.window),
            reason: format!("coordinates of a block's keys outgrow one word with {tiles}"),
        })?;
        let masked = problem.spec.mask.is_some() || problem.extents.extra > 0;
        Ok(Self {
            problem,
            tiles,
            packing,
            axes,
            every_tile_is_full: !masked && every_key_is_seen(problem, &tiles),
            by_map: by_map(problem, limits),
            map_is_shared: map_is_shared(problem),
            visits: OnceCell::new(),
            alignment: limits.storage_alignment,
            is_cpu: limits.is_cpu,
        })
    }

    /// The tensors of a slice.
    fn rows<'s>(&'s self, slice: &'s Slice) -> bind::Rows<'s> {
        bind::Rows {
            tensors: &self.problem.tensors,
            rank: self.axes_named(),
            group_size: self.problem.extents.group_size(),
            slice,
            alignment: self.alignment,
        }
    }

    /// Number of axes that are there.
    fn axes_named(&self) -> usize {
        self.problem.axes.len()
    }

    /// The constants of boxes and windows.
    fn constants(&self, source: &mut KernelSource) {
        let (axes, tiles, packing) = (&self.axes, &self.tiles, &self.packing);
        source.const_u32("TILE_KV", tiles.fused.tile_kv());
        source.const_u32("TILE_Q", tiles.fused.tile_q());
        source.const_vec3("QUERY_BOX", tiles.query_box.0);
        source.const_vec3("KEY_BOX", tiles.key_box.0);
        source.const_u32("QUERY_BOX_VOLUME", tiles.query_box.volume() as u32);
        source.const_u32("KEY_BOX_VOLUME", tiles.key_box.volume() as u32);
        let key_boxes = tiles.most_key_boxes(axes);
        source.const_vec3("KEY_BOXES", key_boxes.0);
        source.const_u32("WINDOW_TILES", key_boxes.volume() as u32);
        source.const_vec3("KEY_SHIFT", packing.shifts);
        source.const_vec3("KEY_MASK", packing.masks);
        source.const_u32("KEY_GUARDS", packing.guards);
        let side = |i: usize| tiles.query_box.0[i];
        source.const_vec3("BOX_PAD", std::array::from_fn(|i| axes[i].box_pad(side(i))));
        let is_table = |name: &String| self.problem.is_table(name);
        source.const_bool("HAS_TABLE", self.problem.extra_names().iter().any(is_table));
        source.const_bool("HAS_MASK_MOD", self.problem.spec.mask.is_some());
        source.const_bool("HAS_EXTRA", self.problem.extents.extra > 0);
        let classes = axes.iter().map(|axis| axis.dilation).product();
        source.const_u32("CLASSES", classes);
        source.const_u32("GROUP_SIZE", self.problem.extents.group_size());
    }

    /// What a pass binds of the keys that its queries see.
    fn keys_bound(&self, source: &mut KernelSource, part: &Part<'_>) {
        let cut = self.keys_are_cut(part);
        source.const_bool("KEYS_CUT", cut);
        source.const_bool("EVERY_TILE_FULL", self.every_tile_is_full && !cut);
        let rank = self.axes_named();
        let keys = &part.slice.keys;
        bind::vector(source, rank, "keys_first", keys.each_ref().map(|it| it.start), 0);
        bind::vector(source, rank, "keys_end", keys.each_ref().map(|it| it.end), 1);
    }

    /// Some keys that the slice's queries see are not bound.
    fn keys_are_cut(&self, part: &Part<'_>) -> bool {
        bind::with_keys_seen(&self.axes, part.slice.clone()).keys != part.slice.keys
    }

    /// The params of a workgroup's place among all, and its extents.
    fn params(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work) {
        let (first, count) = work.range();
        let kv_splits = match work {
            Work::Forward { .. } => self.tiles.fused.kv_splits(),
            Work::Map { .. } => 1,
        };
        source.params.u32("workgroup_first", first);
        source.params.u32("workgroups", first + count);
        // Where they are not, processors do without the divisions; NVIDIA's compiler makes 2 % more of the loop where a
        // block's first tile is a constant.
        source.const_bool("SPLIT_KEYS", kv_splits > 1 || !self.is_cpu);
        source.params.u32("kv_splits", kv_splits);
        source.params.u32("part_first", pass.part_first);
        source.params.u32("batch_first", part.slice.batch.start);
        source.params.u32("head_first", part.head_first());
        source.params.u32("heads", part.q_heads());
        // Extra tokens are seen once.
        let extra = if pass.part_first == 0 { self.problem.extents.extra } else { 0 };
        source.params.u32("extra", extra);
        source.params.u32("map_boxes", self.map_row_tiles(part, pass) as u32);
        source.params.u32("map_words", self.map_words() as u32);
        let [first, boxes] = self.tiles.boxes_of(&self.axes, &part.slice.queries);
        bind::vector(source, 3, "slice_boxes", boxes, 1);
        let whole = part.slice.queries == self.extents().queries.map(|extent| 0..extent);
        source.const_bool("QUERIES_CUT", !whole);
        bind::vector(source, self.axes_named(), "box_first", first, 0);
    }

    /// A token in the caller's coordinates, of as many axes as there are.
    fn coordinates(&self, token: &str) -> String {
        format!("{token}.{}", ["z", "yz", "xyz"][self.axes_named() - 1])
    }

    /// Boxes of queries of a slice, of all classes.
    fn query_boxes(&self, part: &Part<'_>) -> u64 {
        let [_, boxes] = self.tiles.boxes_of(&self.axes, &part.slice.queries);
        let classes = self.axes.iter().map(|axis| u64::from(axis.dilation));
        classes.chain(boxes.map(u64::from)).fold(1, u64::saturating_mul)
    }

    /// The numbers of the tokens of a box, from the first to the last, row-major.
    fn numbers(&self, tokens: &Ranges) -> Range<u32> {
        let number = |at: [u32; 3]| {
            let [_, y, z] = self.axes.map(|axis| axis.extent);
            (at[0] * y + at[1]) * z + at[2]
        };
        let last = tokens.each_ref().map(|range| range.end.saturating_sub(1));
        number(tokens.each_ref().map(|range| range.start))..number(last) + 1
    }

    /// First and one past the last element of a table over queries and keys that a slice touches.
    fn table_range(&self, name: &str, slice: &Slice) -> (u64, u64) {
        let layout = &self.problem.tensors[name].layout;
        let heads = slice.q_heads(self.problem.extents.group_size());
        layout.range_within(|axis| match axis {
            0 => Some(slice.batch.clone()),
            1 => Some(heads.clone()),
            2 => Some(self.numbers(&slice.queries)),
            3 => Some(self.numbers(&slice.keys)),
            _ => None,
        })
    }
}

impl Domain for Boxes<'_> {
    const NAME: &'static str = "neighborhood attention";

    fn extents(&self) -> Cut {
        let (e, extents) = (&self.problem.extents, self.axes.map(|axis| axis.extent));
        let (kv_heads, group) = (e.kv_heads, e.group_size());
        Cut { batches: e.batch, kv_heads, group, queries: extents, keys: extents }
    }

    fn widest(&self, cut: &Cut) -> Slice {
        bind::widest(&self.axes, cut)
    }

    fn with_keys(&self, slice: Slice) -> Slice {
        bind::with_keys_seen(&self.axes, slice)
    }

    fn way_out(&self, name: &str) -> String {
        match name {
            "extra_k" | "extra_v" => "extra tokens are bound whole: fewer of them".to_owned(),
            _ if self.problem.is_table(name) => {
                "fewer tokens, or a bias that broadcasts".to_owned()
            }
            _ if self.problem.extra_names().iter().any(|extra| extra == name) => {
                "a function's tensors are bound whole: a smaller table".to_owned()
            }
            _ => "fewer heads or smaller dims a call".to_owned(),
        }
    }

    fn passes(&self, slice: &Slice, cut: &Cut) -> Vec<Pass> {
        let [x, y, z] = [0, 1, 2].map(|i| pieces(slice.keys[i].clone(), cut.keys[i]));
        let lines = x.flat_map(|x| y.clone().map(move |y| (x.clone(), y)));
        let keys = lines.flat_map(|(x, y)| z.clone().map(move |z| [x.clone(), y.clone(), z]));
        let pass = |(number, keys): (usize, Ranges)| Pass {
            prefix: false,
            group_rows: 1,
            by_map: self.by_map,
            part_first: (number as u32).saturating_mul(self.tiles.fused.kv_splits()),
            keys,
        };
        keys.enumerate().map(pass).collect()
    }

    fn row_tiles(&self, part: &Part<'_>, _: &Pass) -> u64 {
        let heads = u64::from(part.batches()).saturating_mul(part.q_heads().into());
        self.query_boxes(part).saturating_mul(heads)
    }

    fn map_row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        match self.map_is_shared {
            true => self.query_boxes(part),
            false => self.row_tiles(part, pass),
        }
    }

    fn map_words(&self) -> u64 {
        let window_tiles = self.tiles.most_key_boxes(&self.axes).volume();
        let extra_tiles = self.problem.extents.extra.div_ceil(self.tiles.fused.tile_kv());
        (window_tiles + u64::from(extra_tiles)).div_ceil(32)
    }

    fn keys_visited(&self, part: &Part<'_>, _: &Pass) -> f64 {
        let visits = self.visits.get_or_init(|| simulate(self.problem, &self.tiles).visits_a_block);
        // About as many as the pass has of all keys.
        let tokens = |keys: &Ranges| keys.iter().map(|range| range.len() as f64).product::<f64>();
        let seen = bind::with_keys_seen(&self.axes, part.slice.clone()).keys;
        let share = tokens(&part.slice.keys) / tokens(&seen).max(1.0);
        visits * share * f64::from(self.tiles.fused.tile_kv())
    }

    fn classified(&self) -> Classified {
        // A row costs more to find than a key: lanes keep to one as far as there are rows.
        let row_lanes = self.tiles.fused.tile_q().next_power_of_two().min(CLASSIFY_SIZE);
        Classified { asks_elements: true, key_lanes: CLASSIFY_SIZE / row_lanes }
    }

    fn element_range(&self, name: &str, slice: &Slice) -> (u64, u64) {
        // A table that is there for something else too is bound whole.
        if self.problem.uses(name) == [Role::Bias] {
            return self.table_range(name, slice);
        }
        self.rows(slice).element_range(name)
    }

    fn core(&self, _: &Pass) -> [&'static str; 3] {
        ["q", "k", "v"]
    }

    fn core_names(&self) -> [&'static str; 3] {
        if self.problem.extents.extra > 0 { ["q", "window_k", "window_v"] } else { ["q", "k", "v"] }
    }

    fn bind_rows(&self, source: &mut KernelSource, part: &Part<'_>, rows: Rows<'_>) {
        let Rows { name, role, tensor, element, writes } = rows;
        self.rows(&part.slice).bind(source, (role, tensor), (name, element, writes));
    }

    fn no_rows(&self, source: &mut KernelSource, name: &str) {
        no_rows(source, name);
        if matches!(name, "k" | "v") {
            no_extra_offset(source, name);
        }
    }

    fn other_keys(
        &self,
        source: &mut KernelSource,
        part: &Part<'_>,
        (head_asked, value_asked): (u32, u32),
    ) {
        let e = &self.problem.extents;
        if e.extra == 0 {
            ["k", "v"].into_iter().for_each(|role| no_extra_offset(source, role));
            return;
        }
        source.const_u32("EXTRA_OFFSET", EXTRA_OFFSET);
        for (role, name, dim, asked) in
            [("k", "extra_k", e.head_dim, head_asked), ("v", "extra_v", e.value_dim, value_asked)]
        {
            let desc = &self.problem.tensors[name];
            let access = Access::of(desc);
            let element = KernelSource::row_element(desc.dtype, access);
            let rows = Rows { name, role: name, tensor: name, element, writes: false };
            self.bind_rows(source, part, rows);
            source.row_reader(name, desc.dtype, access, dim, asked);
            source.accessor(&template!("neighborhood/load_extra.wgsl", "ROLE" = role));
        }
        add_fragment!(source, "neighborhood/extra.wgsl");
    }

    fn places(&self, source: &mut KernelSource, part: &Part<'_>) {
        source.alias("Place", "vec3<u32>");
        extents(&self.axes, self.axes_named(), source);
        bind::slice_tokens(source, self.axes_named(), &part.slice);
        rule(&self.axes, source);
        add_fragment!(source, "neighborhood/places.wgsl");
    }

    fn write(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work) {
        self.places(source, part);
        self.constants(source);
        self.keys_bound(source, part);
        self.params(source, part, pass, work);
        head_windows(self, source);
        add_fragment!(source, "fused/splits.wgsl");
        add_fragment!(source, "neighborhood/domain.wgsl");
    }

    fn mask(
        &self,
        source: &mut KernelSource,
        part: &Part<'_>,
        _: &Pass,
    ) -> Result<bool, PlanError> {
        let Some(asked) = snippets::mask(&self.problem.spec, self.axes_named()) else {
            let text = "fn mask_keeps(b: u32, h: u32, q: Query, key: u32) -> bool { return window_keeps(q, key); }\n";
            source.fragment("mask of the spec", text);
            return Ok(false);
        };
        let checked = part.extra.snippet(source, asked, "mask_")?;
        let (q, kv) = (self.coordinates("q.token"), self.coordinates("key_token(q, key)"));
        let text = template!("neighborhood/mask_of_spec.wgsl", "CALLERS_Q" = q, "CALLERS_KV" = kv);
        source.fragment("mask of the spec", text);
        Ok(checked)
    }

    fn words(&self) -> Words {
        let has_extra = self.problem.extents.extra > 0;
        Words {
            query_type: "Query",
            q: self.coordinates("q.token"),
            kv: self.coordinates("key_token(q, kv)"),
            has_place: has_extra.then_some("kv < EXTRA_FIRST"),
        }
    }

    fn score_snippet<'s>(&self, snippet: &'s Snippet) -> Asked<'s> {
        snippets::score(snippet, self.axes_named())
    }

    fn bind_extra(&self, source: &mut KernelSource, part: &Part<'_>, name: &str) {
        part.extra.bind(source, name, self.element_range(name, &part.slice));
        let id = part.extra.id(name);
        if self.problem.is_table(name) && !source.has_param(&format!("{id}_batch_stride")) {
            source.table_strides(&id, &self.problem.tensors[name].layout);
        }
    }

    fn table_index(&self, name: &str) -> String {
        let tensors = &self.problem.tensors;
        let at = ["b", "h", "token_number(q.token)", "token_number(key_token(q, kv))"];
        table_index(&extra_id(tensors, name), tensors[name].shape(), at)
    }
}

/// Stands in where no extra token is read.
fn no_extra_offset(source: &mut KernelSource, role: &str) {
    source.accessor(&format!(
        "fn extra_{role}_offset(block: Block, index: u32) -> u32 {{ return 0u; }}\n"
    ));
}

/// `domain_extents()`: tokens along each axis.
pub(super) fn extents(axes: &[Axis; 3], rank: usize, source: &mut KernelSource) {
    bind::vector(source, rank, "domain_extents", axes.map(|axis| axis.extent), 1);
}

/// The rule of the windows, their extent aside: what `window.wgsl` wants.
pub(super) fn rule(axes: &[Axis; 3], source: &mut KernelSource) {
    source.const_vec3("STRIDE", axes.map(|axis| axis.stride));
    source.const_vec3("DILATION", axes.map(|axis| axis.dilation));
    source.const_vec3("CAUSAL", axes.map(|axis| axis.causal));
    source.const_bool("CLIP", axes.iter().any(|axis| axis.clip));
    // The leader's place in its group, and places by which the first group begins before the class.
    let leader = axes.map(|a| if a.causal { a.stride - 1 } else { a.stride / 2 });
    source.const_vec3("LEADER", leader);
    source.const_vec3("GROUP_PAD", axes.map(|axis| axis.group_pad()));
    add_fragment!(source, "neighborhood/window.wgsl");
}

/// `domain_window(h)`: a constant, or from a list by query head.
fn head_windows(domain: &Boxes<'_>, source: &mut KernelSource) {
    let windows = &domain.problem.spec.head_windows;
    let differ = windows.iter().any(|window| *window != windows[0]);
    source.const_bool("WINDOWS_DIFFER", differ);
    let window = if differ {
        let missing = 3 - domain.problem.axes.len();
        let mut numbers = Vec::new();
        for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
            if axis < missing {
                numbers.push("1u".to_owned());
                continue;
            }
            let list: Vec<i32> = windows.iter().map(|w| w[axis - missing] as i32).collect();
            source.params.i32_list(format!("window_{letter}"), &list);
            numbers.push(format!("u32(params.window_{letter}[h / 4u][h % 4u])"));
        }
        format!("vec3({})", numbers.join(", "))
    } else {
        source.const_vec3("WINDOW", domain.axes.map(|axis| axis.window));
        "WINDOW".to_owned()
    };
    source.accessor(&format!("fn domain_window(h: u32) -> vec3<u32> {{ return {window}; }}\n"));
}
