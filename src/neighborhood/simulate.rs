//! The tile-visit simulator: what a tile box costs, without a device. A kernel visits whole tiles of `tile_q × tile_kv`
//! scores; the windows ask for fewer. Which boxes waste least is what candidates are ordered by.
//!
//! Generalized Neighborhood Attention (Hassani et al., 2025), section 3: its simulator gives an upper bound of the
//! speed-up that a window can have over dense attention, and shows which strides reach it.

mod search;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::problem::NeighborhoodProblem;
use super::tiles::{NeighborhoodTiles, TileBox};
use super::window::Axis;

pub(super) use self::search::candidate_tiles;
pub use self::search::{BoxChoice, StrideChoice, search_boxes, search_strides};

/// What the tiles of one batch and head compute; of all heads where windows differ by head. Displayed, a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simulation {
    /// Heads that are counted.
    pub heads: u64,
    /// The box of a tile's rows.
    pub query_box: TileBox,
    /// The box of a tile's keys.
    pub key_box: TileBox,
    /// Places for queries in a tile.
    pub tile_q: u32,
    /// Places for keys in a tile.
    pub tile_kv: u32,
    /// Boxes of queries.
    pub blocks: u64,
    /// Tiles that the blocks visit, those of extra tokens included.
    pub tiles_visited: u64,
    /// Tiles among them in which no score is masked or idle.
    pub tiles_full: u64,
    /// `tiles_visited / blocks`.
    pub visits_a_block: f64,
    /// Scores computed: every place of every tile visited.
    pub computed: f64,
    /// Scores that the windows and the extra tokens ask for.
    pub needed: f64,
    /// `computed / needed`.
    pub waste: f64,
    /// Scores that dense attention computes with the same tiles.
    pub dense: f64,
    /// `dense / computed`: the speed-up over dense attention if every tile took the same time.
    pub speedup_bound: f64,
    /// `dense / needed`: the speed-up without any waste.
    pub ideal_speedup: f64,
}

/// Counts the tiles that a problem's kernels visit.
pub fn simulate(problem: &NeighborhoodProblem, tiles: &NeighborhoodTiles) -> Simulation {
    let places = (tiles.fused.tile_q(), tiles.fused.tile_kv());
    let boxes = (tiles.query_box, tiles.key_box);
    let windows = problem.head_windows();
    visits(&windows, tiles).report(&windows, problem.extents.extra, boxes, places)
}

/// Every row sees every key of every tile, and no block has fewer tiles than another: where windows and boxes divide. Rows
/// may be idle.
pub(super) fn every_key_is_seen(problem: &NeighborhoodProblem, tiles: &NeighborhoodTiles) -> bool {
    let Visits { blocks, visited, full } = visits(&problem.head_windows(), tiles);
    let fills = tiles.key_box.volume() == u64::from(tiles.fused.tile_kv());
    let whole = blocks * tiles.most_key_boxes(&problem.axes3()).volume();
    fills && full == visited && visited == whole
}

fn visits(heads_windows: &[([Axis; 3], u64)], tiles: &NeighborhoodTiles) -> Visits {
    let of_window = |(axes, heads): &([Axis; 3], u64)| {
        Visits::of(axes, tiles.query_box, tiles.key_box).scaled(*heads)
    };
    heads_windows.iter().map(of_window).fold(Visits::NONE, Visits::plus)
}

/// Boxes of queries, the boxes of keys that they visit, and those of them that every row sees whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Visits {
    blocks: u64,
    visited: u64,
    full: u64,
}

impl Visits {
    const NONE: Self = Self { blocks: 0, visited: 0, full: 0 };
    const ONE: Self = Self { blocks: 1, visited: 1, full: 1 };

    fn plus(self, other: Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            visited: self.visited + other.visited,
            full: self.full + other.full,
        }
    }

    fn scaled(self, times: u64) -> Self {
        self.times(Self { blocks: times, visited: times, full: times })
    }

    /// Axes are independent: counts multiply.
    fn times(self, other: Self) -> Self {
        Self {
            blocks: self.blocks * other.blocks,
            visited: self.visited * other.visited,
            full: self.full * other.full,
        }
    }

    fn of(axes: &[Axis; 3], query_box: TileBox, key_box: TileBox) -> Self {
        let axis = |i: usize| {
            let spans = Span::of_axis(&axes[i], query_box.0[i]);
            Span::visits(&spans, key_box.0[i])
        };
        (0..3).map(axis).fold(Self::ONE, Self::times)
    }

    fn report(
        self,
        heads_windows: &[([Axis; 3], u64)],
        extra: u32,
        (query_box, key_box): (TileBox, TileBox),
        (tile_q, tile_kv): (u32, u32),
    ) -> Simulation {
        let places = f64::from(tile_q) * f64::from(tile_kv);
        let heads: u64 = heads_windows.iter().map(|(_, heads)| heads).sum();
        let extents = heads_windows.iter().take(1).flat_map(|(axes, _)| axes);
        let tokens: f64 = extents.map(|axis| f64::from(axis.extent)).product();
        let needed = |(axes, heads): &([Axis; 3], u64)| {
            axes.iter().map(|axis| axis.needed() as f64).product::<f64>() * *heads as f64
        };
        let windows: f64 = heads_windows.iter().map(needed).sum();
        let extra_tiles = u64::from(extra.div_ceil(tile_kv));
        let tiles_visited = self.visited + self.blocks * extra_tiles;
        let fills = |tile_box: TileBox, places| tile_box.volume() == u64::from(places);
        let tiles_full = match fills(query_box, tile_q) && fills(key_box, tile_kv) {
            true => self.full,
            false => 0,
        };
        let needed = windows + tokens * f64::from(extra) * heads as f64;
        let computed = tiles_visited as f64 * places;
        let dense_tiles = (tokens / f64::from(tile_q)).ceil()
            * ((tokens + f64::from(extra)) / f64::from(tile_kv)).ceil();
        let dense = dense_tiles * places * heads as f64;
        Simulation {
            heads,
            query_box,
            key_box,
            tile_q,
            tile_kv,
            blocks: self.blocks,
            tiles_visited,
            tiles_full,
            visits_a_block: tiles_visited as f64 / self.blocks as f64,
            computed,
            needed,
            waste: computed / needed,
            dense,
            speedup_bound: dense / computed,
            ideal_speedup: dense / needed,
        }
    }
}

