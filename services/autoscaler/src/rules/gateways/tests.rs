//! Counters of gateways, read second by second.

use cluster::history::{History, app, node, replica, workload};
use schemas::event::{AppDeployed, ReplicasRequested, RequestedReplica};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Autoscale, WorkloadSpec};

use super::*;

/// `shop/web`, which goes by requests, with replicas a and b; `shop/db`, which does not, with c.
fn history() -> History {
    let mut history = History::default();
    let by_requests = Autoscale { requests_per_second: Some(9), ..Autoscale::of_bounds(1, 9) };
    let by_use = Autoscale { cpu_percent: Some(9), ..Autoscale::of_bounds(1, 9) };
    let of =
        |autoscale| WorkloadSpec { autoscale: Some(autoscale), ..WorkloadSpec::of_image("web:1") };
    let workloads = [(workload("web"), of(by_requests)), (workload("db"), of(by_use))];
    let digest = workloads[0].1.digest();
    let spec = AppSpec { name: app("shop").name, workloads: workloads.into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
    for (name, ids) in [("web", ["shop-web-a", "shop-web-b"].as_slice()), ("db", &["shop-db-c"])] {
        let new = |id: &&str| RequestedReplica { id: replica(id), replaces: None, node: None };
        let requested = ReplicasRequested {
            app: app("shop"),
            workload: workload(name),
            revision: 1,
            generation: 0,
            spec: digest.clone(),
            replicas: ids.iter().map(new).collect(),
        };
        history.add(&Writer::Controller, requested);
    }
    history
}

/// What a gateway said of a replica: requests, and how many are under way.
fn traffic(id: &str, requests: u64, in_flight: u64) -> Traffic {
    Traffic {
        replica: replica(id),
        requests,
        failed: 0,
        in_flight,
        rate_milli: 0,
        p50_us: 0,
        p95_us: 0,
        p99_us: 0,
    }
}

struct World {
    history: History,
    gateways: Gateways,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self { history: history(), gateways: Gateways::default(), now_ms: 100_000 }
    }

    fn hear(&mut self, on: &str, instance: &str, time_ms: u64, replicas: Vec<Traffic>) {
        let instance = instance.to_owned();
        let report = TrafficReport {
            node: node(on),
            instance,
            time_ms,
            replicas,
            calls: Vec::new(),
            ways: Vec::new(),
        };
        self.gateways.take(report, self.history.fold.state(), self.now_ms);
    }

    /// So many seconds of a gateway that gets 10 requests in each for a, from a count on.
    fn seconds(&mut self, on: &str, instance: &str, count: u64, seconds: u64) -> u64 {
        for second in 1..=seconds {
            self.now_ms += 1_000;
            let told = vec![traffic("shop-web-a", count + second * 10, 2)];
            self.hear(on, instance, self.now_ms, told);
        }
        count + seconds * 10
    }

    /// Requests a second and under way, of `web`, in thousandths.
    fn load(&self) -> Option<(u64, u64)> {
        let load = self.gateways.load(&app("shop"), &workload("web"), self.now_ms)?;
        Some((load.requests_milli, load.in_flight_milli))
    }

    fn all_heard(&self) -> bool {
        self.gateways.all_heard(self.now_ms)
    }
}

#[test]
fn what_was_counted_before_the_first_report_is_of_no_second() {
    let mut world = World::new();
    assert_eq!(world.load(), None);
    let count = world.seconds("n1", "i", 1_000_000, 1);
    assert_eq!(world.load(), Some((0, 0)));
    assert!(!world.all_heard(), "not for long enough");
    let count = world.seconds("n1", "i", count, 5);
    assert_eq!(world.load(), Some((5_000, 2_000)), "50 of what are to be 10 s");
    assert!(!world.all_heard());
    let _ = world.seconds("n1", "i", count, 30);
    assert_eq!(world.load(), Some((10_000, 2_000)));
    assert!(world.all_heard());
}

