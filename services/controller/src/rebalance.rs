//! When replicas are moved by themselves: a node has joined or come back, and stayed.

use cluster::State;
use cluster::state::Cause;
use schemas::event::RebalanceStarted;
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
    let came = || {
        let nodes = state.nodes.iter();
        nodes.filter(|(_, node)| node.takes_replicas() && node.came_ms > rebalance.since_ms)
    };
    // While many are silent nothing is known of where there is room.
    let newest = came().map(|(_, node)| node).max_by_key(|node| node.open_ms);
    let Some(newest) = newest.filter(|_| !state.cluster.eviction_paused) else {
        return Turn::Rest;
    };
    let at = newest.open_ms.saturating_add(STEADY_MS);
    if now_ms < at {
        return Turn::At(at);
    }
    let nodes: Vec<NodeName> = came().map(|(name, _)| name.clone()).collect();
    // Whoever said that it may is behind it; what happened to the node comes right before.
    let cause = Cause { position: newest.cause.position, ..auto.clone() };
    Turn::Begin(RebalanceStarted { app: None, nodes }, cause)
}

#[cfg(test)]
mod tests;
