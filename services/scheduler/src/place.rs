//! One round of placement: replicas that look for a node, and the nodes there are.
//!
//! Replicas of one workload are alike, so the nodes are filtered and sorted once for all of them;
//! after each placement only the chosen node moves in the order. Cost grows with nodes plus
//! replicas, not with their product.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::State;
use cluster::state::{Cause, Lacking, Load, Replica};
use schemas::event::{PassedOver, Unfit};
use schemas::id::{AppKey, Digest, NodeName, ReplicaId, Tenant, WorkloadName};
use schemas::spec::{Strategy, WorkloadSpec};

use crate::filter::{Candidate, Obstacle, Wanted, explain, obstacles, passed_over};

/// What a round decided.
#[derive(Debug, Default)]
pub struct Round {
    /// Replicas by tenant and node, in the order in which they were placed.
    pub placed: BTreeMap<(Tenant, NodeName), Vec<Placed>>,
    /// Workloads of which replicas fit nowhere.
    pub unplaced: BTreeMap<(AppKey, WorkloadName), Unplaced>,
    /// When a node that was passed over for want of an image may be tried again, in ms since 1970.
    pub again_at_ms: Option<u64>,
}

/// A replica and its node's reason.
#[derive(Debug)]
pub struct Placed {
    /// The replica.
    pub id: ReplicaId,
    /// What it follows from.
    pub cause: Cause,
    /// Why this node.
    pub chosen: String,
    /// Why not the nodes that did not fit.
    pub passed_over: Arc<[PassedOver]>,
}

/// Replicas that fit nowhere.
#[derive(Debug)]
pub struct Unplaced {
    /// How many.
    pub waiting: u64,
    /// Why.
    pub reasons: Vec<Unfit>,
    /// What they follow from.
    pub cause: Cause,
}

/// How good a node is; the smallest wins, and the name breaks ties.
type Score = (u64, u64, u64, u64);

/// Places everything that awaits a node, as far as it fits, up to `max` replicas.
#[must_use]
pub fn round(state: &State, max: usize, now_ms: u64) -> Round {
    let mut round = Round::default();
    let mut loads: BTreeMap<&NodeName, Load> = state
        .nodes
        .iter()
        .map(|(name, _)| (name, state.index.loads.get(name).cloned().unwrap_or_default()))
        .collect();
    for ((app, workload, _), group) in groups(state, max) {
        place_group(state, &app, &workload, &group, &mut loads, &mut round, now_ms);
    }
    round
}

/// The node of the replica that another replaces, until that one is told to end.
fn replaced_on<'a>(state: &'a State, replica: &Replica) -> Option<&'a NodeName> {
    let replaced = state.replicas.get(replica.replaces.as_ref()?)?;
    replaced.node.as_ref().filter(|_| replaced.retired.is_none())
}

type Group<'a> = Vec<(&'a ReplicaId, &'a Replica)>;

/// What replicas have in common that are alike: the workload and the spec, the node if they are for
/// one, and the node that has those they replace if it is counted how many are on one.
type Alike = (AppKey, WorkloadName, (Digest, Option<NodeName>, Option<NodeName>));

/// Replicas that are alike. Those of the higher priority come first, then those requested first.
fn groups(state: &State, max: usize) -> Vec<(Alike, Group<'_>)> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for id in &state.index.pending {
        let Some(replica) = state.replicas.get(id) else { continue };
        let counted = state.spec_of(replica).is_some_and(|s| s.placement.max_per_node.is_some());
        let instead_on = replaced_on(state, replica).filter(|_| counted).cloned();
        let alike = (replica.spec.clone(), replica.only_node.clone(), instead_on);
        let key = (replica.app.clone(), replica.workload.clone(), alike);
        groups.entry(key).or_default().push((id, replica));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, group)| {
        let priority = group.first().and_then(|(_, r)| state.spec_of(r)).map_or(0, |s| s.priority);
        let first = group.iter().map(|(_, replica)| replica.cause.position).min();
        (std::cmp::Reverse(priority), first)
    });
    let mut left = max;
    for (_, group) in &mut groups {
        group.truncate(left);
        left -= group.len();
    }
    groups.retain(|(_, group)| !group.is_empty());
    groups
}

