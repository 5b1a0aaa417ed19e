//! Groups that begin at an offset, and windows that differ by head.

use tilewise::neighborhood::{Border, NeighborhoodSpec};

use crate::harness::{Case, check, engine, floor_engine, problem, random};

#[test]
fn groups_begin_at_an_offset() {
    let one = |offset: u32| {
        Case::new(&[37], &[8]).with(|spec| {
            spec.stride = vec![5];
            spec.group_offset = vec![offset];
        })
    };
    for offset in [1, 2, 4] {
        check(engine(), &one(offset), None);
        check(engine(), &one(offset).with(|spec| spec.causal = vec![true]), None);
        check(engine(), &one(offset).with(|spec| spec.border = Border::Clip), None);
    }
    let two = Case::new(&[13, 22], &[4, 6]).with(|spec| {
        spec.stride = vec![4, 3];
        spec.group_offset = vec![3, 1];
        spec.dilation = vec![1, 3];
        spec.causal = vec![true, false];
    });
    check(engine(), &two, None);
    check(floor_engine(), &two.with(|spec| spec.border = Border::Clip), None);
}

fn swin(spec: &mut NeighborhoodSpec) {
    (spec.stride, spec.group_offset) = (vec![7, 7], vec![3, 3]);
    spec.border = Border::Clip;
}

#[test]
fn shifted_windows_of_swin() {
    check(engine(), &Case::new(&[14, 21], &[7, 7]).with(swin), None);
}

/// Boxes keep step with the groups: a shifted window costs no more tiles than a border's worth.
#[test]
fn boxes_follow_the_offset() {
    let visits = |case: Case| {
        let problem = problem(&case.spec, &case.inputs(1));
        let choices = tilewise::neighborhood::search_boxes(&problem, 64, 64);
        choices[0].tiles_visited
    };
    let straight = Case::new(&[56, 56], &[7, 7]).with(|spec| {
        swin(spec);
        spec.group_offset = vec![];
    });
    let shifted = Case::new(&[56, 56], &[7, 7]).with(swin);
    assert_eq!(visits(straight), 64);
    assert_eq!(visits(shifted), 81);
}

#[test]
fn windows_by_head() {
    let mut case = Case::new(&[11, 15], &[]).with(|spec| {
        spec.head_windows = vec![vec![3, 3], vec![7, 5], vec![3, 3], vec![11, 2]];
    });
    case.heads = [4, 2];
    case.batch = 2;
    check(engine(), &case, None);
    check(floor_engine(), &case, None);
    case.extra = 3;
    check(engine(), &case, None);
    let mut one = Case::new(&[70], &[33]).with(|spec| {
        spec.head_windows = vec![vec![4], vec![33], vec![8], vec![5], vec![6]];
        spec.stride = vec![4];
        spec.group_offset = vec![3];
        spec.causal = vec![true];
    });
    one.heads = [5, 1];
    check(engine(), &one, None);
    one.spec.dilation = vec![2];
    check(engine(), &one.with(|spec| spec.border = Border::Clip), None);
    let mut same = Case::new(&[9, 9], &[]);
    same.spec.head_windows = vec![vec![3, 5]; 2];
    check(engine(), &same, None);
}

/// Rules drawn at random among all small ones: extents, windows, strides, offsets, dilations, causal, border.
#[test]
fn small_rules_of_every_kind() {
    let mut draws = random(11, 100_000).into_iter();
    let mut below =
        |end: u64| ((draws.next().unwrap() + 2.0) / 4.0 * end as f64) as u32 % end as u32;
    for round in 0..18 {
        let rank = 1 + round % 3;
        let mut case = Case::new(&[], &[]);
        case.spec.border = if below(2) == 0 { Border::Shift } else { Border::Clip };
        for _ in 0..rank {
            let extent = 1 + below(if rank == 1 { 40 } else { 9 });
            let window = 1 + below(u64::from(extent));
            let stride = 1 + below(u64::from(window));
            case.spatial.push(u64::from(extent));
            case.spec.window.push(window);
            case.spec.stride.push(stride);
            case.spec.group_offset.push(below(u64::from(stride)));
            case.spec.dilation.push(1 + below(u64::from(extent / window)));
            case.spec.causal.push(below(3) == 0);
        }
        case.dims = [4, 4];
        check(engine(), &case, None);
    }
}
