//! The text that reads rows of blocks, each with its scale in front, however they lie.

use super::reads::Reads;
use super::template::{statements, template};
use crate::tensor::{BLOCK, BlockFormat};

/// Vectors of a block.
pub(crate) const BLOCK_VECTORS: u32 = BLOCK as u32 / 4;

/// What is subtracted from a block's stored numbers before they are scaled.
pub(crate) fn offset(format: Option<BlockFormat>) -> f32 {
    if format == Some(BlockFormat::Q4_0) { 8.0 } else { 0.0 }
}

/// Words of a block's numbers.
pub(super) const fn words_of(format: BlockFormat) -> u32 {
    match format {
        BlockFormat::Q8_0 => 8,
        BlockFormat::Q4_0 | BlockFormat::Mxfp4 => 4,
    }
}

/// Words of a run, shifted to whole words.
pub(super) const fn words_of_run(format: BlockFormat, vectors: u32) -> u32 {
    vectors * words_of(format) / BLOCK_VECTORS
}

/// Functions that read rows; `wide`: units are read by vectors of four words.
pub(super) fn text(name: &str, format: BlockFormat, wide: bool, reads: Reads) -> String {
    match reads {
        Reads::Rows { .. } | Reads::Vectors | Reads::Halves => vectors(name, format, reads),
        Reads::Runs { vectors } => take(name, format, vectors) + &run(name, format, vectors),
        Reads::Blocks => take(name, format, BLOCK_VECTORS) + &bytes(name, format),
        Reads::Units { vectors } => unit(name, format, vectors / BLOCK_VECTORS, wide),
    }
}

/// What a word of a block holds.
fn stored(format: BlockFormat, shifted: &str) -> String {
    match format {
        BlockFormat::Q8_0 => "q8_numbers(word)".to_owned(),
        BlockFormat::Q4_0 => format!("q4_numbers({shifted})"),
        BlockFormat::Mxfp4 => format!("e2m1_numbers({shifted})"),
    }
}

/// Bits of the scale in front of a block's numbers.
const fn head_bits(format: BlockFormat) -> u32 {
    match format {
        BlockFormat::Q8_0 | BlockFormat::Q4_0 => 16,
        BlockFormat::Mxfp4 => 8,
    }
}

/// Its value from the word `head`.
const fn scale_of_head(format: BlockFormat) -> &'static str {
    match format {
        BlockFormat::Q8_0 | BlockFormat::Q4_0 => "unpack2x16float(head).x",
        BlockFormat::Mxfp4 => "e8m0(head & 0xffu)",
    }
}

/// `NAME_load4(offset, d)`.
fn vectors(name: &str, format: BlockFormat, reads: Reads) -> String {
    template!(
        "kernel/block_vectors.wgsl",
        "BLOCK_BYTES" = format!("{}u", format.bytes()),
        "HEAD_BYTES" = format!("{}u", head_bits(format) / 8),
        "SCALE_OF_HEAD" = scale_of_head(format),
        "BYTE_OF_DIM" = if format == BlockFormat::Q8_0 { "d % 32u" } else { "d % 16u" },
        "NUMBERS" = stored(format, "word >> (d / 16u % 2u * 4u)"),
        "OFFSET" = format!("vec4({:?})", offset(Some(format))),
        "DIMS" = reads.dims(),
        "NAME" = name,
    )
}

/// `NAME_take(offset, d)`: the words that a run of vectors lies in, as many as follow each other, each with a vector
/// or, of halves of bytes, two.
fn take(name: &str, format: BlockFormat, vectors: u32) -> String {
    let words = words_of_run(format, vectors);
    let load = |i: u32| {
        // A word beyond the last is shifted out.
        let next =
            if i < words { format!("{i}u") } else { format!("{}u + min(taken.shift, 1u)", i - 1) };
        format!("taken.words[{i}] = {name}[(at >> 2u) + {next}];")
    };
    template!(
        "kernel/block_take.wgsl",
        "BLOCK_BYTES" = format!("{}u", format.bytes()),
        "HEAD_BYTES" = format!("{}u", head_bits(format) / 8),
        "BYTE_OF_DIM" = if format == BlockFormat::Q8_0 { "d % 32u" } else { "d % 32u / 2u" },
        "TAKE_WORDS" = statements((0..=words).map(load)),
        "NAME" = name,
    )
}

/// Makes `to[i]` of the run's vectors: `value` says what a shifted word holds.
fn each_vector(
    format: BlockFormat,
    vectors: u32,
    to: &str,
    value: impl Fn(&str) -> String,
) -> String {
    let words = words_of_run(format, vectors);
    let of_word = |i: u32| {
        let word = format!(
            "word = (taken.words[{i}] >> shift) | ((taken.words[{}] << 1u) << (31u - shift));",
            i + 1
        );
        let halves = [(i, "word"), (i + words, "word >> 4u")];
        let made = halves.into_iter().filter(|(at, _)| *at < vectors);
        let made = made.map(|(at, shifted)| format!("{to}[{at}] = {};", value(shifted)));
        std::iter::once(word).chain(made).collect::<Vec<_>>()
    };
    statements((0..words).flat_map(of_word))
}

