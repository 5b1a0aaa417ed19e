use super::program::AuxValues;
use super::{Interpreter, Precision, Value};
use crate::error::SpecError;
use crate::snippet::parse::parse;
use crate::snippet::tests::{MASK, SCORE};
use crate::snippet::{Signature, Snippet};

fn interpreter(text: &str, kind: &'static Signature, precision: Precision) -> Interpreter {
    let aux = vec![
        ("rel".to_owned(), AuxValues::F32(vec![0.5, 1.5, 2.5])),
        ("ids".to_owned(), AuxValues::I32(vec![-7, 9])),
    ];
    let snippet = Snippet { wgsl: text.to_owned(), aux: vec!["rel".to_owned(), "ids".to_owned()] };
    let types = [("rel", false), ("ids", true)];
    let parsed =
        parse(&snippet, kind, &types, "score.wgsl").unwrap_or_else(|e| panic!("{text}: {e}"));
    Interpreter::new(parsed, aux, precision)
}

/// `score_mod` with this body and these helpers on score 2.25, b 1, h 2, q 5, kv 9; query q stands at 100 b + q.
fn run_with(helpers: &str, body: &str) -> Result<f64, SpecError> {
    let text = format!(
        "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{ {body} }}\n{helpers}"
    );
    let program = interpreter(&text, &SCORE, Precision::F64);
    let indices = [1, 2, 5, 9].map(Value::U32);
    let arguments = [Value::F32(2.25)].into_iter().chain(indices).collect();
    program.number(arguments, &|b, q| (100 * b + q) as i32)
}