fn place_group<'a>(
    state: &'a State,
    app: &AppKey,
    name: &WorkloadName,
    group: &Group<'_>,
    loads: &mut BTreeMap<&'a NodeName, Load>,
    round: &mut Round,
    now_ms: u64,
) {
    let Some((_, first)) = group.first() else { return };
    let (Some(known), Some(spec)) = (state.apps.get(app), state.spec_of(first)) else { return };
    let declared = known.workloads.get(name).filter(|workload| workload.spec == first.spec);
    let wanted = Wanted {
        app: known,
        spec,
        need: &first.need,
        only_node: first.only_node.as_ref(),
        lacking: declared.map(|workload| &workload.lacking),
        now_ms,
    };
    let instead_on = replaced_on(state, first);
    let mut crowd = Crowd::of(state, app, name, spec, round);
    let judged = |node: &'a NodeName, loads: &BTreeMap<&NodeName, Load>, crowd: &Crowd<'a>| {
        let (found, load) = (state.nodes.get(node)?, loads.get(node)?);
        let replaced = crowd.replaced_on(node) + u64::from(instead_on == Some(node));
        let of_workload = crowd.on(node);
        let candidate = Candidate { name: node, node: found, load, of_workload, replaced };
        Some((obstacles(&wanted, &candidate), crowd.score(&candidate)))
    };
    let mut order: BTreeSet<(Score, &'a NodeName)> = BTreeSet::new();
    let mut against: Vec<Vec<Obstacle>> = Vec::new();
    for (node, _) in state.nodes.iter() {
        match judged(node, loads, &crowd) {
            Some((found, score)) if found.is_empty() => {
                order.insert((score, node));
            }
            Some((found, _)) => against.push(found),
            None => {}
        }
    }
    let over: Arc<[PassedOver]> = passed_over(&wanted, &against).into();
    let mut waiting = 0;
    for (id, replica) in group {
        let Some((score, node)) = order.pop_first() else {
            waiting += 1;
            continue;
        };
        let chosen =
            format!("{} of {} nodes fit; {}", order.len() + 1, state.nodes.len(), crowd.why(score));
        if let Some(load) = loads.get_mut(node) {
            load.add(&replica.need);
        }
        crowd.add(state, node, replica);
        let (cause, passed_over) = (replica.cause.clone(), over.clone());
        let placed = Placed { id: (*id).clone(), cause, chosen, passed_over };
        round.placed.entry((app.tenant.clone(), node.clone())).or_default().push(placed);
        if binds_volumes(spec, known) {
            // The first replica decides where its volumes live; the next round sees that.
            break;
        }
        // A group that spreads over a label is re-ordered whole: one placement moves every node
        // that has the same value.
        if crowd.spreads_over_label() {
            let nodes: Vec<_> = order.iter().map(|(_, node)| *node).chain([node]).collect();
            order.clear();
            for node in nodes {
                rejoin(judged(node, loads, &crowd), node, &mut order, &mut against);
            }
        } else {
            rejoin(judged(node, loads, &crowd), node, &mut order, &mut against);
        }
    }
    if waiting > 0 {
        let reasons = explain(&wanted, &against);
        let lacking = state.nodes.iter().filter_map(|(node, _)| wanted.lacking(node));
        let again = lacking.map(|lacking| lacking.at_ms + Lacking::PASSED_OVER_MS);
        round.again_at_ms = round.again_at_ms.into_iter().chain(again).min();
        let unplaced = Unplaced { waiting, reasons, cause: first.cause.clone() };
        let told = round.unplaced.entry((app.clone(), name.clone()));
        told.and_modify(|told| told.waiting += waiting).or_insert(unplaced);
    }
}

fn rejoin<'a>(
    judged: Option<(Vec<Obstacle>, Score)>,
    node: &'a NodeName,
    order: &mut BTreeSet<(Score, &'a NodeName)>,
    against: &mut Vec<Vec<Obstacle>>,
) {
    match judged {
        Some((found, score)) if found.is_empty() => {
            order.insert((score, node));
        }
        Some((found, _)) => against.push(found),
        None => {}
    }
}

fn binds_volumes(spec: &WorkloadSpec, app: &cluster::state::App) -> bool {
    cluster::state::volumes_of(spec).any(|volume| !app.volumes.contains_key(volume))
}

/// Where the replicas of a workload are already, which is what spreading looks at.
struct Crowd<'a> {
    strategy: Strategy,
    label: Option<&'a str>,
    by_node: BTreeMap<NodeName, u64>,
    by_value: BTreeMap<Option<String>, u64>,
    /// How many on a node are replaced by one that is there too.
    replaced: BTreeMap<NodeName, u64>,
}

