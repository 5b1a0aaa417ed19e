//! The text that reads rows of mxfp4 as checkpoints hold it: neighbours share a byte, and a block's scale is the byte of its
//! own number in another tensor.

use super::blocks::BLOCK_VECTORS;
use super::reads::Reads;
use super::template::{statements, template};

/// Functions that read rows.
pub(super) fn text(name: &str, reads: Reads) -> String {
    let scale = || template!("kernel/pair_scale.wgsl", "NAME" = name);
    match reads {
        Reads::Runs { vectors } => take(name, vectors) + &run(name, vectors),
        Reads::Blocks => take(name, BLOCK_VECTORS) + &bytes(name),
        Reads::Rows { .. } | Reads::Vectors | Reads::Halves => {
            scale() + &template!("kernel/pair_vectors.wgsl", "DIMS" = reads.dims(), "NAME" = name)
        }
        Reads::Units { .. } => scale() + &template!("kernel/pair_unit.wgsl", "NAME" = name),
    }
}

/// `NAME_take(offset, d)`: the words of a run, and the word with its scale.
fn take(name: &str, vectors: u32) -> String {
    let load = |i: u32| format!("taken.words[{i}] = {name}[at + {i}u];");
    template!(
        "kernel/pair_take.wgsl",
        "TAKE_WORDS" = statements((0..vectors / 2).map(load)),
        "NAME" = name,
    )
}

/// Makes `to[i]` of the run's vectors, two of a word: `value` says what the low half of a word holds.
fn each_vector(vectors: u32, to: &str, value: impl Fn(&str) -> String) -> String {
    let of_word = |i: u32| {
        let [low, high] = [format!("taken.words[{i}]"), format!("taken.words[{i}] >> 16u")];
        [
            format!("{to}[{}] = {};", 2 * i, value(&low)),
            format!("{to}[{}] = {};", 2 * i + 1, value(&high)),
        ]
    };
    statements((0..vectors / 2).flat_map(of_word))
}

/// `NAME_run(taken)`.
fn run(name: &str, vectors: u32) -> String {
    let value = |word: &str| format!("scale * e2m1_pairs({word})");
    template!(
        "kernel/pair_run.wgsl",
        "MAKE_VECTORS" = each_vector(vectors, "run", value),
        "NAME" = name,
    )
}

/// `NAME_block(taken)`.
fn bytes(name: &str) -> String {
    let value = |word: &str| format!("e2m1_bytes(e2m1_pairs({word}))");
    template!(
        "kernel/pair_bytes.wgsl",
        "MAKE_VECTORS" = each_vector(BLOCK_VECTORS, "words", value),
        "NAME" = name,
    )
}
