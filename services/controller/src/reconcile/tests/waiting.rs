//! What is changed and waits for what must come first stays whole, of what it was.

use super::*;

fn job(image: &str) -> (WorkloadName, WorkloadSpec) {
    (workload("migrate"), WorkloadSpec { mode: Mode::Job, ..WorkloadSpec::of_image(image) })
}

fn after_job(image: &str, mode: Mode) -> (WorkloadName, WorkloadSpec) {
    let (name, mut spec) = web(image, 2);
    spec.mode = mode;
    spec.depends_on = [(workload("migrate"), Condition::Completed)].into();
    (name, spec)
}

/// How many ready replicas there are of an image.
fn of_image(world: &World, image: &str) -> usize {
    let all = world.state().replicas.iter();
    let ready = all.filter(|(_, r)| r.phase == Phase::Ready && !world.state().is_unknown(r));
    ready.filter(|(_, r)| world.state().spec_of(r).is_some_and(|s| s.image == image)).count()
}

fn fail(world: &mut World, image: &str) {
    let is_it = |r: &Replica| {
        r.phase == Phase::Ready && world.state().spec_of(r).is_some_and(|s| s.image == image)
    };
    let found = world.state().replicas.iter().find(|(_, r)| is_it(r));
    let found = found.and_then(|(id, r)| Some((id.clone(), Writer::Agent(r.node.clone()?))));
    let (id, agent) = found.expect("there is one");
    let outcome = Outcome::Failed { reason: "exited with 1".into() };
    world.history.add(&agent, ReplicaEnded { replica: id, outcome });
}

#[test]
fn what_is_lost_of_the_old_spec_while_a_job_must_come_first_is_replaced_by_its_kind() {
    let mut world = World::new();
    world.deploy(&[job("migrate:1"), after_job("web:1", Mode::Replicated)]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[job("migrate:2"), after_job("web:2", Mode::Replicated)]);
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (2, 0));
    fail(&mut world, "web:1");
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (2, 0));
    let on = world.state().replicas_of(&app("shop"), &workload("web"));
    let on = on.filter_map(|(_, r)| r.node.clone()).next().expect("it is placed");
    world.history.add(&Writer::Health, NodeLost { node: on, silent_ms: 6_000 });
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (2, 0));
    // The job gets through, and so does the revision.
    world.ill.clear();
    world.settle();
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (0, 2));
}

#[test]
fn what_was_nothing_before_is_nothing_while_it_waits() {
    let mut world = World::new();
    let (name, none) = after_job("web:1", Mode::Replicated);
    world.deploy(&[job("migrate:1"), (name, WorkloadSpec { replicas: 0, ..none })]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[job("migrate:2"), after_job("web:2", Mode::Replicated)]);
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (0, 0));
}

#[test]
fn one_for_every_node_that_is_lost_while_it_waits_comes_back_on_its_node() {
    let mut world = World::new();
    world.deploy(&[job("migrate:1"), after_job("web:1", Mode::Global)]);
    world.settle();
    world.ill = vec!["migrate:2"];
    world.deploy(&[job("migrate:2"), after_job("web:2", Mode::Global)]);
    for _ in 0..10 {
        world.step();
    }
    fail(&mut world, "web:1");
    for _ in 0..10 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (2, 0));
    world.ill.clear();
    world.settle();
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (0, 2));
}

#[test]
fn what_never_was_as_declared_keeps_what_there_is_of_it() {
    let mut world = World::new();
    world.ill = vec!["migrate:1", "migrate:2"];
    let (name, first) = web("web:1", 2);
    world.deploy(&[job("migrate:1"), (name, first)]);
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(of_image(&world, "web:1"), 2);
    world.deploy(&[job("migrate:2"), after_job("web:2", Mode::Replicated)]);
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(of_image(&world, "web:1"), 2);
    let on = world.state().replicas_of(&app("shop"), &workload("web"));
    let on = on.filter_map(|(_, r)| r.node.clone()).next().expect("it is placed");
    world.history.add(&Writer::Health, NodeLost { node: on, silent_ms: 6_000 });
    for _ in 0..20 {
        world.step();
    }
    assert_eq!((of_image(&world, "web:1"), of_image(&world, "web:2")), (2, 0));
}
