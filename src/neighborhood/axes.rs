//! The axes of a problem: read off its tensors and its lists, and checked, each refusal naming the axis.

use super::window::{Axis, Border};
use crate::error::SpecError;
use crate::tensor::check;
use crate::tensor::{Dtype, TensorDesc, TensorDescs};

/// Most tokens of one image, and most extra tokens: packed key coordinates and their sums stay within u32.
pub(super) const MAX_TOKENS: u32 = 1 << 29;

/// What a spec says of its windows, as lists by axis.
#[derive(Clone, Copy)]
pub(super) struct WindowFields<'a> {
    pub window: &'a [u32],
    pub head_windows: &'a [Vec<u32>],
    pub stride: &'a [u32],
    pub group_offset: &'a [u32],
    pub dilation: &'a [u32],
    pub causal: &'a [bool],
    pub border: Border,
    pub spatial: Option<&'a [u32]>,
}

/// The windows of a spec; of one that has no `head_windows`, with nothing beside it.
macro_rules! window_fields {
    ($spec:expr, $head_windows:expr) => {
        $crate::neighborhood::axes::WindowFields {
            window: &$spec.window,
            head_windows: $head_windows,
            stride: &$spec.stride,
            group_offset: &$spec.group_offset,
            dilation: &$spec.dilation,
            causal: &$spec.causal,
            border: $spec.border,
            spatial: $spec.spatial.as_deref(),
        }
    };
}
pub(super) use window_fields;

impl WindowFields<'_> {
    /// The number of axes.
    pub fn rank(&self) -> Result<usize, SpecError> {
        let each = "one number for each of one to three axes";
        let (field, rank) = match self.head_windows.first() {
            Some(first) => ("head_windows[0]", first.len()),
            None => ("window", self.window.len()),
        };
        if !(1..=3).contains(&rank) {
            return Err(SpecError::value(field, each, rank));
        }
        for (head, window) in self.head_windows.iter().enumerate() {
            if window.len() != rank {
                let (field, got) = (format!("head_windows[{head}]"), window.len());
                return Err(SpecError::value(field, format!("{rank} entries as [0] has"), got));
            }
        }
        let widest = self.widest(rank);
        if !self.window.is_empty() && self.window != widest {
            let expected = format!("{widest:?}, the largest of head_windows, or none");
            return Err(SpecError::value("window", expected, format!("{:?}", self.window)));
        }
        for (field, len) in [
            ("stride", self.stride.len()),
            ("group_offset", self.group_offset.len()),
            ("dilation", self.dilation.len()),
            ("causal", self.causal.len()),
        ] {
            if len != 0 && len != rank {
                let expected = format!("{rank} entries as window has, or none");
                return Err(SpecError::value(field, expected, len));
            }
        }
        Ok(rank)
    }

    /// The largest window along each axis.
    fn widest(&self, rank: usize) -> Vec<u32> {
        if self.head_windows.is_empty() {
            return self.window.to_vec();
        }
        let of_axis = |axis: usize| self.head_windows.iter().map(|window| window[axis]).max();
        (0..rank).map(|axis| of_axis(axis).unwrap_or(1)).collect()
    }

    /// The axes over the tokens that `tensors`, the first of which decides, have along each; with windows by head, those
    /// of the largest.
    pub fn axes(&self, tensors: &TensorDescs, names: &[&str]) -> Result<Vec<Axis>, SpecError> {
        let rank = self.rank()?;
        let spatial = self.spatial(tensors, names, rank)?;
        for (head, window) in self.head_windows.iter().enumerate() {
            self.axes_of(&spatial, window, &format!(" of head {head}"))?;
        }
        self.axes_of(&spatial, &self.widest(rank), "")
    }

    /// The axes of a window, whose head a refusal names.
    fn axes_of(&self, spatial: &[u32], window: &[u32], head: &str) -> Result<Vec<Axis>, SpecError> {
        let axis = |(number, &extent): (usize, &u32)| {
            let axis = Axis {
                extent,
                window: window[number],
                stride: self.stride.get(number).copied().unwrap_or(1),
                group_offset: self.group_offset.get(number).copied().unwrap_or(0),
                dilation: self.dilation.get(number).copied().unwrap_or(1),
                causal: self.causal.get(number).copied().unwrap_or(false),
                clip: self.border == Border::Clip,
            };
            check_axis(&format!("axis {number}{head}"), &axis)?;
            // From the extent on, each token is a class of its own.
            Ok(Axis { dilation: axis.dilation.min(extent.max(1)), ..axis })
        };
        spatial.iter().enumerate().map(axis).collect()
    }

    fn spatial(
        &self,
        tensors: &TensorDescs,
        names: &[&str],
        rank: usize,
    ) -> Result<Vec<u32>, SpecError> {
        let (first, others) = (names[0], &names[1..]);
        let found = &tensors[first].shape()[1..=rank];
        for name in others {
            let shape = tensors[*name].shape();
            for (axis, &expected) in found.iter().enumerate() {
                let what = format!("X{axis}");
                check::equal(what, (name, shape[axis + 1]), (first, expected))?;
            }
        }
        let tokens = found.iter().try_fold(1_u64, |product, &extent| product.checked_mul(extent));
        if tokens.is_none_or(|tokens| tokens > u64::from(MAX_TOKENS)) {
            let expected = format!("extents whose product is at most {MAX_TOKENS}");
            return Err(SpecError::value("spatial", expected, format!("{found:?}")));
        }
        let found: Vec<u32> = found.iter().map(|&extent| extent as u32).collect();
        match self.spatial {
            Some(given) if *given != found => {
                let expected = format!("{found:?} as the tensors have");
                Err(SpecError::value("spatial", expected, format!("{given:?}")))
            }
            _ => Ok(found),
        }
    }
}

