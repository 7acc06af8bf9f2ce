//! What follows from the state and is kept beside it: who is where, and how full nodes are.

use std::collections::{BTreeMap, BTreeSet};

use schemas::event::NodeDescription;
use schemas::id::{AppKey, CommandId, NodeName, ReplicaId, WorkloadName};
use schemas::spec::Protocol;

use super::{Need, Numbers, Replica};

/// What follows from the state and is kept beside it, so that rules need not search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Replicas by workload.
    pub by_workload: BTreeMap<(AppKey, WorkloadName), BTreeSet<ReplicaId>>,
    /// Replicas by node.
    pub by_node: BTreeMap<NodeName, BTreeSet<ReplicaId>>,
    /// Replicas that await a node.
    pub pending: BTreeSet<ReplicaId>,
    /// How full nodes are.
    pub loads: BTreeMap<NodeName, Load>,
    /// Receipts by position, oldest first.
    pub receipts: BTreeMap<u64, CommandId>,
    /// The numbers that workloads and replicas have.
    pub numbers: Numbers,
}

/// How full a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Reserved cpu.
    pub cpu_millis: u64,
    /// Reserved memory.
    pub memory_bytes: u64,
    /// Reserved disk.
    pub disk_bytes: u64,
    /// Reserved processes.
    pub pids: u64,
    /// How many replicas.
    pub replicas: u64,
    /// Ports that are taken.
    pub host_ports: BTreeSet<(Protocol, u16)>,
}

impl Load {
    /// One more replica.
    pub fn add(&mut self, need: &Need) {
        self.cpu_millis += need.cpu_millis;
        self.memory_bytes += need.memory_bytes;
        self.disk_bytes += need.disk_bytes;
        self.pids += need.pids;
        self.replicas += 1;
        self.host_ports.extend(need.host_ports.iter().copied());
    }

    /// One replica less.
    pub fn remove(&mut self, need: &Need) {
        self.cpu_millis = self.cpu_millis.saturating_sub(need.cpu_millis);
        self.memory_bytes = self.memory_bytes.saturating_sub(need.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_sub(need.disk_bytes);
        self.pids = self.pids.saturating_sub(need.pids);
        self.replicas = self.replicas.saturating_sub(1);
        for port in &need.host_ports {
            self.host_ports.remove(port);
        }
    }

    /// Whether it is more than a node has. What a node does not know of itself is not counted.
    #[must_use]
    pub fn exceeds(&self, has: &NodeDescription) -> bool {
        self.cpu_millis > has.cpu_millis
            || self.memory_bytes > has.memory_bytes
            || (has.disk_bytes > 0 && self.disk_bytes > has.disk_bytes)
            || (has.pids > 0 && self.pids > has.pids)
    }
}

impl Index {
    /// Notes a replica where it belongs.
    pub(crate) fn add(&mut self, id: &ReplicaId, replica: &Replica) {
        let key = (replica.app.clone(), replica.workload.clone());
        self.by_workload.entry(key).or_default().insert(id.clone());
        match &replica.node {
            None => {
                self.pending.insert(id.clone());
            }
            Some(node) => self.bind(id, node, &replica.need),
        }
    }

    /// Notes the node of a replica that is known.
    pub(crate) fn bind(&mut self, id: &ReplicaId, node: &NodeName, need: &Need) {
        self.pending.remove(id);
        self.by_node.entry(node.clone()).or_default().insert(id.clone());
        self.loads.entry(node.clone()).or_default().add(need);
    }

    /// Forgets a replica.
    pub(crate) fn remove(&mut self, id: &ReplicaId, replica: &Replica) {
        let key = (replica.app.clone(), replica.workload.clone());
        if let Some(ids) = self.by_workload.get_mut(&key) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_workload.remove(&key);
            }
        }
        self.pending.remove(id);
        let Some(node) = &replica.node else { return };
        if let Some(ids) = self.by_node.get_mut(node) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_node.remove(node);
            }
        }
        if let Some(load) = self.loads.get_mut(node) {
            load.remove(&replica.need);
        }
    }
}
