//! The text that reads weights in blocks, however they lie.

use super::reads::Reads;
use crate::tensor::{BLOCK, BlockFormat, WeightFormat};

/// What `NAME_raw` gives, as little as registers can hold until the numbers are needed, and `w_scale(raw, block)`.
pub(crate) fn raw_type(format: WeightFormat, vectors: u32) -> String {
    let Some(blocks) = format.blocks() else {
        let raw = if vectors == 2 { "vec4<u32>" } else { "vec4<f32>" };
        return format!(
            "alias Raw = {raw};\nfn w_scale(raw: Raw, block: u32) -> f32 {{ return 1.0; }}\n"
        );
    };
    let count = vectors / BLOCK_VECTORS;
    format!(
        "struct Raw {{ scale: array<f32, {count}>, words: array<u32, {}> }}\n\
         fn w_scale(raw: Raw, block: u32) -> f32 {{\n    var scale = raw.scale;\n    return scale[block];\n}}\n",
        count * words_of(blocks)
    )
}

/// Vectors of a block.
pub(crate) const BLOCK_VECTORS: u32 = BLOCK as u32 / 4;

/// What is subtracted from a block's stored numbers before they are scaled.
pub(crate) fn offset(format: Option<BlockFormat>) -> f32 {
    if format == Some(BlockFormat::Q4_0) { 8.0 } else { 0.0 }
}

