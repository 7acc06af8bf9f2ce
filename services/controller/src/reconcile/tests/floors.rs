//! Whatever comes together, no decision leaves fewer ready replicas than `min_ready`.

use schemas::event::{NodeSuspected, NodeUncordoned, RebalanceStarted, ReplicaUnready};
use schemas::spec::{Constraint, Step, Update, UpdateStrategy};

use super::*;

const FLOOR: u32 = 2;

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn strategy(dice: &mut Dice) -> UpdateStrategy {
    let hold_ms = Some(5_000);
    match dice.below(4) {
        0 => UpdateStrategy::BlueGreen { promote_after_ms: hold_ms },
        1 => UpdateStrategy::Canary { steps: vec![Step { weight_percent: 50, hold_ms }] },
        _ => UpdateStrategy::Rolling,
    }
}

fn spec(dice: &mut Dice) -> (WorkloadName, WorkloadSpec) {
    let image =
        ["web:1", "web:2", "web:3", "bad:1"][usize::try_from(dice.below(4)).expect("small")];
    let (name, spec) = web(image, 3);
    let number = |n: u64| u32::try_from(n).expect("small");
    let update = Update {
        strategy: strategy(dice),
        parallelism: 1 + number(dice.below(3)),
        max_surge: [None, Some(0), Some(2)][usize::try_from(dice.below(3)).expect("small")],
        max_unavailable: 1 + number(dice.below(2)),
        healthy_for_ms: 2_000,
        ..Update::default()
    };
    let rolls = update.strategy == UpdateStrategy::Rolling;
    let overlap = if rolls && dice.below(4) == 0 { Overlap::Never } else { Overlap::Allow };
    (name, WorkloadSpec { min_ready: Some(FLOOR), update, overlap, ..spec })
}

/// How many serve.
fn serving(state: &State) -> usize {
    let replicas = state.replicas_of(&app("shop"), &workload("web"));
    replicas.filter(|(_, r)| is_serving(state, r)).count()
}

fn is_serving(state: &State, replica: &Replica) -> bool {
    let node = replica.node.as_ref().and_then(|node| state.nodes.get(node));
    replica.phase == Phase::Ready
        && replica.retired.is_none()
        && node.is_some_and(|node| node.status == cluster::state::NodeStatus::Ready)
}

/// The decision of this moment ends nothing that serves, or leaves enough.
fn judged(world: &World, seed: u64) -> usize {
    let state = world.state();
    let plan = super::super::app(state, &world.traffic, &app("shop"), world.history.now_ms);
    let ended = plan.events.iter().flat_map(|(event, _)| match event {
        Event::ReplicasRetired(e) if e.reason != RetireReason::NodeLost => e.replicas.as_slice(),
        _ => &[],
    });
    let ended: Vec<&ReplicaId> = ended.collect();
    let served = ended.iter().filter_map(|id| state.replicas.get(*id));
    let served = served.filter(|replica| is_serving(state, replica)).count();
    let least = usize::try_from(FLOOR).expect("small");
    let left = serving(state) - served;
    assert!(served == 0 || left >= least, "seed {seed}: {left} are left of {:?}", plan.events);
    served
}

fn happen(world: &mut World, dice: &mut Dice) {
    let name = if dice.below(2) == 0 { node("n1") } else { node("n2") };
    let status = world.state().nodes.get(&name).map(|node| node.status);
    let lost = status == Some(cluster::state::NodeStatus::Lost);
    match dice.below(12) {
        10 | 11 => {
            let rebalance = &world.state().cluster.rebalance;
            let ready = world
                .state()
                .replicas
                .iter()
                .find(|(id, r)| is_serving(world.state(), r) && rebalance.moving(id).is_none());
            let ready = ready.and_then(|(id, r)| Some((id.clone(), r.node.clone()?)));
            if rebalance.now.is_none() {
                let event = RebalanceStarted { app: None, nodes: Vec::new(), calls: Vec::new() };
                world.history.add(&Writer::Controller, event);
            }
            if let Some((id, from)) = ready {
                super::moves::plan(world, &id, from, name);
            }
        }
        0..=2 => {
            let spec = spec(dice);
            world.deploy(&[spec]);
        }
        3 | 4 => {
            let event = NodeCordoned { node: name, drain: true };
            world.history.add(&Writer::Controller, event);
        }
        5 | 6 => {
            world.history.add(&Writer::Controller, NodeUncordoned { node: name });
        }
        7 if !lost => {
            world.history.add(&Writer::Health, NodeLost { node: name, silent_ms: 6_000 });
        }
        7 | 8 => {
            if lost {
                world.history.add(&Writer::Health, NodeReturned { node: name, silent_ms: 0 });
            }
        }
        _ => {
            let ready = world.state().replicas.iter().find(|(_, r)| is_serving(world.state(), r));
            let ready = ready.map(|(id, r)| (id.clone(), r.node.clone(), r.run));
            if let Some((replica, Some(node), run)) = ready {
                let output = "the probe was answered with 503".to_owned();
                let event = ReplicaUnready { replica, run, output };
                world.history.add(&Writer::Agent(node), event);
            }
        }
    }
}

#[test]
fn drains_rollouts_moves_and_losses_together_leave_enough() {
    let mut ended = 0;
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut world = World::new();
        world.looping = vec!["bad:1"];
        let first = spec(&mut dice);
        world.deploy(&[first]);
        for _ in 0..160 {
            if dice.below(6) == 0 {
                happen(&mut world, &mut dice);
            }
            ended += judged(&world, seed);
            world.step();
        }
        assert_eq!(world.state().anomalies(), 0, "{:?}", world.state().cluster.anomalous);
    }
    assert!(ended > 500, "enough of what served was ended: {ended}");
}