fn run(body: &str) -> f64 {
    run_with("", body).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[track_caller]
fn holds(cases: &[(&str, f64)]) {
    for (expression, expected) in cases {
        let got = run(&format!("return {expression};"));
        assert!((got - expected).abs() < 1e-12, "{expression}: {got}, expected {expected}");
    }
}

#[test]
fn arithmetic_is_wgsls() {
    holds(&[
        ("score * 2.0 - f32(q) / 4.0", 3.25),
        ("-score % 2.0", -0.25),
        ("f32(-7 / 2) + f32(-7 % 2) / 8.0", -3.125),
        ("f32(q - 6u)", f64::from(u32::MAX)),
        ("f32(q / (h - 2u)) + f32(q % (h - 2u))", 5.0),
        ("f32((i32(h) - 2147483647 - 3) / -1)", -2_147_483_648.0),
        ("f32(kv << (h + 32u))", 36.0),
        ("f32((-16i + i32(h) - 2) >> h)", -4.0),
        ("f32((kv & 5u) | (q ^ 6u)) + f32(~kv & 15u) * 0.5", 6.0),
        ("f32(~i32(q))", -6.0),
    ]);
}

#[test]
fn casts_truncate_and_clamp() {
    holds(&[
        ("f32(i32(-score)) + f32(u32(-score))", -2.0),
        ("f32(u32(score * 1e30))", 4_294_967_040.0),
        ("f32(i32(score * -1e30))", -2_147_483_648.0),
        ("f32(bitcast<u32>(score))", f64::from(2.25_f32.to_bits())),
        ("bitcast<f32>(1065353216u + kv - 9u)", 1.0),
        ("f32(bool(q)) + f32(u32(i32(q) - 6) >> 31u)", 2.0),
        ("select(1.0, 2.0, q < kv)", 2.0),
    ]);
}

#[test]
fn builtins_are_those_of_the_specification() {
    let e: f64 = 2.25;
    holds(&[
        ("exp(score) + log(score) + tanh(score)", e.exp() + e.ln() + e.tanh()),
        ("exp2(score) * log2(score) + inverseSqrt(score)", e.exp2() * e.log2() + 1.0 / 1.5),
        ("pow(score, 0.5) + sqrt(score) + fract(score)", 3.25),
        ("round(score * 2.0) + floor(-score) + ceil(score) + trunc(-score)", 2.0),
        ("clamp(score, 0.0, 1.0) + saturate(-score) + sign(-score)", 0.0),
        ("mix(score, 0.25, 0.5) + step(3.0, score) + smoothstep(0.0, 4.5, score)", 1.75),
        ("min(score, 1.0) + max(score, 3.0) + abs(-score) + fma(score, 2.0, 1.0)", 11.75),
        ("atan2(score, 1.0) + sin(score) - cos(score)", e.atan2(1.0) + e.sin() - e.cos()),
        ("f32(clamp(i32(kv) - i32(q), -16, 3)) + f32(abs(i32(q) - i32(kv)))", 7.0),
        ("f32(countOneBits(kv) + countLeadingZeros(kv) + countTrailingZeros(kv))", 30.0),
        (
            "f32(reverseBits(kv)) + f32(firstLeadingBit(kv)) + f32(firstTrailingBit(kv))",
            2_415_919_107.0,
        ),
        ("f32(firstLeadingBit(i32(h) - 3)) + f32(firstTrailingBit(i32(h) - 2))", -2.0),
        ("f32(extractBits(kv, 1u, 3u)) + f32(extractBits(i32(kv), 3u, 1u))", 3.0),
        ("f32(insertBits(kv, q, 4u, 4u)) + ldexp(score, 2)", 98.0),
        ("f32(max(-3, i32(h))) + f32(min(kv, q)) + quantizeToF16(score)", 9.25),
    ]);
}

#[test]
fn control_flow_runs() {
    let bodies = [
        (
            "var s = score; for (var i = 0u; i < kv; i++) { if i == 2u { continue; } if i == 6u { break; } s += f32(i); } return s;",
            15.25,
        ),
        ("var i = 0; while i < 5 { i += 2; } return f32(i);", 6.0),
        ("var i = 0u; loop { i++; continuing { i += 2u; break if i > kv; } } return f32(i);", 12.0),
        ("switch q { case 1u, 5u: { return 1.0; } case default { return 2.0; } }", 1.0),
        (
            "var s = 0.0; switch i32(h) { case 2: { s = 3.0; if q == 5u { break; } s = 4.0; } default: {} } return s;",
            3.0,
        ),
        (
            "if q > kv || h == 7u { return 1.0; } else if h == 2u && kv == 9u { return 2.0; } return 3.0;",
            2.0,
        ),
        (
            "for (var i = 0; i < 3; i++) { var x: f32; x += 1.0; if i == 2 { return x; } } return 0.0;",
            1.0,
        ),
        (
            "for (var i = 0; i < 4; i++) { for (var j = 0; ; j++) { if j == 3 { break; } if i * j == 6 { return f32(10 * i + j); } } } return 0.0;",
            32.0,
        ),
    ];
    for (body, expected) in bodies {
        assert_eq!(run(body), expected, "{body}");
    }
}

#[test]
fn helpers_pointers_structs_and_vectors_run() {
    let helpers = "
const SCALE = vec2(2.0, 0.5);
const N: u32 = 3;
struct Pair { a: f32, b: array<i32, N> }
fn twice(x: f32) -> f32 { return x * SCALE.x; }
fn bump(p: ptr<function, f32>, by: f32) { *p += by; }
fn pair(x: f32) -> Pair { var p = Pair(); p.a = x; p.b[1] = 4; return p; }";
    let bodies = [
        ("return twice(twice(score));", 9.0),
        ("var s = score; bump(&s, 1.0); bump(&s, 0.5); return s;", 3.75),
        ("let p = pair(score); return p.a + f32(p.b[1] + p.b[h]);", 6.25),
        (
            "var a = array<f32, 3>(1.0, 2.0, 4.0); a[h] = 8.0; let r = &a[1]; *r = 3.0; return a[0] + a[1] + a[2] + a[q];",
            20.0,
        ),
        (
            "let v = vec3(score, 1.0, 2.0) * 2.0; return v.x + dot(v.yz, vec2(1.0, 3.0)) + length(vec2(3.0, 4.0));",
            23.5,
        ),
        (
            "var v = vec4(0.0); v.y = score; v[h] = 1.0; return dot(v, vec4(1.0, 2.0, 3.0, 4.0));",
            7.5,
        ),
        (
            "return select(vec2(1.0), vec2(5.0), vec2((q < kv), (q > kv))).y + f32(any(vec2(true, false)));",
            2.0,
        ),
        ("return SCALE.y + f32(N) + f32(all(vec2<u32>(q, h) == vec2(5u, 2u)));", 4.5),
    ];
    for (body, expected) in bodies {
        assert_eq!(run_with(helpers, body).unwrap(), expected, "{body}");
    }
}

#[test]
fn aux_tensors_and_positions_are_read() {
    holds(&[
        ("rel[h] + f32(ids[0]) + f32(ids[1u])", 4.5),
        ("rel[kv] + f32(ids[i32(h) - 3])", 11.5),
        ("f32(arrayLength(&rel)) + f32(pos_q(b, q))", 108.0),
    ]);
}

#[test]
fn a_mask_gives_a_bool() {
    let text = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool {
        return abs(i32(q) - i32(kv)) <= 8 || q < 3u; }";
    let program = interpreter(text, &MASK, Precision::F64);
    let keeps =
        |q, kv| program.truth([0, 0, q, kv].map(Value::U32).to_vec(), &|_, q| q as i32).unwrap();
    assert!(keeps(9, 1) && keeps(2, 99) && !keeps(12, 3));
}

#[test]
fn f32_precision_rounds_every_result() {
    let text =
        "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 { return score + 1e-9; }";
    let run = |precision| {
        let program = interpreter(text, &SCORE, precision);
        let arguments = [Value::F32(1.0)].into_iter().chain([0; 4].map(Value::U32)).collect();
        program.number(arguments, &|_, _| 0).unwrap()
    };
    assert_eq!(run(Precision::F32), 1.0);
    assert!(run(Precision::F64) > 1.0);
}

#[test]
fn what_it_cannot_run_is_named_with_its_place() {
    let cases = [
        ("let m = mat2x2<f32>(score, 1.0, 2.0, 3.0) * vec2(1.0); return m.x;", "matrices"),
        ("return f32(pack2x16float(vec2(score)));", "Pack2x16float"),
        ("return frexp(score).fract;", "Frexp"),
        ("loop { if q == 77u { break; } } return score;", "still running"),
    ];
    for (body, what) in cases {
        let Err(error) = run_with("", body) else { panic!("{body} ran") };
        let SpecError::Wgsl { line, column, ref message, .. } = error else { panic!("{error}") };
        assert!(message.contains(what), "{body}: {message}");
        assert!(line == 1 && column > 70, "{body}: {error}");
    }
}
