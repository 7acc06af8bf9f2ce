//! Only what is otherwise, matters and stays so is stated; seldom, and as it was measured.

use cluster::history::{History, app, node, workload};
use schemas::event::{
    AppDeployed, ReplicasPlaced, ReplicasRequested, RequestedReplica, WorkloadScaled,
};
use schemas::id::{ReplicaId, Writer};
use schemas::report::Calls as Said;
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

/// How many seconds must pass before anything is stated: the window, and for how long it must be so.
const SECONDS: u64 = 60;

/// `web` on `n1` and `api` on `n2`, and what gateways tell of them.
struct World {
    history: History,
    calls: Calls,
    /// What was counted so far.
    count: u64,
    /// Requests a second, and how long it takes from `n1` to `n2`.
    rate: u64,
    us: u64,
    now_ms: u64,
    stated: Vec<CallsMeasured>,
}

impl World {
    fn new(us: u64) -> Self {
        let mut history = History::default();
        history.node("n1", 8, 8).node("n2", 8, 8);
        let workloads =
            ["web", "api"].map(|name| (workload(name), WorkloadSpec::of_image("web:1")));
        let spec = AppSpec { name: app("shop").name, workloads: workloads.into() };
        history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
        for (name, on) in [("web", "n1"), ("api", "n2")] {
            let (app, workload) = (app("shop"), workload(name));
            let id = ReplicaId::derive(&app, &workload, 0);
            let replicas = vec![RequestedReplica { id: id.clone(), replaces: None, node: None }];
            let spec = WorkloadSpec::of_image("web:1").digest();
            let (revision, generation) = (1, 0);
            let asked = ReplicasRequested { app, workload, revision, generation, spec, replicas };
            history.add(&Writer::Controller, asked);
            let (chosen, passed_over) = (String::new(), Vec::new());
            let placed = ReplicasPlaced { node: node(on), replicas: vec![id], chosen, passed_over };
            history.add(&Writer::Scheduler, placed);
        }
        let (calls, stated) = (Calls::default(), Vec::new());
        Self { history, calls, count: 7, rate: 50, us, now_ms: 1_000, stated }
    }

    fn report(&self, on: &str, instance: &str) -> TrafficReport {
        let said = Said {
            from_app: app("shop"),
            from: workload("web"),
            to_app: app("shop"),
            to: workload("api"),
            requests: self.count,
        };
        let way = |to: &str, connect_us| WayTo { to: node(to), connects: 9, connect_us };
        let here = on == "n1";
        TrafficReport {
            node: node(on),
            instance: instance.to_owned(),
            time_ms: self.now_ms,
            replicas: Vec::new(),
            calls: if here { vec![said] } else { Vec::new() },
            ways: if here { vec![way("n2", self.us), way("n1", 80)] } else { Vec::new() },
        }
    }

    /// So many seconds go by, in which these gateways are heard. What is stated is recorded.
    fn pass(&mut self, seconds: u64, heard: &[&str]) -> usize {
        let before = self.stated.len();
        for _ in 0..seconds {
            self.now_ms += 1_000;
            self.count += self.rate;
            for on in heard {
                self.calls.hear(&self.report(on, "one"), self.now_ms);
            }
            let utc_ms = self.now_ms + 1_000_000;
            let now = Now { utc_ms, mono_ms: self.now_ms };
            let stated = self.calls.look(self.history.fold.state(), now);
            self.history.now_ms = utc_ms;
            for event in stated {
                self.history.add(&Writer::Controller, event.clone());
                self.stated.push(event);
            }
        }
        self.stated.len() - before
    }
}

#[test]
fn what_is_far_is_stated_once_after_its_time_with_what_was_measured() {
    let mut world = World::new(2_100);
    assert_eq!(world.pass(SECONDS - 5, &["n1", "n2"]), 0, "it is not so for long enough");
    assert_eq!(world.pass(10, &["n1", "n2"]), 1);
    assert_eq!(world.pass(1_000, &["n1", "n2"]), 0, "it is as was stated");
    let event = &world.stated[0];
    assert_eq!((event.workload.as_str(), event.connect_us, event.over_ms), ("api", 2_100, 30_000));
    let [caller] = event.callers.as_slice() else { panic!("one calls it: {event:?}") };
    assert_eq!(caller.workload.as_str(), "web");
    assert!((48_000..=52_000).contains(&caller.rate_milli), "{caller:?}");
    let way = event.ways.iter().find(|way| way.to == node("n2")).expect("it was measured");
    assert_eq!((way.from.as_str(), way.connect_us, way.connects), ("n1", 2_100, 9));
}

