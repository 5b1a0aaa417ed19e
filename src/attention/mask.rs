//! Which keys a query may see.
//!
//! Query `i` stands at position `i + q_offset`, key `j` at `j`. Drawn for 4 queries and 6 keys (`q_offset` 2):
//!
//! ```text
//! band {right: 0}   band {left: 1, right: 0}   or [prefix 2, band {left: 0, right: 0}]
//! x x x . . .       . x x . . .                x x x . . .
//! x x x x . .       . . x x . .                x x . x . .
//! x x x x x .       . . . x x .                x x . . x .
//! x x x x x x       . . . . x x                x x . . . x
//! ```

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::SpecError;
use crate::json::name_or_form;
use crate::snippet::Snippet;

/// Masks that a spec may hold, itself and those in others counted.
pub const MOST_MASKS: usize = 1024;

/// Masks that may stand within one another.
pub const MOST_NESTED: usize = 256;

/// A predicate over (batch, head, query, key): which scores count. In JSON as in the variants' docs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mask {
    /// Every key: `"full"`.
    #[default]
    Full,
    /// Keys within `left` before and `right` after the query's position: `{"band": {"left": 127, "right": 0}}`.
    Band {
        /// How far back it sees; `None` is unlimited.
        left: Option<HeadCount>,
        /// How far ahead it sees; `None` is unlimited, 0 is causal.
        right: Option<HeadCount>,
    },
    /// The first keys, as many as said for each batch: `{"prefix": 5}` or `{"prefix": "prefix_len"}`.
    Prefix(BatchCount),
    /// The first keys, as many as said for each head: `{"sink": 4}`.
    Sink(HeadCount),
    /// Keys whose document id equals the query's: `{"documents": {"q": "doc_q", "kv": "doc_kv"}}`, i32 tensors `[batch, seq_len_q]` and `[batch, seq_len_kv]`.
    Documents {
        /// Name of the ids of the queries.
        q: String,
        /// Name of the ids of the keys.
        kv: String,
    },
    /// A bool tensor `[batch|1, q_heads|1, seq_len_q|1, seq_len_kv|1]` that is true where the key is seen: `{"dense": "name"}`.
    Dense(String),
    /// A bool tensor `[batch|1, q_heads|1, ceil(seq_len_q / block[0]), ceil(seq_len_kv / block[1])]`: `{"block_sparse": {"block": [64, 64], "keep": "name"}}`.
    BlockSparse {
        /// Queries and keys a block.
        block: [u32; 2],
        /// Name of the bool tensor.
        keep: String,
    },
    /// The caller's `fn mask_mod(b: u32, h: u32, q: u32, kv: u32) -> bool`: `{"wgsl": "…", "aux": ["name"]}`.
    Wgsl(Snippet),
    /// One mask for each query head: `{"per_head": [mask, mask, …]}`.
    PerHead(Vec<Mask>),
    /// Keys that all of them keep: `{"and": [mask, …]}`; of none, every key.
    And(Vec<Mask>),
    /// Keys that any of them keeps: `{"or": [mask, …]}`; of none, no key.
    Or(Vec<Mask>),
    /// Keys that it does not keep: `{"not": mask}`.
    Not(Box<Mask>),
}

/// A count of keys: one for all heads or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number from 0, a list of them (one for each query head), or the name of an i32 tensor [q_heads]"
)]
#[non_exhaustive]
pub enum HeadCount {
    /// The same for all heads.
    All(u32),
    /// One for each query head.
    Each(Vec<u32>),
    /// The name of an i32 tensor `[q_heads]`.
    Tensor(String),
}

/// A count of keys: one for all batches or one for each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number from 0 or the name of an i32 tensor [batch]")]
#[non_exhaustive]
pub enum BatchCount {
    /// The same for all batches.
    All(u32),
    /// The name of an i32 tensor `[batch]`.
    Tensor(String),
}

impl Mask {
    /// A query sees the keys up to its own position.
    pub fn causal() -> Self {
        Self::band(None, Some(0))
    }

    /// Keys within `left` before and `right` after the query's position, the same for all heads.
    pub fn band(left: Option<u32>, right: Option<u32>) -> Self {
        Self::Band { left: left.map(HeadCount::All), right: right.map(HeadCount::All) }
    }