/// `NAME_run(taken)`.
fn run(name: &str, format: BlockFormat, vectors: u32) -> String {
    let value = |shifted: &str| scaled(format, &stored(format, shifted));
    template!(
        "kernel/block_run.wgsl",
        "HEAD_BITS" = format!("{}u", head_bits(format)),
        "SCALE_OF_HEAD" = scale_of_head(format),
        "MAKE_VECTORS" = each_vector(format, vectors, "run", value),
        "NAME" = name,
    )
}

/// `NAME_block(taken)`.
fn bytes(name: &str, format: BlockFormat) -> String {
    let value = |shifted: &str| match format {
        BlockFormat::Q8_0 => "word".to_owned(),
        BlockFormat::Q4_0 => format!("q4_bytes({shifted})"),
        BlockFormat::Mxfp4 => format!("e2m1_bytes(e2m1_numbers({shifted}))"),
    };
    template!(
        "kernel/block_bytes.wgsl",
        "HEAD_BITS" = format!("{}u", head_bits(format)),
        "SCALE_OF_HEAD" = scale_of_head(format),
        "MAKE_VECTORS" = each_vector(format, BLOCK_VECTORS, "words", value),
        "BYTE_UNIT" = if format == BlockFormat::Mxfp4 { "0.5 * scale" } else { "scale" },
        "NAME" = name,
    )
}

/// A block's stored numbers, less their offset, times `scale`: exactly.
fn scaled(format: BlockFormat, value: &str) -> String {
    match offset(Some(format)) {
        0.0 => format!("scale * {value}"),
        offset => format!("fma({value}, vec4(scale), vec4(-{offset:?} * scale))"),
    }
}

/// Words that `count` blocks lie in.
fn unit_words(format: BlockFormat, count: u32) -> u32 {
    (format.bytes() as u32 * count).div_ceil(4)
}

/// Loads of a unit's words, one by one.
fn words(name: &str, format: BlockFormat, count: u32) -> String {
    let load = |word: u32| format!("words[{word}] = {name}[(at >> 2u) + {word}u];");
    statements((0..unit_words(format, count)).map(load))
}

/// The same by vectors of four words, and their loads.
fn wide_words(name: &str, format: BlockFormat, count: u32) -> (String, String) {
    let words = unit_words(format, count);
    let vectors = words.div_ceil(4);
    let load = |i: u32| format!("let v{i} = {name}[(at >> 4u) + {}u];", i.min(vectors - 1));
    let four = |i: u32| {
        let from = format!("let w{i} = words_from(v{i}, v{}, (at >> 2u) & 3u);", i + 1);
        let of = (4 * i..words).zip(["x", "y", "z", "w"]);
        let stores = of.map(move |(word, part)| format!("words[{word}] = w{i}.{part};"));
        std::iter::once(from).chain(stores)
    };
    (statements((0..=vectors).map(load)), statements((0..vectors).flat_map(four)))
}

/// Scale and numbers of a unit's blocks, shifted: by a constant where the blocks start at a word.
fn unit_blocks(format: BlockFormat, count: u32) -> String {
    let (bytes, head, words) =
        (format.bytes() as u32, head_bits(format), unit_words(format, count));
    let block = |block: u32| {
        let first = block * bytes / 4;
        let shift = match count {
            1 => "shift".to_owned(),
            _ => format!("{}u", block * bytes % 4 * 8),
        };
        let mut lines = vec![
            format!("head = words[{first}] >> {shift};"),
            format!("raw.scale[{block}] = {};", scale_of_head(format)),
        ];
        lines.extend((0..words_of(format)).map(|i| {
            let (to, at) = (block * words_of(format) + i, first + i);
            // A word beyond the last is shifted out.
            let next = (at + 1).min(words - 1);
            format!(
                "raw.words[{to}] = ((words[{at}] >> {shift}) >> {head}u) | (words[{next}] << ({}u - {shift}));",
                32 - head
            )
        }));
        lines
    };
    statements((0..count).flat_map(block))
}

/// `NAME_raw(offset, unit)` and `NAME_vector(raw, v)` of `count` blocks at once.
fn unit(name: &str, format: BlockFormat, count: u32, wide: bool) -> String {
    let (vectors, words) = match wide {
        true => wide_words(name, format, count),
        false => (String::new(), words(name, format, count)),
    };
    let (index, shifted) = match format {
        BlockFormat::Q8_0 => ("v", "word"),
        BlockFormat::Q4_0 | BlockFormat::Mxfp4 => {
            ("v / 8u * 4u + v % 4u", "word >> (v / 4u % 2u * 4u)")
        }
    };
    template!(
        "kernel/block_unit.wgsl",
        "UNIT_BYTES" = format!("{}u", format.bytes() as u32 * count),
        "WORD_COUNT" = unit_words(format, count),
        "TAKE_VECTORS" = vectors,
        "TAKE_WORDS" = words,
        "TAKE_BLOCKS" = unit_blocks(format, count),
        "WORD_OF_VECTOR" = index,
        "NUMBERS" = stored(format, shifted),
        "NAME" = name,
    )
}
