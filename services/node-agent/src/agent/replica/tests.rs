//! Runs that end: what follows them, and when.

use schemas::id::{AppKey, WorkloadName};

use super::*;

fn world(id: &ReplicaId, mono_ms: u64) -> World {
    let spec = WorkloadSpec::of_image("web:1");
    let assignment = Assignment {
        app: AppKey::parse("shop").expect("a name"),
        workload: WorkloadName::new("web").expect("a name"),
        revision: 1,
        spec: spec.digest(),
        image: Some("sha256:1".to_owned()),
        end: false,
        correlation: None,
        cause: 1,
    };
    let document =
        SpecDocument { digest: spec.digest(), spec, configs: std::collections::BTreeMap::new() };
    World::new(id.clone(), Some(assignment), Some(document), Now { utc_ms: 0, mono_ms })
}

/// A replica whose runs last so long each: the waits between them.
fn waits(lasting_ms: &[u64]) -> Vec<u64> {
    let id = ReplicaId::new("shop-web-aaaaa").expect("an id");
    let mut runner = Runner::default();
    let mut now_ms = 1_000;
    let mut waits = Vec::new();
    for lasts_ms in lasting_ms {
        let mut started = world(&id, now_ms);
        let start = runner.next(&mut started).expect("a run is due");
        runner.began(&start, started.now);
        let done = Done::Started {
            container: String::new(),
            endpoints: vec![],
            inside: None,
            image_checks: false,
        };
        runner.done(&start, done, &mut started);
        now_ms += lasts_ms;
        let mut ended = world(&id, now_ms);
        runner.died(ended.now);
        let examine = runner.next(&mut ended).expect("what died is examined");
        let evidence = Evidence { exit_code: Some(1), ..Evidence::default() };
        runner.done(&examine, Done::Examined(evidence), &mut ended);
        let Some(Event::RunEnded(told)) = ended.stated.pop() else { panic!("nothing was told") };
        let wait_ms = told.retry_ms.expect("another run follows");
        waits.push(wait_ms);
        now_ms += wait_ms;
    }
    waits
}

#[test]
fn the_first_that_ends_is_followed_at_once_and_those_after_it_wait_longer_and_longer() {
    assert_eq!(waits(&[90_000, 90_000]), [0, 0]);
    assert_eq!(waits(&[10, 10, 10, 10]), [0, 500, 1_000, 2_000]);
    assert_eq!(waits(&[10, 10, 90_000, 10, 10]), [0, 500, 0, 500, 1_000]);
    assert_eq!(waits(&[10; 12]).last(), Some(&60_000));
}

#[test]
fn a_run_that_died_before_it_was_told_to_be_on_is_told_of_and_examined() {
    let id = ReplicaId::new("shop-web-aaaaa").expect("an id");
    let mut runner = Runner::default();
    let mut world = world(&id, 1_000);
    let start = runner.next(&mut world).expect("a run is due");
    runner.began(&start, world.now);
    runner.died(world.now);
    let done = Done::Started {
        container: String::new(),
        endpoints: vec![],
        inside: None,
        image_checks: false,
    };
    runner.done(&start, done, &mut world);
    assert!(matches!(world.stated.as_slice(), [Event::RunStarted(_)]), "{:?}", world.stated);
    assert!(matches!(runner.next(&mut world), Some(Op::Examine { run: 1, .. })));
}

#[test]
fn what_an_ended_run_left_behind_is_known_from_what_is_still_needed() {
    let id = ReplicaId::new("shop-web-aaaaa").expect("an id");
    let container = |run, running| Listed {
        id: String::new(),
        replica: id.clone(),
        run,
        cluster: None,
        running,
        health: None,
        endpoints: vec![],
        inside: None,
    };
    let running = Runner { stage: Stage::Running, run: 2, ..Runner::default() };
    assert!(running.left_behind(&container(1, false)));
    assert!(!running.left_behind(&container(1, true)), "what runs is looked at as a stray");
    assert!(!running.left_behind(&container(2, false)), "it is to be examined first");
    let over = Runner { stage: Stage::Over, run: 2, ..Runner::default() };
    assert!(over.left_behind(&container(2, false)));
}