impl<'a> Crowd<'a> {
    fn of(
        state: &State,
        app: &AppKey,
        name: &WorkloadName,
        spec: &'a WorkloadSpec,
        round: &Round,
    ) -> Self {
        let placement = &spec.placement;
        let mut crowd = Self {
            strategy: placement.strategy,
            label: placement.spread_over.as_deref(),
            by_node: BTreeMap::new(),
            by_value: BTreeMap::new(),
            replaced: BTreeMap::new(),
        };
        for (_, replica) in state.replicas_of(app, name) {
            if let Some(node) = replica.node.as_ref().filter(|_| replica.retired.is_none()) {
                crowd.add(state, node, replica);
            }
        }
        for ((_, node), placed) in &round.placed {
            for placed in placed {
                let replica = state.replicas.get(&placed.id);
                if let Some(same) = replica.filter(|r| r.app == *app && r.workload == *name) {
                    crowd.add(state, node, same);
                }
            }
        }
        crowd
    }

    fn add(&mut self, state: &State, node: &NodeName, replica: &Replica) {
        *self.by_node.entry(node.clone()).or_default() += 1;
        if replaced_on(state, replica) == Some(node) {
            *self.replaced.entry(node.clone()).or_default() += 1;
        }
        if let (Some(label), Some(known)) = (self.label, state.nodes.get(node)) {
            *self.by_value.entry(known.label(label).map(str::to_owned)).or_default() += 1;
        }
    }

    fn on(&self, node: &NodeName) -> u64 {
        self.by_node.get(node).copied().unwrap_or(0)
    }

    fn replaced_on(&self, node: &NodeName) -> u64 {
        self.replaced.get(node).copied().unwrap_or(0)
    }

    fn spreads_over_label(&self) -> bool {
        self.label.is_some()
    }

    fn score(&self, at: &Candidate<'_>) -> Score {
        let value = self.label.map_or(0, |label| {
            let value = at.node.label(label).map(str::to_owned);
            self.by_value.get(&value).copied().unwrap_or(0)
        });
        let full = fullness_permille(at);
        match self.strategy {
            Strategy::Spread => (value, at.of_workload, full, at.load.replicas),
            Strategy::BinPack => (value, 1_000 - full.min(1_000), u64::MAX - at.load.replicas, 0),
        }
    }

    fn why(&self, score: Score) -> String {
        match self.strategy {
            Strategy::Spread if self.label.is_some() => format!(
                "where {} is the same there were {} of the workload, and nowhere fewer",
                self.label.unwrap_or_default(),
                score.0
            ),
            Strategy::Spread => {
                format!("it had {} of the workload, and none of them had fewer", score.1)
            }
            Strategy::BinPack => {
                format!("it was the fullest of them, with {} permille free", score.1)
            }
        }
    }
}

/// How full the node's scarcer resource is.
fn fullness_permille(at: &Candidate<'_>) -> u64 {
    let has = &at.node.description;
    let part = |used: u64, of: u64| used.saturating_mul(1_000).checked_div(of).unwrap_or(1_000);
    part(at.load.cpu_millis, has.cpu_millis).max(part(at.load.memory_bytes, has.memory_bytes))
}

#[cfg(test)]
mod tests;
