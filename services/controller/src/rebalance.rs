//! When replicas are moved by themselves: a node has joined or come back, and stayed; or a workload was
//! measured to be far from those who call it.

use cluster::State;
use cluster::state::Cause;
use schemas::event::{Called, RebalanceStarted};
use schemas::id::NodeName;

/// For how long a node must have taken replicas, in ms. One that comes and goes moves nothing.
pub const STEADY_MS: u64 = 60_000;

/// What should follow, or when to look again.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing, until something happens.
    Rest,
    /// Nothing before that time, in ms since 1970.
    At(u64),
    /// It begins.
    Begin(RebalanceStarted, Cause),
}

/// Judges whether it is time.
#[must_use]
pub fn turn(state: &State, now_ms: u64) -> Turn {
    let rebalance = &state.cluster.rebalance;
    let Some(auto) = rebalance.auto.as_ref().filter(|_| rebalance.now.is_none()) else {
        return Turn::Rest;
    };
    // While many are silent nothing is known of where there is room.
    if state.cluster.eviction_paused {
        return Turn::Rest;
    }
    let came = || {
        let nodes = state.nodes.iter();
        nodes.filter(|(_, node)| node.takes_replicas() && node.came_ms > rebalance.since_ms)
    };
    let newest = came().map(|(_, node)| node).max_by_key(|node| node.open_ms);
    // Nothing moves to one that has just come, whatever it would be moved for.
    let at = newest.map_or(0, |node| node.open_ms.saturating_add(STEADY_MS));
    if now_ms < at {
        return Turn::At(at);
    }
    let calls: Vec<Called> =
        rebalance.far.iter().filter(|called| is_there(state, called)).cloned().collect();
    // What happened to a node, or was measured, comes right before; whoever said that it may is behind it.
    let position = match newest {
        Some(node) => node.cause.position,
        None if calls.is_empty() => return Turn::Rest,
        None => rebalance.far_at,
    };
    let nodes: Vec<NodeName> = came().map(|(name, _)| name.clone()).collect();
    let cause = Cause { position, ..auto.clone() };
    Turn::Begin(RebalanceStarted { app: None, nodes, calls }, cause)
}

fn is_there(state: &State, called: &Called) -> bool {
    let app = state.apps.get(&called.app);
    app.and_then(|app| app.workloads.get(&called.workload)).is_some_and(|w| w.declared)
}

#[cfg(test)]
mod tests;
