//! Callers' WGSL that is too deep, too long or without an end: refused at its place, never a full stack or a hang.

use serde_json::{Value, json};
use tilewise::attention::{AttentionProblem, AttentionSpec, reference};
use tilewise::error::{Error, SpecError};

use crate::support::{Tensors, engine, inputs};

const MASK: &str = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool";
const SCORE: &str = "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32";

fn tensors() -> Tensors {
    inputs([1, 1, 1, 9, 33, 8])
}

fn asked(spec: Value) -> Result<AttentionProblem, Error> {
    let spec: AttentionSpec = serde_json::from_value(spec).unwrap();
    let descs = tensors().iter().map(|(name, tensor)| (name.clone(), tensor.desc())).collect();
    AttentionProblem::new(&spec, &descs)
}

/// A problem whose snippet is `text`, of a mask or a score modifier.
fn with(text: &str) -> Result<AttentionProblem, Error> {
    match text.contains("mask_mod") {
        true => asked(json!({"mask": {"wgsl": text}})),
        false => asked(json!({"score": [{"wgsl": text}]})),
    }
}

/// Line, column and message of a refusal.
fn refusal(text: &str) -> (u32, u32, String) {
    match with(text) {
        Err(Error::Spec(SpecError::Wgsl { line, column, message, .. })) => (line, column, message),
        other => panic!("{}…: {other:?}", text.chars().take(200).collect::<String>()),
    }
}

fn mask(body: &str) -> String {
    format!("{MASK} {{\n{body}\n}}")
}

fn score(body: &str) -> String {
    format!("{SCORE} {{\n{body}\n}}")
}

/// Every way to nest, `n` times.
fn nested(n: usize) -> Vec<(&'static str, String)> {
    let of = |before: &str, middle: &str, after: &str| {
        [&before.repeat(n), middle, &after.repeat(n)].concat()
    };
    let chain = |of: &dyn Fn(usize) -> String| (1..=n).map(of).collect::<String>();
    vec![
        ("not", mask(&format!("return {};", of("!", "true", "")))),
        ("minus", score(&format!("return {};", of("- ", "score", "")))),
        ("complement", mask(&format!("return ({}) == 0u;", of("~", "q", "")))),
        ("address", mask(&format!("var x = 1; return {} == 1;", of("*&", "x", "")))),
        ("assigned", score(&format!("var x = 1.0; {} = 2.0; return x;", of("*&", "x", "")))),
        ("parentheses", mask(&format!("return {};", of("(", "true", ")")))),
        ("sum", score(&format!("return {};", of("", "score", "+score")))),
        ("sum of numbers", score(&format!("return {};", of("", "1.0", "+1.0")))),
        ("and", mask(&format!("return {};", of("", "q == 0u", "&& q == 1u")))),
        ("shifts", mask(&format!("return ({}) == 0u;", of("q << ", "1u", "")))),
        ("calls in calls", score(&format!("return {};", of("min(1.0, ", "score", ")")))),
        ("indices", score(&format!("var x = array<f32, 1>(); return {};", of("", "x", "[0]")))),
        ("members", score(&format!("return {}.x;", of("", "vec4(1.0)", ".xyzw")))),
        ("types", score(&format!("var x: {}; return 1.0;", of("vec4<", "f32", ">")))),
        ("arrays", score(&format!("var x: {}; return 1.0;", of("array<", "f32", ", 1>")))),
        ("blocks", mask(&format!("{} return true;", of("{", "", "}")))),
        ("ifs", mask(&format!("{} return true;", of("if q == 0u {", "", "}")))),
        (
            "else ifs",
            mask(&format!("if q == 0u {{ }}{} return true;", of("", "", " else if q == 1u { }"))),
        ),
        ("loops", mask(&format!("{} return true;", of("loop {", "break;", "break; }")))),
        ("fors", mask(&format!("{} return true;", of("for (var i = 0; i < 1; i++) {", "", "}")))),
        ("whiles", mask(&format!("{} return true;", of("while q < b {", "", "}")))),
        ("switches", mask(&format!("{} return true;", of("switch q { default {", "", "} }")))),
        (
            "functions",
            format!(
                "fn g0(x: f32) -> f32 {{ return x; }}{}\n{}",
                chain(&|i| format!("fn g{i}(x: f32) -> f32 {{ return g{}(x); }}", i - 1)),
                score(&format!("return g{n}(score);"))
            ),
        ),
    ]
}

#[test]
fn nesting_beyond_the_bound_is_refused_at_its_place() {
    for (name, text) in nested(20_000) {
        let (line, column, message) = refusal(&text);
        let bound = if text.len() > 64 << 10 {
            "a snippet has at most 65536 bytes"
        } else {
            "nested deeper than 96 levels"
        };
        assert!(message.contains(bound), "{name}: {message}");
        assert!(line <= 2 && column > 1, "{name}: {line}, {column}");
    }
    for (name, text) in nested(700) {
        let (_, _, message) = refusal(&text);
        let bounds =
            ["nested deeper than 96 levels", "blocks and calls deep", "at most 8192 words"];
        assert!(bounds.iter().any(|bound| message.contains(bound)), "{name}: {message}");
    }
}

