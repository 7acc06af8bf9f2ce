//! A node, as the model knows it.

use std::collections::BTreeMap;

use schemas::event::NodeDescription;
use schemas::id::NodeName;
use schemas::spec::{Constraint, Mode};

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) has: NodeDescription,
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) heard: bool,
    pub(crate) lost: bool,
    /// Where it was last lost or found.
    pub(crate) since: u64,
    pub(super) open: bool,
    pub(super) drains: bool,
}

impl Node {
    /// Whether it takes what has a mode: a cordon does not keep away what is for every node.
    pub(crate) fn takes(&self, mode: Mode) -> bool {
        self.open || (mode == Mode::Global && !self.drains)
    }

    pub(crate) fn meets(&self, name: &NodeName, constraint: &Constraint) -> bool {
        let value = match constraint.attribute.strip_prefix("label.") {
            Some(key) => self.given.get(key).or_else(|| self.has.labels.get(key)).cloned(),
            None if constraint.attribute == "node" => Some(name.to_string()),
            None => Some(self.has.arch.clone()),
        };
        (value.filter(|value| !value.is_empty()).as_ref() == Some(&constraint.value))
            == constraint.equal
    }

    /// The value of a label.
    pub(crate) fn label(&self, key: &str) -> Option<String> {
        let value = self.given.get(key).or_else(|| self.has.labels.get(key)).cloned();
        value.filter(|value| !value.is_empty())
    }

    /// It is found, or lost.
    pub(super) fn turn(&mut self, found: bool, at: u64) {
        (self.heard, self.lost, self.since) = (found, !found, at);
    }
}
