//! The rule of the windows, as the text has it.

use crate::neighborhood::window::Axis;

/// The token that each slot of the window of token `x` of an axis stands for, if the row keeps it: the contract's text,
/// line by line.
pub(in crate::neighborhood) fn slots(axis: &Axis, x: usize) -> Vec<Option<usize>> {
    let [extent, w, s, o, d] =
        [axis.extent, axis.window, axis.stride, axis.group_offset, axis.dilation].map(i64::from);
    let x = x as i64;
    let (g, i) = (x % d, x / d);
    let len = (extent - g + d - 1) / d;
    let group = o + (i - o).div_euclid(s) * s;
    let (start, keys) = if axis.causal {
        let leader = (group + s - 1).min(len - 1);
        let start = (leader - (w - 1)).max(0);
        (start, start..(i + 1).min(len))
    } else if axis.clip {
        let leader = group + s / 2;
        let start = leader - w / 2;
        (start, start.max(0)..(start + w).min(len))
    } else {
        let leader = (group + s / 2).clamp(0, len - 1);
        let start = (leader - w / 2).clamp(0, len - w);
        (start, start..start + w)
    };
    let token = |j: i64| keys.contains(&j).then(|| (g + d * j) as usize);
    (start..start + w).map(token).collect()
}

/// The tokens that token `x` of an axis sees, in rising order.
pub(in crate::neighborhood) fn visible(axis: &Axis, x: usize) -> Vec<usize> {
    slots(axis, x).into_iter().flatten().collect()
}

/// The coordinates of a token, in row-major order.
pub(in crate::neighborhood) fn coordinates(axes: &[Axis], token: usize) -> Vec<usize> {
    let mut rest = token;
    let mut places = vec![0; axes.len()];
    for (place, axis) in places.iter_mut().zip(axes).rev() {
        *place = rest % axis.extent as usize;
        rest /= axis.extent as usize;
    }
    places
}

/// The product of what the axes see, as tokens in row-major order.
pub(super) fn tokens_seen(axes: &[Axis], query: &[usize]) -> Vec<usize> {
    axes.iter().zip(query).fold(vec![0], |tokens, (axis, x)| {
        let seen = visible(axis, *x);
        let extent = axis.extent as usize;
        tokens.iter().flat_map(|token| seen.iter().map(move |y| token * extent + y)).collect()
    })
}
