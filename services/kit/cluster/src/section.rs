//! A sorted map that knows the hash of its content at any time.
//!
//! The hash is a wrapping sum of one hash per entry, so changing an entry costs that entry and not
//! the map, and the order in which entries came does not matter.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use siphasher::sip128::{Hasher128, SipHasher13};

/// Entities of one kind by their key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<K, V> {
    entries: BTreeMap<K, V>,
    sum: u128,
}

impl<K, V> Default for Section<K, V> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), sum: 0 }
    }
}

/// The hash of anything hashable, the same in every process and every run of one fold version.
pub fn hash_of(value: &impl Hash) -> u128 {
    let mut hasher = SipHasher13::new();
    value.hash(&mut hasher);
    let _ = hasher.finish();
    hasher.finish128().as_u128()
}

impl<K: Ord + Hash, V: Hash> Section<K, V> {
    /// The entity of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.get(key)
    }

    /// Whether there is an entity of that key.
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: std::borrow::Borrow<Q>,
    {
        self.entries.contains_key(key)
    }

    /// All entities, in order of their keys.
    pub fn iter(&self) -> std::collections::btree_map::Iter<'_, K, V> {
        self.entries.iter()
    }

    /// The entities whose keys come after `key`, in order.
    pub fn after(&self, key: &K) -> impl Iterator<Item = (&K, &V)> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.entries.range((Excluded(key), Unbounded))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The hash of the content.
    pub fn hash(&self) -> u128 {
        self.sum
    }

    /// Adds or replaces an entity.
    pub fn insert(&mut self, key: K, value: V) {
        let added = hash_of(&(&key, &value));
        if let Some(old) = self.entries.get(&key) {
            self.sum = self.sum.wrapping_sub(hash_of(&(&key, old)));
        }
        self.entries.insert(key, value);
        self.sum = self.sum.wrapping_add(added);
    }

    /// Takes an entity away.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let value = self.entries.remove(key)?;
        self.sum = self.sum.wrapping_sub(hash_of(&(key, &value)));
        Some(value)
    }

    /// Changes an entity in place; `None` when there is none.
    pub fn update<R>(&mut self, key: &K, change: impl FnOnce(&mut V) -> R) -> Option<R> {
        let value = self.entries.get_mut(key)?;
        self.sum = self.sum.wrapping_sub(hash_of(&(key, &*value)));
        let result = change(value);
        self.sum = self.sum.wrapping_add(hash_of(&(key, &*value)));
        Some(result)
    }
}

impl<K: Serialize + Ord, V: Serialize> Serialize for Section<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.entries.serialize(serializer)
    }
}

impl<'de, K, V> Deserialize<'de> for Section<K, V>
where
    K: Deserialize<'de> + Ord + Hash,
    V: Deserialize<'de> + Hash,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = BTreeMap::<K, V>::deserialize(deserializer)?;
        let sum = entries.iter().map(|entry| hash_of(&entry)).fold(0, u128::wrapping_add);
        Ok(Self { entries, sum })
    }
}

#[cfg(test)]
mod tests {
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
    }
}
