//! A mask as WGSL: `mask_keeps` for an element, `mask_tile` for a tile, `mask_range` for the keys worth visiting.
//!
//! Each mask of the tree is a term with three functions of its own, equal ones once, and a list has a statement for each of
//! its terms: text grows with the number of masks, but nothing in it nests.

use super::Sequences;
use super::mask_lists::{ALL, ANY};
use crate::attention::mask::{BatchCount, HeadCount, Mask};
use crate::attention::snippets;
use crate::kernel::source::{KernelSource, add_fragment};
use crate::kernel::template::template;

/// Unlimited, and the most a count may be: sums with positions stay within i32.
const UNLIMITED: i32 = 0x3fff_ffff;

/// What a term's functions call those of another with.
pub(super) const KEEPS: [&str; 2] = ["keeps", "b, h, q, kv"];
pub(super) const TILE: [&str; 2] = ["tile", "b, h, q, q_last, first, last, key, key_last"];
pub(super) const RANGE: [&str; 2] = ["range", "b, h, first, last"];

/// Writes the three functions; extra inputs that the mask names have their `NAME_get` already, snippets their functions. Where
/// keys may lie outside what is bound, those are dropped too.
pub(super) fn write(source: &mut KernelSource, domain: &Sequences<'_>, mask: &Mask, outside: bool) {
    let mut writer = Writer { source, domain, terms: Vec::new(), text: String::new(), counts: 0 };
    let root = writer.term(mask);
    let terms = writer.text;
    let (mut keeps, mut tile) = (call(root, KEEPS), call(root, TILE));
    if outside {
        keeps = format!("key_is_bound(b, kv) && {keeps}");
        tile = format!("min(bound_tile(b, key, key_last), {tile})");
    }
    let text = template!(
        "fused/mask_of_spec.wgsl",
        "TERMS" = terms,
        "MASK_KEEPS" = keeps,
        "MASK_STATE" = tile,
        "MASK_KEYS" = call(root, RANGE)
    );
    add_fragment!(source, "fused/mask.wgsl");
    source.fragment("mask of the spec", text);
}

pub(super) struct Writer<'a> {
    source: &'a mut KernelSource,
    domain: &'a Sequences<'a>,
    /// The masks that have their functions already, by their numbers.
    pub(super) terms: Vec<&'a Mask>,
    text: String,
    /// Counts of the caller's so far.
    counts: u32,
}

/// The bodies of a term's functions.
pub(super) struct Forms {
    pub(super) keeps: String,
    pub(super) tile: String,
    pub(super) range: String,
}

impl<'a> Writer<'a> {
    /// The number of a mask's term, which is written after those that it calls.
    pub(super) fn term(&mut self, mask: &'a Mask) -> usize {
        if let Some(known) = self.terms.iter().position(|known| *known == mask) {
            return known;
        }
        let Forms { keeps, tile, range } = self.forms(mask);
        let number = self.terms.len();
        self.terms.push(mask);
        self.text += &template!(
            "fused/mask_term.wgsl",
            "NUMBER" = number,
            "KEEPS" = keeps,
            "STATE" = tile,
            "KEYS" = range
        );
        number
    }

    fn forms(&mut self, mask: &'a Mask) -> Forms {
        match mask {
            Mask::Full => leaf("true", "FULL_TILE", "EVERY_KEY"),
            Mask::Band { left, right } => {
                let left = self.head_count(left.as_ref());
                let right = self.head_count(right.as_ref());
                leaf(
                    &format!("band_keeps(pos_q(b, q), kv, {left}, {right})"),
                    &format!("band_tile(first, last, key, key_last, {left}, {right})"),
                    &format!("band_range(first, last, {left}, {right})"),
                )
            }
            Mask::Prefix(count) => {
                let count = match count {
                    BatchCount::All(count) => self.number(*count),
                    BatchCount::Tensor(name) => format!("mask_count({}(b))", self.getter(name)),
                };
                first_keys(&count)
            }
            Mask::Sink(count) => {
                let count = self.head_count(Some(count));
                first_keys(&count)
            }
            Mask::Documents { q, kv } => self.documents(q, kv),
            Mask::Dense(name) => leaf(&self.indexed(name, "q", "kv"), "PARTIAL_TILE", "EVERY_KEY"),
            Mask::BlockSparse { block, keep } => self.blocks(*block, keep),
            Mask::Wgsl(snippet) => {
                let known = snippets::of_mask(&self.domain.problem.spec.mask);
                let index = known.iter().position(|(_, known, _)| *known == snippet);
                let prefix = snippet_prefix(index.unwrap_or_default());
                leaf(&format!("{prefix}mask_mod(b, h, q, kv)"), "PARTIAL_TILE", "EVERY_KEY")
            }
            Mask::PerHead(masks) => self.per_head(masks),
            Mask::And(masks) => self.list(masks, &ALL),
            Mask::Or(masks) => self.list(masks, &ANY),
            Mask::Not(mask) => {
                let term = self.term(mask);
                let (keeps, tile) = (call(term, KEEPS), call(term, TILE));
                leaf(&format!("!{keeps}"), &format!("FULL_TILE - {tile}"), "EVERY_KEY")
            }
        }
    }

