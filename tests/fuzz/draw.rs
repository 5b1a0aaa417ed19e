//! Choices from a tape of numbers.

use serde_json::Value;
use tilewise::tensor::{Dtype, Layout, TensorDesc, TensorDescs};

/// A problem as a caller may ask it, right or wrong.
pub struct Asked {
    /// A spec of any operator as JSON, with `op`.
    pub spec: Value,
    pub tensors: TensorDescs,
}

/// Choices that a tape makes; the first of all where it has ended.
pub struct Draw<'a> {
    tape: &'a [u32],
    /// Extents stay so small that a test runs them.
    pub small: bool,
}

const PRIMES: [u64; 8] = [2, 3, 5, 7, 31, 67, 257, 4099];

impl<'a> Draw<'a> {
    pub const fn new(tape: &'a [u32]) -> Self {
        Self { tape, small: false }
    }

    pub fn below(&mut self, n: u32) -> u32 {
        let Some((&first, rest)) = self.tape.split_first() else { return 0 };
        self.tape = rest;
        first % n
    }

    /// Once in `n`.
    pub fn once_in(&mut self, n: u32) -> bool {
        self.below(n) == n - 1
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize].clone()
    }

    /// Up to `n`, most often; 0, primes, powers of two and what no device has, seldom.
    pub fn extent(&mut self, n: u32) -> u64 {
        let usual = 1 + u64::from(self.below(n));
        if self.small {
            return usual;
        }
        match self.below(40) {
            0..30 => usual,
            30 | 31 => self.pick(&PRIMES),
            32 | 33 => 1 << self.below(13),
            34 => 0,
            35 => usual * 37,
            36 => 1 << self.below(30),
            37 => self.pick(&[65_535, 65_536, 65_537, 100_003, 1 << 20, (1 << 24) + 43]),
            38 => u64::from(self.below(u32::MAX)),
            _ => self.pick(&[
                u64::from(u32::MAX),
                1 << 32,
                1 << 40,
                u64::MAX,
                (1 << 29) - 1,
                1 << 29,
            ]),
        }
    }

    pub fn float(&mut self) -> Dtype {
        self.pick(&[Dtype::F32, Dtype::F16, Dtype::Bf16])
    }

    /// A tensor that lies somehow: without gaps most often, or with gaps, an offset, or axes that are broadcast.
    pub fn tensor(&mut self, dtype: Dtype, shape: &[u64]) -> TensorDesc {
        let dense = TensorDesc::contiguous(dtype, shape);
        if self.small || self.below(4) < 2 {
            return dense;
        }
        let (mut strides, mut next) = (vec![0; shape.len()], 1_u64);
        for axis in (0..shape.len()).rev() {
            strides[axis] = next;
            let gap = self.pick(&[0_u64, 0, 0, 1, 3, 4, 64, 1 << 20, 1 << 34]);
            next = next.saturating_mul(shape[axis].max(1)).saturating_add(gap);
            if self.once_in(24) {
                strides[axis] = self.pick(&[0, 1, 2, u64::from(u32::MAX), 1 << 40]);
            }
        }
        let offset = self.pick(&[0, 0, 1, 4, 8, 33, 1 << 20, (1 << 33) + 5, 1 << 45, u64::MAX]);
        Layout::new(shape, &strides, offset).map_or(dense, |layout| TensorDesc { dtype, layout })
    }
}

/// Tensors by name.
pub fn named(tensors: impl IntoIterator<Item = (&'static str, TensorDesc)>) -> TensorDescs {
    tensors.into_iter().map(|(name, desc)| (name.to_owned(), desc)).collect()
}
