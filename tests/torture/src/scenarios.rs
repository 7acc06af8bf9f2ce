//! The scenarios: one row and one file each.
//!
//! To add one: a file with `run`, a row in the table, a line in the dispatch. A slice is what
//! `make test` runs of it; a scenario without one takes too long for that.

mod bitflip;
mod disk_full;
mod kill_log;
mod kill_nats;
mod power_cut;
mod repair;
mod takeover;
mod torn_tail;
mod under_load;
pub(crate) mod upgrade;

use runtime::Failure;
use tests::under_load::Scene;

use crate::run::{Checked, Run};

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Scenario {
    /// Its name.
    pub(crate) name: &'static str,
    /// What is done, and what must hold.
    pub(crate) what: &'static str,
    /// How many rounds its claim needs.
    pub(crate) rounds: u32,
    /// How many `make test` runs; none when it is too slow, or another test runs a few.
    pub(crate) slice: Option<u32>,
}

/// Every scenario.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill-log",
        what: "kill -9 of event-log under load: what was answered is there once, and nothing is \
               published that is not stored",
        rounds: 100,
        slice: Some(3),
    },
    Scenario {
        name: "kill-nats",
        what: "kill -9 of nats-server, alone and with event-log: the stream is as the log again",
        rounds: 100,
        slice: Some(3),
    },
    Scenario {
        name: "power-cut",
        what: "the disk as a power cut would leave it: all that was published is there; without \
               fsync it is not (root)",
        rounds: 60,
        slice: Some(2),
    },
    Scenario {
        name: "torn-tail",
        what: "the last group torn at every byte, in four ways: the log opens by itself, without that \
               group or with all of it",
        rounds: 4_000,
        slice: Some(24),
    },
    Scenario {
        name: "disk-full",
        what: "a full disk under the log and under NATS: commands are refused with a reason, \
               nothing is lost, and intake comes back by itself (root)",
        rounds: 8,
        slice: None,
    },
    Scenario {
        name: "bitflip",
        what: "one flipped bit in the store, its journal, its snapshots, the witness, so many each: \
               it is named, or every answer is as before",
        rounds: 1_000,
        slice: None,
    },
    Scenario {
        name: "repair",
        what: "the stream, the store, or parts of both are lost: every event comes back from what \
               is left, a backup included",
        rounds: 50,
        slice: None,
    },
    Scenario {
        name: "takeover",
        what: "of two event-logs the one that leads is killed, stopped in its tracks, or asked to end, \
               under load: the other takes over, and nothing answered is lost, doubled, torn or out of order",
        rounds: 100,
        slice: None,
    },
    Scenario {
        name: "load-rolling",
        what: "ten replicas on three hosts are replaced while requests come in through each host's \
               gateway: none fails (root)",
        rounds: 10,
        slice: None,
    },
    Scenario {
        name: "load-scale",
        what: "ten replicas, then three, then ten, while requests come in: none fails (root)",
        rounds: 10,
        slice: None,
    },
    Scenario {
        name: "load-kill",
        what: "a replica is killed while requests come in: only POSTs that were under way on it fail \
               (root)",
        rounds: 10,
        slice: None,
    },
    Scenario {
        name: "load-drain",
        what: "a node is drained while requests come in: none fails (root)",
        rounds: 10,
        slice: None,
    },
    Scenario {
        name: "load-canary",
        what: "a canary is promoted step by step while requests come in: none fails (root)",
        rounds: 10,
        slice: Some(1),
    },
    Scenario {
        name: "load-rollback",
        what: "a canary that answers with errors is taken back while requests come in: none fails but \
               by itself (root)",
        rounds: 10,
        slice: Some(1),
    },
    Scenario {
        name: "load-cut",
        what: "a host is cut off while requests come in through the others: no GET fails, and after two \
               seconds nothing is slowed by it (root)",
        rounds: 10,
        slice: Some(1),
    },
    Scenario {
        name: "load-gateway",
        what: "a gateway is replaced by its next process while requests come in, and once more while NATS is \
               away: none fails, and what was open goes on (root)",
        rounds: 10,
        slice: Some(1),
    },
    Scenario {
        name: upgrade::NAME,
        what: "a cluster of another release is replaced by this one, service by service under load: \
               nothing answered is lost, states are compared and none differs, no container is touched; one \
               that folds wrongly is caught (root, --old DIR)",
        rounds: 3,
        slice: None,
    },
];

/// Runs one.
pub(crate) async fn run(name: &str, run: &mut Run) -> Result<Checked, Failure> {
    match name {
        "kill-log" => kill_log::run(run).await,
        "kill-nats" => kill_nats::run(run).await,
        "power-cut" => power_cut::run(run).await,
        "torn-tail" => torn_tail::run(run).await,
        "disk-full" => disk_full::run(run).await,
        "bitflip" => bitflip::run(run).await,
        "repair" => repair::run(run).await,
        "takeover" => takeover::run(run).await,
        "load-rolling" => under_load::run(run, Scene::Rolling).await,
        "load-scale" => under_load::run(run, Scene::Scale).await,
        "load-kill" => under_load::run(run, Scene::Kill).await,
        "load-drain" => under_load::run(run, Scene::Drain).await,
        "load-canary" => under_load::run(run, Scene::Canary).await,
        "load-rollback" => under_load::run(run, Scene::Rollback).await,
        "load-cut" => under_load::run(run, Scene::Cut).await,
        "load-gateway" => under_load::run(run, Scene::Gateway).await,
        upgrade::NAME => upgrade::run(run).await,
        other => Err(format!("there is no scenario {other}: see --list").into()),
    }
}