    /// A count of the caller's as a param, so that another count is the same kernel.
    fn number(&mut self, count: u32) -> String {
        let name = format!("mask_count_{}", self.counts);
        self.counts += 1;
        self.source.params.i32(&name, count.min(UNLIMITED as u32) as i32);
        format!("params.{name}")
    }

    fn head_count(&mut self, count: Option<&HeadCount>) -> String {
        match count {
            None => format!("{UNLIMITED}"),
            Some(HeadCount::All(count)) => self.number(*count),
            Some(HeadCount::Each(counts)) => {
                let name = format!("mask_counts_{}", self.counts);
                self.counts += 1;
                let clamped: Vec<i32> =
                    counts.iter().map(|&count| count.min(UNLIMITED as u32) as i32).collect();
                self.source.params.i32_list(&name, &clamped);
                format!("params.{name}[h / 4u][h % 4u]")
            }
            Some(HeadCount::Tensor(name)) => format!("mask_count({}(h))", self.getter(name)),
        }
    }

    fn getter(&self, name: &str) -> String {
        format!("{}_get", self.domain.id(name))
    }

    fn indexed(&self, name: &str, row: &str, column: &str) -> String {
        format!("{}({})", self.getter(name), self.domain.index(name, row, column))
    }

    /// Ids are compared by their least and their greatest: a tile whose ids lie apart holds no key.
    fn documents(&self, q: &str, kv: &str) -> Forms {
        let (q, kv) = (self.getter(q), self.getter(kv));
        Forms {
            keeps: format!(
                "return {q}(b * params.seq_len_q + q) == {kv}(b * params.seq_len_kv + kv);"
            ),
            tile: template!("fused/mask_documents.wgsl", "Q_ID" = q, "KV_ID" = kv),
            range: "return EVERY_KEY;".to_owned(),
        }
    }

    /// A tile is what the blocks are that it overlaps.
    fn blocks(&self, [queries, keys]: [u32; 2], keep: &str) -> Forms {
        Forms {
            keeps: format!(
                "return {};",
                self.indexed(keep, &format!("q / {queries}u"), &format!("kv / {keys}u"))
            ),
            tile: template!(
                "fused/mask_blocks.wgsl",
                "BLOCK_KEEPS" = self.indexed(keep, "row", "column"),
                "BLOCK_Q" = format!("{queries}u"),
                "BLOCK_KV" = format!("{keys}u")
            ),
            range: "return EVERY_KEY;".to_owned(),
        }
    }
}

/// The prefix of the functions of a mask's snippet, by its place among those of the mask.
pub(super) fn snippet_prefix(index: usize) -> String {
    format!("mask{index}_")
}

pub(super) fn call(term: usize, [function, arguments]: [&str; 2]) -> String {
    format!("term{term}_{function}({arguments})")
}

pub(super) fn leaf(keeps: &str, tile: &str, range: &str) -> Forms {
    let [keeps, tile, range] = [keeps, tile, range].map(|value| format!("return {value};"));
    Forms { keeps, tile, range }
}

fn first_keys(count: &str) -> Forms {
    leaf(
        &format!("i32(kv) < {count}"),
        &format!("first_tile(key, key_last, {count})"),
        &format!("vec2(0, {count})"),
    )
}
