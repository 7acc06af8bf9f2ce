//! Jobs of a rollout: once for each revision, before or after, and not on the way back.

use schemas::spec::{Task, When};

use super::*;

/// A job of the rollouts of `web`.
fn job(name: &str, image: &str, when: When, rollback: bool) -> (WorkloadName, WorkloadSpec) {
    let task = Some(Task { of: workload("web"), when, rollback });
    let spec = WorkloadSpec { mode: Mode::Job, task, ..WorkloadSpec::of_image(image) };
    (workload(name), WorkloadSpec { overlap: Overlap::Never, ..spec })
}

fn before(image: &str) -> (WorkloadName, WorkloadSpec) {
    job("before", image, When::Before, false)
}

fn after(image: &str, rollback: bool) -> (WorkloadName, WorkloadSpec) {
    job("after", image, When::After, rollback)
}

fn images(world: &World) -> Vec<String> {
    let all = world.state().replicas_of(&app("shop"), &workload("web"));
    let specs = all.filter_map(|(_, replica)| world.state().spec_of(replica));
    specs.map(|spec| spec.image.clone()).collect()
}

#[test]
fn a_job_runs_before_the_first_new_replica_once_for_each_revision() {
    let mut world = World::new();
    world.deploy(&[before("migrate:1"), web("web:1", 2)]);
    assert_eq!(world.settle(), ["+1 before", "+2 web", "AppConverged"]);
    // The job is as it was, and the workload is not.
    world.deploy(&[before("migrate:1"), web("web:2", 2)]);
    let said = world.settle();
    assert_eq!(said[..2], ["+1 before", "+1 web"]);
    assert_eq!(said.iter().filter(|said| said.contains("before")).count(), 1);
    // What changes nothing that runs, and a number, ask for no job.
    world.deploy(&[before("migrate:1"), web("web:2", 3)]);
    assert_eq!(world.settle(), ["+1 web", "AppConverged"]);
    world.scale(4);
    assert_eq!(world.settle(), ["+1 web", "AppConverged"]);
    world.deploy(&[before("migrate:2"), web("web:2", 4)]);
    assert_eq!(world.settle(), ["AppConverged"]);
}

#[test]
fn while_the_job_runs_nothing_of_the_new_revision_begins_and_the_old_one_stays_whole() {
    let mut world = World::new();
    world.deploy(&[before("migrate:1"), web("web:1", 2)]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[before("migrate:2"), web("web:2", 2)]);
    // Much longer than a rollout may take to become ready: it works.
    world.floor = Some(2);
    for _ in 0..400 {
        world.step();
    }
    assert_eq!(world.said, ["+1 before"]);
    assert_eq!((images(&world), world.floor), (vec!["web:1".to_owned(); 2], Some(2)));
    world.ill.clear();
    world.settle();
    assert_eq!(images(&world), ["web:2", "web:2"]);
}

#[test]
fn a_job_that_fails_takes_the_revision_back_and_does_not_run_on_the_way() {
    let mut world = World::new();
    world.deploy(&[before("migrate:1"), web("web:1", 2)]);
    world.settle();
    world.broken = vec!["migrate:2"];
    world.deploy(&[before("migrate:2"), web("web:2", 2)]);
    assert_eq!(world.settle(), ["+1 before", "RolloutFailed", "AppDeployed", "AppConverged"]);
    assert_eq!(images(&world), ["web:1", "web:1"]);
    let shop = world.state().apps.get(&app("shop")).expect("it is there");
    let failed = shop.rolled_back.as_ref().expect("it went back");
    assert_eq!(failed.reason, "the job before web failed: exited with 1");
    // The next one has its own.
    world.deploy(&[before("migrate:3"), web("web:3", 2)]);
    assert_eq!(world.settle()[..2], ["+1 before", "+1 web"]);
}

#[test]
fn one_of_a_first_revision_that_fails_is_not_tried_again_by_itself() {
    let mut world = World::new();
    world.broken = vec!["migrate:1"];
    world.deploy(&[before("migrate:1"), web("web:1", 2)]);
    assert_eq!(world.settle(), ["+1 before", "AppStalled"]);
    world.broken.clear();
    let event =
        WorkloadRestarted { app: app("shop"), workload: workload("before"), generation: 100 };
    world.history.add(&Writer::Controller, event);
    assert_eq!(world.settle(), ["+1 before", "+2 web", "AppConverged"]);
}

