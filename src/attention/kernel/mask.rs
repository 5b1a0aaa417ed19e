//! A mask as WGSL: `mask_keeps` for an element, `mask_tile` for a tile, `mask_range` for the keys worth visiting.

use super::Sequences;
use crate::attention::mask::{BatchCount, HeadCount, Mask};
use crate::attention::problem::AttentionProblem;
use crate::attention::snippets::{MASK_FIELD, MASK_MOD};
use crate::kernel::source::{KernelSource, add_fragment};
use crate::kernel::template::template;
use crate::snippet::mask_reads;

/// Unlimited, and the most a count may be: sums with positions stay within i32.
const UNLIMITED: i32 = 0x3fff_ffff;

/// A mask's three functions, as expressions over `b, h, q, kv`, or `b, h, first, last, key, key_last`.
struct Forms {
    keeps: String,
    tile: String,
    range: String,
}

/// What the kernels must know of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::attention) struct MaskTraits {
    /// Some leaf is decided by data or by the caller's code: tiles are classified on the device.
    pub by_map: bool,
    /// It differs between heads.
    pub by_head: bool,
}

pub(in crate::attention) fn traits(mask: &Mask) -> MaskTraits {
    let mut traits = MaskTraits { by_map: false, by_head: false };
    mask.walk(&mut |mask| match mask {
        Mask::Documents { .. } | Mask::Dense(_) | Mask::BlockSparse { .. } | Mask::Wgsl(_) => {
            traits.by_map = true;
        }
        Mask::PerHead(_) => traits.by_head = true,
        Mask::Band { left, right } => {
            let each = |count: &Option<HeadCount>| !matches!(count, None | Some(HeadCount::All(_)));
            traits.by_head |= each(left) || each(right);
        }
        Mask::Sink(count) => traits.by_head |= !matches!(count, HeadCount::All(_)),
        Mask::Full | Mask::Prefix(_) | Mask::And(_) | Mask::Or(_) | Mask::Not(_) => {}
    });
    traits
}

/// Whether maps of tiles differ between batches, and between heads: where not, one serves all.
pub(in crate::attention) fn map_differs(problem: &AttentionProblem) -> [bool; 2] {
    let MaskTraits { by_map, mut by_head } = traits(&problem.spec.mask);
    if !by_map {
        return [false; 2];
    }
    let mut by_batch = problem.has_own_lens();
    problem.spec.mask.walk(&mut |mask| match mask {
        Mask::Documents { .. } | Mask::Prefix(BatchCount::Tensor(_)) => by_batch = true,
        Mask::Dense(name) | Mask::BlockSparse { keep: name, .. } => {
            let shape = problem.tensors[name].shape();
            by_batch |= shape[0] > 1;
            by_head |= shape[1] > 1;
        }
        Mask::Wgsl(snippet) => {
            let [batch, head] = mask_reads(&problem.tensors, (&MASK_MOD, snippet, MASK_FIELD));
            by_batch |= batch;
            by_head |= head;
        }
        _ => {}
    });
    [by_batch, by_head]
}

/// Writes the three functions; extra inputs that the mask names have their `NAME_get` already, snippets their functions. Where
/// keys may lie outside what is bound, those are dropped too.
pub(super) fn write(source: &mut KernelSource, domain: &Sequences<'_>, mask: &Mask, outside: bool) {
    let mut writer = Writer { source, domain, counts: 0, snippets: 0 };
    let Forms { mut keeps, mut tile, range } = writer.forms(mask);
    if outside {
        keeps = format!("key_is_bound(b, kv) && ({keeps})");
        tile = format!("min(bound_tile(b, key, key_last), {tile})");
    }
    let text = template!(
        "fused/mask_of_spec.wgsl",
        "MASK_KEEPS" = keeps,
        "MASK_STATE" = tile,
        "MASK_KEYS" = range
    );
    add_fragment!(source, "fused/mask.wgsl");
    source.fragment("mask of the spec", text);
}

struct Writer<'a> {
    source: &'a mut KernelSource,
    domain: &'a Sequences<'a>,
    counts: u32,
    snippets: u32,
}

