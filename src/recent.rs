//! Things that are kept as long as they are among the last that were used.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, of which those leave first that were used least recently.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    /// How many are kept.
    most: usize,
    /// Rises with each use.
    clock: u64,
    /// Values, and when each was used last.
    entries: HashMap<K, (u64, V)>,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    /// Keeps so many.
    pub fn new(most: usize) -> Self {
        Self { most, clock: 0, entries: HashMap::new() }
    }

    /// The value of a key, which is now used.
    pub fn get(&mut self, key: &K) -> Option<&mut V> {
        self.clock += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.clock;
        Some(value)
    }

    /// Whether there is a value; it is not used by that.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps a value; others leave where they are too many.
    pub fn insert(&mut self, key: K, value: V) {
        self.clock += 1;
        self.entries.insert(key, (self.clock, value));
        while self.entries.len() > self.most && self.drop_oldest(|_| true) {}
    }

    /// Lets the one go that was used least recently, of those that may leave; whether there was one.
    pub fn drop_oldest(&mut self, may_leave: impl Fn(&V) -> bool) -> bool {
        let leaving = self.entries.iter().filter(|(_, (_, value))| may_leave(value));
        let oldest = leaving.min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.entries.remove(&key).is_some())
    }

    /// Lets one go.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    /// Lets those go that were not among the last so many uses.
    pub fn drop_unused_for(&mut self, uses: u64) {
        let clock = self.clock;
        self.entries.retain(|_, (used, _)| clock - *used <= uses);
    }

    /// Keeps only what `keeps` says.
    pub fn retain(&mut self, keeps: impl Fn(&V) -> bool) {
        self.entries.retain(|_, (_, value)| keeps(value));
    }

    /// Lets all go.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_leaves_first_and_alone() {
        let mut recent = Recent::new(3);
        (0..3).for_each(|key| recent.insert(key, key * 10));
        assert_eq!(recent.get(&0), Some(&mut 0));
        recent.insert(3, 30);
        let left: Vec<bool> = (0..4).map(|key| recent.contains(&key)).collect();
        assert_eq!(left, [true, false, true, true]);
        assert!(recent.drop_oldest(|value| *value != 20), "another than the oldest may leave");
        assert!(recent.contains(&2) && !recent.contains(&0));
        assert!(!recent.drop_oldest(|value| *value > 100));
    }

    #[test]
    fn what_is_not_used_for_long_leaves() {
        let mut recent = Recent::new(8);
        recent.insert("once", ());
        recent.insert("often", ());
        (0..5).for_each(|_| assert!(recent.get(&"often").is_some()));
        recent.drop_unused_for(4);
        assert!(recent.contains(&"often") && !recent.contains(&"once"));
    }
}
