//! Which pairs a capacity leaves, in every order.

use serde_json::{Value, json};
use tilewise::tensor::Dtype;

use crate::support::{Layer, Random, Tensors, check, f32s, i32s, run};

/// Two slots a token: all first choices of expert 0 but the last token's.
fn tokens() -> Tensors {
    let mut inputs = Tensors::new();
    inputs.insert("x".to_owned(), f32s(&[4, 1], &[1.0; 4]));
    inputs.insert("topk_ids".to_owned(), i32s(&[4, 2], &[0, 1, 1, 0, 0, 1, 1, 0]));
    let weights = [0.6, 0.4, 0.7, 0.3, 0.9, 0.1, 0.55, 0.45];
    inputs.insert("topk_weights".to_owned(), f32s(&[4, 2], &weights));
    inputs
}

fn question(rows: u32, sequences: u32, priority: &str) -> Value {
    json!({
        "router": "external", "experts": 2, "outputs": ["pair_rows", "counts", "dropped"],
        "capacity": {"rows": rows, "sequences": sequences, "priority": priority},
    })
}

/// Which pairs are kept.
fn kept(rows: u32, sequences: u32, priority: &str) -> Vec<bool> {
    let question = question(rows, sequences, priority);
    check(&question, &tokens());
    run(&question, &tokens())["pair_rows"].iter().map(|row| *row >= 0.0).collect()
}

#[test]
fn every_order_leaves_the_pairs_that_it_says() {
    let pairs = |kept: [u8; 8]| kept.map(|kept| kept == 1);
    // Expert 0 has pairs 0, 3, 4, 7 with weights .6 .3 .9 .45, expert 1 has 1, 2, 5, 6 with .4 .7 .1 .55.
    assert_eq!(kept(3, 1, "token_order"), pairs([1, 1, 1, 1, 1, 1, 0, 0]));
    assert_eq!(kept(3, 1, "score"), pairs([1, 1, 1, 0, 1, 0, 1, 1]));
    // First choices are pairs 0, 2, 4, 6; then token 1 is before token 3, and token 0 before token 2.
    assert_eq!(kept(3, 1, "choice_order"), pairs([1, 1, 1, 1, 1, 0, 1, 0]));
    assert_eq!(kept(1, 1, "choice_order"), pairs([1, 0, 1, 0, 0, 0, 0, 0]));
    // Best weights of the tokens: .6 .7 .9 .55.
    assert_eq!(kept(3, 1, "best_score"), pairs([1, 0, 1, 1, 1, 1, 1, 0]));
    assert_eq!(kept(1, 1, "best_score"), pairs([0, 0, 1, 0, 1, 0, 0, 0]));
    assert_eq!(kept(1, 2, "best_score"), pairs([1, 0, 1, 0, 1, 0, 1, 0]));
    assert_eq!(kept(0, 1, "best_score"), [false; 8]);
    assert_eq!(kept(9, 1, "choice_order"), [true; 8]);
}

/// GShard and V-MoE as their papers' loops say it: slot by slot, tokens in their order, while a buffer has room.
fn looped(ids: &[f64], weights: &[f64], top_k: usize, rows: usize, best: bool) -> Vec<bool> {
    let tokens = ids.len() / top_k;
    let mut order: Vec<usize> = (0..tokens).collect();
    if best {
        let of = |token: &usize| {
            weights[token * top_k..(token + 1) * top_k].iter().fold(f64::MIN, |a, b| a.max(*b))
        };
        order.sort_by(|a, b| of(b).total_cmp(&of(a)));
    }
    let mut room = vec![rows; 512];
    let mut kept = vec![false; ids.len()];
    for slot in 0..top_k {
        for token in &order {
            let pair = token * top_k + slot;
            let left = &mut room[ids[pair] as usize];
            kept[pair] = *left > 0;
            *left = left.saturating_sub(1);
        }
    }
    kept
}

#[test]
fn slot_orders_are_those_of_the_papers_loops() {
    for (tokens, experts, top_k, rows) in
        [(300, 8, 3, 60), (90, 100, 2, 1), (40, 5, 4, 20), (700, 512, 8, 9)]
    {
        let mut inputs =
            Layer { tokens, model_dim: 4, experts, expert_dim: 4 }.tensors(Dtype::F32, tokens);
        inputs.retain(|name, _| !name.starts_with("w_"));
        inputs.remove("router_w");
        inputs.insert(
            "router_logits".to_owned(),
            Random(7).tensor(Dtype::F32, &[tokens, experts], 2.0),
        );
        for (priority, best) in [("choice_order", false), ("best_score", true)] {
            let question = json!({
                "top_k": top_k, "outputs": ["topk_ids", "topk_weights", "pair_rows", "counts", "dropped"],
                "capacity": {"rows": rows, "priority": priority},
            });
            check(&question, &inputs);
            let got = run(&question, &inputs);
            let want = looped(&got["topk_ids"], &got["topk_weights"], top_k, rows, best);
            let kept: Vec<bool> = got["pair_rows"].iter().map(|row| *row >= 0.0).collect();
            assert!(kept == want, "{question}: {tokens} tokens");
        }
    }
}

#[test]
fn a_slot_that_has_no_expert_is_no_best_weight() {
    let mut inputs = tokens();
    inputs.insert("topk_ids".to_owned(), i32s(&[4, 2], &[0, -1, 0, 1, 0, 5, 1, 0]));
    let weights = [0.2, 9.0, 0.3, 0.1, 0.1, f64::NAN, 0.5, 0.4];
    inputs.insert("topk_weights".to_owned(), f32s(&[4, 2], &weights));
    let question = question(1, 1, "best_score");
    check(&question, &inputs);
    let kept = &run(&question, &inputs)["pair_rows"];
    assert_eq!(kept, &[-1.0, -1.0, 0.0, -1.0, -1.0, -1.0, 1.0, -1.0]);
}