#[test]
fn gateways_and_replicas_add_up_and_what_goes_by_use_is_not_counted() {
    let mut world = World::new();
    for second in 0..20 {
        world.now_ms += 1_000;
        for on in ["n1", "n2"] {
            let replicas = ["shop-web-a", "shop-web-b", "shop-db-c", "gone"];
            let told = replicas.map(|id| traffic(id, second * 10, 1)).to_vec();
            world.hear(on, "i", second, told);
        }
    }
    assert_eq!(world.load(), Some((40_000, 4_000)));
    let db = world.gateways.load(&app("shop"), &workload("db"), world.now_ms);
    assert_eq!(db, Some(Load::default()));
}

#[test]
fn another_instance_counts_from_zero_and_so_does_a_replica_that_was_forgotten() {
    let mut world = World::new();
    let count = world.seconds("n1", "i", 5_000, 20);
    let _ = world.seconds("n1", "j", 0, 5);
    assert_eq!(world.load(), Some((10_000, 2_000)));
    // What is left out has no traffic, and begins anew.
    world.now_ms += 1_000;
    world.hear("n1", "j", world.now_ms, Vec::new());
    let _ = world.seconds("n1", "j", 0, 4);
    assert_eq!(world.load(), Some((9_000, 1_800)), "{count}");
}

#[test]
fn a_report_that_comes_again_or_late_is_no_news() {
    let mut world = World::new();
    let count = world.seconds("n1", "i", 0, 20);
    for late_ms in [0, 1_000] {
        let told = vec![traffic("shop-web-a", count - 90, 2)];
        world.hear("n1", "i", world.now_ms - late_ms, told);
        assert_eq!(world.load(), Some((10_000, 2_000)));
    }
}

#[test]
fn reports_that_were_missed_are_made_up_for_by_the_next() {
    let mut world = World::new();
    let count = world.seconds("n1", "i", 0, 20);
    world.now_ms += 7_000;
    assert_eq!(world.load(), None, "silent");
    assert!(!world.all_heard());
    let _ = world.seconds("n1", "i", count + 70, 1);
    assert_eq!(world.load(), Some((10_000, 2_000)));
    assert!(world.all_heard());
}

#[test]
fn a_gateway_is_silent_for_a_minute_and_then_gone() {
    let mut world = World::new();
    let _ = world.seconds("n1", "i", 0, 20);
    let heard_ms = world.now_ms;
    let _ = world.seconds("n2", "i", 0, 6);
    assert_eq!(world.load(), Some((5_000, 2_000)), "n2 alone");
    let _ = world.seconds("n2", "i", 60, 54);
    assert!(!world.all_heard());
    let _ = world.seconds("n2", "i", 600, 1);
    assert!(world.now_ms > heard_ms + SILENT_MS && world.all_heard());
    world.gateways.forget(world.now_ms);
    assert_eq!(world.gateways.nodes.len(), 1);
}

#[test]
fn times_of_answers_are_weighed_by_how_many_there_were() {
    let mut world = World::new();
    let p95 = |world: &World| world.gateways.p95_us(&replica("shop-web-a"), world.now_ms);
    let timed = |rate_milli, p95_us, in_flight| {
        vec![Traffic { rate_milli, p95_us, ..traffic("shop-web-a", 9, in_flight) }]
    };
    assert_eq!(p95(&world), None);
    world.hear("n1", "i", 1, Vec::new());
    assert_eq!(p95(&world), Some(0), "nobody asked");
    world.hear("n1", "i", 2, timed(0, 0, 3));
    assert_eq!(p95(&world), None, "nobody was answered");
    world.hear("n1", "i", 3, timed(30_000, 100, 3));
    assert_eq!(p95(&world), Some(100));
    world.hear("n2", "i", 1, timed(10_000, 500, 0));
    assert_eq!(p95(&world), Some(200));
    world.now_ms += FRESH_MS + 1;
    assert_eq!(p95(&world), None);
}
