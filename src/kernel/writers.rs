//! What a kernel writes tensors by.

use super::access::Access;
use super::source::{KernelSource, add_fragment};
use super::template::template;
use crate::tensor::Dtype;

impl KernelSource {
    /// `NAME_store4(offset, d, value)`: elements d to d + 3 of the row at `offset`, dropping those from `dim` on.
    /// Halves that do not fill words of their own are written by atomics, since the other half is another lane's.
    pub fn row_writer(&mut self, name: &str, dtype: Dtype, access: Access, dim: u32) {
        let bits = if dtype == Dtype::Bf16 { "to_bf16" } else { "to_f16" };
        let dims = format!("{dim}u");
        let text = match (dtype.bytes(), access) {
            (2, Access::Scalar) => template!(
                "kernel/store_halves.wgsl",
                "TO_BITS" = bits,
                "DIMS" = dims,
                "NAME" = name,
            ),
            (bytes, Access::Vec4) => template!(
                "kernel/store_vectors.wgsl",
                "STORED" = if bytes == 2 { packed_halves(bits) } else { "value".to_owned() },
                "NAME" = name,
            ),
            (_, Access::Scalar) => {
                template!("kernel/store_elements.wgsl", "DIMS" = dims, "NAME" = name)
            }
        };
        if dtype.bytes() == 2 {
            add_fragment!(self, "common/convert.wgsl");
        }
        self.accessor(&text);
    }

    /// The element type that [`KernelSource::row_writer`] writes.
    pub fn written_element(dtype: Dtype, access: Access) -> &'static str {
        match (dtype.bytes(), access) {
            (2, Access::Scalar) => "atomic<u32>",
            _ => Self::row_element(dtype, access),
        }
    }

    /// `lse_store(at, value, empty)`: writes `value`, or minus infinity where `empty`.
    pub fn lse_writer(&mut self, name: &str) {
        self.log_writer("lse_store", name);
    }

    /// The same under the name of `function`.
    pub fn log_writer(&mut self, function: &str, name: &str) {
        let text = template!("kernel/store_log.wgsl", "STORE" = function, "NAME" = name);
        self.accessor(&text);
    }
}

/// Two words of four numbers, each rounded by `bits`.
fn packed_halves(bits: &str) -> String {
    format!(
        "vec2({bits}(value.x) | ({bits}(value.y) << 16u), {bits}(value.z) | ({bits}(value.w) << 16u))"
    )
}
