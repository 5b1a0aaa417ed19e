use naga::ScalarKind;

use super::parse::{ParsedSnippet, parse};
use super::{Argument, AuxRewrite, Signature, Snippet};
use crate::error::SpecError;

const POS_Q: &[(&str, &str)] = &[("pos_q", "fn pos_q(b: u32, q: u32) -> i32 { return 0; }")];

pub(super) static MASK: Signature = Signature {
    name: "mask_mod",
    text: "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool",
    arguments: &[Argument::Uint; 4],
    result: ScalarKind::Bool,
    provided: POS_Q,
};

pub(super) static SCORE: Signature = Signature {
    name: "score_mod",
    text: "fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32",
    arguments: &[Argument::Float, Argument::Uint, Argument::Uint, Argument::Uint, Argument::Uint],
    result: ScalarKind::Float,
    provided: POS_Q,
};

const AUX: &[(&str, bool)] = &[("rel", false), ("ids", true)];

fn parse_text(text: &str, kind: &'static Signature) -> Result<ParsedSnippet, SpecError> {
    let aux = AUX.iter().map(|(name, _)| (*name).to_owned()).collect();
    parse(&Snippet { wgsl: text.to_owned(), aux }, kind, AUX, "score.wgsl")
}

fn score(body: &str) -> String {
    format!("fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> f32 {{\n{body}\n}}")
}

/// Line, column and message of a refusal.
fn refusal(text: &str) -> (u32, u32, String) {
    match parse_text(text, &SCORE).expect_err(text) {
        SpecError::Wgsl { field, line, column, message } => {
            assert_eq!(field, "score.wgsl");
            (line, column, message)
        }
        other => panic!("{text}: {other}"),
    }
}

fn accessors(name: &str) -> Option<AuxRewrite> {
    matches!(name, "rel" | "ids").then(|| AuxRewrite {
        accessor: format!("aux_{name}"),
        length: format!("aux_{name}_len()"),
    })
}

#[test]
fn a_mistake_is_found_in_the_callers_own_text() {
    let cases = [
        (score("  return scor;"), (2, 10), "scor"),
        (score("  return score + 1u;"), (2, 10), ""),
        (score("  let \u{e9}\u{e9} = 1; return 1"), (3, 1), ""),
        (score("  return max(score, b);"), (2, 10), ""),
        (score("  var a = array<f32, 2>(); return a[2];"), (2, 35), ""),
        (score("return 1.0; } fn f() -> f32 {"), (2, 15), ""),
        ("fn score_mod(".to_owned(), (1, 13), "bracket without its `)`"),
        ("/* open".to_owned(), (1, 1), "comment without its `*/`"),
    ];
    for (text, place, message) in cases {
        let (line, column, got) = refusal(&text);
        assert!(got.contains(message), "{text}: {got}");
        assert_eq!((line, column), place, "{text}: {got}");
    }
}

#[test]
fn the_signature_is_the_contracts() {
    let (_, _, message) = refusal("fn other() {}");
    assert!(message.contains("no function score_mod; expected fn score_mod(score: f32,"));
    let (line, _, message) = refusal("\nfn score_mod(score: f32, b: i32) -> f32 { return score; }");
    assert!(line == 2 && message.contains("must be fn score_mod(score: f32, b: u32"), "{message}");
    let mask = "fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> u32 { return 1u; }";
    let error = parse_text(mask, &MASK).unwrap_err().to_string();
    assert!(error.contains("-> bool"), "{error}");
}

#[test]
fn what_belongs_to_the_kernel_is_refused() {
    let good = score("return score;");
    let cases = [
        ("enable f16;\n", "enable: a snippet has no directives"),
        ("requires readonly_and_readwrite_storage_textures;\n", "requires"),
        ("diagnostic(off, derivative_uniformity);\n", "diagnostic"),
        ("override x: f32 = 1.0;\n", "no overrides"),
        ("var<private> x: f32;\n", "no variables at module scope"),
        ("var<workgroup> x: f32;\n", "no variables at module scope"),
        ("@group(0) @binding(9) var<storage> x: array<f32>;\n", "no variables at module scope"),
        ("@compute @workgroup_size(1) fn main() {}\n", "main is an entry point"),
        ("fn f() { workgroupBarrier(); }\n", "a barrier"),
    ];
    for (extra, expected) in cases {
        let (line, _, message) = refusal(&format!("{extra}{good}"));
        assert!(message.contains(expected), "{extra}: {message}");
        assert_eq!(line, 1, "{extra}: {message}");
    }
}

