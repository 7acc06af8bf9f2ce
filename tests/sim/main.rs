//! All deciding services and agents in one thread, from one seed: messages are lost, repeated and
//! late, instances crash and come back, containers die. Then the faults stop, and what must hold does.
//!
//! The machines are the real ones. What stands in for the bus, the engine and event-log's disk is in
//! `world`; event-log's own storm of faults is among its tests.

mod ledger;
mod world;

use world::World;

/// How many seeds are run.
const SEEDS: u64 = 500;

/// How long faults happen, and how long things may take to settle after that, in simulated ms.
const STORM_MS: u64 = 40_000;
const CALM_MS: u64 = 240_000;

fn run(seed: u64) -> Result<World, String> {
    let mut world = World::new(seed);
    while world.now_ms() < STORM_MS {
        world.step(true);
        world.check()?;
    }
    world.heal();
    let mut quiet_since = world.now_ms();
    let mut head = world.head();
    while world.now_ms() < STORM_MS + CALM_MS {
        world.step(false);
        world.check()?;
        if world.head() != head {
            head = world.head();
            quiet_since = world.now_ms();
        }
        // Longer than any wait of the rules: nothing more will be decided.
        if world.now_ms() - quiet_since > 100_000 {
            world.check_settled()?;
            return Ok(world);
        }
    }
    Err(format!("it never came to rest: {:?}", world.last_events(12)))
}

#[test]
fn actual_reaches_declared_stays_there_and_nothing_impossible_happens() {
    for seed in 0..SEEDS {
        if let Err(what) = run(seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in [3, 77] {
        let (one, other) = (run(seed).expect("it settles"), run(seed).expect("it settles"));
        assert_eq!(one.hash(), other.hash());
    }
}
