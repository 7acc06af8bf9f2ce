//! What must hold of moves to better nodes, read from the history alone: each makes its workload better
//! spread, or no worse; another one is ready before the old one ends; and it comes to an end.

use std::collections::BTreeMap;

use schemas::envelope::Header;
use schemas::event::{Event, MovesPlanned, ReplicasRetired, RetireReason};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};

use crate::model::{Judged, Model, Replica, wrong};
use crate::near::Near;

/// How many moves there may be for each replica that there is. Each gains something, so far fewer do.
const MOVES_EACH: usize = 4;

/// What is moved.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    /// Whether it has begun and not ended.
    begun: bool,
    /// How many moves were planned since.
    planned: usize,
    /// Where what is to be moved goes.
    to: BTreeMap<ReplicaId, NodeName>,
    /// Where replicas of a workload were last retired.
    retired_at: BTreeMap<(AppKey, WorkloadName), u64>,
    /// Where nodes last came to be other than they were.
    nodes_at: u64,
    /// Who calls whom, and how far that is.
    pub(crate) near: Near,
}

impl Moves {
    /// Whether one has begun and not ended.
    pub(crate) fn are_under_way(&self) -> bool {
        self.begun
    }

    /// Where a replica was last retired, or nodes came to be other than they were.
    pub(crate) fn last_retired(&self) -> u64 {
        self.retired_at.values().max().copied().unwrap_or(0).max(self.nodes_at)
    }
}

impl Model {
    /// Judges what an event says of moves, then takes it in.
    pub(crate) fn judge(&mut self, at: &Header, event: &Event) -> Judged {
        match event {
            Event::RebalanceStarted(e) => {
                let by_itself = u64::from(!e.nodes.is_empty());
                *self.kinds.entry("a rebalancing began by itself").or_default() += by_itself;
                let for_calls = u64::from(!e.calls.is_empty());
                *self.kinds.entry("a rebalancing began for calls").or_default() += for_calls;
                if std::mem::replace(&mut self.moves.begun, true) {
                    return wrong("one-rebalancing", format!("another began at {}", at.position));
                }
                self.moves.planned = 0;
            }
            Event::RebalanceEnded(_) => {
                self.moves.begun = false;
                self.moves.to.clear();
            }
            Event::MovesPlanned(e) => {
                self.check_gain(at, e)?;
                self.moves.planned += e.moves.len();
                if self.moves.planned > MOVES_EACH * (self.replicas.len() + 4) {
                    return wrong("comes-to-rest", "replicas are moved again and again");
                }
                let to = e.moves.iter().map(|one| (one.replica.clone(), one.to.clone()));
                self.moves.to.extend(to);
            }
            Event::ReplicasRetired(e) => {
                if e.reason == RetireReason::Rebalanced {
                    self.check_moved(at, e)?;
                }
                let of = (e.app.clone(), e.workload.clone());
                self.moves.retired_at.insert(of, at.position);
            }
            Event::CallsMeasured(e) => self.note_calls(at, e),
            Event::AppDeployed(_) | Event::AppDeleteStarted(_) => self.moves.near.changed(at),
            Event::NodeLabelled(_) | Event::NodeRemoved(_) | Event::NodeDescribed(_) => {
                self.moves.nodes_at = at.position;
            }
            _ => {}
        }
        self.apply(at, event)
    }