#[test]
fn where_all_is_near_or_nobody_calls_nothing_is_stated() {
    let mut world = World::new(400);
    assert_eq!(world.pass(5 * SECONDS, &["n1", "n2"]), 0, "nothing could be gained");
    let mut world = World::new(2_100);
    world.rate = 0;
    assert_eq!(world.pass(5 * SECONDS, &["n1", "n2"]), 0, "nobody calls");
}

#[test]
fn what_comes_and_goes_is_not_stated_and_what_stays_is_seldom() {
    let mut world = World::new(2_100);
    for round in 0..40 {
        world.us = if round % 2 == 0 { 2_100 } else { 9_000 };
        assert_eq!(world.pass(20, &["n1", "n2"]), 0, "{round}");
    }
    world.us = 2_100;
    assert_eq!(world.pass(SECONDS, &["n1", "n2"]), 1);
    // Far otherwise, for good: stated when five minutes have passed since.
    (world.us, world.rate) = (9_000, 500);
    assert_eq!(world.pass(230, &["n1", "n2"]), 0);
    assert_eq!(world.pass(80, &["n1", "n2"]), 1);
    assert_eq!(world.stated[1].connect_us, 9_000);
    // A little more or less is no news.
    (world.us, world.rate) = (10_000, 400);
    assert_eq!(world.pass(1_000, &["n1", "n2"]), 0);
}

#[test]
fn that_nobody_calls_any_more_is_stated_and_a_rare_caller_stays_one_for_a_while() {
    let mut world = World::new(2_100);
    world.rate = 1;
    assert_eq!(world.pass(2 * SECONDS, &["n1", "n2"]), 1);
    assert_eq!(world.pass(1_000, &["n1", "n2"]), 0);
    world.rate = 0;
    assert_eq!(world.pass(SECONDS + 40, &["n1", "n2"]), 1);
    assert!(world.stated[1].callers.is_empty());
    assert_eq!(world.pass(1_000, &["n1", "n2"]), 0);
}

#[test]
fn while_a_gateway_is_silent_nothing_is_known_and_what_it_was_before_does_not_count() {
    let mut world = World::new(2_100);
    assert_eq!(world.pass(40, &["n1", "n2"]), 0);
    // Longer than a gateway may be silent, shorter than until it counts as gone.
    assert_eq!(world.pass(50, &["n1"]), 0);
    assert_eq!(world.pass(SECONDS, &["n1"]), 1, "it is gone, and the others are all there are");
}

#[test]
fn another_instance_counts_from_zero_and_a_new_leader_waits_anew() {
    let mut world = World::new(2_100);
    world.pass(50, &["n1", "n2"]);
    world.count = 0;
    world.now_ms += 1_000;
    world.calls.hear(&world.report("n1", "two"), world.now_ms);
    world.calls.begin();
    let rate = world.calls.rates().into_values().flat_map(BTreeMap::into_values).max();
    assert!(rate.is_some_and(|rate| (40_000..=60_000).contains(&rate)), "{rate:?}");
}

#[test]
fn a_workload_that_calls_itself_is_far_from_nobody() {
    let mut world = World::new(2_100);
    let scaled = WorkloadScaled {
        app: app("shop"),
        workload: workload("api"),
        from: 1,
        to: 2,
        reason: None,
    };
    world.history.add(&Writer::Controller, scaled);
    let state = world.history.fold.state().clone();
    let api = &state.apps.get(&app("shop")).expect("it is there").workloads[&workload("api")];
    let key = (app("shop"), workload("api"));
    let rates = [(key.clone(), 90_000)].into();
    let ways = vec![WayTo { to: node("n1"), connects: 9, connect_us: 2_100 }];
    let picture = Picture::of(&state, &key, api, &rates, |_| &ways);
    assert_eq!(picture, Picture::default());
}