/// Words of a block's numbers.
const fn words_of(format: BlockFormat) -> u32 {
    match format {
        BlockFormat::Q8_0 => 8,
        BlockFormat::Q4_0 | BlockFormat::Mxfp4 => 4,
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

/// Bits of the scale in front of a block's numbers, and its value from the word `head`.
const fn head_of(format: BlockFormat) -> (u32, &'static str) {
    match format {
        BlockFormat::Q8_0 | BlockFormat::Q4_0 => (16, "unpack2x16float(head).x"),
        BlockFormat::Mxfp4 => (8, "e8m0(head & 0xffu)"),
    }
}

/// Blocks as they lie, at any byte that their header may start at: words are read whole and shifted.
pub(crate) fn block_reader(name: &str, format: BlockFormat) -> String {
    let bytes = format.bytes() as u32;
    let (head, scale) = head_of(format);
    let place = if format == BlockFormat::Q8_0 { "d % 32u" } else { "d % 16u" };
    let value = stored(format, "word >> (d / 16u % 2u * 4u)");
    let less = format!("vec4({:?})", offset(Some(format)));
    format!(
        "fn {name}_word(at: u32) -> u32 {{\n    let shift = 8u * (at & 3u);\n    let high = {name}[(at >> 2u) + min(shift, 1u)];\n    return ({name}[at >> 2u] >> shift) | ((high << 1u) << (31u - shift));\n}}\n\
         fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    let block = offset + min(d, params.inner - 4u) / 32u * {bytes}u;\n    let head = {name}[block >> 2u] >> (8u * (block & 3u));\n    let scale = {scale};\n    let word = {name}_word(block + {}u + {place});\n    return select(vec4(0.0), scale * ({value} - {less}), d < params.inner);\n}}\n",
        head / 8
    )
}

/// The words that a run of vectors lies in, as many as follow each other, each with a vector or, of halves of bytes,
/// two.
pub(crate) fn take_reader(name: &str, format: BlockFormat, vectors: u32) -> String {
    let bytes = format.bytes() as u32;
    let (head, _) = head_of(format);
    let place = if format == BlockFormat::Q8_0 { "d % 32u" } else { "d % 32u / 2u" };
    let words = words_of_run(format, vectors);
    let mut take = format!(
        "fn {name}_take(offset: u32, d: u32) -> Taken {{\n    let block = offset + d / 32u * {bytes}u;\n    let at = block + {}u + {place};\n    var taken: Taken;\n    taken.shift = 8u * (at & 3u);\n    taken.head = {name}[block >> 2u];\n",
        head / 8
    );
    for i in 0..=words {
        // A word beyond the last is shifted out.
        let next =
            if i < words { format!("{i}u") } else { format!("{}u + min(taken.shift, 1u)", i - 1) };
        take.push_str(&format!("    taken.words[{i}] = {name}[(at >> 2u) + {next}];\n"));
    }
    format!("{take}    return taken;\n}}\n")
}

/// The scale of the words taken.
fn taken_scale(format: BlockFormat) -> String {
    // The scale's shift is that of the words, less the scale itself.
    let (head, scale) = head_of(format);
    format!(
        "    let shift = taken.shift;\n    let head = taken.head >> ((shift - {head}u) & 31u);\n    let scale = {scale};\n"
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
    let mut text = String::new();
    for i in 0..words {
        text.push_str(&format!("    word = (taken.words[{i}] >> shift) | ((taken.words[{}] << 1u) << (31u - shift));\n", i + 1));
        for (at, shifted) in [(i, "word"), (i + words, "word >> 4u")] {
            if at < vectors {
                text.push_str(&format!("    {to}[{at}] = {};\n", value(shifted)));
            }
        }
    }
    text
}

/// The vectors that the words taken hold.
pub(crate) fn run_reader(name: &str, format: BlockFormat, vectors: u32) -> String {
    let value = |shifted: &str| scaled(format, &stored(format, shifted));
    format!(
        "fn {name}_run(taken: Taken) -> Run {{\n{}    var run: Run;\n    var word: u32;\n{}    return run;\n}}\n",
        taken_scale(format),
        each_vector(format, vectors, "run", value)
    )
}

/// The block that the words taken are, as signed bytes.
pub(crate) fn bytes_reader(name: &str, format: BlockFormat) -> String {
    let (value, unit): (fn(&str) -> String, _) = match format {
        BlockFormat::Q8_0 => (|_| "word".to_owned(), "scale"),
        BlockFormat::Q4_0 => (|shifted| format!("q4_bytes({shifted})"), "scale"),
        BlockFormat::Mxfp4 => {
            (|shifted| format!("e2m1_bytes(e2m1_numbers({shifted}))"), "0.5 * scale")
        }
    };
    format!(
        "fn {name}_block(taken: Taken) -> Bytes {{\n{}    var words: array<u32, 8>;\n    var word: u32;\n{}    return {};\n}}\n",
        taken_scale(format),
        each_vector(format, BLOCK_VECTORS, "words", value),
        bytes_of("words", unit)
    )
}

/// A block of bytes from eight words.
fn bytes_of(words: &str, scale: &str) -> String {
    let four = |first: u32| -> String {
        (first..first + 4).map(|i| format!("{words}[{i}]")).collect::<Vec<_>>().join(", ")
    };
    format!("Bytes(vec4({}), vec4({}), {scale})", four(0), four(4))
}

/// Words of a run, shifted into their places.
fn words_of_run(format: BlockFormat, vectors: u32) -> u32 {
    vectors * words_of(format) / BLOCK_VECTORS
}

/// What `NAME_take` gives, and what `NAME_run` or `NAME_block` makes of it.
pub(crate) fn taken_type(format: WeightFormat, reads: Reads) -> String {
    let (made, vectors) = match reads {
        Reads::Blocks => (String::new(), BLOCK_VECTORS),
        Reads::Runs { vectors } => (format!("alias Run = array<Staged, {vectors}>;\n"), vectors),
        _ => ("alias Run = array<Staged, 1>;\n".to_owned(), 1),
    };
    match format.blocks().filter(|_| vectors > 1) {
        Some(format) => {
            let words = words_of_run(format, vectors) + 1;
            format!("{made}struct Taken {{ shift: u32, head: u32, words: array<u32, {words}> }}\n")
        }
        None => format!("{made}alias Taken = Staged;\n"),
    }
}

/// A block's stored numbers, less their offset, times `scale`: exactly.
fn scaled(format: BlockFormat, value: &str) -> String {
    match offset(Some(format)) {
        0.0 => format!("scale * {value}"),
        offset => format!("fma({value}, vec4(scale), vec4(-{offset:?} * scale))"),
    }
}

/// `count` blocks at once, by vectors of four words where the binding has whole ones, and shifted: by a constant where
/// the blocks start at a word.
pub(crate) fn unit_reader(name: &str, format: BlockFormat, count: u32, wide: bool) -> String {
    let bytes = format.bytes() as u32;
    let (head, scale) = head_of(format);
    let words = (bytes * count).div_ceil(4);
    let mut text = format!(
        "fn {name}_raw(offset: u32, unit: u32) -> Raw {{\n    let at = offset + unit * {}u;\n    let shift = 8u * (at & 3u);\n    var words: array<u32, {words}>;\n    var raw: Raw;\n    var head: u32;\n",
        bytes * count
    );
    let vectors = words.div_ceil(4);
    for i in (0..=vectors).filter(|_| wide) {
        text.push_str(&format!("    let v{i} = {name}[(at >> 4u) + {}u];\n", i.min(vectors - 1)));
    }
    for word in 0..words {
        let (i, xyzw) = (word / 4, &"xyzw"[word as usize % 4..][..1]);
        if wide && word % 4 == 0 {
            text.push_str(&format!(
                "    let w{i} = words_from(v{i}, v{}, (at >> 2u) & 3u);\n",
                i + 1
            ));
        }
        let value =
            if wide { format!("w{i}.{xyzw}") } else { format!("{name}[(at >> 2u) + {word}u]") };
        text.push_str(&format!("    words[{word}] = {value};\n"));
    }
    for block in 0..count {
        let first = block * bytes / 4;
        let shift = match count {
            1 => "shift".to_owned(),
            _ => format!("{}u", block * bytes % 4 * 8),
        };
        text.push_str(&format!(
            "    head = words[{first}] >> {shift};\n    raw.scale[{block}] = {scale};\n"
        ));
        for i in 0..words_of(format) {
            let (to, at) = (block * words_of(format) + i, first + i);
            // A word beyond the last is shifted out.
            let next = (at + 1).min(words - 1);
            text.push_str(&format!("    raw.words[{to}] = ((words[{at}] >> {shift}) >> {head}u) | (words[{next}] << ({}u - {shift}));\n", 32 - head));
        }
    }
    let (index, shifted) = match format {
        BlockFormat::Q8_0 => ("v", "word"),
        _ => ("v / 8u * 4u + v % 4u", "word >> (v / 4u % 2u * 4u)"),
    };
    let value = stored(format, shifted);
    text.push_str(&format!("    return raw;\n}}\nfn {name}_vector(raw: Raw, v: u32) -> vec4<f32> {{\n    var words = raw.words;\n    let word = words[{index}];\n    return {value};\n}}\n"));
    text
}

/// The words of a run of such, and the word with its scale.
fn pair_taker(name: &str, vectors: u32) -> String {
    let take = |i: u32| format!("    taken.words[{i}] = {name}[at + {i}u];\n");
    let takes: String = (0..vectors / 2).map(take).collect();
    format!(
        "fn {name}_take(offset: u32, d: u32) -> Taken {{\n    let block = params.{name}_scales_first + (offset - params.{name}_first) / 16u + d / 32u;\n    let at = offset / 4u + d / 8u;\n    var taken: Taken;\n    taken.shift = 8u * (block & 3u);\n    taken.head = {name}_scales[block >> 2u];\n{takes}    return taken;\n}}\n"
    )
}

/// The scale of such words.
const TAKEN_E8M0: &str = "    let scale = e8m0((taken.head >> taken.shift) & 0xffu);\n";

/// Makes `to[i]` of the run's vectors, two of a word: `value` says what the low half of a word holds.
fn pair_vectors(vectors: u32, to: &str, value: impl Fn(&str) -> String) -> String {
    let of_word = |i: u32| {
        let [low, high] = [format!("taken.words[{i}]"), format!("taken.words[{i}] >> 16u")];
        format!(
            "    {to}[{}] = {};\n    {to}[{}] = {};\n",
            2 * i,
            value(&low),
            2 * i + 1,
            value(&high)
        )
    };
    (0..vectors / 2).map(of_word).collect()
}

/// mxfp4 as checkpoints hold it: neighbours share a byte, a block's scale is the byte of its own number.
pub(crate) fn pair_reader(name: &str, reads: Reads) -> String {
    let scale = format!(
        "fn {name}_scale(offset: u32, block: u32) -> f32 {{\n    let at = params.{name}_scales_first + (offset - params.{name}_first) / 16u + block;\n    return e8m0(({name}_scales[at >> 2u] >> (8u * (at & 3u))) & 0xffu);\n}}\n"
    );
    match reads {
        Reads::Runs { vectors } => {
            let run = pair_vectors(vectors, "run", |word| format!("scale * e2m1_pairs({word})"));
            format!(
                "{}fn {name}_run(taken: Taken) -> Run {{\n{TAKEN_E8M0}    var run: Run;\n{run}    return run;\n}}\n",
                pair_taker(name, vectors)
            )
        }
        Reads::Blocks => {
            let bytes = |word: &str| format!("e2m1_bytes(e2m1_pairs({word}))");
            let words = pair_vectors(BLOCK_VECTORS, "words", bytes);
            format!(
                "{}fn {name}_block(taken: Taken) -> Bytes {{\n{TAKEN_E8M0}    var words: array<u32, 8>;\n{words}    return {};\n}}\n",
                pair_taker(name, BLOCK_VECTORS),
                bytes_of("words", "0.5 * scale")
            )
        }
        Reads::Vectors | Reads::Halves => format!(
            "{scale}fn {name}_load4(offset: u32, d: u32) -> vec4<f32> {{\n    let place = min(d, params.inner - 4u);\n    let word = {name}[offset / 4u + place / 8u];\n    let value = {name}_scale(offset, place / 32u) * e2m1_pairs(word >> (place / 4u % 2u * 16u));\n    return select(vec4(0.0), value, d < params.inner);\n}}\n"
        ),
        Reads::Units { .. } => format!(
            "{scale}fn {name}_raw(offset: u32, unit: u32) -> Raw {{\n    let words = {name}[offset / 16u + unit];\n    return Raw(array<f32, 1>({name}_scale(offset, unit)), array<u32, 4>(words.x, words.y, words.z, words.w));\n}}\n\
             fn {name}_vector(raw: Raw, v: u32) -> vec4<f32> {{\n    var words = raw.words;\n    return e2m1_pairs(words[v / 2u] >> (v % 2u * 16u));\n}}\n"
        ),
    }
}
