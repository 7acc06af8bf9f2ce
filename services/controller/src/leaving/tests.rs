//! What gateways say, what they do not say, and how long that is waited for.

use cluster::history::{History, app, node, replica, workload};
use schemas::event::{
    AppDeployed, Endpoint, LeadershipTaken, NodeLost, ReplicaReady, ReplicasPlaced,
    ReplicasRequested, ReplicasRetired, RequestedReplica, RetireReason, RunStarted,
};
use schemas::id::Writer;
use schemas::report::{OpenOn, Standing};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

/// When gateways are listened to from, and when all that are there have been heard.
const BEGAN: u64 = 10_000;
const NOW: u64 = BEGAN + LISTEN_MS;

/// How long what is under way may go on, here.
const DRAIN_MS: u64 = 8_000;

struct World {
    history: History,
    leaving: Leaving,
}

impl World {
    /// Two replicas on two nodes, and all gateways that there are, which are none, heard.
    fn new() -> Self {
        let mut history = History::default();
        history.node("n1", 4, 4).node("n2", 4, 4);
        let spec = WorkloadSpec { drain_ms: DRAIN_MS, ..WorkloadSpec::of_image("web:1") };
        let digest = spec.digest();
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: app("shop").name, workloads };
        history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
        for (on, id) in [("n1", "shop-web-a"), ("n2", "shop-web-b")] {
            let requested = ReplicasRequested {
                app: app("shop"),
                workload: workload("web"),
                revision: 1,
                generation: 0,
                spec: digest.clone(),
                replicas: vec![RequestedReplica { id: replica(id), replaces: None, node: None }],
            };
            let placed = ReplicasPlaced {
                node: node(on),
                replicas: vec![replica(id)],
                chosen: String::new(),
                passed_over: Vec::new(),
            };
            let endpoint = Endpoint {
                container: 80,
                protocol: Default::default(),
                address: "127.0.0.1".to_owned(),
                port: 1,
            };
            let (container, endpoints) = ("c".to_owned(), vec![endpoint]);
            let agent = Writer::Agent(node(on));
            history
                .add(&Writer::Controller, requested)
                .add(&Writer::Scheduler, placed)
                .add(
                    &agent,
                    RunStarted { replica: replica(id), run: 1, container, endpoints, inside: None },
                )
                .add(&agent, ReplicaReady { replica: replica(id), run: 1 });
        }
        let mut leaving = Leaving::default();
        leaving.listening(BEGAN);
        Self { history, leaving }
    }

    fn retire(&mut self, ids: &[&str]) -> Place {
        let retired = ReplicasRetired {
            app: app("shop"),
            workload: workload("web"),
            replicas: ids.iter().map(|id| replica(id)).collect(),
            reason: RetireReason::ScaledDown,
            leaving: true,
        };
        self.history.add(&Writer::Controller, retired);
        self.history.fold.place()
    }

    /// A gateway serves by a place, with so much under way.
    fn says(&mut self, on: &str, place: Place, open: &[(&str, u64)], now_ms: u64) {
        self.instance_says((on, "i", Standing::Serves), place, open, now_ms);
    }

    /// An instance of a gateway says how it stands to others as well.
    fn instance_says(
        &mut self,
        (on, instance, standing): (&str, &str, Standing),
        place: Place,
        open: &[(&str, u64)],
        now_ms: u64,
    ) {
        let open = open.iter().map(|(id, open)| OpenOn { replica: replica(id), open: *open });
        let (node, instance, open) = (node(on), instance.to_owned(), open.collect());
        let report = GatewayReport {
            node,
            instance,
            standing,
            place,
            open,
            mark: None,
            ordered: Vec::new(),
        };
        self.leaving.awake_ms = now_ms;
        self.leaving.heard(report, now_ms);
    }

    /// What follows, for one who was awake all the time.
    fn plan(&mut self, now_ms: u64) -> Plan {
        self.leaving.awake_ms = now_ms;
        self.leaving.at(self.history.fold.place());
        self.leaving.look(self.history.fold.state(), &app("shop"), now_ms);
        self.leaving.release(self.history.fold.state(), now_ms)
    }

    #[track_caller]
    fn waits(&mut self, now_ms: u64, until_ms: u64) {
        let plan = self.plan(now_ms);
        assert_eq!(plan, Plan { events: Vec::new(), again_at_ms: Some(until_ms) });
    }

    /// The one event that follows, which is then of record.
    #[track_caller]
    fn released(&mut self, now_ms: u64) -> ReplicasReleased {
        let mut plan = self.plan(now_ms);
        assert_eq!(plan.events.len(), 1, "{plan:?}");
        let (event, _) = plan.events.remove(0);
        self.history.add(&Writer::Controller, event.clone());
        assert_eq!(self.plan(now_ms).events, [], "it is said once");
        assert_eq!(self.history.fold.state().anomalies(), 0);
        event
    }
}

fn before(place: Place) -> Place {
    Place { position: place.position - 1, ..place }
}