impl Writer<'_> {
    fn forms(&mut self, mask: &Mask) -> Forms {
        match mask {
            Mask::Full => Forms {
                keeps: "true".to_owned(),
                tile: "FULL_TILE".to_owned(),
                range: "EVERY_KEY".to_owned(),
            },
            Mask::Band { left, right } => {
                let left = self.head_count(left.as_ref());
                let right = self.head_count(right.as_ref());
                Forms {
                    keeps: format!("band_keeps(pos_q(b, q), kv, {left}, {right})"),
                    tile: format!("band_tile(first, last, key, key_last, {left}, {right})"),
                    range: format!("band_range(first, last, {left}, {right})"),
                }
            }
            Mask::Prefix(count) => {
                let count = match count {
                    BatchCount::All(count) => self.number(*count),
                    BatchCount::Tensor(name) => format!("mask_count({}(b))", self.getter(name)),
                };
                first_keys(&count)
            }
            Mask::Sink(count) => first_keys(&self.head_count(Some(count))),
            Mask::Documents { q, kv } => by_element(format!(
                "{}(b * params.seq_len_q + q) == {}(b * params.seq_len_kv + kv)",
                self.getter(q),
                self.getter(kv)
            )),
            Mask::Dense(name) => by_element(self.indexed(name, "q", "kv")),
            Mask::BlockSparse { block: [bq, bk], keep } => {
                by_element(self.indexed(keep, &format!("q / {bq}u"), &format!("kv / {bk}u")))
            }
            Mask::Wgsl(_) => {
                let index = self.snippets;
                self.snippets += 1;
                by_element(format!("mask{index}_mask_mod(b, h, q, kv)"))
            }
            Mask::PerHead(masks) => self.per_head(masks),
            Mask::And(masks) => {
                self.fold(masks, "true", "&&", "FULL_TILE", "min", "EVERY_KEY", "mask_meet")
            }
            Mask::Or(masks) => {
                self.fold(masks, "false", "||", "EMPTY_TILE", "max", "vec2<i32>(0, 0)", "mask_hull")
            }
            Mask::Not(mask) => {
                let Forms { keeps, tile, .. } = self.forms(mask);
                Forms {
                    keeps: format!("!({keeps})"),
                    tile: format!("(2u - {tile})"),
                    range: "EVERY_KEY".to_owned(),
                }
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

    fn per_head(&mut self, masks: &[Mask]) -> Forms {
        let mut distinct: Vec<(&Mask, Vec<usize>)> = Vec::new();
        for (head, mask) in masks.iter().enumerate() {
            match distinct.iter_mut().find(|(known, _)| *known == mask) {
                Some((_, heads)) => heads.push(head),
                None => distinct.push((mask, vec![head])),
            }
        }
        // Snippets are numbered in the order of the tree, repeats included.
        let start = self.snippets;
        let mut cases: Vec<(String, Forms)> = Vec::new();
        for (mask, heads) in distinct {
            self.snippets = start + snippets_before(masks, heads[0]);
            let forms = self.forms(mask);
            let tests: Vec<String> = heads.iter().map(|head| format!("h == {head}u")).collect();
            cases.push((tests.join(" || "), forms));
        }
        self.snippets = start + snippets_before(masks, masks.len());
        let Some((_, last)) = cases.pop() else { return self.forms(&Mask::Full) };
        cases.into_iter().rev().fold(last, |other, (test, forms)| Forms {
            keeps: format!("select({}, {}, {test})", other.keeps, forms.keeps),
            tile: format!("select({}, {}, {test})", other.tile, forms.tile),
            range: format!("select({}, {}, {test})", other.range, forms.range),
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the three neutral elements and the three operations"
    )]
    fn fold(
        &mut self,
        masks: &[Mask],
        keeps: &str,
        join: &str,
        tile: &str,
        tile_join: &str,
        range: &str,
        range_join: &str,
    ) -> Forms {
        let mut forms = masks.iter().map(|mask| self.forms(mask)).collect::<Vec<_>>().into_iter();
        let Some(first) = forms.next() else {
            return Forms {
                keeps: keeps.to_owned(),
                tile: tile.to_owned(),
                range: range.to_owned(),
            };
        };
        forms.fold(first, |all, next| Forms {
            keeps: format!("({} {join} {})", all.keeps, next.keeps),
            tile: format!("{tile_join}({}, {})", all.tile, next.tile),
            range: format!("{range_join}({}, {})", all.range, next.range),
        })
    }
}

fn snippets_before(masks: &[Mask], end: usize) -> u32 {
    let mut count = 0;
    for mask in &masks[..end] {
        mask.walk(&mut |mask| count += u32::from(matches!(mask, Mask::Wgsl(_))));
    }
    count
}

fn first_keys(count: &str) -> Forms {
    Forms {
        keeps: format!("i32(kv) < {count}"),
        tile: format!("first_tile(key, key_last, {count})"),
        range: format!("vec2(0, {count})"),
    }
}

fn by_element(keeps: String) -> Forms {
    Forms { keeps, tile: "PARTIAL_TILE".to_owned(), range: "EVERY_KEY".to_owned() }
}
