//! How the weights of a matmul are read: one matrix, or gate and up, by functions that take which.

use super::operand::Operand;
use crate::kernel::blocks::BLOCK_VECTORS;
use crate::kernel::readers::{raw_type, taken_type};
use crate::kernel::reads::Reads;
use crate::kernel::source::KernelSource;
use crate::kernel::template::{statements, template};
use crate::matmul::tiles::MatmulTiles;
use crate::tensor::WeightFormat;

/// The weights of a matmul, and what decides how they are read.
pub(super) struct Weights<'a> {
    /// One matrix, or gate and up, of one format.
    pub matrices: &'a [Operand],
    pub tiles: &'a MatmulTiles,
    pub inner: u32,
}

/// A function of all parts, `w_NAME(part, …)`, that calls the one of a part.
struct ByPart {
    name: &'static str,
    takes: &'static str,
    gives: &'static str,
    kind: &'static str,
}

const TAKE: ByPart =
    ByPart { name: "take", takes: "offset: u32, d: u32", gives: "offset, d", kind: "Taken" };
const RUN: ByPart = ByPart { name: "run", takes: "taken: Taken", gives: "taken", kind: "Run" };
const BLOCK: ByPart =
    ByPart { name: "block", takes: "taken: Taken", gives: "taken", kind: "Bytes" };
const RAW: ByPart =
    ByPart { name: "raw", takes: "offset: u32, unit: u32", gives: "offset, unit", kind: "Raw" };
const VECTOR: ByPart =
    ByPart { name: "vector", takes: "raw: Raw, v: u32", gives: "raw, v", kind: "vec4<f32>" };

impl Weights<'_> {
    /// How many matrices there are.
    pub fn parts(&self) -> u32 {
        self.matrices.len() as u32
    }

    /// How they are stored.
    pub fn format(&self) -> WeightFormat {
        self.matrices[0].format
    }

    /// Vectors that all matrices are read by.
    pub fn unit_vectors(&self) -> u32 {
        self.matrices.iter().map(|w| w.unit_vectors(self.inner)).min().unwrap_or(1)
    }

    /// Vectors of a column that a lane of a workgroup tile stages at once, of all matrices.
    fn run_vectors(&self, chunk: u32) -> u32 {
        let columns = self.tiles.part_columns(self.parts());
        let share = columns * (chunk / 4) / self.tiles.workgroup_size();
        let runs = self.matrices.iter().map(|w| w.run_vectors(share, chunk, self.inner));
        runs.min().unwrap_or(1)
    }

    /// How the tiles' family reads them.
    fn reads(&self) -> Reads {
        match *self.tiles {
            MatmulTiles::Workgroup { chunk, .. } => match self.run_vectors(chunk) {
                1 => Reads::Vectors,
                vectors => Reads::Runs { vectors },
            },
            MatmulTiles::Bytes { .. } => Reads::Blocks,
            MatmulTiles::Matrix { .. } => Reads::Halves,
            MatmulTiles::Stream { .. } | MatmulTiles::Reduce { .. } => {
                Reads::Units { vectors: self.unit_vectors() }
            }
        }
    }

    /// Binds them as `w0` and `w1` with `w_row(part, expert, column)`, and `w_take(part, offset, d)` with
    /// `w_run(part, taken)` or `w_block(part, taken)`, or `w_raw(part, offset, unit)` with `w_vector(part, raw, v)`.
    pub fn bind(&self, source: &mut KernelSource) {
        let reads = self.reads();
        self.types(source, reads);
        for (part, matrix) in self.matrices.iter().enumerate() {
            bind_part(source, &format!("w{part}"), matrix, reads);
        }
        source.accessor(&self.by_part("w_row", "expert: u32, column: u32", "u32", |part| {
            format!(
                "params.w{part}_first + expert * params.w{part}_expert_stride + column * params.w{part}_stride"
            )
        }));
        let functions = match reads {
            Reads::Units { .. } => [RAW, VECTOR],
            Reads::Blocks => [TAKE, BLOCK],
            Reads::Rows { .. } | Reads::Vectors | Reads::Halves | Reads::Runs { .. } => [TAKE, RUN],
        };
        for ByPart { name, takes, gives, kind } in functions {
            let call = |part: usize| format!("w{part}_{name}({gives})");
            source.accessor(&self.by_part(&format!("w_{name}"), takes, kind, call));
        }
    }

    /// What the readers give.
    fn types(&self, source: &mut KernelSource, reads: Reads) {
        let blocks = self.format().blocks();
        let run = match reads {
            Reads::Units { vectors } => return source.accessor(&raw_type(blocks, vectors)),
            Reads::Runs { vectors } => vectors,
            Reads::Blocks => BLOCK_VECTORS,
            Reads::Rows { .. } | Reads::Vectors | Reads::Halves => 1,
        };
        source.const_u32("RUN", run);
        source.accessor(&taken_type(blocks, reads));
        if reads != Reads::Blocks {
            source.const_bool("RUN_SPREAD", run > 1 && self.matrices[0].spreads());
        }
    }

    /// A function that gives a value for each part.
    fn by_part(
        &self,
        name: &str,
        takes: &str,
        kind: &str,
        value: impl Fn(usize) -> String,
    ) -> String {
        let last = self.matrices.len() - 1;
        let former = |part| format!("if (part == {part}u) {{ return {}; }}", value(part));
        template!(
            "matmul/by_part.wgsl",
            "TAKES" = takes,
            "KIND" = kind,
            "FORMER_PARTS" = statements((0..last).map(former)),
            "LAST_PART" = value(last),
            "NAME" = name,
        )
    }
}

/// Binds one matrix; a vector that is read alone is a run of one.
fn bind_part(source: &mut KernelSource, name: &str, matrix: &Operand, reads: Reads) {
    matrix.bind(source, name, reads);
    let single = match reads {
        Reads::Rows { .. } | Reads::Vectors => Some("load4"),
        Reads::Halves => Some("half4"),
        Reads::Runs { .. } | Reads::Blocks | Reads::Units { .. } => None,
    };
    if let Some(vector) = single {
        let text = template!("matmul/run_of_one.wgsl", "VECTOR" = vector, "NAME" = name);
        source.accessor(&text);
    }
    source.params.u32(format!("{name}_expert_stride"), matrix.expert_stride);
}
