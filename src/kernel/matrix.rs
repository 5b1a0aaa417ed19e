//! The types of cooperative matrices.

use super::source::KernelSource;

/// Writes the types of matrices of `size` rows and columns into a kernel.
pub(crate) fn matrix_types(source: &mut KernelSource, size: u32) {
    source.enable("f16");
    source.enable("wgpu_cooperative_matrix");
    let kind = format!("coop_mat{size}x{size}");
    source.alias("RowMatrix", &format!("{kind}<f16, A>"));
    source.alias("ColumnMatrix", &format!("{kind}<f16, B>"));
    source.alias("SumMatrix", &format!("{kind}<f32, C>"));
}
