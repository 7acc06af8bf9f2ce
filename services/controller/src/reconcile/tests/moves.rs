//! Moves to better nodes: another one first, given up when it does not come up, and after all else.

use schemas::event::{Move, MovesPlanned, RebalanceEnded, RebalanceStarted};

use super::*;

fn start(world: &mut World) {
    let event = RebalanceStarted { app: None, nodes: Vec::new(), calls: Vec::new() };
    world.history.add(&Writer::Controller, event);
}

/// The scheduler plans the move of a replica of `shop/web`.
pub(super) fn plan(world: &mut World, replica: &ReplicaId, from: NodeName, to: NodeName) {
    let (replica, gain, pulls, measured_at) = (replica.clone(), String::new(), false, None);
    let one = Move { replica, from, to, gain, pulls, measured_at };
    let (app, workload, moves) = (app("shop"), workload("web"), vec![one]);
    world.history.add(&Writer::Scheduler, MovesPlanned { app, workload, moves });
}

/// Three replicas, all on `n1`, one of which is to move.
fn moving(change: impl Fn(&mut WorkloadSpec)) -> (World, ReplicaId) {
    let mut world = World::new();
    let (name, mut spec) = web("web:1", 3);
    spec.update.healthy_for_ms = 5_000;
    spec.update.deadline_ms = 30_000;
    change(&mut spec);
    world.deploy(&[(name, spec)]);
    world.settle();
    start(&mut world);
    let first = world.state().replicas.iter().next().map(|(id, _)| id.clone());
    let first = first.expect("there are three");
    plan(&mut world, &first, node("n1"), node("n2"));
    world.floor = Some(usize::MAX);
    (world, first)
}

fn on(world: &World, name: &str) -> usize {
    world.state().replicas_on(&node(name)).count()
}

fn stayed(world: &World) -> usize {
    world.state().cluster.rebalance.now.as_ref().map_or(0, |now| now.stayed.len())
}

#[test]
fn another_one_is_ready_for_its_time_before_the_old_one_ends() {
    let (mut world, old) = moving(|spec| spec.min_ready = Some(2));
    let began_ms = world.history.now_ms;
    while world.state().replicas.get(&old).is_some_and(|replica| replica.retired.is_none()) {
        assert!(world.history.now_ms < began_ms + 60_000, "it never ends: {:?}", world.said);
        world.step();
    }
    assert!(world.history.now_ms >= began_ms + 5_000, "it must have been ready for a while");
    assert_eq!(world.settle(), ["+1 web", "-1 web Rebalanced"]);
    assert_eq!((on(&world, "n1"), on(&world, "n2"), world.floor), (2, 1, Some(3)));
    let rebalance = world.state().cluster.rebalance.now.as_ref().expect("it has not ended");
    assert_eq!((rebalance.planned, rebalance.moves.len(), rebalance.stayed.len()), (1, 0, 0));
}

#[test]
fn where_another_one_does_not_come_up_in_its_time_the_old_one_stays() {
    let (mut world, old) = moving(|_| {});
    world.ill = vec!["web:1"];
    assert_eq!(world.settle(), ["+1 web", "-1 web NotNeeded"]);
    assert_eq!((on(&world, "n1"), on(&world, "n2"), stayed(&world)), (3, 0, 1));
    assert!(world.state().replicas.get(&old).is_some_and(|r| r.retired.is_none()));
    assert_eq!(world.floor, Some(3));
}

#[test]
fn where_it_fits_no_more_the_old_one_stays() {
    let (mut world, old) = moving(|_| {});
    let closed = NodeCordoned { node: node("n2"), drain: false };
    world.history.add(&Writer::Controller, closed);
    let plan = super::super::app(world.state(), &world.traffic, &app("shop"), world.history.now_ms);
    for (event, _) in plan.events {
        world.history.add(&Writer::Controller, event);
    }
    let unfit = Unfit { reason: "cordoned".into(), nodes: 2, remedy: "open it".into() };
    let (app, workload, waiting, reasons) = (app("shop"), workload("web"), 1, vec![unfit]);
    let told = ReplicasUnplaced { app, workload, waiting, reasons };
    world.history.add(&Writer::Scheduler, told);
    assert_eq!(world.settle(), ["-1 web NotNeeded"]);
    assert_eq!((on(&world, "n1"), stayed(&world)), (3, 1));
    assert!(world.state().replicas.contains(&old));
}

#[test]
fn what_is_asked_of_an_app_goes_before_its_moves() {
    let (mut world, _) = moving(|_| {});
    world.step();
    world.scale(2);
    assert!(!world.settle().iter().any(|said| said.contains("Rebalanced")));
    assert_eq!((world.ready(), stayed(&world)), (2, 1));
    let (mut world, _) = moving(|_| {});
    world.step();
    world.deploy(&[web("web:2", 3)]);
    assert!(!world.settle().iter().any(|said| said.contains("Rebalanced")));
    assert_eq!((world.ready(), stayed(&world)), (3, 1));
}

#[test]
fn when_it_is_given_up_what_was_on_its_way_goes() {
    let (mut world, old) = moving(|_| {});
    world.step();
    let event = RebalanceEnded { planned: 1, stayed: vec![old.clone()] };
    world.history.add(&Writer::Scheduler, event);
    assert_eq!(world.settle(), ["+1 web", "-1 web NotNeeded"]);
    assert_eq!((on(&world, "n1"), on(&world, "n2")), (3, 0));
}

#[test]
fn nothing_ends_for_a_move_before_another_one_is_there() {
    for change in [
        (|spec: &mut WorkloadSpec| spec.overlap = Overlap::Never) as fn(&mut WorkloadSpec),
        |spec| (spec.update.max_surge, spec.update.max_unavailable) = (Some(0), 3),
    ] {
        let (mut world, _) = moving(change);
        assert_eq!(world.settle(), [] as [&str; 0]);
        assert_eq!(on(&world, "n1"), 3);
    }
}
