//! Masks of masks as WGSL: a statement for each term.

use super::mask::{Forms, KEEPS, RANGE, TILE, Writer, call, leaf};
use crate::attention::mask::Mask;
use crate::kernel::template::{statements, template};

/// How a list of masks is one: the operations on what its terms say.
pub(super) struct Join {
    /// What a list of no mask says.
    none: [&'static str; 3],
    /// What the terms so far must have said for the next to be asked.
    open: [&'static str; 2],
    tile: &'static str,
    range: &'static str,
}

/// Keys that all keep.
pub(super) const ALL: Join = Join {
    none: ["true", "FULL_TILE", "EVERY_KEY"],
    open: ["keeps", "state != EMPTY_TILE"],
    tile: "min",
    range: "mask_meet",
};

/// Keys that any keeps.
pub(super) const ANY: Join = Join {
    none: ["false", "EMPTY_TILE", "vec2<i32>(0, 0)"],
    open: ["!keeps", "state != FULL_TILE"],
    tile: "max",
    range: "mask_hull",
};

impl<'a> Writer<'a> {
    /// The mask of a head is chosen by its number.
    pub(super) fn per_head(&mut self, masks: &'a [Mask]) -> Forms {
        let mut cases: Vec<(usize, Vec<usize>)> = Vec::new();
        for (head, mask) in masks.iter().enumerate() {
            let term = self.term(mask);
            match cases.iter_mut().find(|(known, _)| *known == term) {
                Some((_, heads)) => heads.push(head),
                None => cases.push((term, vec![head])),
            }
        }
        let Some((last, _)) = cases.pop() else { return leaf("true", "FULL_TILE", "EVERY_KEY") };
        if cases.is_empty() {
            return leaf(&call(last, KEEPS), &call(last, TILE), &call(last, RANGE));
        }
        let switch = |function| {
            let case = |(term, heads): &(usize, Vec<usize>)| {
                let heads: Vec<String> = heads.iter().map(|head| format!("{head}u")).collect();
                format!("case {}: {{ said = {}; }}", heads.join(", "), call(*term, function))
            };
            let default = format!("default: {{ said = {}; }}", call(last, function));
            statements(cases.iter().map(case).chain([default]))
        };
        let whole = |kind: &str, function| {
            template!("fused/mask_per_head.wgsl", "KIND" = kind, "CASES" = switch(function))
        };
        Forms {
            keeps: whole("bool", KEEPS),
            tile: whole("u32", TILE),
            range: whole("vec2<i32>", RANGE),
        }
    }

    /// What numbers say is known at once; data is asked after that, and only where it still matters.
    pub(super) fn list(&mut self, masks: &'a [Mask], join: &Join) -> Forms {
        let mut terms: Vec<usize> = Vec::new();
        for mask in masks {
            let term = self.term(mask);
            if !terms.contains(&term) {
                terms.push(term);
            }
        }
        terms.sort_by_key(|term| asks_data(self.terms[*term]));
        let Join { none, open: [keeps_open, tile_open], tile, range } = join;
        let Some((first, others)) = terms.split_first() else {
            return leaf(none[0], none[1], none[2]);
        };
        let whole = |what: &str, function, other: &dyn Fn(String) -> String| {
            let others = others.iter().map(|term| other(call(*term, function)));
            template!(
                "fused/mask_list.wgsl",
                "WHAT" = what,
                "FIRST" = call(*first, function),
                "OTHERS" = statements(others)
            )
        };
        let keeps = |said| format!("if ({keeps_open}) {{ keeps = {said}; }}");
        let state = |said| format!("if ({tile_open}) {{ state = {tile}(state, {said}); }}");
        Forms {
            keeps: whole("keeps", KEEPS, &keeps),
            tile: whole("state", TILE, &state),
            range: whole("keys", RANGE, &|said| format!("keys = {range}(keys, {said});")),
        }
    }
}

fn asks_data(mask: &Mask) -> bool {
    let mut asks = false;
    mask.walk(&mut |mask| {
        asks |= matches!(
            mask,
            Mask::Documents { .. } | Mask::Dense(_) | Mask::BlockSparse { .. } | Mask::Wgsl(_)
        );
    });
    asks
}