/// The keys of a box of queries along one axis: how many, and which of them every query sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    keys: u32,
    full_first: u32,
    full_end: u32,
}

impl Span {
    /// The spans of an axis cut into boxes of `side` queries, each with how often it occurs: few are different.
    fn of_axis(axis: &Axis, side: u32) -> Vec<(Self, u64)> {
        let mut spans = BTreeMap::new();
        let [long, short] = axis.classes();
        for (class, count) in [(0, long), (long, short)] {
            let len = axis.class_len(class);
            if count > 0 && len > 0 {
                Self::count_class(axis, (len, side), count.into(), &mut spans);
            }
        }
        spans.into_iter().collect()
    }

    /// Counts the spans of a class of `len` tokens, `classes` times each. Apart from the borders' they come again with each
    /// stride, and are not walked again.
    fn count_class(
        axis: &Axis,
        (len, side): (u32, u32),
        classes: u64,
        spans: &mut BTreeMap<Self, u64>,
    ) {
        let boxes = (u64::from(len) + u64::from(axis.box_pad(side))).div_ceil(side.into());
        let period = u64::from(axis.stride / gcd(axis.stride, side));
        let reach = u64::from(axis.window) + 2 * u64::from(axis.stride);
        let border = reach.div_ceil(side.into()) + 2;
        let again = boxes.saturating_sub(2 * border) / period;
        let mut add = |number: u64, times: u64| {
            let span = Self::of_box(axis, len, &axis.query_box(len, side, number as u32));
            *spans.entry(span).or_insert(0) += times * classes;
        };
        let walked = border.min(boxes);
        (0..walked).for_each(|number| add(number, 1));
        if again > 0 {
            (border..border + period).for_each(|number| add(number, again));
        }
        (walked + again * period..boxes).for_each(|number| add(number, 1));
    }

    fn of_box(axis: &Axis, len: u32, queries: &Range<u32>) -> Self {
        let (hull, common) = (axis.hull(len, queries), axis.common(len, queries));
        Self {
            keys: hull.end - hull.start,
            full_first: common.start - hull.start,
            full_end: common.end.saturating_sub(hull.start),
        }
    }

    /// Counts over spans that are cut into boxes of `side` keys.
    fn visits(spans: &[(Self, u64)], side: u32) -> Visits {
        let mut visits = Visits { blocks: 0, visited: 0, full: 0 };
        for (Self { keys, full_first, full_end }, count) in spans {
            let full = (full_end / side).saturating_sub(full_first.div_ceil(side));
            visits.blocks += count;
            visits.visited += count * u64::from(keys.div_ceil(side));
            visits.full += count * u64::from(full);
        }
        visits
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

impl fmt::Display for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let full = 100.0 * self.tiles_full as f64 / self.tiles_visited.max(1) as f64;
        if self.heads > 1 {
            writeln!(f, "heads              {}, whose windows differ", self.heads)?;
        }
        writeln!(f, "query box          {} of {} rows", self.query_box, self.tile_q)?;
        writeln!(f, "key box            {} of {} keys", self.key_box, self.tile_kv)?;
        writeln!(f, "query boxes        {}", self.blocks)?;
        writeln!(
            f,
            "tiles visited      {} ({:.1} a box)",
            self.tiles_visited, self.visits_a_block
        )?;
        writeln!(f, "unmasked tiles     {} ({full:.0} %)", self.tiles_full)?;
        writeln!(f, "scores computed    {:.3e}", self.computed)?;
        writeln!(f, "scores needed      {:.3e}", self.needed)?;
        writeln!(f, "waste              {:.2} x", self.waste)?;
        writeln!(f, "speed-up, at most  {:.2} x over dense attention", self.speedup_bound)?;
        write!(f, "without waste      {:.2} x", self.ideal_speedup)
    }
}
