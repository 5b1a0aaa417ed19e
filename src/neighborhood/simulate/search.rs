//! Searches over boxes and strides: pure, and fast because axes are independent.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use super::{Simulation, Span, Visits};
use crate::fused::FusedTiles;
use crate::gpu::limits::GpuLimits;
use crate::neighborhood::problem::NeighborhoodProblem;
use crate::neighborhood::tiles::{NeighborhoodTiles, TileBox};
use crate::neighborhood::window::Axis;

/// Sizes of key tiles that streams may have: they hold no tile, only test once for each.
const STREAM_KEYS: [u32; 4] = [16, 32, 64, 128];

/// What a key and a row of a tile cost beside their scores, in scores: staging, the maximum, the exponentials.
const KEY_COST: f64 = 16.0;
const ROW_COST: f64 = 16.0;

/// Loads for a multiply-add of a micro-tile, in multiply-adds: a row serves its columns, a column its rows. An H100 is no
/// faster with fewer than 4 × 4 has.
const LEAST_LOADS: f64 = 0.5;

/// The same for streams, from times on processors: a key is loaded once by each subgroup for all its rows, and from far
/// away once for the whole workgroup; a tile's state is looked at once.
const STREAM_KEY_COST: f64 = 10.0;
const STREAM_TILE_COST: f64 = 4.0;
const STREAM_FAR_KEY_COST: f64 = 3.0;

/// What reading a row of queries and writing its output cost, in scores.
const QUERY_COST: f64 = 20.0;

/// Subgroups that a stream's workgroup may have, so that they share a window's keys, and the most rows it may have then.
const STREAM_SUBGROUPS: [u32; 3] = [1, 2, 4];
const STREAM_MOST_ROWS: u32 = 128;

/// Boxes of queries and keys, with what they visit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoxChoice {
    /// The box of a tile's rows.
    pub query_box: TileBox,
    /// The box of a tile's keys.
    pub key_box: TileBox,
    /// Tiles that one batch and head visits; all its heads, where their windows differ.
    pub tiles_visited: u64,
    /// Tiles among them in which no score is masked.
    pub tiles_full: u64,
}

impl fmt::Display for BoxChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { query_box, key_box, tiles_visited, tiles_full } = self;
        let boxes = format!("{query_box} by {key_box}");
        write!(f, "{boxes:<20} {tiles_visited:>8} visits, {tiles_full} unmasked")
    }
}

/// A stride, with the best boxes for it. Displayed, a line of a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StrideChoice {
    /// The stride along each axis.
    pub stride: Vec<u32>,
    /// What it costs.
    pub simulation: Simulation,
}

impl fmt::Display for StrideChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Simulation { query_box, key_box, waste, speedup_bound, .. } = &self.simulation;
        let (stride, boxes) = (format!("{:?}", self.stride), format!("{query_box} by {key_box}"));
        write!(
            f,
            "stride {stride:<14} boxes {boxes:<20} waste {waste:5.2} x  speed-up {speedup_bound:7.2} x"
        )
    }
}

/// Every pair of boxes worth considering for tiles of `tile_q` rows and `tile_kv` keys, the fewest visits first.
pub fn search_boxes(problem: &NeighborhoodProblem, tile_q: u32, tile_kv: u32) -> Vec<BoxChoice> {
    Search::new(problem.head_windows()).boxes(tile_q, tile_kv)
}

