//! Runs: when another one follows, how long that waits, and what being unhealthy does.

use schemas::event::{Outcome, RunEnded};

use super::*;
use crate::engine::ImageHealth;

/// A replica whose first run is on.
fn running(json: &str) -> World {
    let mut world = World::new();
    world.assign(&spec(json));
    world.done(started());
    world.told();
    world
}

/// Its run ends with a code after a while; the wait before the next one.
fn ends(world: &mut World, code: i64, after_ms: u64) -> Option<u64> {
    world.now_ms += after_ms;
    world.on([Input::EngineHint]);
    // A listing that was asked for before the run began says nothing of it.
    while world.ops.is_empty() {
        world.list([]);
        world.pass(50);
    }
    assert!(matches!(world.done(exited(code)), Op::Examine { .. }));
    let ended = world.log.iter().rev().find_map(|event| match event {
        Event::RunEnded(RunEnded { retry_ms, .. }) => Some(*retry_ms),
        _ => None,
    });
    ended.expect("it was told")
}

fn outcome(world: &World) -> Option<&Outcome> {
    world.log.iter().find_map(|event| match event {
        Event::ReplicaEnded(ended) => Some(&ended.outcome),
        _ => None,
    })
}

#[test]
fn a_job_that_is_not_to_restart_ends_as_its_run_does() {
    for (code, completed) in [(0, true), (3, false)] {
        let mut world = running(r#"{"image":"web","restart":{"policy":"no"}}"#);
        assert_eq!(ends(&mut world, code, 0), None);
        match outcome(&world) {
            Some(Outcome::Completed) => assert!(completed),
            Some(Outcome::Failed { reason }) => assert!(!completed && reason.contains('3')),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn on_failure_restarts_after_a_failure_only() {
    let json = r#"{"image":"web","restart":{"policy":"on_failure"}}"#;
    assert_eq!(ends(&mut running(json), 1, 0), Some(0));
    assert_eq!(ends(&mut running(json), 0, 0), None);
}

#[test]
fn attempts_are_bounded_and_the_last_failure_is_the_reason() {
    let mut world = running(r#"{"image":"web","restart":{"attempts":1}}"#);
    assert_eq!(ends(&mut world, 1, 0), Some(0));
    assert!(matches!(world.done(started()), Op::Start { run: 2, .. }));
    assert_eq!(ends(&mut world, 9, 0), None);
    let reason = Outcome::Failed { reason: "exited with 9".to_owned() };
    assert_eq!(outcome(&world), Some(&reason));
}

#[test]
fn waits_double_up_to_the_longest_and_begin_anew_after_a_long_run() {
    let restart = r#""restart":{"delay_ms":100,"delay_max_ms":350,"reset_ms":60000}"#;
    let mut world = running(&format!(r#"{{"image":"web",{restart}}}"#));
    let mut waits = Vec::new();
    for lasted_ms in [100, 100, 100, 100, 60_000, 100] {
        let wait = ends(&mut world, 1, lasted_ms).expect("it is always restarted");
        waits.push(wait);
        if wait > 0 {
            world.pass(wait - 1);
            assert!(world.ops.is_empty(), "not before its time: {:?}", world.ops);
            world.pass(1);
        }
        assert!(matches!(world.done(started()), Op::Start { .. }));
    }
    assert_eq!(waits, [0, 100, 200, 350, 0, 100]);
}

#[test]
fn what_cannot_be_started_is_told_with_the_reason_and_tried_again_ever_later() {
    let mut world = World::new();
    world.assign(&spec(r#"{"image":"web"}"#));
    let failed = || Done::Failed { step: "create".to_owned(), error: "no such path".to_owned() };
    let mut waits = Vec::new();
    for _ in 0..3 {
        assert!(matches!(world.done(failed()), Op::Start { run: 1, .. }));
        let Some(Event::RunFailed(told)) = world.log.last() else { panic!("{:?}", world.log) };
        assert_eq!((told.step.as_str(), told.error.as_str()), ("create", "no such path"));
        waits.push(told.retry_ms);
        let wait = told.retry_ms;
        world.pass(wait);
    }
    assert_eq!(waits, [500, 1_000, 2_000]);
}

#[test]
fn a_probe_that_fails_often_enough_restarts_the_run() {
    let probe = r#""probe":{"check":{"tcp":{"port":80}},"interval_ms":1000,"retries":2}"#;
    let mut world = running(&format!(r#"{{"image":"web",{probe}}}"#));
    world.pass(10);
    world.done(Done::Probed(Ok(())));
    assert_eq!(world.told(), ["ReplicaReady"]);
    for _ in 0..2 {
        world.pass(1_000);
        world.listing = None;
        world.done(Done::Probed(Err("refused".to_owned())));
    }
    world.pass(1_000);
    assert_eq!(world.told(), ["ReplicaUnready"]);
    assert!(matches!(world.done(Done::Stopped), Op::Stop { run: 1, remove: false, .. }));
    assert!(matches!(world.done(exited(0)), Op::Examine { .. }));
    let Some(Event::RunEnded(ended)) = world.log.last() else { panic!("{:?}", world.log) };
    assert_eq!(ended.evidence.cause, "unhealthy: refused");
    assert_eq!(ended.retry_ms, Some(0));
}

/// A replica that never is ready, on an engine that answers every listing: when its tries began,
/// counted from its start, until it is stopped, and when that is.
fn tries(json: &str, takes_ms: u64) -> (Vec<u64>, u64) {
    let mut world = World::new();
    world.assign(&spec(json));
    world.done(started());
    let began_ms = world.now_ms;
    let mut tries = Vec::new();
    for _ in 0..10_000 {
        let age_ms = world.now_ms - began_ms;
        match world.ops.pop() {
            Some(op @ Op::Probe { .. }) => {
                tries.push(age_ms);
                world.now_ms += takes_ms;
                world.on([Input::Done(op, Done::Probed(Err("refused".to_owned())))]);
            }
            Some(Op::Stop { run: 1, remove: false, .. }) => return (tries, age_ms),
            Some(other) => panic!("{other:?}"),
            None => world.pass(10),
        }
        if world.listing.is_some() {
            world.list([listed(1, true)]);
        }
    }
    panic!("it is never stopped: {tries:?}");
}

#[test]
fn what_never_is_ready_has_all_its_tries_after_the_start_period_an_interval_apart() {
    let probe = |start_ms: u64| {
        let check = r#""check":{"tcp":{"port":80}},"interval_ms":2000,"retries":3"#;
        format!(r#"{{"image":"web","probe":{{{check},"start_period_ms":{start_ms}}}}}"#)
    };
    let slow = |ms: u64, of_ms: u64| (of_ms..of_ms + 600).contains(&ms);
    for start_ms in [0, 5_000] {
        let (tries, stopped_ms) = tries(&probe(start_ms), 0);
        assert!(slow(stopped_ms, start_ms + 4_000), "{start_ms}: {tries:?}, {stopped_ms}");
        // It is tried more often than it counts, and not all the time.
        let gaps: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(gaps.iter().all(|gap| (500..600).contains(gap)), "{tries:?}");
    }
    // A try that began within the start period says nothing, however late its answer is.
    let (tries, stopped_ms) = tries(&probe(1_000), 1_100);
    assert!(tries[0] < 1_000 && tries[0] + 1_100 > 1_000, "{tries:?}");
    // Three from the second on, each the first after an interval: the second, fourth and sixth.
    assert_eq!(tries.len(), 6, "{tries:?}");
    assert!(stopped_ms >= tries[5], "{tries:?}, {stopped_ms}");
}

#[test]
fn a_ready_replica_is_tried_once_an_interval_also_while_it_fails() {
    let probe = r#""probe":{"check":{"tcp":{"port":80}},"interval_ms":2000,"retries":3}"#;
    let mut world = running(&format!(r#"{{"image":"web",{probe}}}"#));
    world.done(Done::Probed(Ok(())));
    let began_ms = world.now_ms;
    let mut tries = Vec::new();
    while !matches!(world.ops.first(), Some(Op::Stop { .. })) {
        if let Some(op) = world.ops.pop() {
            tries.push(world.now_ms - began_ms);
            world.on([Input::Done(op, Done::Probed(Err("refused".to_owned())))]);
        } else {
            world.pass(10);
        }
        if world.listing.is_some() {
            world.list([listed(1, true)]);
        }
        assert!(tries.len() < 9, "it is never stopped: {tries:?}");
    }
    assert_eq!(tries, [2_000, 4_000, 6_000]);
}

#[test]
fn what_turns_out_to_run_still_is_as_old_as_before() {
    let probe = r#""probe":{"check":{"tcp":{"port":80}},"retries":1,"start_period_ms":9000}"#;
    let mut world = running(&format!(r#"{{"image":"web",{probe}}}"#));
    world.done(Done::Probed(Err("refused".to_owned())));
    world.pass(8_000);
    world.done(Done::Probed(Err("refused".to_owned())));
    world.on([Input::Died(container_name(&id(), 1))]);
    assert!(matches!(world.done(Done::StillRuns), Op::Examine { .. }));
    world.pass(1_100);
    while let Some(op) = world.ops.pop() {
        if matches!(op, Op::Stop { .. }) {
            return;
        }
        world.on([Input::Done(op, Done::Probed(Err("refused".to_owned())))]);
        world.pass(1_000);
    }
    panic!("its start period began anew");
}

#[test]
fn an_image_s_own_check_makes_ready_and_restarts_as_a_probe_does() {
    let mut world = World::new();
    world.assign(&spec(r#"{"image":"web"}"#));
    let container = "c".to_owned();
    world.done(Done::Started {
        container,
        endpoints: Vec::new(),
        inside: None,
        image_checks: true,
    });
    let see = |world: &mut World, health| {
        let (name, container) = listed(1, true);
        world.on([Input::EngineHint]);
        world.list([(name, Listed { health: Some(health), ..container })]);
    };
    see(&mut world, ImageHealth::Starting);
    assert_eq!(world.told(), ["RunStarted"], "not ready before the check says so");
    see(&mut world, ImageHealth::Healthy);
    assert_eq!(world.told(), ["ReplicaReady"]);
    see(&mut world, ImageHealth::Unhealthy("503".to_owned()));
    assert_eq!(world.told(), ["ReplicaUnready"]);
    assert!(matches!(world.done(Done::Stopped), Op::Stop { run: 1, remove: false, .. }));
    assert!(matches!(world.done(exited(0)), Op::Examine { .. }));
    let Some(Event::RunEnded(ended)) = world.log.last() else { panic!("{:?}", world.log) };
    assert!(ended.evidence.cause.contains("503"), "{}", ended.evidence.cause);
    assert_eq!(ended.retry_ms, Some(0));
}

#[test]
fn where_nothing_is_tried_what_runs_is_ready() {
    let mut world = World::new();
    world.assign(&spec(r#"{"image":"web","probe":{"check":"none"}}"#));
    world.done(started());
    assert_eq!(world.told(), ["RunStarted", "ReplicaReady"]);
    world.pass(60_000);
    assert!(world.ops.is_empty(), "{:?}", world.ops);
}

#[test]
fn an_image_is_resolved_before_anything_is_made_of_it() {
    let mut world = World::new();
    let web = spec(r#"{"image":"web"}"#);
    let unresolved = Assignment { image: None, ..assignment(&web) };
    world.on([Input::Document(document(1, Some(unresolved)))]);
    world.on([Input::Spec(web.clone())]);
    assert!(matches!(world.done(Done::Resolved(IMAGE.to_owned())), Op::Resolve { .. }));
    assert_eq!(world.told(), ["ImageResolved"]);
    world.pass(10_000);
    assert!(world.ops.is_empty(), "the document has the last word: {:?}", world.ops);
    world.on([Input::Document(document(2, Some(assignment(&web))))]);
    assert!(matches!(world.op(), Op::Start { run: 1, .. }));
}
