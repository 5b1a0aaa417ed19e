//! The kernel half: boxes of queries and of keys over windows, as a domain of the fused frame.

use super::bind::{self, no_rows};
use super::problem::NeighborhoodProblem;
use super::simulate::{every_key_is_seen, simulate};
use super::snippets;
use super::tiles::{NeighborhoodTiles, Packing};
use super::window::Axis;
use crate::error::PlanError;
use crate::fused::classify::CLASSIFY_SIZE;
use crate::fused::domain::{Domain, Part, Pass, Rows, Words, Work};
use crate::gpu::limits::GpuLimits;
use crate::kernel::extra::{extra_id, table_index};
use crate::kernel::slices::Slice;
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
        source.const_bool("EVERY_TILE_FULL", self.every_tile_is_full);
        let key_boxes = tiles.most_key_boxes(axes);
        source.const_vec3("KEY_BOXES", key_boxes.0);
        source.const_u32("WINDOW_TILES", key_boxes.volume() as u32);
        source.const_vec3("KEY_SHIFT", packing.shifts);
        source.const_vec3("KEY_MASK", packing.masks);
        source.const_u32("KEY_GUARDS", packing.guards);
        let side = |i: usize| tiles.query_box.0[i];
        source.const_vec3("BOX_PAD", std::array::from_fn(|i| axes[i].box_pad(side(i))));
        source.const_bool("HAS_MASK_MOD", self.problem.spec.mask.is_some());
        source.const_bool("HAS_EXTRA", self.problem.extents.extra > 0);
        let classes = axes.iter().map(|axis| axis.dilation).product();
        source.const_u32("CLASSES", classes);
        source.const_u32("GROUP_SIZE", self.problem.extents.group_size());
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
        source.params.u32("extra", self.problem.extents.extra);
        source.params.u32("map_boxes", self.map_row_tiles(part, pass) as u32);
        source.params.u32("map_words", self.map_words() as u32);
        let boxes = self.tiles.boxes(&self.axes);
        for (boxes, letter) in boxes.into_iter().zip(["x", "y", "z"]) {
            source.params.u32(format!("boxes_{letter}"), boxes);
        }
    }

    /// A token in the caller's coordinates, of as many axes as there are.
    fn coordinates(&self, token: &str) -> String {
        format!("{token}.{}", ["z", "yz", "xyz"][self.axes_named() - 1])
    }

    /// First and one past the last element of a table over queries and keys that a slice touches.
    fn table_range(&self, name: &str, slice: &Slice) -> (u64, u64) {
        let layout = &self.problem.tensors[name].layout;
        let group = self.problem.extents.group_size();
        let heads = slice.kv_heads.start * group..slice.kv_heads.end * group;
        layout.range_within(|axis| match axis {
            0 => Some(slice.batch.clone()),
            1 => Some(heads.clone()),
            _ => None,
        })
    }
}

impl Domain for Boxes<'_> {
    const NAME: &'static str = "neighborhood attention";

    fn passes(&self) -> Vec<Pass> {
        vec![Pass { prefix: false, group_rows: 1, by_map: self.by_map, part_first: 0 }]
    }

    fn row_tiles(&self, part: &Part<'_>, _: &Pass) -> u64 {
        let boxes = self.tiles.query_boxes(&self.axes);
        boxes * u64::from(part.batches()) * u64::from(part.q_heads())
    }

    fn map_row_tiles(&self, part: &Part<'_>, pass: &Pass) -> u64 {
        match self.map_is_shared {
            true => self.tiles.query_boxes(&self.axes),
            false => self.row_tiles(part, pass),
        }
    }

    fn map_words(&self) -> u64 {
        let window_tiles = self.tiles.most_key_boxes(&self.axes).volume();
        let extra_tiles = self.problem.extents.extra.div_ceil(self.tiles.fused.tile_kv());
        (window_tiles + u64::from(extra_tiles)).div_ceil(32)
    }

    fn keys_visited(&self, _: &Pass) -> f64 {
        let visits = simulate(self.problem, &self.tiles).visits_a_block;
        visits * f64::from(self.tiles.fused.tile_kv())
    }

    fn classify_key_lanes(&self) -> u32 {
        // A row costs more to find than a key: lanes keep to one as far as there are rows.
        CLASSIFY_SIZE / self.tiles.fused.tile_q().next_power_of_two().min(CLASSIFY_SIZE)
    }

    fn element_range(&self, name: &str, slice: &Slice) -> (u64, u64) {
        if self.problem.is_table(name) {
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

    fn places(&self, source: &mut KernelSource) {
        source.alias("Place", "vec3<u32>");
        extents(&self.axes, self.axes_named(), source);
        rule(&self.axes, source);
        add_fragment!(source, "neighborhood/places.wgsl");
    }

    fn write(&self, source: &mut KernelSource, part: &Part<'_>, pass: &Pass, work: Work) {
        self.places(source);
        self.constants(source);
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
        let at = ["b", "h", "place_number(q.token)", "place_number(key_token(q, kv))"];
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
    let mut extents = Vec::new();
    for (axis, letter) in ["x", "y", "z"].into_iter().enumerate() {
        // An axis that is not there is known to the compiler.
        if axis < 3 - rank {
            extents.push("1u".to_owned());
        } else {
            source.params.u32(format!("extent_{letter}"), axes[axis].extent);
            extents.push(format!("params.extent_{letter}"));
        }
    }
    let extents = extents.join(", ");
    source.accessor(&format!("fn domain_extents() -> vec3<u32> {{ return vec3({extents}); }}\n"));
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
