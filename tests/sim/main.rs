//! The whole system in one thread, from one seed: the real machines of event-log, of two instances
//! of every deciding service, of every node's agent and of some gateways, in virtual time.
//!
//! Messages are lost, repeated, late and out of order; whatever runs crashes between any two things
//! it does, is paused, is cut off, and comes back; the server forgets, engines fail, containers die.
//! Then that stops, and what was declared must come to be, and stay. What must hold meanwhile is
//! written apart from the code that it judges (`model`, `checks`, `settled`).
//!
//! `SIM_SEEDS=5000 cargo test -p tests --test sim` runs more seeds, with `SIM_FROM=5000` those behind them.
//! `SIM_SEED=17 cargo test -p tests --test sim -- --nocapture` runs one and prints what happened last; a
//! failing seed does so anyway.

mod agenda;
mod blind;
mod checks;
mod dice;
mod engine;
mod faults;
mod gateway;
mod log;
mod model;
mod moves;
mod near;
mod node;
mod redacted;
mod requests;
mod rollouts;
mod scenario;
mod service;
mod settled;
mod streams;
mod tasks;
mod trace;
mod wiring;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blind::Blindness;
use checks::{Failure, failure};
use scenario::Mix;
use world::{Bent, Protections, World};

/// How many seeds are run when nobody says.
const SEEDS: u64 = 500;

/// After how many seeds that failed it is enough.
const FAILURES: usize = 20;

/// How long things may take to settle when nothing goes wrong any more, in simulated ms.
const CALM_MS: u64 = 400_000;

/// Longer than any wait of these apps, but that of the controller before it tries again what failed
/// often, and longer than any wait at all.
const QUIET_MS: u64 = 25_000;
const LONG_QUIET_MS: u64 = 70_000;

/// How long nothing must be decided for a world to be at rest. For some it is longer than need be.
fn quiet_ms(world: &World) -> u64 {
    let apps = world.checks.replayed.state().apps.iter();
    let mut failures = apps.flat_map(|(_, app)| app.workloads.values()).map(|w| w.failures);
    let waits = world.seed.is_multiple_of(4) || failures.any(|failures| failures > 3);
    if waits { LONG_QUIET_MS } else { QUIET_MS }
}

fn live(world: &mut World) -> Result<(), Failure> {
    let storm_ms = world.scenario.mix.storm_ms();
    while world.now_ms < storm_ms {
        world.step()?;
    }
    world.heal()?;
    let (mut moved, mut since_ms) = (0, world.now_ms);
    while world.now_ms < storm_ms + CALM_MS {
        world.step()?;
        if world.checks.model.moved != moved {
            (moved, since_ms) = (world.checks.model.moved, world.now_ms);
        }
        // What is hopeless fails again and again: between two failures, all is told.
        let seen = world.checks.replayed.cursor();
        let level = world.logs.iter().all(|log| log.is_level(seen));
        let quiet = world.now_ms > since_ms + QUIET_MS && level;
        if quiet && world.now_ms > since_ms + quiet_ms(world) {
            return world.check_settled();
        }
    }
    failure("comes-to-rest", "things were decided again and again")
}

/// Runs a seed; again with a trace when something does not hold.
fn run(seed: u64, protections: Protections) -> Result<World, (Failure, String)> {
    let mut world = World::new(seed, protections);
    let Err(failed) = live(&mut world) else { return Ok(world) };
    let mut again = World::new(seed, protections);
    again.trace.on = true;
    let same = live(&mut again).expect_err("a seed replays exactly");
    assert_eq!(same.what, failed.what, "a seed replays exactly");
    Err((failed, again.trace.text()))
}

