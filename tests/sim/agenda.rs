//! What happens when: virtual time, and in one moment the order in which things were planned.

use std::collections::BTreeMap;

/// Things to come.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    /// Boxed: what is planned is large, and a map moves what it holds about.
    planned: BTreeMap<(u64, u64), Box<T>>,
    count: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { planned: BTreeMap::new(), count: 0 }
    }
}

impl<T> Agenda<T> {
    pub(crate) fn plan(&mut self, at_ms: u64, what: T) {
        self.count += 1;
        self.planned.insert((at_ms, self.count), Box::new(what));
    }

    /// The next thing, and when it happens.
    pub(crate) fn next(&mut self) -> Option<(u64, T)> {
        self.planned.pop_first().map(|((at, _), what)| (at, *what))
    }
}
