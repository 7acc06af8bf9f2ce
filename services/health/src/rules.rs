//! The rules of silence.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Cause, Node, NodeStatus, Touched};
use decider::{Decision, Level, Now, Rules, draft};
use schemas::event::{
    Event, EvictionPaused, EvictionResumed, NodeLost, NodeReturned, NodeSuspected,
};
use schemas::id::{NodeName, Writer};
use schemas::place::Place;
use schemas::report::Heartbeat;

/// When a node is suspected, and when it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Silence after which nothing new is placed on a node, in ms.
    pub suspected_ms: u64,
    /// Silence after which its replicas are replaced, in ms.
    pub lost_ms: u64,
    /// At most one node is declared lost in this time, in ms.
    pub lost_every_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { suspected_ms: 3_000, lost_ms: 6_000, lost_every_ms: 1_000 }
    }
}

/// The health service's rules.
#[derive(Debug, Default)]
pub struct Health {
    limits: Limits,
    heard_ms: BTreeMap<NodeName, u64>,
    /// The last heartbeat of each node that speaks for a leadership which the state does not know yet:
    /// it counts once it does.
    early: BTreeMap<NodeName, Early>,
    /// Heartbeats of instances that do not lead their node.
    ignored: u64,
    /// Since when nodes are known, 0 for those that were there when this began: one that has just
    /// joined was not silent before.
    known_ms: Option<BTreeMap<NodeName, u64>>,
    connected_ms: Option<u64>,
    last_lost_ms: Option<u64>,
}

/// A heartbeat that came before the event which says that its agent leads.
#[derive(Debug)]
struct Early {
    term: u64,
    instance: String,
    at_ms: u64,
}

/// Which agent speaks for a node.
enum Speaks {
    /// The one that leads it.
    Leads,
    /// One that may lead it by an event that was not read yet.
    MayLead,
    /// Another: it was deposed, or has stopped.
    Not,
}

/// Whether an agent speaks for its node, by the state.
fn speaks(state: &State, node: &NodeName, term: u64, instance: &str) -> Speaks {
    match state.leaders.get(&Writer::Agent(node.clone())) {
        Some(leader) if leader.term == term => {
            let leads = !leader.released && leader.instance == instance;
            if leads { Speaks::Leads } else { Speaks::Not }
        }
        Some(leader) if leader.term > term => Speaks::Not,
        _ => Speaks::MayLead,
    }
}

impl Health {
    /// Rules with other limits than the usual ones.
    #[must_use]
    pub fn with(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How long a node has been silent. `None` before the first connection.
    fn silence(&self, node: &NodeName, now: Now) -> Option<u64> {
        let connected = self.connected_ms?;
        let heard = self.heard_ms.get(node).max(self.known_ms.as_ref()?.get(node));
        let heard = heard.copied().unwrap_or(0).max(connected);
        Some(now.mono_ms.saturating_sub(heard))
    }

    fn note_heard(&mut self, node: NodeName, at_ms: u64) {
        let heard_ms = self.heard_ms.entry(node).or_default();
        *heard_ms = at_ms.max(*heard_ms);
    }

    /// What was heard early counts, or does not, as soon as the state says whose it was.
    fn judge_early(&mut self, state: &State) {
        for (node, early) in std::mem::take(&mut self.early) {
            match speaks(state, &node, early.term, &early.instance) {
                Speaks::Leads => self.note_heard(node, early.at_ms),
                Speaks::MayLead => drop(self.early.insert(node, early)),
                Speaks::Not => self.ignored += 1,
            }
        }
    }

    fn note_joined(&mut self, state: &State, now: Now) {
        let joined_ms = if self.known_ms.is_some() { now.mono_ms } else { 0 };
        let known = self.known_ms.get_or_insert_default();
        known.retain(|node, _| state.nodes.contains(node));
        for (name, _) in state.nodes.iter() {
            if !known.contains_key(name) {
                known.insert(name.clone(), joined_ms);
            }
        }
    }

    fn judge(&self, name: &NodeName, node: &Node, silent_ms: u64, may_lose: bool) -> Option<Event> {
        let node_name = name.clone();
        match node.status {
            NodeStatus::Ready if silent_ms >= self.limits.suspected_ms => {
                Some(NodeSuspected { node: node_name, silent_ms }.into())
            }
            NodeStatus::Suspected if silent_ms >= self.limits.lost_ms && may_lose => {
                Some(NodeLost { node: node_name, silent_ms }.into())
            }
            NodeStatus::Suspected | NodeStatus::Lost
                if silent_ms < self.limits.suspected_ms && self.was_heard(name) =>
            {
                Some(NodeReturned { node: node_name, silent_ms }.into())
            }
            _ => None,
        }
    }

    /// Whether it was heard since the connection, and not merely not missed yet.
    fn was_heard(&self, node: &NodeName) -> bool {
        let connected = self.connected_ms.unwrap_or(u64::MAX);
        self.heard_ms.get(node).is_some_and(|heard| *heard >= connected)
    }
}

impl Rules for Health {
    type Input = Heartbeat;
    type Output = std::convert::Infallible;

