//! One round of placement: replicas that look for a node, and the nodes there are.
//!
//! Replicas of one workload are alike, so the nodes are filtered and sorted once for all of them;
//! after each placement only the chosen node moves in the order. Cost grows with nodes plus
//! replicas, not with their product.

mod moves;

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use cluster::State;
use cluster::state::{Cause, Lacking, Load, Node, Replica};
use schemas::event::{PassedOver, Unfit};
use schemas::id::{AppKey, NodeName, ReplicaId, Tenant, WorkloadName};
use schemas::spec::{Strategy, WorkloadSpec};

use crate::filter::{Candidate, Obstacle, Wanted, explain, obstacles, passed_over};

pub use moves::{MOVES_AT_ONCE, Stays, moves, on_the_way, stays};

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
    /// What kept it from other nodes as the round began.
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

/// The most reasons that are told of one workload.
const REASONS_MAX: usize = 64;

impl Unplaced {
    /// More of the workload that fit nowhere. A reason that others have too is told once; it is of
    /// more nodes when these are for a node of their own.
    fn add(&mut self, waiting: u64, reasons: Vec<Unfit>, for_one_node: bool) {
        self.waiting += waiting;
        for unfit in reasons {
            let more = self.reasons.len() < REASONS_MAX;
            match self.reasons.iter_mut().find(|told| told.reason == unfit.reason) {
                Some(told) if for_one_node => told.nodes += unfit.nodes,
                Some(told) => told.nodes = told.nodes.max(unfit.nodes),
                None if more => self.reasons.push(unfit),
                None => {}
            }
        }
    }
}

/// How good a node is; the smallest wins, and the name breaks ties.
type Score = (u64, u64, u64, u64);

/// Places everything that awaits a node, as far as it fits, up to `max` replicas.
#[must_use]
pub fn round(state: &State, max: usize, now_ms: u64) -> Round {
    let mut placing = Placing::begin(state, now_ms);
    for group in groups(state, max) {
        placing.place(&group);
    }
    let Placing { spots, placed, mut round, .. } = placing;
    let named = |(tenant, at): (&Tenant, usize)| (tenant.clone(), spots[at].name.clone());
    round.placed = placed.into_iter().map(|(key, placed)| (named(key), placed)).collect();
    round
}

/// A node as it is after what was placed on it in this round. Nodes go by their index, which is the
/// order of their names.
struct Spot<'a> {
    name: &'a NodeName,
    node: &'a Node,
    load: Cow<'a, Load>,
}

fn spots(state: &State) -> Vec<Spot<'_>> {
    let mut loads = state.index.loads.iter().peekable();
    let spot = |(name, node)| {
        while loads.next_if(|(other, _)| *other < name).is_some() {}
        let load = loads.next_if(|(other, _)| *other == name);
        let load = load.map_or_else(Cow::default, |(_, load)| Cow::Borrowed(load));
        Spot { name, node, load }
    };
    state.nodes.iter().map(spot).collect()
}

/// The node of the replica that another replaces, until that one is told to end.
fn replaced_on<'a>(state: &'a State, replica: &Replica) -> Option<&'a NodeName> {
    let replaced = state.replicas.get(replica.replaces.as_ref()?)?;
    replaced.node.as_ref().filter(|_| replaced.retired.is_none())
}

/// The node that another replica's move leads to, for the one that is to take its place.
fn moves_to<'a>(state: &'a State, replica: &Replica) -> Option<&'a NodeName> {
    replaced_on(state, replica)?;
    let moving = state.cluster.rebalance.moving(replica.replaces.as_ref()?)?;
    Some(&moving.to)
}

/// Replicas that are alike: of one workload and spec, for the same node if they are for one, and with
/// those they replace on the same node if it is counted how many are on one.
struct Group<'a> {
    app: &'a AppKey,
    workload: &'a WorkloadName,
    instead_on: Option<&'a NodeName>,
    /// The node that a move was planned to.
    moves_to: Option<&'a NodeName>,
    replicas: Vec<(&'a ReplicaId, &'a Replica)>,
    /// The position that the first of them was requested at.
    first: u64,
}

/// What awaits a node, by what is alike. Those of the higher priority come first, then those
/// requested first.
fn groups(state: &State, max: usize) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for (id, replica) in pending(state) {
        let Replica { app, workload, spec, only_node, .. } = replica;
        let counted = state.spec_of(replica).is_some_and(|s| s.placement.max_per_node.is_some());
        let instead_on = replaced_on(state, replica).filter(|_| counted);
        let moves_to = moves_to(state, replica);
        let (replicas, first) = (Vec::new(), u64::MAX);
        let new = || Group { app, workload, instead_on, moves_to, replicas, first };
        let alike = (app, workload, spec, only_node, instead_on, moves_to);
        let group = groups.entry(alike).or_insert_with(new);
        group.replicas.push((id, replica));
        group.first = group.first.min(replica.cause.position);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| {
        let workload = state.apps.get(group.app).and_then(|app| app.workloads.get(group.workload));
        let priority = workload.map_or(0, |workload| workload.conduct.priority);
        (Reverse(priority), group.first)
    });
    let mut left = max;
    for group in &mut groups {
        group.replicas.truncate(left);
        left -= group.replicas.len();
    }
    groups.retain(|group| !group.replicas.is_empty());
    groups
}