#[test]
fn aux_tensors_are_indexed_or_measured_only() {
    for body in [
        "let p = &rel; return (*p)[h];",
        "let p = &rel[h]; return *p;",
        "let rel = rel[h]; return rel;",
        "return (rel)[h];",
        "for (var rel = 0; rel < 3; rel++) {} return score;",
    ] {
        let (line, _, message) = refusal(&score(body));
        assert!(line == 2 && message.contains("rel is an aux tensor"), "{body}: {message}");
    }
    for body in ["return f32(2 & ids[h]) + f32(arrayLength(&rel));", "return rel[-1 + i32(q)];"] {
        parse_text(&score(body), &SCORE).unwrap();
    }
}

#[test]
fn aux_names_must_be_words_of_their_own() {
    for name in ["rel-bias", "fn", "pos_q", "", "a b", "__x"] {
        let aux = vec![name.to_owned()];
        let snippet = Snippet { wgsl: score("return score;"), aux };
        let error = parse(&snippet, &SCORE, &[(name, false)], "score.wgsl");
        assert!(error.unwrap_err().to_string().starts_with("score.aux: "), "{name}");
    }
}

#[test]
fn own_names_are_found_and_prefixed() {
    let text = "\
const W = 3; // W stays in a comment
alias F = f32;
struct S { W: F, n: array<F, W> }
fn help(s: S) -> F { return s.W + s.n[1]; } /* help */
fn score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> F {
  return help(S(score, array<F, W>())) + rel[u32(ids[h + arrayLength(&rel)]) + 1u] + f32(pos_q(b, q));
}
@must_use fn W2() -> f32 { return 1.0; }";
    let parsed = parse_text(text, &SCORE).unwrap();
    assert_eq!(parsed.globals, ["F", "S", "W", "W2", "help", "score_mod"]);
    let expected = "\
const p_W = 3; // W stays in a comment
alias p_F = f32;
struct p_S { W: p_F, n: array<p_F, p_W> }
fn p_help(s: p_S) -> p_F { return s.W + s.n[1]; } /* help */
fn p_score_mod(score: f32, b: u32, h: u32, q: u32, kv: u32) -> p_F {
  return p_help(p_S(score, array<p_F, p_W>())) + aux_rel(u32(u32(aux_ids(u32(h + aux_rel_len()))) + 1u)) + f32(pos_q(b, q));
}
@must_use fn p_W2() -> f32 { return 1.0; }";
    let rewritten = parsed.rewrite("p_", &accessors);
    assert_eq!(rewritten, expected);
    let accessors = "
fn aux_rel(i: u32) -> f32 { return f32(i); }
fn aux_rel_len() -> u32 { return 1u; }
fn aux_ids(i: u32) -> i32 { return i32(i); }
fn pos_q(b: u32, q: u32) -> i32 { return 0; }";
    naga::front::wgsl::parse_str(&format!("{rewritten}{accessors}")).unwrap();
}

#[test]
fn checks_are_needed_for_loops_and_unknown_indices() {
    let cases = [
        ("return rel[h * 33u + q] + f32(ids[kv]);", false),
        ("let v = vec2(score, 1.0); return v.x + v[1];", false),
        ("let v = vec2(score, 1.0); return v[h & 1u];", true),
        ("var a = array<f32, 4>(); return a[h];", true),
        ("var s = score; for (var i = 0u; i < 3u; i++) { s += 1.0; } return s;", true),
        ("var s = score; if q > 3u { loop { break; } } return s;", true),
        ("switch h { case 0u: { return 1.0; } default: { return score; } }", false),
    ];
    for (body, expected) in cases {
        let parsed = parse_text(&score(body), &SCORE).unwrap();
        assert_eq!(parsed.needs_checks, expected, "{body}");
    }
}

#[test]
fn loops_count_their_turns_together() {
    let text = score(
        "var s = 0.0; for (var i = 0u; i < kv; i++) { loop { if h == i { break; } s += rel[i]; } }\nwhile s > score { s -= 1.0; } return s;",
    );
    let rewritten = parse_text(&text, &SCORE).unwrap().rewrite("p_", &accessors);
    assert!(rewritten.contains("-> f32 { p_0turns = 0u;\n"), "{rewritten}");
    for head in ["i++) {", "loop {", "while s > score {"] {
        let counted = format!("{head} if (p_0turns == 65536u) {{ break; }} p_0turns++; ");
        assert!(rewritten.contains(&counted), "{rewritten}");
    }
    assert!(rewritten.ends_with("}\nvar<private> p_0turns: u32;\n"), "{rewritten}");
    assert_eq!(rewritten.matches('\n').count(), text.matches('\n').count() + 2);
    let accessors = "fn aux_rel(i: u32) -> f32 { return 0.0; }";
    naga::front::wgsl::parse_str(&format!("{rewritten}{accessors}")).unwrap();
}