fn check_axis(place: &str, axis: &Axis) -> Result<(), SpecError> {
    let Axis { extent, window, stride, group_offset, dilation, causal, clip } = *axis;
    let wrong = |field: &str, expected: String, got: String| {
        Err(SpecError::value(format!("{field} of {place}"), expected, got))
    };
    for (field, value) in [("window", window), ("stride", stride), ("dilation", dilation)] {
        if value < 1 {
            return wrong(field, "at least 1".to_owned(), value.to_string());
        }
        if value > MAX_TOKENS {
            return wrong(field, format!("at most {MAX_TOKENS}"), value.to_string());
        }
    }
    if stride > window {
        return wrong("stride", format!("at most the window, {window}"), stride.to_string());
    }
    if group_offset >= stride {
        let expected = format!("below the stride, {stride}");
        return wrong("group_offset", expected, group_offset.to_string());
    }
    let reach = u64::from(window) * u64::from(dilation);
    // A causal or clipped window is what there is of it; another has that many keys always.
    if reach > u64::from(extent) && !causal && !clip {
        let got = format!("window {window} times dilation {dilation}, {reach}");
        return wrong("window", format!("window times dilation at most the extent, {extent}"), got);
    }
    Ok(())
}

/// A tensor `[batch, X…, heads, last]`.
pub(super) fn check_core(
    name: &str,
    desc: &TensorDesc,
    dtype: Dtype,
    (rank, last): (usize, &str),
) -> Result<(), SpecError> {
    if desc.shape().len() != rank + 3 {
        let spatial = ["X0", "X0, X1", "X0, X1, X2"][rank - 1];
        let expected =
            format!("{} axes (batch, {spatial}, heads, {last}) as window says", rank + 3);
        return Err(SpecError::value(name, expected, format!("shape {:?}", desc.shape())));
    }
    check::rows(name, desc, dtype)
}

/// `[batch, X…, tail…]`.
pub(super) fn shape_over(axes: &[Axis], batch: u32, tail: &[u32]) -> Vec<u64> {
    let spatial = axes.iter().map(|axis| axis.extent);
    [batch].into_iter().chain(spatial).chain(tail.iter().copied()).map(u64::from).collect()
}

/// The shape of a tensor `[batch, X…, heads, last]` of a spec that says its batch and axes.
///
/// # Errors
/// [`SpecError::Value`] naming what the spec leaves open.
pub(super) fn stated_shape(
    batch: Option<u32>,
    spatial: Option<&[u32]>,
    [heads, last]: [u64; 2],
) -> Result<Vec<u64>, SpecError> {
    let spatial = spatial.ok_or_else(|| check::unstated("spatial"))?;
    let outer = [check::stated("batch", batch)?];
    let axes = spatial.iter().copied().map(u64::from);
    Ok(outer.into_iter().chain(axes).chain([heads, last]).collect())
}
