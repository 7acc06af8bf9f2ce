//! A sorted map that knows the hash of its content at any time.
//!
//! The hash is a wrapping sum of one hash per entry, so changing an entry costs that entry and not
//! the map, and the order in which entries came does not matter. An entry that has changed is only
//! hashed again when the sum is settled: a replay, which nobody asks for a hash on its way, hashes
//! what is there at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip128::{Hasher128, SipHasher13};

/// How many changes are noted before they are settled, asked or not.
const UNSETTLED_MAX: usize = 65_536;

/// Entities of one kind by their key.
#[derive(Clone, Debug)]
pub struct Section<K, V> {
    entries: BTreeMap<K, Entry<V>>,
    /// Of the entries that are counted.
    sum: u128,
    /// The keys of those that are not, among others.
    unsettled: Vec<K>,
}

#[derive(Clone, Debug)]
struct Entry<V> {
    value: V,
    /// Its part of the sum; 0 while it is not counted.
    counted: u128,
}

impl<K, V> Default for Section<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), sum: 0, unsettled: Vec::new() }
    }
}

/// The same content, whatever of it was hashed already.
impl<K: PartialEq, V: PartialEq> PartialEq for Section<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self.iter().zip(other.iter()).all(|(one, other)| one == other)
    }
}

impl<K: Eq, V: Eq> Eq for Section<K, V> {}

/// The hash of anything hashable, the same in every process and every run of one fold version.
pub fn hash_of(value: &impl Hash) -> u128 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    let _ = hasher.finish();
    hasher.finish128().as_u128()
}

impl<K, V> Section<K, V> {
    /// All entities, in order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + ExactSizeIterator + Clone {
        self.entries.iter().map(|(key, entry)| (key, &entry.value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: Ord + Hash + Clone, V: Hash> Section<K, V> {
    /// The entity of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Whether there is an entity of that key.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// The entities whose keys come after `key`, in order.
    pub fn after(&self, key: &K) -> impl Iterator<Item = (&K, &V)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.entries.range((Excluded(key), Unbounded));
        after.map(|(key, entry)| (key, &entry.value))
    }

    /// The hash of the content. What is not settled is hashed for it.
    pub fn hash(&self) -> u128 {
        let keys: BTreeSet<&K> = self.unsettled.iter().collect();
        let left = keys.into_iter().filter_map(|key| self.entries.get_key_value(key));
        let left = left.filter(|(_, entry)| entry.counted == 0);
        left.map(|(key, entry)| hash_of(&(key, &entry.value))).fold(self.sum, u128::wrapping_add)
    }

    /// Counts what has changed.
    pub fn settle(&mut self) {
        for key in std::mem::take(&mut self.unsettled) {
            let Some(entry) = self.entries.get_mut(&key).filter(|e| e.counted == 0) else {
                continue;
            };
            entry.counted = hash_of(&(&key, &entry.value));
            self.sum = self.sum.wrapping_add(entry.counted);
        }
    }

    /// Adds or replaces an entity.
    pub fn insert(&mut self, key: K, value: V) {
        let before = self.entries.insert(key.clone(), Entry { value, counted: 0 });
        if let Some(before) = before {
            self.sum = self.sum.wrapping_sub(before.counted);
        }
        self.note(key);
    }

    /// Takes an entity away.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.sum = self.sum.wrapping_sub(entry.counted);
        Some(entry.value)
    }

    /// Changes an entity in place; `None` when there is none.
    pub fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let entry = self.entries.get_mut(key)?;
        let counted = std::mem::take(&mut entry.counted);
        let result = change(&mut entry.value);
        self.sum = self.sum.wrapping_sub(counted);
        if counted != 0 {
            self.note(key.clone());
        }
        Some(result)
    }

    fn note(&mut self, key: K) {
        self.unsettled.push(key);
        if self.unsettled.len() >= UNSETTLED_MAX {
            self.settle();
        }
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Section<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de, K, V> Deserialize<'de> for Section<K, V>
where
    K: Deserialize<'de> + Ord + Hash + Clone,
    V: Deserialize<'de> + Hash,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = BTreeMap::<K, V>::deserialize(deserializer)?;
        let mut section = Self::default();
        for (key, value) in read {
            section.insert(key, value);
        }
        section.settle();
        Ok(section)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_follows_the_content_and_not_the_way_to_it() {
        let mut one = Section::default();
        one.insert("a", 1);
        one.insert("b", 2);
        one.update(&"a", |value| *value = 5);
        one.insert("c", 3);
        one.remove(&"c");
        let mut other = Section::default();
        other.insert("b", 2);
        other.insert("a", 5);
        assert_eq!(one.hash(), other.hash());
        other.update(&"a", |value| *value = 6);
        assert_ne!(one.hash(), other.hash());
    }

    #[test]
    fn a_section_read_back_has_its_hash() {
        let mut section = Section::<String, u64>::default();
        section.insert("a".into(), 1);
        let text = serde_json::to_string(&section).expect("it encodes");
        let again: Section<String, u64> = serde_json::from_str(&text).expect("it decodes");
        assert_eq!(again, section);
        assert_eq!(again.hash(), section.hash());
    }

    proptest! {
        #[test]
        fn when_it_is_settled_makes_no_difference(
            steps in prop::collection::vec((0_u8..4, 0_u8..6, any::<u64>()), 0..60)
        ) {
            let (mut section, mut plain) = (Section::default(), BTreeMap::new());
            for (what, key, value) in steps {
                match what {
                    0 => {
                        section.insert(key, value);
                        plain.insert(key, value);
                    }
                    1 => {
                        section.update(&key, |old| *old ^= value);
                        plain.entry(key).and_modify(|old| *old ^= value);
                    }
                    2 => prop_assert_eq!(section.remove(&key), plain.remove(&key)),
                    _ => section.settle(),
                }
                let sum = plain.iter().map(|entry| hash_of(&entry)).fold(0, u128::wrapping_add);
                prop_assert_eq!(section.hash(), sum);
            }
        }
    }
}