/// The replicas that await a node. Many are found by going through all, few one by one.
fn pending(state: &State) -> Vec<(&ReplicaId, &Replica)> {
    let pending = &state.index.pending;
    if pending.len().saturating_mul(16) < state.replicas.len() {
        return pending.iter().filter_map(|id| Some((id, state.replicas.get(id)?))).collect();
    }
    let all = state.replicas.iter();
    all.filter(|(_, replica)| replica.node.is_none()).collect()
}

/// A round that is being made.
struct Placing<'a> {
    state: &'a State,
    now_ms: u64,
    spots: Vec<Spot<'a>>,
    placed: BTreeMap<(&'a Tenant, usize), Vec<Placed>>,
    /// Where replicas of each workload went, and whether they replace one there.
    of_workload: BTreeMap<(&'a AppKey, &'a WorkloadName), Vec<(usize, bool)>>,
    round: Round,
}

/// Nodes that fit, the best first.
type Order = BinaryHeap<Reverse<(Score, usize)>>;

impl<'a> Placing<'a> {
    fn begin(state: &'a State, now_ms: u64) -> Self {
        Self {
            state,
            now_ms,
            spots: spots(state),
            placed: BTreeMap::new(),
            of_workload: BTreeMap::new(),
            round: Round::default(),
        }
    }

    fn place(&mut self, group: &Group<'a>) {
        let Group { app, workload: name, .. } = *group;
        let Some((_, first)) = group.replicas.first() else { return };
        let state = self.state;
        let (Some(known), Some(spec)) = (state.apps.get(app), state.spec_of(first)) else { return };
        let declared = known.workloads.get(name).filter(|workload| workload.spec == first.spec);
        let wanted = Wanted {
            app: known,
            spec,
            need: &first.need,
            only_node: group.moves_to.or(first.only_node.as_ref()),
            lacking: declared.map(|workload| &workload.lacking),
            now_ms: self.now_ms,
        };
        let mut crowd = Crowd::of(self, app, name, spec);
        crowd.instead_on = group.instead_on.and_then(|node| self.at(node));
        let mut against: Vec<Vec<Obstacle>> = Vec::new();
        let mut order: Order = self.fitting(0..self.spots.len(), &wanted, &crowd, &mut against);
        let over: Arc<[PassedOver]> = passed_over(&wanted, &against).into();
        let mut waiting = 0;
        for (id, replica) in &group.replicas {
            let Some(Reverse((score, at))) = order.pop() else {
                waiting += 1;
                continue;
            };
            let (fit, nodes) = (order.len() + 1, self.spots.len());
            let chosen = match group.moves_to {
                None => format!("{fit} of {nodes} nodes fit; {}", crowd.why(score)),
                Some(_) => "the one whose place it takes was to move here".to_owned(),
            };
            self.spots[at].load.to_mut().add(&replica.need);
            let replaces = replaced_on(state, replica) == Some(self.spots[at].name);
            crowd.add(at, self.spots[at].node, replaces);
            self.of_workload.entry((app, name)).or_default().push((at, replaces));
            let (cause, passed_over) = (replica.cause.clone(), over.clone());
            let placed = Placed { id: (*id).clone(), cause, chosen, passed_over };
            self.placed.entry((&app.tenant, at)).or_default().push(placed);
            if binds_volumes(spec, known) {
                // The first replica decides where its volumes live; the next round sees that.
                break;
            }
            // A group that spreads over a label is re-ordered whole: one placement moves every node
            // that has the same value.
            if crowd.label.is_some() {
                let nodes = order.drain().map(|Reverse((_, node))| node).chain([at]);
                let nodes: Vec<usize> = nodes.collect();
                order = self.fitting(nodes, &wanted, &crowd, &mut against);
            } else {
                order.extend(self.fitting([at], &wanted, &crowd, &mut against));
            }
        }
        if waiting > 0 {
            let reasons = explain(&wanted, &against);
            let lacking = state.nodes.iter().filter_map(|(node, _)| wanted.lacking(node));
            let again = lacking.map(|lacking| lacking.at_ms + Lacking::PASSED_OVER_MS);
            self.round.again_at_ms = self.round.again_at_ms.into_iter().chain(again).min();
            let cause = first.cause.clone();
            let unplaced = Unplaced { waiting: 0, reasons: Vec::new(), cause };
            let told = self.round.unplaced.entry((app.clone(), name.clone())).or_insert(unplaced);
            told.add(waiting, reasons, first.only_node.is_some());
        }
    }

