//! A node drains: what stays there, and what is said about it.

use schemas::event::{
    AppDeployed, NodeCordoned, NodeLost, ReplicasPlaced, ReplicasRequested, ReplicasRetired,
    ReplicasUnplaced, RequestedReplica, RetireReason, Unfit,
};
use schemas::id::{VolumeName, Writer};
use schemas::spec::{AppSpec, Mount, MountSource};

use super::*;
use crate::history::{History, app, node, replica, workload};

/// `shop/web` of a spec, with its replica `shop-web-a` on `n1`, which drains.
fn draining(spec: &WorkloadSpec) -> History {
    let mut history = History::default();
    history.node("n1", 1, 1);
    let workloads = [(workload("web"), spec.clone())].into();
    let deployed = AppSpec { name: app("shop").name, workloads };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec: deployed });
    request(&mut history, spec, "shop-web-a", None);
    let replicas = vec![replica("shop-web-a")];
    let placed = ReplicasPlaced {
        node: node("n1"),
        replicas,
        chosen: String::new(),
        passed_over: Vec::new(),
    };
    history.add(&Writer::Scheduler, placed);
    assert_eq!(stay(&history), Vec::<String>::new(), "it does not drain yet");
    history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    history
}

fn request(history: &mut History, spec: &WorkloadSpec, id: &str, replaces: Option<&str>) {
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: spec.digest(),
        replicas: vec![RequestedReplica {
            id: replica(id),
            replaces: replaces.map(replica),
            node: (spec.mode == Mode::Global).then(|| node("n1")),
        }],
    };
    history.add(&Writer::Controller, requested);
}

/// What the answer of `state` says about `n1`.
fn stay(history: &History) -> Vec<String> {
    let state = history.fold.state();
    let page = crate::view::page(state, history.fold.place(), &Default::default());
    page.nodes[0].staying.clone()
}

#[test]
fn what_has_a_volume_stays_until_it_is_ended() {
    let mut spec = WorkloadSpec::of_image("db:1");
    for name in ["data", "wal"] {
        let source = MountSource::Volume(VolumeName::new(name).expect("a name"));
        spec.mounts.push(Mount { source, target: format!("/{name}"), read_only: false });
    }
    let mut history = draining(&spec);
    assert_eq!(stay(&history), ["shop-web-a: its volumes data, wal live on n1"]);
    let (app, workload, replicas) = (app("shop"), workload("web"), vec![replica("shop-web-a")]);
    let reason = RetireReason::ScaledDown;
    history.add(
        &Writer::Controller,
        ReplicasRetired { app, workload, replicas, reason, leaving: false },
    );
    assert_eq!(stay(&history), Vec::<String>::new());
}

#[test]
fn what_moves_is_not_told_and_what_fits_nowhere_is() {
    let spec = WorkloadSpec::of_image("web:1");
    let mut history = draining(&spec);
    assert_eq!(stay(&history), Vec::<String>::new());
    request(&mut history, &spec, "shop-web-b", Some("shop-web-a"));
    assert_eq!(stay(&history), Vec::<String>::new(), "the scheduler has not answered");
    let reason = "admission: the node is draining".to_owned();
    let unplaced = ReplicasUnplaced {
        app: app("shop"),
        workload: workload("web"),
        waiting: 1,
        reasons: vec![Unfit { reason, nodes: 1, remedy: "uncordon it".to_owned() }],
    };
    history.add(&Writer::Scheduler, unplaced);
    let nowhere = "its replacement shop-web-b fits nowhere: admission: the node is draining";
    assert_eq!(stay(&history), [format!("shop-web-a: {nowhere}")]);
}

#[test]
fn what_is_for_every_node_ends_and_what_must_not_overlap_waits_for_a_lost_one() {
    let global = WorkloadSpec { mode: Mode::Global, ..WorkloadSpec::of_image("web:1") };
    assert_eq!(stay(&draining(&global)), Vec::<String>::new());
    let exclusive = WorkloadSpec { overlap: Overlap::Never, ..WorkloadSpec::of_image("web:1") };
    let mut history = draining(&exclusive);
    assert_eq!(stay(&history), Vec::<String>::new());
    history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    let [told] = stay(&history).try_into().expect("one stays");
    assert!(told.contains("must not run twice"), "{told}");
}