    /// Calls `visit` with this mask and every mask in it, each before those in it.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Mask)) {
        let mut left = vec![self];
        while let Some(mask) = left.pop() {
            visit(mask);
            left.extend(mask.parts().iter().rev());
        }
    }

    /// Refuses what no kernel's text should hold.
    pub(super) fn check_size(&self) -> Result<(), SpecError> {
        let (mut masks, mut deepest) = (0, 0);
        let mut left = vec![(self, 1)];
        while let Some((mask, depth)) = left.pop() {
            (masks, deepest) = (masks + 1, deepest.max(depth));
            left.extend(mask.parts().iter().map(|part| (part, depth + 1)));
        }
        if masks > MOST_MASKS {
            let expected = format!("at most {MOST_MASKS} masks, those in others counted");
            return Err(SpecError::value("mask", expected, masks));
        }
        if deepest > MOST_NESTED {
            let expected = format!("at most {MOST_NESTED} masks within one another");
            return Err(SpecError::value("mask", expected, deepest));
        }
        Ok(())
    }

    /// The masks that it is made of.
    fn parts(&self) -> &[Mask] {
        match self {
            Self::PerHead(masks) | Self::And(masks) | Self::Or(masks) => masks,
            Self::Not(mask) => std::slice::from_ref(mask),
            Self::Full
            | Self::Band { .. }
            | Self::Prefix(_)
            | Self::Sink(_)
            | Self::Documents { .. }
            | Self::Dense(_)
            | Self::BlockSparse { .. }
            | Self::Wgsl(_) => &[],
        }
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BandForm {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<HeadCount>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    right: Option<HeadCount>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentsForm {
    q: String,
    kv: String,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockSparseForm {
    block: [u32; 2],
    keep: String,
}

/// A mask as JSON has it: exactly one of the fields (`aux` goes with `wgsl`).
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MaskForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    band: Option<BandForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<BatchCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sink: Option<HeadCount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    documents: Option<DocumentsForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dense: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_sparse: Option<BlockSparseForm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wgsl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aux: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    per_head: Option<Vec<Mask>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    and: Option<Vec<Mask>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    or: Option<Vec<Mask>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not: Option<Box<Mask>>,
}

impl From<Mask> for MaskForm {
    fn from(mask: Mask) -> Self {
        let mut form = Self::default();
        match mask {
            Mask::Full => form.full = Some(()),
            Mask::Band { left, right } => form.band = Some(BandForm { left, right }),
            Mask::Prefix(count) => form.prefix = Some(count),
            Mask::Sink(count) => form.sink = Some(count),
            Mask::Documents { q, kv } => form.documents = Some(DocumentsForm { q, kv }),
            Mask::Dense(name) => form.dense = Some(name),
            Mask::BlockSparse { block, keep } => {
                form.block_sparse = Some(BlockSparseForm { block, keep });
            }
            Mask::Wgsl(Snippet { wgsl, aux }) => {
                form.wgsl = Some(wgsl);
                form.aux = (!aux.is_empty()).then_some(aux);
            }
            Mask::PerHead(masks) => form.per_head = Some(masks),
            Mask::And(masks) => form.and = Some(masks),
            Mask::Or(masks) => form.or = Some(masks),
            Mask::Not(mask) => form.not = Some(mask),
        }
        form
    }
}

impl MaskForm {
    fn into_mask(self) -> Result<Mask, &'static str> {
        let Self {
            full,
            band,
            prefix,
            sink,
            documents,
            dense,
            block_sparse,
            wgsl,
            aux,
            per_head,
            and,
            or,
            not,
        } = self;
        if aux.is_some() && wgsl.is_none() {
            return Err("aux goes with wgsl");
        }
        let aux = aux.unwrap_or_default();
        let forms = [
            full.map(|()| Mask::Full),
            band.map(|BandForm { left, right }| Mask::Band { left, right }),
            prefix.map(Mask::Prefix),
            sink.map(Mask::Sink),
            documents.map(|DocumentsForm { q, kv }| Mask::Documents { q, kv }),
            dense.map(Mask::Dense),
            block_sparse.map(|BlockSparseForm { block, keep }| Mask::BlockSparse { block, keep }),
            wgsl.map(|wgsl| Mask::Wgsl(Snippet { wgsl, aux })),
            per_head.map(Mask::PerHead),
            and.map(Mask::And),
            or.map(Mask::Or),
            not.map(Mask::Not),
        ];
        let mut given = forms.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(mask), None) => Ok(mask),
            (None, _) => Err("a mask needs one of its forms"),
            (Some(_), Some(_)) => Err("a mask has one form; combine masks with and, or, not"),
        }
    }
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Full => serializer.serialize_str("full"),
            form => MaskForm::from(form.clone()).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name_or_form(
            deserializer,
            "\"full\" or a mask such as {\"band\": {\"right\": 0}}",
            |name| (name == "full").then_some(Self::Full),
            |form: MaskForm| form.into_mask().map_err(serde_json::Error::custom),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Mask, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_survives_json() {
        let forms = [
            r#""full""#,
            r#"{"band":{"left":127,"right":0}}"#,
            r#"{"band":{"left":[1,2],"right":"right"}}"#,
            r#"{"prefix":"prefix_len"}"#,
            r#"{"sink":4}"#,
            r#"{"documents":{"q":"a","kv":"b"}}"#,
            r#"{"dense":"m"}"#,
            r#"{"block_sparse":{"block":[64,32],"keep":"m"}}"#,
            r#"{"wgsl":"fn","aux":["t"]}"#,
            r#"{"per_head":[{"sink":1},"full"]}"#,
            r#"{"and":[{"not":{"prefix":3}},{"or":[]}]}"#,
        ];
        for form in forms {
            let mask = parse(form).unwrap();
            let again = parse(&serde_json::to_string(&mask).unwrap()).unwrap();
            assert_eq!(again, mask, "{form}");
        }
    }

    #[test]
    fn a_wrong_form_is_named() {
        let cases = [
            (r#"{"bnad":{}}"#, "unknown field `bnad`"),
            (r#"{"band":{"up":1}}"#, "unknown field `up`"),
            (r#"{"band":{"left":-1}}"#, "expected a number from 0"),
            (r#"{"sink":1,"prefix":2}"#, "a mask has one form"),
            (r#"{}"#, "needs one of its forms"),
            (r#"{"aux":["t"],"sink":1}"#, "aux goes with wgsl"),
            (r#""causal""#, "full"),
        ];
        for (json, message) in cases {
            let error = parse(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