/// Strides between 1 and the window, each with its best boxes: those that no finer stride equals in speed, finest first.
pub fn search_strides(
    problem: &NeighborhoodProblem,
    tile_q: u32,
    tile_kv: u32,
) -> Vec<StrideChoice> {
    let windows = problem.head_windows();
    let mut strides = vec![[1; 3]];
    for axis in 0..3 {
        let narrowest = windows.iter().map(|(axes, _)| axes[axis].window).min();
        let of_axis = stride_steps(narrowest.unwrap_or(1));
        strides = strides
            .iter()
            .flat_map(|stride: &[u32; 3]| {
                of_axis.iter().map(|step| {
                    let mut stride = *stride;
                    stride[axis] = *step;
                    stride
                })
            })
            .collect();
    }
    strides.sort_by_key(|stride| (TileBox(*stride).volume(), stride.iter().max().copied()));
    let mut kept: Vec<StrideChoice> = Vec::new();
    for stride in strides {
        let mut windows = windows.clone();
        for axis in windows.iter_mut().flat_map(|(axes, _)| axes.iter_mut().zip(stride)) {
            let (axis, stride) = axis;
            (axis.stride, axis.group_offset) = (stride, axis.group_offset % stride);
        }
        let mut search = Search::new(windows.clone());
        let Some(best) = search.boxes(tile_q, tile_kv).into_iter().next() else { continue };
        let boxes = (best.query_box, best.key_box);
        let visits = search.box_visits(boxes.0, boxes.1);
        let extra = problem.extents.extra;
        let simulation = visits.report(&windows, extra, boxes, (tile_q, tile_kv));
        let fastest = kept.iter().map(|kept| kept.simulation.speedup_bound).fold(0.0, f64::max);
        if simulation.speedup_bound > fastest {
            let stride = stride[3 - problem.axes.len()..].to_vec();
            kept.push(StrideChoice { stride, simulation });
        }
    }
    kept
}

/// 1, the powers of two below a window, and the window.
fn stride_steps(window: u32) -> Vec<u32> {
    let powers = (0..31).map(|power| 1 << power).take_while(|step| *step < window);
    powers.chain([window]).collect()
}

/// Every tile set worth trying on a device, the one with the least estimated work first.
pub(in crate::neighborhood) fn candidate_tiles(
    problem: &NeighborhoodProblem,
    limits: &GpuLimits,
) -> Vec<NeighborhoodTiles> {
    let e = &problem.extents;
    let mut search = Search::new(problem.head_windows());
    let (shape, flops) = (problem.fused_shape(), problem.flops());
    let mut costed: Vec<(bool, f64, NeighborhoodTiles)> = Vec::new();
    for fused in FusedTiles::candidates(shape, problem.tokens(), flops, limits) {
        let streams = matches!(fused, FusedTiles::Stream { .. });
        let of_size = |(fused, tile_kv): (FusedTiles, u32)| {
            let best = search.boxes(fused.tile_q(), tile_kv).into_iter().next()?;
            let fused = with_tile_kv(fused, best.key_box.volume() as u32);
            let extra = u64::from(e.extra.div_ceil(fused.tile_kv()));
            let blocks = search.blocks(best.query_box);
            let visits = (best.tiles_visited + blocks * extra) as f64;
            let rows = blocks as f64 * f64::from(fused.tile_q());
            let tiles =
                NeighborhoodTiles { fused, query_box: best.query_box, key_box: best.key_box };
            Some((visits * tile_cost(&fused) + rows * QUERY_COST, tiles))
        };
        let best = sizes(fused).into_iter().filter_map(of_size).min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((cost, tiles)) = best
            && tiles.check(problem.fused_shape(), limits).is_ok()
            && tiles.packing(&problem.axes3()).is_some()
            && !costed.iter().any(|(.., known)| *known == tiles)
        {
            costed.push((streams != limits.is_cpu, cost, tiles));
        }
    }
    costed.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    costed.into_iter().map(|(.., tiles)| tiles).collect()
}

/// Sizes that a tile set may have: streams hold no tile, others are what they were made for.
fn sizes(fused: FusedTiles) -> Vec<(FusedTiles, u32)> {
    if !matches!(fused, FusedTiles::Stream { .. }) {
        return vec![(fused, fused.tile_kv())];
    }
    let mut sizes = Vec::new();
    for subgroups in STREAM_SUBGROUPS {
        let mut fused = fused;
        if let FusedTiles::Stream { workgroup_size, .. } = &mut fused {
            *workgroup_size *= subgroups;
        }
        if subgroups == 1 || fused.tile_q() <= STREAM_MOST_ROWS {
            sizes.extend(STREAM_KEYS.map(|tile_kv| (fused, tile_kv)));
        }
    }
    sizes
}

/// A stream's tile cut to the box that it holds; other tiles have the size they were made for.
fn with_tile_kv(mut fused: FusedTiles, volume: u32) -> FusedTiles {
    if let FusedTiles::Stream { keys, tile_kv, key_groups, .. } = &mut fused {
        *tile_kv = volume.next_multiple_of(*keys * *key_groups);
    }
    fused
}

