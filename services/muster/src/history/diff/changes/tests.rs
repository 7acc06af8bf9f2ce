//! Two moments of histories made by hand.

use cluster::history::{History, app, node, replica, workload};
use schemas::event::{
    AppDeployed, NodeLost, ReplicaReady, ReplicasPlaced, ReplicasRequested, RequestedReplica,
    RunEnded, RunStarted, WorkloadScaled,
};
use schemas::event::{Evidence, NodeCordoned, Outcome, ReplicaEnded};
use schemas::id::Writer;
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

fn spec(image: &str) -> WorkloadSpec {
    WorkloadSpec { replicas: 1, ..WorkloadSpec::of_image(image) }
}

fn deploy(history: &mut History, revision: u64, spec: WorkloadSpec) {
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision, spec });
}

fn request(history: &mut History, image: &str, id: &str, replaces: Option<&str>, on: &str) {
    let event = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: spec(image).digest(),
        replicas: vec![RequestedReplica {
            id: replica(id),
            replaces: replaces.map(replica),
            node: None,
        }],
    };
    history.add(&Writer::Controller, event);
    let replicas = vec![replica(id)];
    let (chosen, passed_over) = (String::new(), Vec::new());
    history
        .add(&Writer::Scheduler, ReplicasPlaced { node: node(on), replicas, chosen, passed_over });
}

fn run(history: &mut History, on: &str, id: &str, run: u32) {
    let agent = Writer::Agent(node(on));
    let (container, endpoints) = (format!("c{run}"), Vec::new());
    history
        .add(&agent, RunStarted { replica: replica(id), run, container, endpoints, inside: None });
    history.add(&agent, ReplicaReady { replica: replica(id), run });
}

fn began() -> History {
    let mut history = History::default();
    history.node("n1", 4, 4).node("n2", 4, 4);
    deploy(&mut history, 1, spec("web:1"));
    request(&mut history, "web:1", "shop-web-a", None, "n1");
    run(&mut history, "n1", "shop-web-a", 1);
    history
}

fn between(before: &History, after: &History) -> Changes {
    changes(before.fold.state(), after.fold.state(), None)
}

fn fields(object: &Object) -> Vec<(&str, String, String)> {
    object.fields.iter().map(|f| (f.path.as_str(), plain(&f.from), plain(&f.to))).collect()
}

#[test]
fn a_moment_compared_with_itself_shows_nothing() {
    let history = began();
    let same = between(&history, &history);
    assert!(same.is_empty() && same.text().is_empty());
}

#[test]
fn restarts_are_counted_and_not_listed() {
    let before = began();
    let mut after = before.clone();
    for n in 1..4 {
        let evidence = Evidence { cause: "exited with 1".to_owned(), ..Evidence::default() };
        let ended =
            RunEnded { replica: replica("shop-web-a"), run: n, evidence, retry_ms: Some(0) };
        after.add(&Writer::Agent(node("n1")), ended);
        run(&mut after, "n1", "shop-web-a", n + 1);
    }
    let changes = between(&before, &after);
    let web = &changes.apps[0].workloads[0];
    assert_eq!((web.restarts, web.status.len(), web.created.len()), (3, 0, 0));
    assert_eq!(changes.text().matches("shop-web-a").count(), 0, "{}", changes.text());
}

#[test]
fn a_deploy_and_a_scale_show_as_fields_of_the_workload() {
    let before = began();
    let mut after = before.clone();
    deploy(&mut after, 2, WorkloadSpec { stop_grace_ms: 5_000, ..spec("web:2") });
    let (name, to) = (workload("web"), 4);
    let scaled = WorkloadScaled { app: app("shop"), workload: name, from: 1, to, reason: None };
    after.add(&Writer::Controller, scaled);
    let changes = between(&before, &after);
    assert!(changes.nodes.is_empty());
    let shop = &changes.apps[0];
    assert!(fields(&shop.app).contains(&("revision", "1".into(), "2".into())));
    assert_eq!(
        fields(&shop.workloads[0].workload),
        [
            ("image", "web:1".to_owned(), "web:2".to_owned()),
            ("replicas", "1".to_owned(), "4".to_owned()),
            ("stop_grace_ms", "10000".to_owned(), "5000".to_owned()),
        ]
    );
    assert!(changes.text().contains("image: web:1 → web:2"), "{}", changes.text());
}

#[test]
fn a_lost_node_shows_with_what_moved_from_it() {
    let before = began();
    let mut after = before.clone();
    after.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    after.add(&Writer::Controller, NodeCordoned { node: node("n2"), drain: false });
    request(&mut after, "web:1", "shop-web-b", Some("shop-web-a"), "n2");
    run(&mut after, "n2", "shop-web-b", 1);
    let ended = ReplicaEnded { replica: replica("shop-web-a"), outcome: Outcome::Stopped };
    after.add(&Writer::Agent(node("n1")), ended);
    after.node("n3", 1, 1);
    let changes = between(&before, &after);
    let told: Vec<_> = changes.nodes.iter().map(|n| (n.name.as_str(), n.change)).collect();
    assert_eq!(told, [("n1", Change::Changed), ("n2", Change::Changed), ("n3", Change::Added)]);
    assert_eq!(fields(&changes.nodes[0]), [("status", "ready".into(), "lost".into())]);
    let text = changes.text();
    assert!(text.contains("shop-web-a on n1 → shop-web-b on n2"), "{text}");
    assert_eq!(changes_of_other_apps(&before, &after), 0);
}

fn changes_of_other_apps(before: &History, after: &History) -> usize {
    let changes = changes(before.fold.state(), after.fold.state(), Some(&app("other")));
    changes.nodes.len() + changes.apps.len()
}
