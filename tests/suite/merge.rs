//! Merging parts whose lse is huge, or no number: one rule, in the reference and on the device.

use tilewise::attention::{MergeProblem, MergeSpec, merge_reference};
use tilewise::tensor::{Dtype, HostTensor};

use crate::support::{Tensors, engine};

const DIM: usize = 4;

/// out and lse of a row each, by the reference and by the device. A part is the value of its row, and its lse.
fn merged(rows: &[&[(f64, f64)]]) -> [(Vec<f64>, Vec<f64>); 2] {
    let parts = rows[0].len();
    let of = |value: &dyn Fn((f64, f64)) -> f64| -> Vec<f64> {
        (0..parts).flat_map(|part| rows.iter().map(move |row| row[part])).map(value).collect()
    };
    let lses = of(&|(_, lse)| lse);
    let outs: Vec<f64> = of(&|(out, _)| out).into_iter().flat_map(|out| [out; DIM]).collect();
    let reference = merge_reference(&outs, &lses, parts, rows.len(), DIM).unwrap();
    let [parts, count, dim] = [parts, rows.len(), DIM].map(|extent| extent as u64);
    let tensors = Tensors::from([
        ("outs".to_owned(), HostTensor::from_f64(Dtype::F32, &[parts, 1, 1, count, dim], &outs)),
        ("lses".to_owned(), HostTensor::from_f64(Dtype::F32, &[parts, 1, 1, count], &lses)),
    ]);
    let descs = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    let problem = MergeProblem::new(&MergeSpec::default(), &descs).unwrap();
    let device = engine().run(&problem, None, &tensors).unwrap();
    [(reference.out, reference.lse), (device["out"].to_f64(), device["lse"].to_f64())]
}

#[track_caller]
fn hold(rows: &[&[(f64, f64)]], expected: &[(f64, f64)]) {
    let same = |got: f64, expected: f64| {
        got == expected
            || (got.is_nan() && expected.is_nan())
            || (got - expected).abs() <= 4e-7 * expected.abs().max(1.0)
    };
    for (by, (outs, lses)) in ["reference", "device"].into_iter().zip(merged(rows)) {
        for (row, (out, lse)) in expected.iter().enumerate() {
            let got = &outs[row * DIM..][..DIM];
            assert!(got.iter().all(|got| same(*got, *out)), "{by}, row {row}: {got:?}, not {out}");
            assert!(same(lses[row], *lse), "{by}, row {row}: lse {}, not {lse}", lses[row]);
        }
    }
}

#[test]
fn parts_of_a_huge_lse_keep_their_weights() {
    let huge = f64::from(1e30_f32);
    let third = 3.0_f64.ln();
    hold(
        &[
            &[(1.0, -huge), (2.0, -huge), (6.0, -huge)],
            &[(1.0, huge), (2.0, huge), (6.0, huge)],
            &[(1.0, huge), (2.0, -huge), (6.0, 0.0)],
            &[(1.0, 0.0), (2.0, 0.0), (6.0, 0.0)],
            &[(1.0, f64::from(f32::MAX)), (2.0, f64::from(f32::MIN)), (6.0, 1e4)],
        ],
        &[(3.0, -huge), (3.0, huge), (1.0, huge), (3.0, third), (1.0, f64::from(f32::MAX))],
    );
}

#[test]
fn a_part_without_keys_counts_nothing_and_one_without_a_number_makes_its_row_nan() {
    let (none, nan) = (f64::NEG_INFINITY, f64::NAN);
    hold(
        &[
            &[(5.0, none), (2.0, 1.0)],
            &[(nan, none), (2.0, 1.0)],
            &[(f64::INFINITY, none), (2.0, 1.0)],
            &[(nan, none), (nan, none)],
            &[(1.0, nan), (2.0, 1.0)],
            &[(1.0, nan), (2.0, none)],
            &[(1.0, nan), (2.0, nan)],
            &[(1.0, f64::INFINITY), (2.0, 1.0)],
            &[(1.0, f64::INFINITY), (2.0, f64::INFINITY)],
            &[(2.0, 1.0), (1.0, nan)],
            &[(1.0, 0.0), (3.0, 0.0)],
        ],
        &[
            (2.0, 1.0),
            (2.0, 1.0),
            (2.0, 1.0),
            (0.0, none),
            (nan, nan),
            (nan, nan),
            (nan, nan),
            (nan, nan),
            (nan, nan),
            (nan, nan),
            (2.0, 2.0_f64.ln()),
        ],
    );
}
