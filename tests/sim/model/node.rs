//! A node, as the model knows it.

use std::collections::BTreeMap;

use schemas::event::{Event, NodeDescription};
use schemas::id::{NodeName, ReplicaId};
use schemas::spec::{Constraint, Mode};

use super::Model;

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) has: NodeDescription,
    pub(crate) given: BTreeMap<String, String>,
    pub(crate) heard: bool,
    pub(crate) lost: bool,
    /// Where it was last lost or found.
    pub(crate) since: u64,
    open: bool,
    drains: bool,
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
    fn turn(&mut self, found: bool, at: u64) {
        (self.heard, self.lost, self.since) = (found, !found, at);
    }
}

impl Model {
    pub(super) fn of_nodes(&mut self, event: &Event, at: u64) {
        match event {
            Event::NodeDescribed(e) => {
                let node = self.nodes.entry(e.node.clone()).or_insert_with(|| Node {
                    has: e.description.clone(),
                    given: BTreeMap::new(),
                    heard: true,
                    lost: false,
                    since: 0,
                    open: true,
                    drains: false,
                });
                node.has.clone_from(&e.description);
            }
            Event::NodeCordoned(e) => {
                self.node(&e.node, |node| (node.open, node.drains) = (false, e.drain));
            }
            Event::NodeUncordoned(e) => {
                self.node(&e.node, |node| (node.open, node.drains) = (true, false));
            }
            Event::NodeLabelled(e) => self.node(&e.node, |node| node.given.clone_from(&e.labels)),
            Event::NodeSuspected(e) => {
                self.node(&e.node, |node| (node.heard, node.since) = (false, at));
            }
            Event::NodeLost(e) => self.node(&e.node, |node| node.turn(false, at)),
            Event::NodeDeclaredLost(e) => self.node(&e.node, |node| node.turn(false, at)),
            Event::NodeReturned(e) => self.node(&e.node, |node| node.turn(true, at)),
            Event::NodeRemoved(e) => {
                self.nodes.remove(&e.node);
                let on = self.replicas.iter().filter(|(_, r)| r.node.as_ref() == Some(&e.node));
                let ids: Vec<ReplicaId> = on.map(|(id, _)| id.clone()).collect();
                ids.iter().for_each(|id| self.forget(id));
                for app in self.apps.values_mut() {
                    app.volumes.retain(|_, home| *home != e.node);
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, name: &NodeName, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(name) {
            change(node);
        }
    }
}