    /// A move makes its workload better spread, or no worse: judged on what the scheduler had seen, where
    /// nothing of it changed since.
    fn check_gain(&mut self, at: &Header, e: &MovesPlanned) -> Judged {
        if !self.moves.begun {
            return wrong("one-rebalancing", format!("moves without one at {}", at.position));
        }
        let basis = at.basis.map_or(0, |basis| basis.position);
        let of = (e.app.clone(), e.workload.clone());
        let ends = [self.moves.retired_at.get(&of), self.ended_at.get(&of)];
        let last = ends.into_iter().flatten().max().copied().unwrap_or(0);
        let workload = self.apps.get(&e.app).and_then(|app| app.workloads.get(&e.workload));
        let Some(workload) = workload.filter(|_| last.max(self.moves.nodes_at) <= basis) else {
            return Ok(());
        };
        let live = |r: &&Replica| r.app == e.app && r.workload == e.workload && !r.retired;
        let label = workload.spec.placement.spread_over.as_deref();
        let value = |name: &NodeName| label.and_then(|l| self.nodes.get(name)?.label(l));
        let count = |here: &dyn Fn(&NodeName) -> bool| {
            let live = self.replicas.values().filter(live);
            live.filter(|r| r.node.as_ref().is_some_and(here)).count()
        };
        let mut spread = Vec::new();
        for one in &e.moves {
            let (from, to) = (&one.from, &one.to);
            if label.is_some() && value(from) != value(to) {
                let has = count(&|node| value(node) == value(from));
                let gets = count(&|node| value(node) == value(to));
                if has > gets + 1 {
                    spread.push(true);
                    continue;
                }
                if has <= gets {
                    return wrong("moves-gain", format!("{has} to {gets}: {one:?}"));
                }
            }
            let (has, gets) = (count(&|node| node == from), count(&|node| node == to));
            if has <= gets {
                return wrong("moves-gain", format!("{has} to {gets}: {one:?}"));
            }
            spread.push(has > gets + 1);
        }
        // What spreads nothing better makes calls no farther.
        let mut moves = e.moves.iter().zip(spread);
        moves.try_for_each(|(one, spreads)| self.check_near(at, e, one, spreads))
    }

    /// What was moved was planned to be, and another one is ready where it was to go.
    fn check_moved(&mut self, at: &Header, e: &ReplicasRetired) -> Judged {
        let basis = at.basis.map_or(0, |basis| basis.position);
        for id in &e.replicas {
            let Some(to) = self.moves.to.remove(id) else {
                return wrong("moves-first", format!("{id} was not to be moved"));
            };
            let other = self.replicas.values().find(|r| r.replaces.as_ref() == Some(id));
            let serves = |r: &Replica| r.node.as_ref() == Some(&to) && !r.retired;
            // It may have broken since the controller looked.
            let there = other.is_some_and(|r| serves(r) && (r.ready || r.heard_at > basis));
            let ended_since = self.ended_at.get(&(e.app.clone(), e.workload.clone()));
            if !there && ended_since <= Some(&basis) {
                return wrong("moves-first", format!("{id} ends, and no other is on {to}"));
            }
            *self.kinds.entry("a replica was moved").or_default() += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node, replica, workload};
    use schemas::event::{
        AppDeployed, CommandAccepted, Move, RebalanceStarted, ReplicaReady, ReplicaUnready,
        ReplicasPlaced, ReplicasRequested, RequestedReplica, RunStarted,
    };
    use schemas::id::{CommandId, Writer};
    use schemas::spec::{AppSpec, WorkloadSpec};

    use super::*;

    /// An app of two replicas on `n1`, both ready, and an empty `n2`.
    fn running() -> (History, CommandId) {
        let mut history = History::default();
        history.node("n1", 4, 4).node("n2", 4, 4);
        let id = CommandId::new("c1").expect("an id");
        let mut web = WorkloadSpec { replicas: 2, ..WorkloadSpec::of_image("web:1") };
        web.min_ready = Some(2);
        let workloads = [(workload("web"), web.clone())].into();
        let spec = AppSpec { name: app("shop").name, workloads };
        let accepted = CommandAccepted {
            command: id.clone(),
            verb: "app.deploy".to_owned(),
            sequence: 1,
            proved: true,
            reason: None,
        };
        let started = RebalanceStarted { app: None, nodes: Vec::new(), calls: Vec::new() };
        let deployed = AppDeployed { app: app("shop"), revision: 1, spec };
        let events = vec![accepted.into(), deployed.into(), started.into()];
        history.caused(&Writer::Controller, events, Some(id.clone()));
        for name in ["shop-web-a", "shop-web-b"] {
            come(&mut history, &id, name, None, "n1", true);
        }
        (history, id)
    }

    fn come(
        history: &mut History,
        id: &CommandId,
        name: &str,
        replaces: Option<&str>,
        on: &str,
        ready: bool,
    ) {
        let spec = history.fold.state().apps.get(&app("shop")).expect("it is there");
        let spec = spec.workloads[&workload("web")].spec.clone();
        let one =
            RequestedReplica { id: replica(name), replaces: replaces.map(replica), node: None };
        let (app, workload, replicas) = (app("shop"), workload("web"), vec![one]);
        let (revision, generation) = (1, 0);
        let asked = ReplicasRequested { app, workload, revision, generation, spec, replicas };
        history.caused(&Writer::Controller, vec![asked.into()], Some(id.clone()));
        let (replicas, chosen, passed_over) = (vec![replica(name)], String::new(), Vec::new());
        let placed = ReplicasPlaced { node: node(on), replicas, chosen, passed_over };
        history.caused(&Writer::Scheduler, vec![placed.into()], Some(id.clone()));
        let (endpoints, inside, container) = (Vec::new(), None, "c".to_owned());
        let begun = RunStarted { replica: replica(name), run: 1, container, endpoints, inside };
        history.add(&Writer::Agent(node(on)), begun);
        if ready {
            let is_ready = ReplicaReady { replica: replica(name), run: 1 };
            history.add(&Writer::Agent(node(on)), is_ready);
        }
    }

    fn plan(history: &mut History, name: &str, from: &str, to: &str) {
        let (from, to, gain) = (node(from), node(to), String::new());
        let (pulls, measured_at) = (false, None);
        let one = Move { replica: replica(name), from, to, gain, pulls, measured_at };
        let (app, workload, moves) = (app("shop"), workload("web"), vec![one]);
        history.add(&Writer::Scheduler, MovesPlanned { app, workload, moves });
    }

    fn end(history: &mut History, names: &[&str]) {
        let replicas = names.iter().map(|name| replica(name)).collect();
        let (app, workload, reason) = (app("shop"), workload("web"), RetireReason::Rebalanced);
        let event = ReplicasRetired { app, workload, replicas, reason, leaving: false };
        history.add(&Writer::Controller, event);
    }

    fn judged(history: &History) -> Result<(), &'static str> {
        let mut model = Model::new();
        let judged = history.entries.iter().try_for_each(|bytes| model.read(bytes));
        judged.map_err(|(check, _)| check)
    }

