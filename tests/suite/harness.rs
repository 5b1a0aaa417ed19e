//! The harness can fail: results that are broken on purpose do not pass it.

use tilewise::verify::{Failure, Trial, find_cases};

use crate::support::engine;

/// The failure of `pattern`'s first case when `change` has been at its outputs.
fn broken(pattern: &str, change: &dyn Fn(&str, &mut Vec<u8>)) -> Failure {
    let case = find_cases(pattern).remove(0);
    let trial = Trial::new(&case).unwrap();
    assert!(trial.run(engine(), None).is_ok());
    let failure = trial.run_changed(engine(), None, change).unwrap_err();
    let text = failure.to_string();
    for part in [
        case.name.as_str(),
        "seed 1",
        engine().adapter().name.as_str(),
        "tilewise verify --only",
        "tilewise explain",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    failure.failure
}

const CASE: &str = "layout/bhsd_odd_f32_64";

#[test]
fn one_nan_fails() {
    let failure = broken(CASE, &|name, bytes| {
        if name == "out" {
            bytes[20..24].fill(0xff);
        }
    });
    let text = failure.to_string();
    assert!(text.contains("out: 1 of") && text.contains("[0] got NaN"), "{text}");
}

#[test]
fn swapped_rows_fail() {
    let failure = broken(CASE, &|_, bytes| {
        let row = bytes[20..148].to_vec();
        bytes.copy_within(288..416, 20);
        bytes[288..416].copy_from_slice(&row);
    });
    assert!(matches!(failure, Failure::Mismatch(_)), "{failure}");
}

#[test]
fn an_unwritten_output_fails() {
    for output in ["out", "lse"] {
        let failure = broken(CASE, &|name, bytes| {
            if name == output {
                bytes.fill(0xff);
            }
        });
        assert!(failure.to_string().starts_with(output), "{failure}");
    }
}

#[test]
fn a_write_beside_the_output_fails() {
    let failure = broken(CASE, &|name, bytes| {
        if name == "out" {
            bytes[3] = 0;
        }
    });
    assert_eq!(failure, Failure::Overwritten { tensor: "out", byte: 3 });
}

#[test]
fn a_row_without_keys_must_be_zero() {
    let failure = broken("length/causal_q70_kv3", &|name, bytes| {
        if name == "out" {
            bytes[..4].copy_from_slice(&1e-30_f32.to_le_bytes());
        }
    });
    assert!(failure.to_string().contains("tolerance 0"), "{failure}");
}

#[test]
fn a_wrong_half_fails() {
    let failure = broken("half/f16_7_7", &|name, bytes| {
        if name == "out" {
            bytes[1] ^= 0x04;
        }
    });
    assert!(matches!(failure, Failure::Mismatch(_)), "{failure}");
}

#[test]
fn a_wrong_question_fails_with_its_name() {
    let case = find_cases("mask/causal").remove(0).with(&serde_json::json!({"q_heads": 3}));
    let failure = tilewise::verify::run_case(engine(), &case, None).unwrap_err().to_string();
    assert!(
        failure.contains("mask/causal: q_heads: expected a multiple of kv_heads 2, got 3"),
        "{failure}"
    );
}
