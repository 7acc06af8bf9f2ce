//! What is counted of reports, whatever gateways do meanwhile.

use cluster::history::{History, app, node, replica, workload};
use schemas::event::{AppConverged, AppDeployed, ReplicasRequested, RequestedReplica};
use schemas::id::Writer;
use schemas::report::Traffic as Went;
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

fn declare(history: &mut History, revision: u64, image: &str, id: &str) {
    let spec = WorkloadSpec::of_image(image);
    let digest = spec.digest();
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision, spec });
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision,
        generation: 0,
        spec: digest,
        replicas: vec![RequestedReplica { id: replica(id), replaces: None, node: None }],
    };
    history.add(&Writer::Controller, requested);
}

/// `shop/web` on its way from `web:1` to `web:2`.
fn history() -> History {
    let mut history = History::default();
    declare(&mut history, 1, "web:1", "shop-web-aaaaa");
    history.add(
        &Writer::Controller,
        AppConverged { app: app("shop"), revision: 1, failed: Vec::new() },
    );
    declare(&mut history, 2, "web:2", "shop-web-bbbbb");
    history
}

fn report(gateway: &str, instance: &str, counts: &[(&str, u64, u64)]) -> TrafficReport {
    let replicas = counts.iter().map(|(id, requests, failed)| Went {
        replica: replica(id),
        requests: *requests,
        failed: *failed,
        in_flight: 0,
        rate_milli: 0,
        p50_us: 0,
        p95_us: 0,
        p99_us: 0,
    });
    TrafficReport {
        node: node(gateway),
        instance: instance.to_owned(),
        time_ms: 0,
        replicas: replicas.collect(),
        calls: Vec::new(),
        ways: Vec::new(),
    }
}

fn measured(traffic: &Traffic, history: &History) -> Option<(u64, u64, u64, u64)> {
    let shop = history.fold.state().apps.get(&app("shop")).expect("it is there");
    let web = &shop.workloads[&workload("web")];
    let all = traffic.measured(&app("shop"), &workload("web"), web)?;
    Some((all.requests, all.failed, all.old_requests, all.old_failed))
}

const OLD: &str = "shop-web-aaaaa";
const NEW: &str = "shop-web-bbbbb";

#[test]
fn what_came_since_is_summed_over_gateways_and_their_restarts() {
    let history = history();
    let state = history.fold.state();
    let mut traffic = Traffic::default();
    // What it had of the old one before nobody knows the time of.
    let _ = traffic.hear(&report("n1", "a", &[(OLD, 500, 50), (NEW, 3, 1)]), state);
    assert_eq!(measured(&traffic, &history), Some((3, 1, 0, 0)));
    let apps = traffic.hear(&report("n1", "a", &[(OLD, 510, 51), (NEW, 7, 1)]), state);
    assert_eq!((apps, measured(&traffic, &history)), (vec![app("shop")], Some((7, 1, 10, 1))));
    // It began anew, and counts from nothing.
    let _ = traffic.hear(&report("n1", "b", &[(OLD, 2, 0), (NEW, 4, 4)]), state);
    assert_eq!(measured(&traffic, &history), Some((11, 5, 12, 1)));
    let _ = traffic.hear(&report("n2", "c", &[(NEW, 9, 0)]), state);
    assert_eq!(measured(&traffic, &history), Some((20, 5, 12, 1)));
    // The same again is nothing new; a replica that nobody knows is nobody's.
    let again = report("n2", "c", &[(NEW, 9, 0), ("shop-web-zzzzz", 7, 7)]);
    assert_eq!(traffic.hear(&again, state), Vec::new());
    assert_eq!(measured(&traffic, &history), Some((20, 5, 12, 1)));
}

#[test]
fn another_rollout_is_measured_anew_and_what_is_over_is_forgotten() {
    let mut history = history();
    let mut traffic = Traffic::default();
    let _ = traffic.hear(&report("n1", "a", &[(NEW, 30, 30)]), history.fold.state());
    declare(&mut history, 3, "web:3", "shop-web-ccccc");
    assert_eq!(measured(&traffic, &history), None);
    let next = report("n1", "a", &[(NEW, 31, 30), ("shop-web-ccccc", 2, 0)]);
    let _ = traffic.hear(&next, history.fold.state());
    assert_eq!(measured(&traffic, &history), Some((2, 0, 1, 0)));
    history.add(
        &Writer::Controller,
        AppConverged { app: app("shop"), revision: 3, failed: Vec::new() },
    );
    let _ = traffic.hear(&next, history.fold.state());
    assert_eq!((measured(&traffic, &history), traffic.windows.len()), (None, 0));
}