    fn at(&self, node: &NodeName) -> Option<usize> {
        self.spots.binary_search_by(|spot| spot.name.cmp(node)).ok()
    }

    /// The nodes among these that fit, and what is against the others.
    fn fitting(
        &self,
        nodes: impl IntoIterator<Item = usize>,
        wanted: &Wanted<'_>,
        crowd: &Crowd<'a>,
        against: &mut Vec<Vec<Obstacle>>,
    ) -> Order {
        let judged = |at: usize| {
            let Spot { name, node, load } = &self.spots[at];
            let of_workload = crowd.by_node[at];
            let replaced = crowd.replaced[at] + u64::from(crowd.instead_on == Some(at));
            let candidate = Candidate { name, node, load, of_workload, replaced };
            let found = obstacles(wanted, &candidate);
            if found.is_empty() {
                return Some(Reverse((crowd.score(&candidate), at)));
            }
            against.push(found);
            None
        };
        nodes.into_iter().filter_map(judged).collect()
    }
}

fn binds_volumes(spec: &WorkloadSpec, app: &cluster::state::App) -> bool {
    cluster::state::volumes_of(spec).any(|volume| !app.volumes.contains_key(volume))
}

/// Where the replicas of a workload are already, which is what spreading looks at.
struct Crowd<'a> {
    strategy: Strategy,
    label: Option<&'a str>,
    by_node: Vec<u64>,
    by_value: BTreeMap<Option<&'a str>, u64>,
    /// How many on a node are replaced by one that is there too.
    replaced: Vec<u64>,
    /// Where those are that the next ones replace.
    instead_on: Option<usize>,
}

impl<'a> Crowd<'a> {
    fn of(
        placing: &Placing<'a>,
        app: &'a AppKey,
        name: &'a WorkloadName,
        spec: &'a WorkloadSpec,
    ) -> Self {
        let placement = &spec.placement;
        let spots = &placing.spots;
        let mut crowd = Self {
            strategy: placement.strategy,
            label: placement.spread_over.as_deref(),
            by_node: vec![0; spots.len()],
            by_value: BTreeMap::new(),
            replaced: vec![0; spots.len()],
            instead_on: None,
        };
        let there = placing.state.replicas_of(app, name);
        let there = there.filter(|(_, replica)| replica.retired.is_none());
        let there = there.filter_map(|(_, replica)| {
            let node = replica.node.as_ref()?;
            let replaces = replaced_on(placing.state, replica) == Some(node);
            Some((placing.at(node)?, replaces))
        });
        let come = placing.of_workload.get(&(app, name)).into_iter().flatten().copied();
        for (at, replaces) in there.chain(come) {
            crowd.add(at, spots[at].node, replaces);
        }
        crowd
    }

    fn add(&mut self, at: usize, node: &'a Node, replaces: bool) {
        self.by_node[at] += 1;
        self.replaced[at] += u64::from(replaces);
        if let Some(label) = self.label {
            *self.by_value.entry(node.label(label)).or_default() += 1;
        }
    }

    fn score(&self, at: &Candidate<'_>) -> Score {
        let value = self
            .label
            .map_or(0, |label| self.by_value.get(&at.node.label(label)).copied().unwrap_or(0));
        let full = fullness_permille(at.node, at.load);
        match self.strategy {
            Strategy::Spread => (value, at.of_workload, full, at.load.replicas),
            Strategy::BinPack => (value, 1_000 - full.min(1_000), u64::MAX - at.load.replicas, 0),
        }
    }

    fn why(&self, score: Score) -> String {
        match (self.strategy, self.label) {
            (Strategy::Spread, Some(label)) => format!(
                "where {label} is the same there were {} of the workload, and nowhere fewer",
                score.0
            ),
            (Strategy::Spread, None) => {
                format!("it had {} of the workload, and none of them had fewer", score.1)
            }
            (Strategy::BinPack, _) => {
                format!("it was the fullest of them, with {} permille free", score.1)
            }
        }
    }
}

/// How full the node's scarcer resource is.
fn fullness_permille(node: &Node, load: &Load) -> u64 {
    let has = &node.description;
    let part = |used: u64, of: u64| used.saturating_mul(1_000).checked_div(of).unwrap_or(1_000);
    part(load.cpu_millis, has.cpu_millis).max(part(load.memory_bytes, has.memory_bytes))
}

#[cfg(test)]
mod tests;
