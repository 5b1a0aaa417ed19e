//! The pairs of query and key that an attention's mask keeps.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::attention::{AttentionProblem, BatchCount, HeadCount, Mask};
use crate::tensor::HostTensor;

/// Keys that a query sees, as ranges that rise and don't touch.
type Keys = Vec<Range<i64>>;

/// Counts the pairs that the mask keeps, if it is made of ranges of keys.
pub(super) fn kept_pairs(
    problem: &AttentionProblem,
    inputs: &BTreeMap<String, HostTensor>,
) -> Option<u64> {
    let e = &problem.extents;
    let numbers = |host: &HostTensor| host.to_f64().iter().map(|&x| x as i64).collect();
    let tables: BTreeMap<&str, Vec<i64>> = inputs
        .iter()
        .filter(|(_, host)| host.dtype == crate::tensor::Dtype::I32)
        .map(|(name, host)| (name.as_str(), numbers(host)))
        .collect();
    // Heads that the mask treats alike are counted once.
    let per_head = depends_on_head(&problem.spec.mask);
    let (heads, times) = if per_head { (e.q_heads, 1) } else { (1, u64::from(e.q_heads)) };
    let mut pairs = 0;
    for batch in 0..e.batch as usize {
        let len = match tables.get("kv_lens") {
            Some(lens) => *lens.get(batch)?,
            None => i64::from(e.seq_len_kv),
        };
        let offset = problem.spec.q_offset.map_or(len - i64::from(e.seq_len_q), i64::from);
        for head in 0..heads as usize {
            for query in 0..e.seq_len_q as usize {
                let position = query as i64 + offset;
                let at = Row { problem, tables: &tables, batch, head, query, position, len };
                pairs += at.keys(&problem.spec.mask)?.iter().map(length).sum::<u64>();
            }
        }
    }
    let rows = u64::from(e.batch) * u64::from(e.q_heads) * u64::from(e.seq_len_q);
    Some(pairs * times + rows * u64::from(e.prefix_len))
}

fn length(keys: &Range<i64>) -> u64 {
    (keys.end - keys.start) as u64
}

fn depends_on_head(mask: &Mask) -> bool {
    let mut depends = false;
    let of = |count: &HeadCount| !matches!(count, HeadCount::All(_));
    mask.walk(&mut |mask| {
        depends |= match mask {
            Mask::PerHead(_) => true,
            Mask::Band { left, right } => [left, right].into_iter().flatten().any(of),
            Mask::Sink(count) => of(count),
            _ => false,
        }
    });
    depends
}

/// A query.
struct Row<'a> {
    problem: &'a AttentionProblem,
    tables: &'a BTreeMap<&'a str, Vec<i64>>,
    batch: usize,
    head: usize,
    query: usize,
    position: i64,
    /// Keys there are.
    len: i64,
}