#[test]
fn one_that_every_gateway_has_let_go_of_is_released_at_once() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a", "shop-web-b"]);
    world.says("n1", before(at), &[], NOW);
    world.says("n2", at, &[("shop-web-a", 2)], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    world.says("n1", at, &[], NOW + 10);
    // One of the two has nothing more under way.
    let event = world.released(NOW + 10);
    assert_eq!(event.replicas, [replica("shop-web-b")]);
    assert_eq!((event.gateways, event.silent, event.open), (2, Vec::new(), 0));
    world.says("n2", at, &[], NOW + 20);
    assert_eq!(world.released(NOW + 20).replicas, [replica("shop-web-a")]);
    assert_eq!(world.leaving.waiting(), 0);
}

#[test]
fn replicas_of_one_retirement_are_released_by_one_event_that_follows_from_it() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a", "shop-web-b"]);
    world.says("n1", at, &[], NOW);
    let plan = world.plan(NOW);
    assert_eq!(plan.events[0].1.position, at.position);
    assert_eq!(world.released(NOW).replicas.len(), 2);
}

#[test]
fn without_a_gateway_it_is_released_when_those_that_are_there_must_have_been_heard() {
    let mut world = World::new();
    world.retire(&["shop-web-a"]);
    world.waits(BEGAN, NOW);
    world.waits(NOW - 1, NOW);
    let event = world.released(NOW);
    assert_eq!((event.gateways, event.silent.len()), (0, 0));
}

#[test]
fn nothing_is_released_before_gateways_are_listened_to_and_a_reconnection_begins_that_anew() {
    let mut world = World::new();
    world.leaving = Leaving::default();
    world.retire(&["shop-web-a"]);
    world.leaving.connected(BEGAN);
    world.waits(BEGAN, BEGAN + DRAIN_MS);
    world.leaving.listening(BEGAN + 100);
    world.waits(BEGAN + 100, BEGAN + 100 + LISTEN_MS);
    world.leaving.connected(BEGAN + 500);
    world.waits(BEGAN + 500, BEGAN + 500 + LISTEN_MS);
    world.released(BEGAN + 500 + LISTEN_MS);
}

#[test]
fn what_is_under_way_has_the_time_of_its_workload_and_is_then_told_of() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    for ms in (0..DRAIN_MS).step_by(500) {
        world.says("n1", at, &[("shop-web-a", 3)], NOW + ms);
        world.says("n2", at, &[("shop-web-a", 1)], NOW + ms);
        world.waits(NOW + ms, NOW + (ms + SILENT_MS).min(DRAIN_MS));
    }
    let event = world.released(NOW + DRAIN_MS);
    assert_eq!((event.gateways, event.silent, event.open), (2, Vec::new(), 4));
}

#[test]
fn a_silent_gateway_is_not_waited_for_and_is_named() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a", "shop-web-b"]);
    world.says("n1", before(at), &[], NOW - 100);
    world.says("n2", at, &[("shop-web-b", 1)], NOW);
    world.waits(NOW + 4_000, NOW - 100 + SILENT_MS);
    world.says("n2", at, &[("shop-web-b", 1)], NOW + 4_000);
    let event = world.released(NOW - 100 + SILENT_MS);
    assert_eq!(event.replicas, [replica("shop-web-a")]);
    assert_eq!((event.gateways, event.silent), (1, vec![node("n1")]));
    // The last that was heard of the other is that something is under way there.
    world.says("n1", at, &[], NOW + 8_000);
    let event = world.released(NOW + 4_000 + SILENT_MS);
    assert_eq!((event.gateways, event.silent), (1, vec![node("n2")]));
    // For ever it is not named.
    world.says("n1", at, &[], NOW + FORGOTTEN_MS + 10_000);
    world.plan(NOW + FORGOTTEN_MS + 10_000);
    assert_eq!(world.leaving.gateways(), 1);
}

#[test]
fn silence_counts_from_the_connection() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.says("n1", before(at), &[], NOW);
    world.leaving.connected(NOW + 4_000);
    world.waits(NOW + 4_000, NOW + 4_000 + LISTEN_MS);
    world.waits(NOW + 6_000, NOW + 4_000 + DRAIN_MS.min(SILENT_MS));
}

#[test]
fn whoever_slept_himself_holds_nobody_for_silent() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.says("n1", before(at), &[], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    let woken = NOW + SILENT_MS + 1;
    let plan = world.leaving.release(world.history.fold.state(), woken);
    assert_eq!(plan, Plan { events: Vec::new(), again_at_ms: Some(woken + LISTEN_MS) });
    world.waits(woken + LISTEN_MS, NOW + DRAIN_MS);
    world.released(NOW + DRAIN_MS);
}

#[test]
fn a_gateway_that_is_behind_is_waited_for_as_long_as_a_silent_one_at_least() {
    for (drain_ms, waited_ms) in [(0, SILENT_MS), (DRAIN_MS, DRAIN_MS)] {
        let mut world = World::new();
        let spec = WorkloadSpec { drain_ms, ..WorkloadSpec::of_image("web:1") };
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: app("shop").name, workloads };
        world.history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 2, spec });
        let at = world.retire(&["shop-web-a"]);
        world.plan(NOW);
        for ms in (0..waited_ms).step_by(500) {
            world.says("n1", before(at), &[], NOW + ms);
            assert_eq!(world.plan(NOW + ms).events, [], "{ms} of {waited_ms}");
        }
        let event = world.released(NOW + waited_ms);
        assert_eq!((event.gateways, event.silent), (0, vec![node("n1")]));
    }
}