#[expect(clippy::disallowed_methods, reason = "how a person says which seeds to run")]
fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn declared_comes_to_be_and_stays_whatever_happens() {
    if let Some(seed) = setting("SIM_SEED") {
        let mut world = World::new(seed, Protections::ALL);
        world.trace.on = true;
        let lived = live(&mut world);
        println!("{}", world.trace.text());
        println!("{:?}", world.happened);
        lived.unwrap_or_else(|Failure { check, what }| panic!("seed {seed}: {check}: {what}"));
        return;
    }
    let seeds = setting("SIM_SEEDS").unwrap_or(SEEDS);
    let all = Mutex::new(Sum::default());
    let from = setting("SIM_FROM").unwrap_or(0);
    let (next, end) = (AtomicU64::new(from), from.saturating_add(seeds));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| work(&next, end, &all));
        }
    });
    let Sum { happened, failed } = all.into_inner().expect("no panic");
    if let Some((seed, _)) = failed.first_key_value() {
        let told: String = failed.values().map(|what| format!("{what}\n")).collect();
        let (_, trace) = run(*seed, Protections::ALL).err().expect("a seed replays exactly");
        panic!(
            "{trace}\n{told}again: SIM_SEED={seed} cargo test -p tests --test sim -- --nocapture"
        );
    }
    println!("{seeds} seeds from {from} on: {happened:#?}");
    if seeds >= SEEDS {
        stormy_enough(&happened);
    }
}

type Happened = BTreeMap<&'static str, u64>;

/// What came of all seeds.
#[derive(Default)]
struct Sum {
    happened: Happened,
    failed: BTreeMap<u64, String>,
}

/// Runs seeds until there are none, or some have failed.
fn work(next: &AtomicU64, end: u64, all: &Mutex<Sum>) {
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let mut world = World::new(seed, Protections::ALL);
        let lived = live(&mut world);
        let mut sum = all.lock().expect("no panic");
        for (what, times) in world.happened.iter().chain(&world.checks.model.kinds) {
            *sum.happened.entry(*what).or_default() += times;
        }
        if let Err(Failure { check, what }) = lived {
            sum.failed.insert(seed, format!("seed {seed}: {check}: {what}"));
            if sum.failed.len() >= FAILURES {
                next.store(end, Ordering::Relaxed);
            }
        }
    }
}

/// A storm in which nothing happens shows nothing.
fn stormy_enough(happened: &Happened) {
    for what in [
        "PositionVoided",
        "ReplicasUnplaced",
        "CommandRejected",
        "AppConverged",
        "AppStalled",
        "AppDeleted",
        "RolloutFailed",
        "RolloutStepped",
        "RolloutPromoted",
        "RolloutPaused",
        "RolloutResumed",
        "NodeLost",
        "NodeReturned",
        "NodeRemoved",
        "EvictionPaused",
        "RunEnded",
        "RunFailed",
        "ReplicaUnready",
        "StrayRemoved",
        "LeadershipReleased",
        "a machine was replaced",
        "event-log took over",
        "event-log was paused",
        "entries were moved aside",
        "entries were fetched from the log",
        "the server restarted",
        "ReplicasReleased",
        "a workload went back and runs what ran before",
        "replicas failed, and a revision went back",
        "requests failed, and a revision went back",
        "a job failed, and a revision went back",
        "somebody took a revision back",
        "something went wrong on a way back",
        "a job of a rollout was asked for",
        "a job of a rollout completed",
        "a job of a rollout failed",
        "MovesPlanned",
        "RebalanceEnded",
        "a replica was moved",
        "a rebalancing began by itself",
        "CallsMeasured",
        "a rebalancing began for calls",
        "a move was planned to be nearer",
        "a gateway crashed",
        "a gateway was paused",
        "a gateway was cut off",
        "a state of a gateway was told",
        "a state of one who stands by was told",
    ] {
        assert!(happened.get(what).is_some_and(|times| *times > 0), "{what}: {happened:#?}");
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 77] {
        let hash = || {
            let world =
                run(seed, Protections::ALL).map_err(|(failed, _)| failed).expect("it settles");
            world.checks.replayed.state().hash()
        };
        assert_eq!(hash(), hash());
    }
}

/// Without one of its protections the system must be seen to fail, and by the right check.
#[track_caller]
fn is_noticed(protections: Protections, seeds: u64, by: &[&str]) {
    let failed = (0..seeds).find_map(|seed| Some((seed, run(seed, protections).err()?)));
    let (seed, (Failure { check, what }, _)) = failed.expect("one of these seeds must fail");
    println!("noticed at seed {seed} by {check}: {what}");
    assert!(by.contains(&check), "{check}: {what}");
}

