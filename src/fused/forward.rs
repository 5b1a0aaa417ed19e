//! The bodies of the fused forward, host side: their constants and fragments. A kernel adds a domain, a mask,
//! a score, a normaliser and a store.

use super::tiles::{FusedShape, FusedTiles};
use crate::kernel::matrix::matrix_types;
use crate::kernel::source::{KernelSource, add_fragment};

/// What a forward body is compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Forward {
    pub shape: FusedShape,
    pub tiles: FusedTiles,
    /// Kernels run on a processor.
    pub is_cpu: bool,
}

impl Forward {
    /// Writes the body's constants; gives how far it asks for dims of q and k, and of v.
    pub fn constants(&self, source: &mut KernelSource) -> (u32, u32) {
        source.const_u32("HEAD_DIM", self.shape.head_dim);
        source.const_u32("VALUE_DIM", self.shape.value_dim);
        source.const_u32("WORKGROUP_SIZE", self.tiles.workgroup_size());
        match self.tiles {
            FusedTiles::Workgroup { .. } => self.workgroup_constants(source),
            FusedTiles::Stream { .. } => self.stream_constants(source),
            FusedTiles::Matrix { .. } => self.matrix_constants(source),
        }
    }

    fn workgroup_constants(&self, source: &mut KernelSource) -> (u32, u32) {
        let FusedShape { head_dim, value_dim, .. } = self.shape;
        let FusedTiles::Workgroup {
            tile_kv, rows, cols, head_chunk, key_chunk, hold_q, half, ..
        } = self.tiles
        else {
            return (head_dim, value_dim);
        };
        let values = 4 * tile_kv / cols;
        let value_vecs = value_dim.div_ceil(values);
        // The rolled loops take as many steps as drivers still unroll; fewer compile faster, which is what counts
        // where a processor runs a kernel that is made for GPUs.
        let steps = |chunk: u32, multiply_adds: u32| {
            if self.is_cpu { 1 } else { unrolled_steps(chunk / 4, multiply_adds) }
        };
        source.const_u32("ROWS", rows);
        source.const_u32("COLS", cols);
        source.const_u32("HEAD_CHUNK", head_chunk);
        source.const_u32("KEY_CHUNK", key_chunk);
        source.const_u32("HEAD_STEPS", steps(head_chunk, rows * cols * 4));
        source.const_u32("VALUE_STEPS", steps(key_chunk, rows * value_vecs * 16));
        source.const_bool("Q_STAYS", hold_q);
        let stage = if half { "f16" } else { "f32" };
        if half {
            source.enable("f16");
        }
        source.alias("Stage", stage);
        source.alias("Stage4", &format!("vec4<{stage}>"));
        let row_vec = if rows.is_multiple_of(4) { 4 } else { 2 };
        source.const_u32("ROW_VEC", row_vec);
        source.alias("RowVec", &format!("vec{row_vec}<f32>"));
        (head_dim.next_multiple_of(head_chunk), value_dim.next_multiple_of(values))
    }

    fn stream_constants(&self, source: &mut KernelSource) -> (u32, u32) {
        let FusedShape { head_dim, value_dim, .. } = self.shape;
        let FusedTiles::Stream { rows, lanes, keys, key_groups, .. } = self.tiles else {
            return (head_dim, value_dim);
        };
        source.const_u32("ROWS", rows);
        source.const_u32("LANES", lanes);
        source.const_u32("KEY_GROUPS", key_groups);
        source.const_u32("KEYS", keys);
        source.const_u32("KEYS_ASKED", if self.is_cpu { 1 } else { keys });
        let spread = rows.min(lanes);
        source.const_u32("SPREAD", spread);
        source.const_u32("STATS", rows / spread);
        source.const_u32("ROWS_ASKED", if self.is_cpu { 1 } else { spread });
        let dims = 4 * lanes;
        (head_dim.next_multiple_of(dims), value_dim.next_multiple_of(dims))
    }

