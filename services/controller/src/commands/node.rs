//! Commands about nodes.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Node, NodeStatus};
use schemas::command::{Common, Problem};
use schemas::event::{
    Event, NodeCordoned, NodeDeclaredLost, NodeLabelled, NodeRemoved, NodeUncordoned,
};
use schemas::id::NodeName;

use super::{Effect, expect, one_of};

/// The most labels of one node.
const LABELS_MAX: usize = 64;

/// The node that a command is about, unchanged since the position it expects.
fn known<'a>(state: &'a State, common: &Common, name: &NodeName) -> Result<&'a Node, Problem> {
    let Some(node) = state.nodes.get(name) else {
        let known: Vec<String> = state.nodes.iter().map(|(name, _)| name.to_string()).collect();
        return Err(Problem::new("not_found", "node", name.as_str(), &one_of(&known)));
    };
    // Its description has a date of its own; all else that happens to a node is its cause.
    expect(common, node.described_at.max(node.cause.position))?;
    Ok(node)
}

fn of_node(name: &NodeName, event: impl Into<Event>) -> Effect {
    Effect { object: format!("node/{name}"), app: None, events: vec![event.into()] }
}

pub(super) fn cordon(
    state: &State,
    common: &Common,
    name: &NodeName,
    drain: bool,
) -> Result<Effect, Problem> {
    known(state, common, name)?;
    Ok(of_node(name, NodeCordoned { node: name.clone(), drain }))
}

pub(super) fn uncordon(state: &State, common: &Common, name: &NodeName) -> Result<Effect, Problem> {
    known(state, common, name)?;
    Ok(of_node(name, NodeUncordoned { node: name.clone() }))
}

pub(super) fn label(
    state: &State,
    common: &Common,
    name: &NodeName,
    changes: &BTreeMap<String, String>,
) -> Result<Effect, Problem> {
    let mut labels = known(state, common, name)?.labels.clone();
    for (key, value) in changes {
        let fits = |text: &str, max: usize| {
            text.len() <= max && text.chars().all(|c| c.is_ascii_graphic())
        };
        if key.is_empty() || !fits(key, 63) || !fits(value, 256) {
            let valid = "a key of 1 to 63 and a value of up to 256 printable ASCII characters";
            return Err(Problem::new("invalid_value", &format!("labels.{key}"), value, valid));
        }
        labels.insert(key.clone(), value.clone());
    }
    if labels.len() > LABELS_MAX {
        let valid = format!("at most {LABELS_MAX} labels on a node");
        return Err(Problem::new("too_many", "labels", &labels.len().to_string(), &valid));
    }
    Ok(of_node(name, NodeLabelled { node: name.clone(), labels }))
}

/// A person knows better than silence can tell; but not against a node that is heard.
pub(super) fn declare_lost(
    state: &State,
    common: &Common,
    name: &NodeName,
) -> Result<Effect, Problem> {
    let node = known(state, common, name)?;
    if node.status == NodeStatus::Ready {
        let valid = "a node that is not heard; drain one that is";
        return Err(Problem::new("node_is_heard", "node", name.as_str(), valid));
    }
    Ok(of_node(name, NodeDeclaredLost { node: name.clone() }))
}

pub(super) fn remove(state: &State, common: &Common, name: &NodeName) -> Result<Effect, Problem> {
    let node = known(state, common, name)?;
    let replicas = state.replicas_on(name).count();
    if replicas > 0 && node.status != NodeStatus::Lost {
        let got = format!("{name} with {replicas} replicas");
        let valid = "a node that is empty or lost: drain it first";
        return Err(Problem::new("not_empty", "node", &got, valid));
    }
    Ok(of_node(name, NodeRemoved { node: name.clone() }))
}
