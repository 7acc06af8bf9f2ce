//! Nodes.

use schemas::event::{NodeCordoned, NodeDescribed, NodeLabelled, NodeRemoved, NodeUncordoned};
use schemas::id::{NodeName, ReplicaId};

use super::{At, cause};
use crate::state::{Admission, App, Node, NodeStatus, State};

impl State {
    pub(crate) fn node_described(&mut self, at: &At<'_>, e: &NodeDescribed) {
        let known = self.nodes.update(&e.node, |node| {
            node.description.clone_from(&e.description);
            node.described_at = at.position;
        });
        if known.is_none() {
            let node = Node {
                description: e.description.clone(),
                status: NodeStatus::Ready,
                admission: Admission::Open,
                labels: Default::default(),
                described_at: at.position,
                came_ms: at.recorded_ms,
                open_ms: at.recorded_ms,
                ways: Default::default(),
                cause: cause(at),
            };
            self.nodes.insert(e.node.clone(), node);
            self.index.loads.entry(e.node.clone()).or_default();
            self.touch_all_apps();
        }
        self.touched.nodes.insert(e.node.clone());
        self.touched.room = true;
    }

    pub(crate) fn node_cordoned(&mut self, at: &At<'_>, e: &NodeCordoned) {
        let to = if e.drain { Admission::Draining } else { Admission::Cordoned };
        self.change_node(at, &e.node, |node| node.admission = to);
    }

    pub(crate) fn node_uncordoned(&mut self, at: &At<'_>, e: &NodeUncordoned) {
        self.change_node(at, &e.node, |node| node.admission = Admission::Open);
        self.touched.room = true;
    }

    pub(crate) fn node_labelled(&mut self, at: &At<'_>, e: &NodeLabelled) {
        self.change_node(at, &e.node, |node| node.labels.clone_from(&e.labels));
        self.touched.room = true;
    }

    pub(crate) fn node_suspected(&mut self, at: &At<'_>, name: &NodeName) {
        self.change_node(at, name, |node| {
            if node.status == NodeStatus::Ready {
                node.status = NodeStatus::Suspected;
            }
        });
    }

    pub(crate) fn node_lost(&mut self, at: &At<'_>, name: &NodeName) {
        self.change_node(at, name, |node| node.status = NodeStatus::Lost);
        self.date_replicas(at, name);
    }

    pub(crate) fn node_returned(&mut self, at: &At<'_>, name: &NodeName) {
        let lost = self.nodes.get(name).is_some_and(|node| node.status == NodeStatus::Lost);
        self.change_node(at, name, |node| node.status = NodeStatus::Ready);
        self.touched.room = true;
        if lost {
            self.date_replicas(at, name);
        }
    }

    /// How the replicas of a node are known has changed.
    fn date_replicas(&mut self, at: &At<'_>, node: &NodeName) {
        let ids: Vec<ReplicaId> = self.replicas_on(node).map(|(id, _)| id.clone()).collect();
        for id in &ids {
            self.replicas.update(id, |replica| replica.since_ms = at.recorded_ms);
        }
    }

    /// Lawful for a node that has been removed meanwhile: nothing is left to change.
    fn change_node(&mut self, at: &At<'_>, name: &NodeName, change: impl FnOnce(&mut Node)) {
        self.nodes.update(name, |node| {
            let (took, was_silent) = (node.takes_replicas(), node.status == NodeStatus::Suspected);
            change(node);
            if node.takes_replicas() && !took {
                node.open_ms = at.recorded_ms;
                // One that was only not heard for a moment never went.
                node.came_ms = if was_silent { node.came_ms } else { at.recorded_ms };
            }
            node.cause = cause(at);
        });
        self.touched.nodes.insert(name.clone());
        self.touch_all_apps();
    }

    /// What was on the node has ended, as far as the cluster is concerned.
    pub(crate) fn node_removed(&mut self, e: &NodeRemoved) {
        let replicas: Vec<ReplicaId> =
            self.replicas_on(&e.node).map(|(id, _)| id.clone()).collect();
        for id in &replicas {
            self.forget_replica(id);
        }
        let knows = |app: &App| {
            app.volumes.values().any(|home| *home == e.node)
                || app.workloads.values().any(|w| w.lacking.contains_key(&e.node))
        };
        let knowing: Vec<_> = self.apps.iter().filter(|(_, app)| knows(app)).collect();
        let knowing: Vec<_> = knowing.into_iter().map(|(key, _)| key.clone()).collect();
        for key in knowing {
            self.apps.update(&key, |app| {
                app.volumes.retain(|_, home| *home != e.node);
                for workload in app.workloads.values_mut() {
                    workload.lacking.remove(&e.node);
                }
            });
        }
        self.nodes.remove(&e.node);
        self.forget_ways_to(&e.node);
        self.index.loads.remove(&e.node);
        self.touched.nodes.insert(e.node.clone());
        self.touch_all_apps();
    }

    /// A node's fate may concern any app: through its replicas, or because it is global.
    fn touch_all_apps(&mut self) {
        self.touched.apps.extend(self.apps.iter().map(|(key, _)| key.clone()));
    }
}