    fn matrix_constants(&self, source: &mut KernelSource) -> (u32, u32) {
        let FusedShape { head_dim, value_dim, .. } = self.shape;
        let FusedTiles::Matrix {
            size,
            row_matrices,
            subgroups,
            workgroup_size,
            tile_kv,
            turn_v,
            ..
        } = self.tiles
        else {
            return (head_dim, value_dim);
        };
        let value_matrices = value_dim.div_ceil(size);
        matrix_types(source, size);
        source.const_u32("HEAD_MATRICES", head_dim.div_ceil(size));
        source.const_u32("VALUE_MATRICES", value_matrices);
        source.const_u32("KEY_MATRICES", tile_kv / size);
        source.const_u32("SUM_MATRICES", row_matrices * value_matrices);
        source.const_u32("VALUE_PIECES", value_matrices.div_ceil(tile_kv / size));
        source.const_u32("MATRIX", size);
        source.const_u32("ROW_MATRICES", row_matrices);
        source.const_bool("TURN_V", turn_v);
        source.const_u32("SUBGROUPS", subgroups);
        source.const_u32("ROWS", (self.tiles.tile_q() / workgroup_size).max(1));
        (head_dim.next_multiple_of(size), value_dim.next_multiple_of(size))
    }

    /// The entry point.
    pub fn entry(&self) -> &'static str {
        match self.tiles {
            FusedTiles::Workgroup { .. } => "fused_forward_tile",
            FusedTiles::Stream { .. } => "fused_forward_stream",
            FusedTiles::Matrix { .. } => "fused_forward_matrix",
        }
    }

    /// Adds the body, last.
    pub fn body(&self, source: &mut KernelSource) {
        source.const_bool("EXP_LOSES_NAN", self.is_cpu);
        add_fragment!(source, "common/nan.wgsl");
        add_fragment!(source, "fused/walk.wgsl");
        add_fragment!(source, "fused/softmax.wgsl");
        match self.tiles {
            FusedTiles::Workgroup { subgroup, .. } => {
                if subgroup {
                    add_fragment!(source, "common/lanes_subgroup.wgsl");
                    add_fragment!(source, "fused/reduce_subgroup.wgsl");
                } else {
                    add_fragment!(source, "common/lanes_workgroup.wgsl");
                    add_fragment!(source, "fused/reduce_workgroup.wgsl");
                }
                add_fragment!(source, "common/staging.wgsl");
                add_fragment!(source, "fused/tile_values.wgsl");
                add_fragment!(source, "fused/forward_tile.wgsl");
            }
            FusedTiles::Stream { .. } => {
                add_fragment!(source, "fused/stream_lanes.wgsl");
                add_fragment!(source, "fused/forward_stream.wgsl");
            }
            FusedTiles::Matrix { .. } => {
                add_fragment!(source, "common/lanes_subgroup.wgsl");
                add_fragment!(source, "fused/reduce_subgroup.wgsl");
                add_fragment!(source, "common/staging.wgsl");
                add_fragment!(source, "fused/matrix_pieces.wgsl");
                add_fragment!(source, "fused/forward_matrix.wgsl");
            }
        }
    }
}

/// Steps of a rolled loop: up to 4 and 512 multiply-adds, as many as divide the whole.
fn unrolled_steps(whole: u32, multiply_adds: u32) -> u32 {
    let fits = |steps: &u32| whole.is_multiple_of(*steps) && steps * multiply_adds <= 512;
    [4, 2].into_iter().find(fits).unwrap_or(1)
}

/// Writes what turns q · k into weights. `raw`: no modifier and a positive scale, so that the scale goes into the
/// queries, or into the exponent where they stay halves; `may_mask`: a modifier may give minus infinity.
pub(crate) fn score_constants(
    source: &mut KernelSource,
    tiles: &FusedTiles,
    softmax_scale: f32,
    raw: bool,
    may_mask: bool,
) {
    source.const_bool("SCORE_RAW", raw);
    source.const_bool("SCORE_MAY_MASK", may_mask);
    source.const_bool("Q_SCALED", raw && !tiles.stages_halves());
    // "No key" is LOWEST; the lowest finite scores, which some masks use, are kept at LOWEST_KEPT; MASKED parts the two.
    source.const_f32("LOWEST", f32::MIN);
    source.const_f32("MASKED", -3.2e38);
    // Times log2(e), which an lse is made of, it must stay finite.
    source.const_f32("LOWEST_KEPT", -2.0e38);
    source.params.f32("softmax_scale", softmax_scale);
    let log2_e = std::f32::consts::LOG2_E;
    source.params.f32("exp_scale", if raw { softmax_scale * log2_e } else { log2_e });
}
