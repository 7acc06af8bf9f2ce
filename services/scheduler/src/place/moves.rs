//! Which replicas another node is better for: where one more would go by the rules of a round, and
//! whether anything is gained by having it there.
//!
//! What a move may change is, in this order: how a workload is spread over a label, how over nodes, what calls
//! between workloads cost together (`cluster::near`), how evenly nodes are full, and how many replicas they
//! have; all but the third as a sum of squares. A move makes the first of these that it changes smaller. So no
//! placement ever comes again, and moving ends.

mod gain;
mod stays;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use cluster::State;
use cluster::near::Near;
use cluster::state::{Admission, App, Load, NodeStatus, Phase, Rebalancing, Replica, Workload};
use schemas::event::{Move, MovesPlanned};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};

use super::{Crowd, Placing};
use crate::filter::Wanted;

pub use stays::{Stays, stays};

/// How many replicas are moved at a time; of a workload it is one.
pub const MOVES_AT_ONCE: usize = 4;

/// For how long a move may take beyond what its workload says of it, in ms.
const PATIENCE_MS: u64 = 60_000;

/// What should be moved next: none when nothing is gained by any move.
#[must_use]
pub fn moves(state: &State, of: &Rebalancing, now_ms: u64) -> Vec<MovesPlanned> {
    let mut plan = Plan::new(state, of, now_ms);
    for (key, app) in state.apps.iter().filter(|(key, _)| is_meant(of.app.as_ref(), key)) {
        for (name, workload) in &app.workloads {
            if plan.moves.len() < MOVES_AT_ONCE {
                plan.consider(key, app, name, workload);
            }
        }
    }
    plan.moves
}

fn is_meant(only: Option<&AppKey>, key: &AppKey) -> bool {
    only.is_none_or(|only| only == key)
}

/// Until when what was planned may be on its way, in ms since 1970; none when nothing is.
#[must_use]
pub fn on_the_way(state: &State, of: &Rebalancing) -> Option<u64> {
    let known = of.moves.iter().filter_map(|(id, moving)| Some((state.replicas.get(id)?, moving)));
    let known = known.filter(|(replica, _)| !state.is_unknown(replica));
    let ends = known.map(|(replica, moving)| {
        let workload =
            state.apps.get(&replica.app).and_then(|a| a.workloads.get(&replica.workload));
        let conduct = workload.map(|workload| &workload.conduct);
        let may = conduct.map_or(0, |conduct| {
            let update = &conduct.update;
            let comes = update.deadline_ms.saturating_add(update.healthy_for_ms);
            comes.saturating_add(conduct.drain_ms)
        });
        moving.since_ms.saturating_add(may).saturating_add(PATIENCE_MS)
    });
    ends.max()
}

/// A plan in the making.
struct Plan<'a> {
    state: &'a State,
    of: &'a Rebalancing,
    /// Nodes as the replicas that are to come will find them.
    placing: Placing<'a>,
    /// Nodes as they will be when all is over.
    after: Vec<Load>,
    /// Who calls whom, where they will be then.
    near: Near<'a>,
    moves: Vec<MovesPlanned>,
}

/// A replica that may be moved, of those that are alike on its node.
type Source<'a> = (&'a ReplicaId, &'a Replica);

impl<'a> Plan<'a> {
    fn new(state: &'a State, of: &'a Rebalancing, now_ms: u64) -> Self {
        let placing = Placing::begin(state, now_ms);
        let after = placing.spots.iter().map(|spot| spot.load.clone().into_owned()).collect();
        Self { state, of, placing, after, near: Near::of(state), moves: Vec::new() }
    }

    /// Plans the move of a workload that gains most, if any gains anything.
    fn consider(&mut self, key: &'a AppKey, app: &'a App, name: &'a WorkloadName, w: &'a Workload) {
        let Some(spec) = app.specs.get(&w.spec).filter(|_| w.declared) else { return };
        if stays::why(self.state, key, app, name, w).is_some() {
            return;
        }
        let Some(sources) = self.sources(key, name) else { return };
        let Some((_, first)) = sources.values().next() else { return };
        let wanted = Wanted {
            app,
            spec,
            need: &first.need,
            only_node: None,
            lacking: Some(&w.lacking),
            now_ms: self.placing.now_ms,
        };
        let crowd = Crowd::of(&self.placing, key, name, spec);
        let nodes = 0..self.placing.spots.len();
        let mut fitting = self.placing.fitting(nodes, &wanted, &crowd, &mut Vec::new());
        let mut around = self.near.around((key, name));
        let mut gains = Vec::new();
        // Where another one would go; and where it is near what it has to do with, any that fits.
        while let Some(Reverse((_, to))) = fitting.pop() {
            for (from, source) in &sources {
                let gain = self.gain(&crowd, around.as_mut(), &source.1.need, *from, to);
                gains.extend(gain.map(|gain| (gain, *from, to, *source)));
            }
            if around.is_none() {
                break;
            }
        }
        drop(around);
        // Of two that gain the same, the first node's, and to where another one would rather go.
        let ranked = gains.into_iter().enumerate();
        let most =
            ranked.max_by_key(|(rank, (gain, from, ..))| (gain.by, Reverse(*from), Reverse(*rank)));
        let Some((_, (gain, from, to, (id, replica)))) = most else { return };
        self.placing.spots[to].load.to_mut().add(&replica.need);
        self.after[to].add(&replica.need);
        self.after[from].remove(&replica.need);
        self.near.carry((key, name), self.placing.spots[from].name, self.placing.spots[to].name);
        let one = Move {
            replica: id.clone(),
            from: self.placing.spots[from].name.clone(),
            to: self.placing.spots[to].name.clone(),
            gain: gain.told,
            measured_at: gain.measured_at,
            pulls: !self.has_image(self.placing.spots[to].name, &spec.image),
        };
        let (app, workload) = (key.clone(), name.clone());
        self.moves.push(MovesPlanned { app, workload, moves: vec![one] });
    }

    /// One replica of each node that it may be moved from. None when a move of the workload has come
    /// to nothing already.
    fn sources(&self, key: &AppKey, name: &WorkloadName) -> Option<BTreeMap<usize, Source<'a>>> {
        let mut sources = BTreeMap::new();
        for (id, replica) in self.state.replicas_of(key, name).filter(|(_, r)| r.retired.is_none())
        {
            if self.of.stayed.contains(id) {
                return None;
            }
            let at = self.placing.at(replica.node.as_ref()?)?;
            let node = self.placing.spots[at].node;
            // A drain takes it away from there by itself.
            let stands = node.status == NodeStatus::Ready && node.admission != Admission::Draining;
            if stands && replica.phase == Phase::Ready {
                sources.entry(at).or_insert((id, replica));
            }
        }
        Some(sources)
    }

    fn has_image(&self, node: &NodeName, image: &str) -> bool {
        let mut there = self.state.replicas_on(node);
        there.any(|(_, r)| self.state.spec_of(r).is_some_and(|spec| spec.image == image))
    }
}

#[cfg(test)]
mod tests;