#[test]
fn another_revision_that_comes_meanwhile_waits_for_the_end_of_the_job_and_has_its_own() {
    let mut world = World::new();
    world.deploy(&[before("migrate:1"), web("web:1", 1)]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[before("migrate:2"), web("web:2", 1)]);
    for _ in 0..5 {
        world.step();
    }
    assert_eq!(std::mem::take(&mut world.said), ["+1 before"]);
    world.deploy(&[before("migrate:3"), web("web:3", 1)]);
    let said = world.settle();
    assert_eq!(said[..3], ["-1 before Replaced", "+1 before", "+1 web"]);
    assert_eq!(images(&world), ["web:3"]);
}

#[test]
fn what_runs_after_waits_for_all_and_its_failure_is_told() {
    let mut world = World::new();
    world.deploy(&[after("smoke:1", false), web("web:1", 2)]);
    assert_eq!(world.settle(), ["+2 web", "+1 after", "AppConverged"]);
    world.broken = vec!["smoke:1"];
    world.deploy(&[after("smoke:1", false), web("web:2", 2)]);
    let said = world.settle();
    assert_eq!(said[said.len() - 3..], ["-1 web Replaced", "+1 after", "AppConverged"]);
    let last = world.history.entries.iter().rev();
    let told = last.filter_map(|bytes| schemas::envelope::Envelope::decode(bytes).ok());
    let converged = told.filter_map(|envelope| match envelope.event {
        Event::AppConverged(e) => Some(e.failed),
        _ => None,
    });
    let failed = converged.into_iter().next().expect("it converged");
    assert_eq!(failed.len(), 1);
    assert_eq!(
        (&failed[0].workload, failed[0].reason.as_str()),
        (&workload("after"), "exited with 1")
    );
    assert_eq!(images(&world), ["web:2", "web:2"]);
    // It has had its turn.
    world.scale(3);
    assert_eq!(world.settle(), ["+1 web", "AppConverged"]);
}

#[test]
fn what_runs_after_takes_the_revision_back_when_that_is_asked_for() {
    let mut world = World::new();
    world.deploy(&[after("smoke:1", true), web("web:1", 2)]);
    world.settle();
    world.broken = vec!["smoke:2"];
    world.deploy(&[after("smoke:2", true), web("web:2", 2)]);
    let said = world.settle();
    assert!(said.contains(&"RolloutFailed".to_owned()), "{said:?}");
    assert_eq!(said.iter().filter(|said| *said == "+1 after").count(), 1, "{said:?}");
    assert_eq!(images(&world), ["web:1", "web:1"]);
}

#[test]
fn a_job_on_a_lost_node_runs_nowhere_else_and_fails_when_nothing_is_heard_of_it() {
    let mut world = World::new();
    world.deploy(&[before("migrate:1"), web("web:1", 2)]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[before("migrate:2"), web("web:2", 2)]);
    for _ in 0..5 {
        world.step();
    }
    let jobs = world.state().replicas_of(&app("shop"), &workload("before"));
    let on = jobs.filter_map(|(_, r)| r.node.clone()).next().expect("it is placed");
    world.history.add(&Writer::Health, NodeLost { node: on, silent_ms: 6_000 });
    for _ in 0..400 {
        world.step();
    }
    let jobs = |said: &[String]| said.iter().filter(|said| *said == "+1 before").count();
    assert_eq!(jobs(&world.said), 1, "{:?}", world.said);
    let said = world.settle();
    assert_eq!(jobs(&said), 1, "{said:?}");
    assert!(said.contains(&"RolloutFailed".to_owned()), "{said:?}");
}

#[test]
fn a_drain_waits_for_the_end_of_a_job() {
    let mut world = World::new();
    world.ill = vec!["migrate:1"];
    world.deploy(&[before("migrate:1"), web("web:1", 1)]);
    for _ in 0..5 {
        world.step();
    }
    let jobs = world.state().replicas_of(&app("shop"), &workload("before"));
    let on = jobs.filter_map(|(_, r)| r.node.clone()).next().expect("it is placed");
    let drained = schemas::event::NodeCordoned { node: on, drain: true };
    world.history.add(&Writer::Controller, drained);
    for _ in 0..50 {
        world.step();
    }
    assert_eq!(std::mem::take(&mut world.said), ["+1 before"]);
    world.ill.clear();
    let said = world.settle();
    assert_eq!(said, ["+1 web", "AppConverged"]);
}
