//! A cluster as it would go on: the real rules decide, and every node does what it is asked at once.

use std::collections::BTreeMap;

use cluster::state::{AppStatus, Cause, NodeStatus, Phase, Replica};
use cluster::{Fold, FoldError, State};
use controller::Controller;
use controller::Heard;
use controller::commands::CommandMessage;
use decider::{Now, Rules as _, draft};
use scheduler::Scheduler;
use schemas::append::Draft;
use schemas::envelope::Envelope;
use schemas::event::{CommandRejected, Evidence};
use schemas::event::{Event, Outcome, ReplicaEnded, ReplicaReady, RunEnded, RunStarted};
use schemas::id::{AppKey, NodeName, ReplicaId, Writer};
use schemas::spec::Mode;

use super::ledger::Ledger;

/// The most rounds that are looked at. A rollout takes a handful a replica, and an app has at most a few
/// thousand.
const ROUNDS_MAX: usize = 50_000;

/// A cluster in which one app is looked after, or every one.
pub(super) struct World {
    ledger: Ledger,
    controller: Controller,
    scheduler: Scheduler,
    only: Option<AppKey>,
    now: Now,
}

/// What it came to.
pub(super) struct After {
    pub(super) fold: Fold,
    pub(super) events: Vec<Envelope>,
}

impl After {
    pub(super) fn state(&self) -> &State {
        self.fold.state()
    }

    /// Why the command would not be carried out.
    pub(super) fn rejected(&self) -> Option<&CommandRejected> {
        self.events.iter().find_map(|envelope| match &envelope.event {
            Event::CommandRejected(rejected) => Some(rejected),
            _ => None,
        })
    }
}

impl World {
    pub(super) fn new(fold: Fold, only: Option<AppKey>, now: Now) -> Self {
        let mut ledger = Ledger::new(fold);
        let state = ledger.fold.state_mut();
        let every: Vec<AppKey> = state.apps.iter().map(|(key, _)| key.clone()).collect();
        state.touched.apps.extend(every);
        let (controller, scheduler) = Default::default();
        Self { ledger, controller, scheduler, only, now }
    }

    /// Something happens of which nobody here decides.
    pub(super) fn suppose(&mut self, writer: &Writer, events: Vec<Event>) -> Result<(), FoldError> {
        let actor = writer.to_string();
        let drafts =
            events.into_iter().map(|e| draft(e, None, &actor, &Cause::default(), self.now));
        self.record(writer, drafts.collect()).map(|_| ())
    }

    /// Lets commands arrive, one after the other, and everything that follows from them follow.
    pub(super) fn run(
        mut self,
        messages: impl IntoIterator<Item = CommandMessage>,
    ) -> Result<After, FoldError> {
        for message in messages {
            self.controller.input(Heard::Command(message), self.ledger.fold.state(), self.now);
            self.decide()?;
        }
        for _ in 0..ROUNDS_MAX {
            let (mut decided, wake_ms) = self.decide()?;
            decided += self.act()?;
            if decided > 0 {
                continue;
            }
            // Nothing more happens by itself; what waits for time to pass gets it.
            match wake_ms.filter(|_| !self.is_settled()) {
                Some(at) => self.pass(at.saturating_sub(self.now.mono_ms).max(1)),
                None => break,
            }
        }
        Ok(After { fold: self.ledger.fold, events: self.ledger.recorded })
    }

    fn pass(&mut self, ms: u64) {
        self.now = Now { utc_ms: self.now.utc_ms + ms, mono_ms: self.now.mono_ms + ms };
    }

    fn cares_for(&self, app: &AppKey) -> bool {
        self.only.as_ref().is_none_or(|only| only == app)
    }

    /// Whether every app has got where it goes.
    fn is_settled(&self) -> bool {
        // Where one app is looked after, what others would do for a move does not happen here.
        if self.only.is_none() && self.ledger.fold.state().cluster.rebalance.now.is_some() {
            return false;
        }
        let mut apps = self.ledger.fold.state().apps.iter().filter(|(key, _)| self.cares_for(key));
        apps.all(|(_, app)| matches!(app.status, AppStatus::Converged | AppStatus::Stalled { .. }))
    }

    /// A round of the controller and one of the scheduler. Says how many events, and when to ask again.
    fn decide(&mut self) -> Result<(usize, Option<u64>), FoldError> {
        let state = self.ledger.fold.state_mut();
        if let Some(only) = &self.only {
            state.touched.apps.retain(|touched| touched == only);
        }
        let decision = self.controller.decide(state, self.now);
        let wake_ms = decision.wake_ms;
        let mut decided = self.record(&Writer::Controller, decision.events)?;
        let placed = self.scheduler.decide(self.ledger.fold.state_mut(), self.now);
        decided += self.record(&Writer::Scheduler, placed.events)?;
        Ok((decided, wake_ms))
    }

    /// What nodes do: start what was placed, which becomes ready, and end what was retired.
    fn act(&mut self) -> Result<usize, FoldError> {
        let state = self.ledger.fold.state();
        let mut told: BTreeMap<NodeName, Vec<Draft>> = BTreeMap::new();
        for (id, replica) in state.replicas.iter().filter(|(_, r)| self.cares_for(&r.app)) {
            let Some(node) = &replica.node else { continue };
            let heard = state.nodes.get(node).is_some_and(|node| node.status == NodeStatus::Ready);
            if !heard {
                continue;
            }
            let actor = Writer::Agent(node.clone()).to_string();
            let tenant = &replica.app.tenant;
            let events = done(state, id, replica).into_iter();
            let drafts =
                events.map(|e| draft(e, Some(tenant), &actor, &Cause::default(), self.now));
            told.entry(node.clone()).or_default().extend(drafts);
        }
        let mut count = 0;
        for (node, drafts) in told {
            count += self.record(&Writer::Agent(node), drafts)?;
        }
        Ok(count)
    }

    fn record(&mut self, writer: &Writer, drafts: Vec<Draft>) -> Result<usize, FoldError> {
        if drafts.is_empty() {
            return Ok(0);
        }
        self.ledger.record(writer, drafts, self.now.utc_ms)
    }
}

/// What becomes of a replica on its node. One that runs already stays as it is, and nothing is under way
/// on one that must go.
fn done(state: &State, id: &ReplicaId, replica: &Replica) -> Vec<Event> {
    let ended = |outcome| ReplicaEnded { replica: id.clone(), outcome }.into();
    if replica.retired.is_some() {
        return vec![ended(Outcome::Stopped)];
    }
    if replica.phase != Phase::Placed {
        return Vec::new();
    }
    let run = replica.run + 1;
    let started = RunStarted {
        replica: id.clone(),
        run,
        container: String::new(),
        endpoints: Vec::new(),
        inside: None,
    };
    let job = state.spec_of(replica).is_some_and(|spec| spec.mode == Mode::Job);
    if job {
        let evidence = Evidence { exit_code: Some(0), ..Evidence::default() };
        let over = RunEnded { replica: id.clone(), run, evidence, retry_ms: None };
        return vec![started.into(), over.into(), ended(Outcome::Completed)];
    }
    vec![started.into(), ReplicaReady { replica: id.clone(), run }.into()]
}