/// As many as the floor are declared: by scaling, for such a declaration is refused.
fn scaled_to_the_floor(change: impl Fn(&mut WorkloadSpec)) -> World {
    let declared = |image: &str| {
        let (name, spec) = web(image, 4);
        let mut spec = WorkloadSpec { min_ready: Some(FLOOR), ..spec };
        change(&mut spec);
        (name, spec)
    };
    let mut world = World::new();
    world.deploy(&[declared("web:1")]);
    world.settle();
    world.scale(FLOOR);
    world.settle();
    world.deploy(&[declared("web:2")]);
    world.scale(FLOOR);
    world.settle();
    world
}

fn images(world: &World) -> Vec<String> {
    let state = world.state();
    let live = state.replicas.iter().filter(|(_, replica)| replica.retired.is_none());
    live.filter_map(|(_, replica)| Some(state.spec_of(replica)?.image.clone())).collect()
}

#[test]
fn what_is_scaled_to_its_floor_is_replaced_all_the_same_where_none_may_stand_beside() {
    let update = Update { max_surge: Some(0), max_unavailable: 1, ..Update::default() };
    let world = scaled_to_the_floor(|spec| spec.update = update.clone());
    assert_eq!(images(&world), ["web:2", "web:2"], "{:?}", world.said);
    let world = scaled_to_the_floor(|spec| spec.overlap = Overlap::Never);
    assert_eq!(images(&world), ["web:2", "web:2"], "{:?}", world.said);
}

#[test]
fn where_the_floor_keeps_what_serves_the_surplus_ends_elsewhere() {
    let mut world = World::new();
    let (name, spec) = web("web:1", 2);
    world.deploy(&[(name, WorkloadSpec { min_ready: Some(FLOOR), ..spec })]);
    world.settle();
    let closed = NodeCordoned { node: node("n1"), drain: false };
    world.history.add(&Writer::Controller, closed);
    world.scale(4);
    world.settle();
    // The younger ones serve, and nobody hears the others.
    let silent = NodeSuspected { node: node("n1"), silent_ms: 3_000 };
    world.history.add(&Writer::Health, silent);
    world.scale(3);
    let state = world.state();
    let plan = super::super::app(state, &world.traffic, &app("shop"), world.history.now_ms);
    let [(Event::ReplicasRetired(retired), _)] = plan.events.as_slice() else {
        panic!("{:?}", plan.events)
    };
    let [id] = retired.replicas.as_slice() else { panic!("{retired:?}") };
    let ended = state.replicas.get(id).expect("it is there");
    assert_eq!(ended.node, Some(node("n1")), "the two that serve stay");
}

#[test]
fn a_global_one_on_no_more_nodes_than_its_floor_is_replaced_all_the_same() {
    let ways: [fn(&mut WorkloadSpec); 3] = [
        |spec| spec.update = Update { max_surge: Some(0), max_unavailable: 1, ..Update::default() },
        |spec| spec.overlap = Overlap::Never,
        |_| {},
    ];
    for (way, least) in ways.iter().flat_map(|way| [(way, 2), (way, 5)]) {
        let declared = |image: &str| {
            let (name, mut spec) = global(image, least);
            way(&mut spec);
            (name, spec)
        };
        let mut world = World::new();
        world.deploy(&[declared("web:1")]);
        world.settle();
        world.deploy(&[declared("web:2")]);
        world.settle();
        assert_eq!(images(&world), ["web:2", "web:2"], "{least}: {:?}", world.said);
        assert!(world.said.iter().all(|said| !said.starts_with("-2")), "{:?}", world.said);
    }
}

/// Why replicas would be ended at this moment.
fn ending(world: &World) -> Vec<RetireReason> {
    let now_ms = world.history.now_ms;
    let plan = super::super::app(world.state(), &world.traffic, &app("shop"), now_ms);
    let reasons = plan.events.into_iter().filter_map(|(event, _)| match event {
        Event::ReplicasRetired(e) => Some(e.reason),
        _ => None,
    });
    reasons.collect()
}

fn global(image: &str, min_ready: u32) -> (WorkloadName, WorkloadSpec) {
    let (name, spec) = web(image, 1);
    (name, WorkloadSpec { mode: Mode::Global, min_ready: Some(min_ready), ..spec })
}

#[test]
fn a_drain_does_not_count_on_what_a_global_one_gives_up_elsewhere() {
    let mut world = World::new();
    world.deploy(&[global("web:1", 1)]);
    world.settle();
    let (name, mut spec) = global("web:1", 1);
    let (attribute, value) = ("node".to_owned(), "n2".to_owned());
    spec.placement.constraints = vec![Constraint { attribute, equal: false, value }];
    world.deploy(&[(name, spec)]);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    assert_eq!(
        ending(&world),
        [RetireReason::ScaledDown],
        "the one on n1 is the last that is ready"
    );
}

#[test]
fn a_node_that_is_to_have_a_global_one_counts_from_the_decision_on() {
    let mut world = World::new();
    world.deploy(&[global("web:1", 3)]);
    world.settle();
    world.deploy(&[global("web:2", 3)]);
    for _ in 0..60 {
        if ending(&world) == [RetireReason::Replaced] {
            break;
        }
        world.step();
    }
    assert_eq!(ending(&world), [RetireReason::Replaced], "{:?}", world.said);
    world.history.node("n3", 4, 4);
    assert_eq!(ending(&world), [], "three nodes are to have one now: {:?}", world.said);
    world.settle();
    assert_eq!(images(&world), ["web:2"; 3], "{:?}", world.said);
}
