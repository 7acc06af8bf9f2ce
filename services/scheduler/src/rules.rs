//! The scheduler as one set of rules: a round when something may fit, documents when nodes changed.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use decider::{Decision, Now, Rules, draft};
use schemas::event::{ENTRIES_MAX, RebalanceEnded, ReplicasPlaced, ReplicasUnplaced, Unfit};
use schemas::id::{NodeName, ReplicaId, Writer};
use schemas::place::Place;
use schemas::report::Heartbeat;

use crate::documents::{Documents, Write};
use crate::place::{Placed, Round, moves, on_the_way, round};

/// How many replicas one round places: 500 bytes each at most, well below what a batch may hold.
const REPLICAS_PER_ROUND: usize = 2_000;

/// The scheduler's rules.
#[derive(Debug, Default)]
pub struct Scheduler {
    documents: Documents,
    /// Nodes whose agents do not hold what was written for them.
    again: BTreeSet<NodeName>,
    /// When nodes that lacked an image may be tried again, in ms since 1970.
    try_again_ms: Option<u64>,
}

impl Rules for Scheduler {
    type Input = Heartbeat;
    type Output = Write;

    fn writer(&self) -> Writer {
        Writer::Scheduler
    }

    fn input(&mut self, heartbeat: Heartbeat, state: &State, now: Now) {
        // One that was removed must hear that nothing is to run there, from whoever leads now.
        let removed = !state.nodes.contains(&heartbeat.node);
        if self.documents.heard(&heartbeat, now) || (removed && self.documents.lacks(&heartbeat)) {
            self.again.insert(heartbeat.node);
        }
    }

    fn decide(&mut self, state: &mut State, now: Now) -> Decision {
        state.touched.room |= self.try_again_ms.is_some_and(|at| at <= now.utc_ms);
        let mut decision = Decision::default();
        if state.touched.room {
            let round = round(state, REPLICAS_PER_ROUND, now.utc_ms);
            self.try_again_ms = round.again_at_ms;
            decision = decided(state, round, now);
            // With something in flight the state will change, and what is left is looked at again.
            state.touched.room = !decision.events.is_empty();
        }
        if decision.events.is_empty() {
            rebalance(state, now, &mut decision);
        }
        if let Some(at) = self.try_again_ms {
            decision.wake_at(now.mono_ms + at.saturating_sub(now.utc_ms).max(1));
        }
        decision
    }

    fn reflect(&mut self, state: &mut State, place: Place, now: Now) -> Vec<Write> {
        state.touched.nodes.extend(std::mem::take(&mut self.again));
        self.documents.reflect(state, place, now)
    }

    fn exists(&mut self, _: &str) {}

    fn lead(&mut self, _: &State, _: Now) {
        self.try_again_ms = None;
        self.documents.clear();
    }
}

/// Plans the next moves once those before are over, or says that there are none.
fn rebalance(state: &State, now: Now, decision: &mut Decision) {
    let Some(of) = &state.cluster.rebalance.now else { return };
    let actor = Writer::Scheduler.to_string();
    let until = on_the_way(state, of);
    if let Some(at) = until.filter(|at| now.utc_ms < *at) {
        decision.wake_at(now.mono_ms + at.saturating_sub(now.utc_ms).max(1));
        return;
    }
    // What had its time and is still on its way is given up, and all else with it.
    let next = if until.is_none() { moves(state, of, now.utc_ms) } else { Vec::new() };
    for event in next {
        let tenant = event.app.tenant.clone();
        decision.events.push(draft(event, Some(&tenant), &actor, &of.cause, now));
    }
    if decision.events.is_empty() {
        let late = of
            .moves
            .keys()
            .filter(|id| state.replicas.get(*id).is_some_and(|replica| replica.retired.is_none()));
        let stayed = of.stayed.iter().chain(late).take(ENTRIES_MAX).cloned().collect();
        let event = RebalanceEnded { planned: of.planned, stayed };
        decision.events.push(draft(event, None, &actor, &of.cause, now));
    }
}

fn decided(state: &State, round: Round, now: Now) -> Decision {
    let mut decision = Decision::default();
    let actor = Writer::Scheduler.to_string();
    for ((tenant, node), placed) in round.placed {
        for (first, replicas) in alike(placed) {
            for part in replicas.chunks(ENTRIES_MAX) {
                let event = ReplicasPlaced {
                    node: node.clone(),
                    replicas: part.to_vec(),
                    chosen: first.chosen.clone(),
                    passed_over: first.passed_over.to_vec(),
                };
                decision.events.push(draft(event, Some(&tenant), &actor, &first.cause, now));
            }
        }
    }
    for ((app, workload), unplaced) in round.unplaced {
        let told = state.apps.get(&app).and_then(|known| known.workloads.get(&workload));
        if told.is_some_and(|told| same_kinds(&told.unplaced, &unplaced.reasons)) {
            continue;
        }
        let tenant = app.tenant.clone();
        let event = ReplicasUnplaced {
            app,
            workload,
            waiting: unplaced.waiting,
            reasons: unplaced.reasons,
        };
        decision.events.push(draft(event, Some(&tenant), &actor, &unplaced.cause, now));
    }
    decision.events.truncate(schemas::append::EVENTS_MAX);
    decision
}

/// Placements that follow from one event make one event, with the reason of the first.
fn alike(placed: Vec<Placed>) -> Vec<(Placed, Vec<ReplicaId>)> {
    let mut groups: BTreeMap<u64, (Placed, Vec<ReplicaId>)> = BTreeMap::new();
    for one in placed {
        let id = one.id.clone();
        let group = groups.entry(one.cause.position).or_insert_with(|| (one, Vec::new()));
        group.1.push(id);
    }
    groups.into_values().collect()
}

/// Whether two explanations differ in numbers only, which is no news worth an event.
fn same_kinds(told: &[Unfit], now: &[Unfit]) -> bool {
    let kinds = |reasons: &[Unfit]| -> Vec<(String, u64)> {
        let kind = |unfit: &Unfit| unfit.reason.split(", at most").next().map(str::to_owned);
        reasons.iter().map(|unfit| (kind(unfit).unwrap_or_default(), unfit.nodes)).collect()
    };
    kinds(told) == kinds(now)
}