/// Estimated work of one tile, in scores.
fn tile_cost(fused: &FusedTiles) -> f64 {
    let (tile_q, tile_kv) = (f64::from(fused.tile_q()), f64::from(fused.tile_kv()));
    match *fused {
        FusedTiles::Workgroup { rows, cols, .. } => {
            let loads = f64::from(rows).recip() + f64::from(cols).recip();
            (tile_q + KEY_COST) * (tile_kv + ROW_COST) * (1.0 + loads.max(LEAST_LOADS))
        }
        FusedTiles::Matrix { .. } => (tile_q + KEY_COST) * (tile_kv + ROW_COST),
        FusedTiles::Stream { rows, .. } => {
            let rows = f64::from(rows);
            tile_q / rows * (rows + STREAM_KEY_COST) * (tile_kv + STREAM_TILE_COST)
                + tile_kv * STREAM_FAR_KEY_COST
        }
    }
}

/// Spans, each with how often it occurs.
type Spans = Vec<(Span, u64)>;

/// Counts by axis, window and side, kept: boxes share them.
struct Search {
    /// The windows that heads have, and how many have each.
    windows: Vec<([Axis; 3], u64)>,
    /// The largest along each axis.
    widest: [Axis; 3],
    spans: [HashMap<[u32; 2], Spans>; 3],
    visits: [HashMap<[u32; 3], Visits>; 3],
}

impl Search {
    fn new(windows: Vec<([Axis; 3], u64)>) -> Self {
        let of_axis = |axis: usize| windows.iter().map(move |(axes, _)| axes[axis]);
        let widest = |axis| of_axis(axis).max_by_key(|axis| axis.window).unwrap_or(Axis::ONE);
        let widest = std::array::from_fn(widest);
        Self { windows, widest, spans: Default::default(), visits: Default::default() }
    }

    fn boxes(&mut self, tile_q: u32, tile_kv: u32) -> Vec<BoxChoice> {
        let lens = self.widest.map(|axis| axis.class_len(0).max(1)); // an image without tokens has boxes, too
        let mut query_boxes = full_boxes(tile_q, lens);
        query_boxes.extend(in_step(&query_boxes, self.widest.map(|axis| axis.stride)));
        let mut choices = Vec::new();
        for query_box in query_boxes {
            let most = std::array::from_fn(|i| self.widest[i].most_keys(query_box.0[i]));
            for key_box in full_boxes(tile_kv, most) {
                let visits = self.box_visits(query_box, key_box);
                let fills = key_box.volume() == u64::from(tile_kv);
                let tiles_full = if fills { visits.full } else { 0 };
                choices.push(BoxChoice {
                    query_box,
                    key_box,
                    tiles_visited: visits.visited,
                    tiles_full,
                });
            }
        }
        // Of equals the one with more unmasked tiles; then rows that lie side by side in memory.
        choices.sort_by_key(|choice| {
            let [_, key_y, key_z] = choice.key_box.0;
            let [_, query_y, query_z] = choice.query_box.0;
            let long = std::cmp::Reverse((choice.tiles_full, key_z, key_y, query_z, query_y));
            (choice.tiles_visited, long)
        });
        choices
    }

    fn box_visits(&mut self, query_box: TileBox, key_box: TileBox) -> Visits {
        let mut sum = Visits::NONE;
        for window in 0..self.windows.len() {
            let axis = |i| self.axis_visits((window, i), query_box.0[i], key_box.0[i]);
            let visits = (0..3).map(axis).fold(Visits::ONE, Visits::times);
            sum = sum.plus(visits.scaled(self.windows[window].1));
        }
        sum
    }

    fn axis_visits(
        &mut self,
        (window, axis): (usize, usize),
        query_side: u32,
        key_side: u32,
    ) -> Visits {
        let (rule, spans) = (&self.windows[window].0[axis], &mut self.spans[axis]);
        *self.visits[axis].entry([rule.window, query_side, key_side]).or_insert_with(|| {
            let spans = spans
                .entry([rule.window, query_side])
                .or_insert_with(|| Span::of_axis(rule, query_side));
            Span::visits(spans, key_side)
        })
    }

    /// Boxes of queries that have rows.
    fn blocks(&mut self, query_box: TileBox) -> u64 {
        self.box_visits(query_box, TileBox([1; 3])).blocks
    }
}

