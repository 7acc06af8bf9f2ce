//! Which names stand at which positions, in the order of the index.

use std::collections::BTreeMap;

/// Positions by name. They are added in their order, so that all of it is one sorted run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(BTreeMap<String, Vec<u64>>);

impl Names {
    /// Adds a name at a position, which is none before the last one of that name.
    pub fn add(&mut self, name: String, position: u64) {
        let positions = self.0.entry(name).or_default();
        if positions.last() != Some(&position) {
            positions.push(position);
        }
    }

    /// Whether a name is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Every name at every position, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().flat_map(|(name, positions)| {
            positions.iter().map(move |position| (name.as_str(), *position))
        })
    }
}

impl Extend<(String, u64)> for Names {
    fn extend<T: IntoIterator<Item = (String, u64)>>(&mut self, all: T) {
        for (name, position) in all {
            self.add(name, position);
        }
    }
}

impl Names {
    /// Adds what stands behind all of it.
    pub fn join(&mut self, next: Self) {
        for (name, positions) in next.0 {
            self.0.entry(name).or_default().extend(positions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_in_the_order_of_the_index_and_each_is_there_once() {
        let mut names = Names::default();
        let add = |names: &mut Names, all: &[(&str, u64)]| {
            names.extend(all.iter().map(|(name, at)| ((*name).to_owned(), *at)));
        };
        add(&mut names, &[("b", 1), ("a", 1), ("a", 1), ("b", 300)]);
        let mut next = Names::default();
        add(&mut next, &[("c", 301), ("a", 301), ("a", 302)]);
        names.join(next);
        let all: Vec<(&str, u64)> = names.iter().collect();
        let expected = [("a", 1), ("a", 301), ("a", 302), ("b", 1), ("b", 300), ("c", 301)];
        assert_eq!(all, expected);
        assert!(names.has("c") && !names.has("d"));
    }
}