#[test]
fn nesting_within_the_bound_is_taken() {
    for (name, text) in nested(14) {
        // A pointer's pointer, a vector's vector: no WGSL, however few.
        if matches!(name, "types" | "indices" | "assigned") {
            continue;
        }
        if let Err(error) = with(&text) {
            panic!("{name}: {error}");
        }
    }
    let (_, column, message) = refusal(&mask(&format!("return {}true;", "!".repeat(96))));
    assert!(column > 90, "{column}: {message}");
    with(&mask(&format!("return {}true;", "!".repeat(90)))).unwrap();
    // Statements, arguments and branches after another do not add up.
    let sums = "x += score * 2.0 + f32(q);".repeat(200);
    with(&score(&format!("var x = 0.0; {sums} return x;"))).unwrap();
    let table = (0..200).map(|i| format!("-{i}.0 + score")).collect::<Vec<_>>().join(", ");
    with(&score(&format!("return array<f32, 200>({table})[3];"))).unwrap();
    let ifs = "if q == 3u { x += 1.0; } else { x -= 1.0; }".repeat(100);
    with(&score(&format!("var x = 0.0; {ifs} return x;"))).unwrap();
}

#[test]
fn recursion_and_functions_that_multiply_are_refused() {
    let (line, _, message) =
        refusal(&format!("fn f() -> bool {{ return f(); }}\n{}", mask("return f();")));
    assert!(line == 1 && message.contains("recursive"), "{message}");
    let twice = |i: u32| format!("fn g{i}(x: f32) -> f32 {{ return g{0}(g{0}(x)); }}\n", i - 1);
    let doubling = format!(
        "fn g0(x: f32) -> f32 {{ return x + 1.0; }}\n{}{}",
        (1..=40).map(twice).collect::<String>(),
        score("return g40(score);")
    );
    let (line, column, message) = refusal(&doubling);
    assert!(message.contains("more than 16384 statements"), "{message}");
    assert!(line > 10 && column == 1, "{line}, {column}");
}

#[test]
fn large_private_values_are_refused_and_a_kilobyte_is_taken() {
    let struct_of = |i: u32| format!("struct S{i} {{ a: S{0}, b: S{0} }}\n", i - 1);
    let doubling =
        format!("struct S0 {{ a: f32 }}\n{}", (1..=26).map(struct_of).collect::<String>());
    let table = vec!["1.0"; 1000].join(", ");
    for (text, what) in [
        (score("var a: array<f32, 1000>; a[kv] = score; return a[q];"), "local variables of 4000"),
        (score("return array<f32, 1000>()[kv];"), "a value of 4000"),
        (score("var a: array<f32, 500000000>; return a[q];"), "local variables of 2000000000"),
        (score("return array<f32, 500000000>()[kv];"), "a value of 2000000000"),
        (score("var a: array<array<f32, 64>, 64>; return a[q][kv];"), "local variables of 16384"),
        (
            score("var a: array<f32, 200>; var c: array<f32, 200>; return a[q] + c[kv];"),
            "local variables of 1600",
        ),
        (
            format!("const T = array<f32, 1000>({table});\n{}", score("return T[kv];")),
            "a constant of 4000",
        ),
        (
            format!("{doubling}{}", score("var x: S26; return score;")),
            "local variables of 268435456",
        ),
    ] {
        let (line, column, message) = refusal(&text);
        assert!(message.starts_with(what), "{message}");
        assert!(message.contains("has at most 1024"), "{message}");
        assert!(line >= 1 && column >= 1);
    }
    with(&score("var a: array<f32, 256>; a[kv] = score; return a[q];")).unwrap();
}

#[test]
fn a_loop_that_nothing_leaves_is_refused_at_its_place() {
    for body in [
        "  loop { }",
        "  while true { }",
        "  for (;;) { }",
        "  loop { if false { break; } }",
        "  loop { loop { break; } }",
        "  loop { switch q { default { break; } } }",
        "  loop { continuing { break if false; } }",
    ] {
        let (line, column, message) = refusal(&mask(&format!("{body}\n  return true;")));
        assert_eq!((line, column), (2, 3), "{body}: {message}");
        assert!(message.contains("a loop without an end"), "{body}: {message}");
    }
    for body in [
        "loop { break; } return true;",
        "loop { if q < 3u { return true; } if q >= 3u { break; } } return false;",
        "loop { switch q { default { return true; } } } return false;",
        "loop { continuing { break if q < 100u; } } return true;",
    ] {
        with(&mask(body)).unwrap();
    }
}

#[test]
fn a_loop_that_data_never_ends_is_refused_by_the_reference_and_ends_on_the_device() {
    let text = score("var n = 0u; while n <= q { n = min(n, 3u); }\nreturn score;");
    let (problem, tensors) = (with(&text).unwrap(), tensors());
    let error = reference(&problem, &tensors).err().unwrap().to_string();
    assert!(error.starts_with("score.wgsl: line 2"), "{error}");
    assert!(error.contains("still running after 65536 turns"), "{error}");
    // Each loop is left, and the function returns the score: attention without a modifier.
    let out =
        |problem: &AttentionProblem| engine().run(problem, None, &tensors).unwrap()["out"].to_f64();
    let (got, plain) = (out(&problem), out(&asked(json!({})).unwrap()));
    let apart = got.iter().zip(&plain).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-5, "{apart}");
}