    #[test]
    fn a_move_as_it_should_be_is_let_be() {
        let (mut history, id) = running();
        plan(&mut history, "shop-web-a", "n1", "n2");
        come(&mut history, &id, "shop-web-c", Some("shop-web-a"), "n2", true);
        end(&mut history, &["shop-web-a"]);
        assert_eq!(judged(&history), Ok(()));
    }

    #[test]
    fn one_that_ends_before_another_is_there_is_noticed() {
        let (mut history, id) = running();
        plan(&mut history, "shop-web-a", "n1", "n2");
        let mut early = history.clone();
        end(&mut early, &["shop-web-a"]);
        assert_eq!(judged(&early), Err("moves-first"));
        come(&mut history, &id, "shop-web-c", Some("shop-web-a"), "n2", false);
        end(&mut history, &["shop-web-a"]);
        assert_eq!(judged(&history), Err("moves-first"));
    }

    #[test]
    fn one_that_was_not_planned_is_noticed() {
        let (mut history, id) = running();
        come(&mut history, &id, "shop-web-c", Some("shop-web-a"), "n2", true);
        end(&mut history, &["shop-web-a"]);
        assert_eq!(judged(&history), Err("moves-first"));
    }

    #[test]
    fn moves_below_the_floor_are_noticed() {
        let (mut history, id) = running();
        plan(&mut history, "shop-web-a", "n1", "n2");
        come(&mut history, &id, "shop-web-c", Some("shop-web-a"), "n2", true);
        let (replica, output) = (replica("shop-web-b"), "503".to_owned());
        history.add(&Writer::Agent(node("n1")), ReplicaUnready { replica, run: 1, output });
        end(&mut history, &["shop-web-a"]);
        assert_eq!(judged(&history), Err("floor"));
    }

    #[test]
    fn a_move_that_gains_nothing_is_noticed() {
        let (mut history, id) = running();
        come(&mut history, &id, "shop-web-c", Some("shop-web-a"), "n2", true);
        plan(&mut history, "shop-web-c", "n2", "n1");
        assert_eq!(judged(&history), Err("moves-gain"));
    }

    #[test]
    fn moving_without_end_is_noticed() {
        let (mut history, _) = running();
        for _ in 0..100 {
            plan(&mut history, "shop-web-a", "n1", "n2");
        }
        assert_eq!(judged(&history), Err("comes-to-rest"));
    }
}
