//! What is done to an app while requests come in: ten replicas on three hosts, a gateway on each.
//!
//! A scene is one kind of action, as often as it is told to, on one cluster. What may fail is said in the
//! scene; all else that fails is a fault of ours.

mod cut;
mod gateway;
mod replace;
mod shrink;
mod stage;

use std::fmt;

use crate::load::Outcome;
use stage::Stage;

/// An action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Every replica is replaced by one of another revision.
    Rolling,
    /// Ten replicas, then three, then ten.
    Scale,
    /// A replica is killed: only POSTs that were under way on it may fail.
    Kill,
    /// A node is drained.
    Drain,
    /// A canary that is promoted, step by step.
    Canary,
    /// A canary that answers with errors and is taken back.
    Rollback,
    /// A node is cut off: what begins two seconds later is not slowed by it.
    Cut,
    /// A gateway is replaced by its next process, with NATS and without.
    Gateway,
}

/// What came of a scene.
#[derive(Debug, Default)]
pub struct Report {
    /// How often it was done.
    pub rounds: usize,
    /// How many requests there were meanwhile.
    pub requests: u64,
    /// How many of them failed that may have, as the scene says.
    pub excused: u64,
    /// The slowest answer, in ms.
    pub slowest_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, requests, excused, slowest_ms } = self;
        write!(
            out,
            "{rounds} rounds, {requests} requests, 0 failed but for {excused} that may; slowest {slowest_ms} ms"
        )
    }
}

/// Plays a scene so many times.
///
/// # Panics
///
/// When a request fails that may not, or the action itself does. Hosts of their own need root.
#[must_use]
pub fn play(scene: Scene, rounds: usize) -> Report {
    let mut stage = Stage::set();
    let mut report = Report { rounds, ..Report::default() };
    for round in 0..rounds {
        let outcome = match scene {
            Scene::Rolling => replace::rolling(&mut stage),
            Scene::Canary => replace::canary(&mut stage),
            Scene::Rollback => replace::rollback(&mut stage),
            Scene::Scale => shrink::scale(&stage),
            Scene::Kill => shrink::kill(&stage, round),
            Scene::Drain => shrink::drain(&stage, round),
            Scene::Cut => cut::cut(&stage, round),
            Scene::Gateway => gateway::gateway(&mut stage, round),
        };
        eprintln!("{scene:?}, round {}: {outcome}", round + 1);
        report.take(&outcome);
    }
    stage.verified();
    report
}

impl Report {
    fn take(&mut self, outcome: &Outcome) {
        self.requests += outcome.asked;
        self.excused += u64::try_from(outcome.failures.len()).unwrap_or(u64::MAX);
        self.slowest_ms = self.slowest_ms.max(outcome.took_ms(1_000));
    }
}
