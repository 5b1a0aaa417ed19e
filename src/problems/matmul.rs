//! Problems of matmuls.

use super::NamedProblem;
use crate::matmul::MatmulSpec;

/// `x [rows, inner]` by `w [columns, inner]`.
fn sized(rows: u32, columns: u32, inner: u32) -> MatmulSpec {
    MatmulSpec {
        rows: Some(rows),
        columns: Some(columns),
        inner: Some(inner),
        ..MatmulSpec::default()
    }
}

/// The problems of matmuls.
pub(super) static PROBLEMS: &[NamedProblem] = &[NamedProblem {
    name: "matmul_1024",
    origin: "1,024 rows, 512 to 1024: as much as the experts of moe_prefill do",
    spec: || sized(1024, 1024, 512).into(),
    sides: &[],
}];