#[test]
fn two_instances_of_a_gateway_are_both_waited_for_until_one_says_that_it_has_ended() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    let (old, new) = ("old", "new");
    world.instance_says(("n1", old, Standing::Beside), at, &[("shop-web-a", 1)], NOW);
    world.instance_says(("n1", new, Standing::Serves), at, &[], NOW);
    // What the next one says does not speak for what the one before it finishes.
    world.instance_says(("n1", old, Standing::Beside), at, &[("shop-web-a", 1)], NOW + 2_000);
    world.instance_says(("n1", new, Standing::Serves), at, &[], NOW + 2_000);
    assert_eq!(world.plan(NOW + 2_000).events, []);
    world.instance_says(("n1", old, Standing::Ended), at, &[], NOW + 2_100);
    let released = world.released(NOW + 2_100);
    assert_eq!((released.gateways, released.silent, released.open), (1, vec![], 0));
}

#[test]
fn an_instance_that_was_killed_is_forgotten_when_the_next_one_serves() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.instance_says(("n1", "killed", Standing::Serves), at, &[("shop-web-a", 1)], NOW);
    assert_eq!(world.plan(NOW).events, []);
    world.instance_says(("n1", "next", Standing::Serves), at, &[], NOW + 100);
    assert_eq!(world.released(NOW + 100).silent, []);
}

#[test]
fn a_gateway_that_said_that_it_ends_is_not_waited_for() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.instance_says(("n1", "one", Standing::Serves), before(at), &[], NOW);
    world.instance_says(("n2", "two", Standing::Serves), at, &[], NOW);
    assert_eq!(world.plan(NOW).events, [], "it does not know of the retirement");
    world.instance_says(("n1", "one", Standing::Ended), before(at), &[], NOW + 100);
    let released = world.released(NOW + 100);
    assert_eq!((released.gateways, released.silent), (1, vec![]));
}

#[test]
fn the_place_of_another_epoch_is_none_of_this_history() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    let beyond = Place { epoch: at.epoch - 1, position: at.position + 100, ..at };
    world.says("n1", beyond, &[], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    world.says("n1", at, &[], NOW);
    world.released(NOW);
}

#[test]
fn the_gateway_of_a_lost_node_is_not_waited_for_and_its_replica_is_released() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.says("n1", before(at), &[("shop-web-a", 1)], NOW);
    world.says("n2", at, &[("shop-web-a", 1)], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    world.history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    let event = world.released(NOW + 1);
    assert_eq!((event.gateways, event.silent, event.open), (1, vec![node("n1")], 1));
}

/// Another instance takes over, so long after the last thing that was recorded.
fn take_over(world: &mut World, after_ms: u64) {
    world.history.now_ms += after_ms;
    let writer = Writer::Controller;
    let term = world.history.fold.state().term(&writer) + 1;
    let taken = LeadershipTaken { writer: writer.clone(), term, instance: "other".to_owned() };
    world.history.add(&writer, taken);
    world.leaving = Leaving::default();
    world.leaving.listening(NOW - LISTEN_MS);
    world.leaving.begin();
}

#[test]
fn whoever_begins_to_decide_waits_for_gateways_anew_and_the_limit_goes_on() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.plan(NOW);
    // 6 of the 8 seconds are over by the clock of the history.
    take_over(&mut world, DRAIN_MS - 2_000);
    world.says("n1", at, &[("shop-web-a", 1)], NOW);
    world.waits(NOW, NOW + 2_000);
    world.says("n1", at, &[("shop-web-a", 1)], NOW + 1_999);
    world.waits(NOW + 1_999, NOW + 2_000);
    assert_eq!(world.released(NOW + 2_000).open, 1);
}

#[test]
fn whoever_begins_when_the_limit_has_passed_still_waits_for_gateways_to_know() {
    let mut world = World::new();
    let at = world.retire(&["shop-web-a"]);
    world.plan(NOW);
    take_over(&mut world, 10 * DRAIN_MS);
    world.says("n1", before(at), &[("shop-web-a", 1)], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    world.says("n1", at, &[("shop-web-a", 1)], NOW + 100);
    assert_eq!(world.released(NOW + 100).open, 1);
}

#[test]
fn what_leaves_after_the_take_over_has_all_of_its_time() {
    let mut world = World::new();
    take_over(&mut world, 10 * DRAIN_MS);
    let at = world.retire(&["shop-web-a"]);
    world.says("n1", at, &[("shop-web-a", 1)], NOW);
    world.waits(NOW, NOW + SILENT_MS);
    world.says("n1", at, &[("shop-web-a", 1)], NOW + 4_000);
    world.waits(NOW + 4_000, NOW + DRAIN_MS);
}