#[test]
fn a_disk_that_does_not_sync_is_noticed() {
    is_noticed(Protections { durability: false, ..Protections::ALL }, 2, &["visible-is-synced"]);
}

#[test]
fn a_log_that_lets_stale_leaders_append_is_noticed() {
    let by = [
        "impossible",
        "placed-once",
        "room",
        "one-receipt",
        "surge",
        "fresh-ids",
        "released-once",
        "requests-are-right",
        "jobs-once",
        "one-rebalancing",
    ];
    is_noticed(Protections { fencing: false, ..Protections::ALL }, 100, &by);
}

#[test]
fn a_server_that_does_not_check_is_noticed() {
    is_noticed(
        Protections { stream_checks: false, ..Protections::ALL },
        20,
        &["visible-is-synced"],
    );
}

#[test]
fn an_agent_that_acts_before_it_keeps_is_noticed() {
    let by = [
        "actual-is-recorded",
        "actual-is-declared",
        "deleted",
        "run-order",
        "runs-once",
        "comes-to-rest",
    ];
    is_noticed(Protections { keeping: false, ..Protections::ALL }, 50, &by);
}

#[test]
fn an_engine_that_makes_a_container_twice_is_noticed() {
    let by = ["runs-once", "stopped-for-a-reason"];
    is_noticed(Protections { names: false, ..Protections::ALL }, 100, &by);
}

#[test]
fn gateways_that_let_go_before_they_do_are_noticed() {
    let by = ["lets-go-first"];
    is_noticed(Protections { letting_go: false, ..Protections::ALL }, 20, &by);
}

#[test]
fn a_service_that_folds_something_else_is_noticed() {
    bent_is_noticed(Bent::Health);
}

#[test]
fn an_event_log_that_stands_by_and_folds_something_else_is_noticed() {
    bent_is_noticed(Bent::SecondLog);
}

#[test]
fn a_gateway_that_folds_something_else_is_noticed() {
    bent_is_noticed(Bent::Gateways);
}

fn bent_is_noticed(who: Bent) {
    is_noticed(Protections { bent: Some(who), ..Protections::ALL }, 20, &["states-agree"]);
}

/// Where revision follows revision: most of what a rollout must not do shows there.
const ROLLOUTS: Protections = Protections { mix: Some(Mix::Rollouts), ..Protections::ALL };

#[track_caller]
fn a_wrong_way_back_is_noticed(protections: Protections) {
    // A replica that runs again and has something else then, or what nobody stated, is noticed as well.
    let as_well = ["runs-alike", "image-of-record"];
    let mut failed = (0..100).filter_map(|seed| Some(run(seed, protections).err()?.0));
    let of_the_way_back = failed.find(|failure| !as_well.contains(&failure.check));
    assert_eq!(of_the_way_back.expect("one of these seeds must fail").check, "goes-back");
}

#[test]
fn a_way_back_that_asks_anew_what_an_image_is_is_noticed() {
    a_wrong_way_back_is_noticed(Protections { images: false, ..ROLLOUTS });
}

#[test]
fn a_way_back_that_has_files_as_they_are_now_is_noticed() {
    a_wrong_way_back_is_noticed(Protections { files: false, ..ROLLOUTS });
}

#[test]
fn a_way_back_that_keeps_the_files_of_what_failed_is_noticed() {
    blindness_is_noticed(Blindness::Files, &["goes-back"]);
}

#[track_caller]
fn blindness_is_noticed(to: Blindness, by: &[&str]) {
    is_noticed(Protections { blind: Some(to), ..ROLLOUTS }, 200, by);
}

#[test]
fn a_controller_that_ends_more_than_the_floor_lets_it_is_noticed() {
    blindness_is_noticed(Blindness::Floors, &["floor"]);
}

#[test]
fn a_controller_that_has_more_stand_side_by_side_than_it_may_is_noticed() {
    blindness_is_noticed(Blindness::Surge, &["surge"]);
}

#[test]
fn a_controller_that_begins_before_the_job_that_comes_first_has_ended_is_noticed() {
    blindness_is_noticed(Blindness::Before, &["jobs-first"]);
}

#[test]
fn a_controller_that_runs_a_job_twice_is_noticed() {
    blindness_is_noticed(Blindness::Done, &["jobs-once"]);
}