impl Row<'_> {
    /// `None` for a mask that is not made of ranges.
    fn keys(&self, mask: &Mask) -> Option<Keys> {
        Some(match mask {
            Mask::Full => self.range(0, self.len),
            Mask::Band { left, right } => {
                let reach = |count: &Option<HeadCount>| match count {
                    Some(count) => self.head_count(count),
                    None => Some(i64::from(u32::MAX)),
                };
                self.range(self.position - reach(left)?, self.position + reach(right)? + 1)
            }
            Mask::Prefix(BatchCount::All(count)) => self.range(0, i64::from(*count)),
            Mask::Prefix(BatchCount::Tensor(name)) => {
                self.range(0, *self.tables.get(name.as_str())?.get(self.batch)?)
            }
            Mask::Sink(count) => self.range(0, self.head_count(count)?),
            Mask::Documents { q, kv } => self.document(q, kv)?,
            Mask::Dense(_) | Mask::BlockSparse { .. } | Mask::Wgsl(_) => return None,
            Mask::PerHead(masks) => self.keys(masks.get(self.head)?)?,
            Mask::And(masks) => {
                // What all keep is what none drops.
                let dropped = masks.iter().map(|mask| Some(self.complement(&self.keys(mask)?)));
                self.complement(&union(dropped.collect::<Option<Vec<_>>>()?))
            }
            Mask::Or(masks) => {
                let kept = masks.iter().map(|mask| self.keys(mask));
                union(kept.collect::<Option<Vec<_>>>()?)
            }
            Mask::Not(mask) => self.complement(&self.keys(mask)?),
        })
    }

    fn range(&self, start: i64, end: i64) -> Keys {
        let (start, end) = (start.max(0), end.min(self.len));
        (start < end).then_some(start..end).into_iter().collect()
    }

    fn complement(&self, keys: &Keys) -> Keys {
        let starts = std::iter::once(0).chain(keys.iter().map(|range| range.end));
        let ends = keys.iter().map(|range| range.start).chain([self.len]);
        starts.zip(ends).flat_map(|(start, end)| self.range(start, end)).collect()
    }

    fn head_count(&self, count: &HeadCount) -> Option<i64> {
        match count {
            HeadCount::All(count) => Some(i64::from(*count)),
            HeadCount::Each(counts) => counts.get(self.head).map(|&count| i64::from(count)),
            HeadCount::Tensor(name) => self.tables.get(name.as_str())?.get(self.head).copied(),
        }
    }

    fn document(&self, q: &str, kv: &str) -> Option<Keys> {
        let e = &self.problem.extents;
        let id = self.tables.get(q)?.get(self.batch * e.seq_len_q as usize + self.query)?;
        let first = self.batch * e.seq_len_kv as usize;
        let ids = self.tables.get(kv)?.get(first..first + self.len.max(0) as usize)?;
        let mut start = 0;
        let mut keys = Vec::new();
        for run in ids.chunk_by(|a, b| a == b) {
            let end = start + run.len() as i64;
            if run[0] == *id {
                keys.push(start..end);
            }
            start = end;
        }
        Some(keys)
    }
}

fn union(sets: Vec<Keys>) -> Keys {
    let mut ranges: Keys = sets.into_iter().flatten().collect();
    ranges.sort_by_key(|range| range.start);
    let mut merged: Keys = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::AttentionSpec;
    use crate::operator::Operator;

    fn pairs(mask: Mask) -> Option<u64> {
        let spec = AttentionSpec {
            mask,
            batch: Some(1),
            q_heads: Some(2),
            seq_len_q: Some(4),
            seq_len_kv: Some(6),
            head_dim: Some(4),
            ..AttentionSpec::default()
        };
        let problem = AttentionProblem::new(&spec, &spec.assumed_tensors().unwrap()).unwrap();
        kept_pairs(&problem, &problem.sample(1)).map(|pairs| pairs / 2)
    }

    #[test]
    fn the_drawn_masks_have_the_pairs_that_are_drawn() {
        // The drawings of `Mask`.
        assert_eq!(pairs(Mask::Full), Some(24));
        assert_eq!(pairs(Mask::causal()), Some(3 + 4 + 5 + 6));
        assert_eq!(pairs(Mask::band(Some(1), Some(0))), Some(8));
        let prefix = || Mask::Prefix(BatchCount::All(2));
        let or = Mask::Or(vec![prefix(), Mask::band(Some(0), Some(0))]);
        assert_eq!(pairs(or), Some(12));
        assert_eq!(pairs(Mask::And(vec![prefix(), Mask::causal()])), Some(8));
        assert_eq!(pairs(Mask::Not(Box::new(Mask::causal()))), Some(6));
        assert_eq!(pairs(Mask::And(vec![])), Some(24));
        assert_eq!(pairs(Mask::Or(vec![])), Some(0));
        assert_eq!(pairs(Mask::Dense("keep".to_owned())), None);
    }

    #[test]
    fn heads_count_for_themselves() {
        let each = Mask::Sink(HeadCount::Each(vec![1, 3]));
        assert_eq!(pairs(each), Some((4 + 12) / 2));
    }
}