    fn writer(&self) -> Writer {
        Writer::Health
    }

    fn input(&mut self, heartbeat: Heartbeat, state: &State, now: Now) {
        let Heartbeat { node, instance, term, .. } = heartbeat;
        match speaks(state, &node, term, &instance) {
            Speaks::Leads => self.note_heard(node, now.mono_ms),
            Speaks::MayLead => {
                self.early.insert(node, Early { term, instance, at_ms: now.mono_ms });
            }
            Speaks::Not => self.ignored += 1,
        }
    }

    fn levels(&self) -> Vec<Level> {
        let help = "Heartbeats of agents that do not lead their node.";
        vec![Level { name: "muster_heartbeats_ignored", help, value: self.ignored }]
    }

    fn connected(&mut self, now: Now) {
        self.connected_ms = Some(now.mono_ms);
    }

    fn decide(&mut self, state: &mut State, now: Now) -> Decision {
        // All nodes are looked at, whatever changed.
        state.touched = Touched::default();
        let mut decision = Decision::default();
        decision.wake_at(now.mono_ms + self.limits.lost_every_ms.min(250));
        self.judge_early(state);
        self.heard_ms.retain(|node, _| state.nodes.contains(node));
        self.note_joined(state, now);
        let silences: Vec<(&NodeName, &Node, u64)> = state
            .nodes
            .iter()
            .filter_map(|(name, node)| Some((name, node, self.silence(name, now)?)))
            .collect();
        let nodes = state.nodes.len();
        let silent = silences.iter().filter(|(.., ms)| *ms >= self.limits.suspected_ms).count();
        let too_many = silent > 1 && silent * 2 > nodes;
        let actor = Writer::Health.to_string();
        let mut say = |event: Event| {
            decision.events.push(draft(event, None, &actor, &Cause::default(), now));
        };
        let (count, of) = (as_u64(silent), as_u64(nodes));
        match (too_many, state.cluster.eviction_paused) {
            (true, false) => say(EvictionPaused { silent: count, nodes: of }.into()),
            (false, true) => say(EvictionResumed { silent: count, nodes: of }.into()),
            _ => {}
        }
        let rested = self
            .last_lost_ms
            .is_none_or(|at| now.mono_ms >= at.saturating_add(self.limits.lost_every_ms));
        let mut may_lose = rested && !too_many;
        for (name, node, silent_ms) in silences {
            let Some(event) = self.judge(name, node, silent_ms, may_lose) else { continue };
            if matches!(event, Event::NodeLost(_)) {
                may_lose = false;
                self.last_lost_ms = Some(now.mono_ms);
            }
            say(event);
        }
        decision
    }

    fn reflect(&mut self, _: &mut State, _: Place, _: Now) -> Vec<Self::Output> {
        Vec::new()
    }

    fn exists(&mut self, _: &str) {}

    /// A new leader has not listened as the leader before: silence counts from now.
    fn lead(&mut self, _: &State, now: Now) {
        self.connected_ms = Some(now.mono_ms);
        self.known_ms = None;
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