/// Boxes of at most `places` tokens and at most `most` along each axis that cannot grow along any.
fn full_boxes(places: u32, most: [u32; 3]) -> Vec<TileBox> {
    let mut boxes = Vec::new();
    for x in 1..=places.min(most[0]) {
        for y in 1..=(places / x).min(most[1]) {
            let z = (places / (x * y)).min(most[2]);
            let grows_x = x < most[0] && (x + 1) * y * z <= places;
            let grows_y = y < most[1] && x * (y + 1) * z <= places;
            if !grows_x && !grows_y {
                boxes.push(TileBox([x, y, z]));
            }
        }
    }
    boxes
}

/// Boxes cut to whole groups of `stride` queries, where that makes others of them: no window reaches into two.
fn in_step(boxes: &[TileBox], stride: [u32; 3]) -> Vec<TileBox> {
    let cut = |side: u32, stride: u32| if side > stride { side / stride * stride } else { side };
    let mut others: Vec<TileBox> = Vec::new();
    for TileBox(sides) in boxes {
        let other = TileBox(std::array::from_fn(|i| cut(sides[i], stride[i])));
        if !boxes.contains(&other) && !others.contains(&other) {
            others.push(other);
        }
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(extent: u32, window: u32, stride: u32) -> Axis {
        Axis { extent, window, stride, ..Axis::ONE }
    }

    #[test]
    fn full_boxes_fit_and_do_not_grow() {
        let boxes = full_boxes(64, [1, 56, 56]);
        assert!(boxes.contains(&TileBox([1, 8, 8])) && boxes.contains(&TileBox([1, 3, 21])));
        assert!(!boxes.contains(&TileBox([1, 7, 8])));
        assert!(boxes.iter().all(|tile_box| tile_box.volume() <= 64));
        assert_eq!(full_boxes(64, [2, 2, 2]), [TileBox([2, 2, 2])]);
    }

    #[test]
    fn blocked_windows_waste_nothing_and_mask_nothing() {
        let mut search = Search::new(vec![([Axis::ONE, axis(64, 8, 8), axis(64, 8, 8)], 1)]);
        let best = &search.boxes(64, 64)[0];
        assert_eq!((best.query_box, best.key_box), (TileBox([1, 8, 8]), TileBox([1, 8, 8])));
        assert_eq!((best.tiles_visited, best.tiles_full), (64, 64));
    }

    #[test]
    fn visits_are_counted_by_hand() {
        // 8 queries from 0 see keys [0, 10), from 8 see [6, 16) with window 5 over 16.
        let visits = Visits::of(
            &[Axis::ONE, Axis::ONE, axis(16, 5, 1)],
            TileBox([1, 1, 8]),
            TileBox([1, 1, 4]),
        );
        assert_eq!(visits, Visits { blocks: 2, visited: 6, full: 0 });
    }

    #[test]
    fn counts_are_those_of_every_block_walked() {
        let sizes = [(13, 4, 3, 2), (10, 3, 1, 3), (16, 7, 7, 1), (200, 5, 3, 2), (300, 8, 6, 1)];
        for ((extent, window, stride, dilation), clip) in
            sizes.into_iter().flat_map(|sizes| [(sizes, false), (sizes, true)])
        {
            let axis = Axis { dilation, clip, ..axis(extent, window, stride) };
            for (query_side, key_side) in [(1, 1), (3, 2), (4, 4), (8, 5)] {
                let (mut visited, mut full) = (0, 0);
                for class in 0..dilation {
                    let len = axis.class_len(class);
                    for first in (0..len).step_by(query_side) {
                        let rows = first..(first + query_side as u32).min(len);
                        let seen = |i: u32| axis.window(len, i);
                        let low = rows.clone().map(|i| seen(i).start).min().unwrap();
                        let high = rows.clone().map(|i| seen(i).end).max().unwrap();
                        for box_first in (low..high).step_by(key_side) {
                            let keys = box_first..box_first + key_side as u32;
                            visited += 1;
                            let whole = |i: u32| keys.clone().all(|key| seen(i).contains(&key));
                            full += u64::from(rows.clone().all(whole));
                        }
                    }
                }
                let spans = Span::of_axis(&axis, query_side as u32);
                let visits = Span::visits(&spans, key_side as u32);
                assert_eq!((visits.visited, visits.full), (visited, full), "{axis:?}");
            }
        }
    }
}
