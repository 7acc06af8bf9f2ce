//! What is moved to better nodes.

use std::collections::{BTreeMap, BTreeSet};

use schemas::event::Called;
use schemas::id::{AppKey, NodeName, ReplicaId};
use serde::{Deserialize, Serialize};

use super::Cause;

/// What is moved, and whether that begins by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rebalance {
    /// What lets it begin by itself once a node has joined or come back; none when it does not.
    pub auto: Option<Cause>,
    /// When that was set, or it last began for every app: what came before is no news.
    pub since_ms: u64,
    /// Workloads that were stated since to be far from those who call them.
    #[serde(default)]
    pub far: BTreeSet<Called>,
    /// The position of the last event that said so.
    #[serde(default)]
    pub far_at: u64,
    /// What is being moved.
    pub now: Option<Rebalancing>,
}

/// A rebalancing that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rebalancing {
    /// Only replicas of this app are moved.
    pub app: Option<AppKey>,
    /// When it began.
    pub since_ms: u64,
    /// How many moves were planned.
    pub planned: u64,
    /// The moves that are on their way, by the replica that is to end.
    pub moves: BTreeMap<ReplicaId, Moving>,
    /// Replicas whose move came to nothing.
    pub stayed: BTreeSet<ReplicaId>,
    /// What it came from.
    pub cause: Cause,
}

/// A replica is to be replaced by one on another node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Moving {
    /// The node.
    pub to: NodeName,
    /// When that was planned.
    pub since_ms: u64,
    /// What it came from.
    pub cause: Cause,
}

impl Rebalance {
    /// The move of a replica, while it is on its way.
    #[must_use]
    pub fn moving(&self, replica: &ReplicaId) -> Option<&Moving> {
        self.now.as_ref()?.moves.get(replica)
    }
}
