//! Plans over histories made by hand: what would be created where, and what keeps the rest.

use cluster::Fold;
use cluster::history::{History, app, workload};
use controller::commands::CommandMessage;
use decider::Now;
use schemas::command::{Command, Common, Deploy};
use schemas::spec::{AppSpec, WorkloadSpec};
use serde_json::Value;

use super::outcome::Outcome;
use super::world::{After, World};

fn web(image: &str, replicas: u32, cpu_millis: u64) -> WorkloadSpec {
    let mut spec = WorkloadSpec { replicas, ..WorkloadSpec::of_image(image) };
    spec.resources.cpu_millis = Some(cpu_millis);
    spec
}

fn cluster() -> Fold {
    let mut history = History::default();
    history.node("n1", 2, 4).node("n2", 2, 4);
    history.fold
}

/// An app that asks for so many small replicas.
pub(super) fn shop(replicas: u32) -> WorkloadSpec {
    web("web:1", replicas, 100)
}

/// A cluster of those nodes in which the app `shop` runs.
pub(super) fn running(spec: &WorkloadSpec, nodes: &[&str]) -> Fold {
    let mut history = History::default();
    for name in nodes {
        history.node(name, 2, 4);
    }
    plan(&history.fold, spec.clone()).0.fold
}

fn plan(fold: &Fold, spec: WorkloadSpec) -> (After, Outcome) {
    let app_spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    let payload = Command::Deploy(Deploy { app: app_spec }).encode(&Common::default());
    let subject = "muster.v1.cmd.app.deploy";
    let message = CommandMessage::new(u64::MAX, subject, None, Some("ana"), 2_000, payload);
    let now = Now { utc_ms: 2_000, mono_ms: 1_000 };
    let world = World::new(fold.clone(), Some(app("shop")), now);
    let after = world.run([message]).expect("the ledger goes on with the history");
    let outcome = Outcome::of(&app("shop"), fold.state(), &after, fold.place());
    (after, outcome)
}

fn json(outcome: &Outcome) -> Value {
    serde_json::to_value(outcome).expect("it encodes")
}

#[test]
fn a_new_app_says_on_which_nodes_it_would_be() {
    let (after, outcome) = plan(&cluster(), web("web:1", 3, 100));
    let told = json(&outcome);
    assert_eq!((told["changed"].clone(), told["placed"].clone()), (true.into(), true.into()));
    let web = &told["workloads"][0];
    assert_eq!(web["action"], "create");
    let created = web["create"].as_array().expect("a list");
    let on = |node: &str| created.iter().filter(|one| one["node"] == node).count();
    assert_eq!((created.len(), on("n1").max(on("n2")), on("n1").min(on("n2"))), (3, 2, 1));
    assert_eq!(after.state().anomalies(), 0);
}

#[test]
fn what_is_there_already_would_not_change() {
    let (after, _) = plan(&cluster(), web("web:1", 3, 100));
    let (_, again) = plan(&after.fold, web("web:1", 3, 100));
    let told = json(&again);
    assert_eq!(
        (told["changed"].clone(), told["workloads"][0]["action"].clone()),
        (false.into(), "keep".into())
    );
    assert!(again.told().contains("Nothing would change"), "{}", again.told());
}

#[test]
fn a_changed_image_replaces_every_replica_and_says_what_differs() {
    let (after, _) = plan(&cluster(), web("web:1", 3, 100));
    let (_, outcome) = plan(&after.fold, web("web:2", 3, 100));
    let told = json(&outcome);
    let web = &told["workloads"][0];
    assert_eq!(web["action"], "change");
    assert_eq!(
        web["fields"][0],
        serde_json::json!({"path": "image", "from": "web:1", "to": "web:2"})
    );
    let (create, end) =
        (web["create"].as_array().expect("a list"), web["end"].as_array().expect("a list"));
    assert_eq!((create.len(), end.len()), (3, 3));
    for one in create {
        assert!(one["node"].is_string(), "{one}");
        assert!(end.iter().any(|old| old["replica"] == one["replaces"]), "{one}");
    }
}

#[test]
fn scaling_up_and_down_touches_the_difference_only() {
    let (after, _) = plan(&cluster(), web("web:1", 3, 100));
    for (to, create, end) in [(5, 2, 0), (1, 0, 2)] {
        let told = json(&plan(&after.fold, web("web:1", to, 100)).1);
        let web = &told["workloads"][0];
        assert_eq!(web["action"], "scale");
        let count = |key: &str| web[key].as_array().map(Vec::len);
        assert_eq!((count("create"), count("end")), (Some(create), Some(end)));
    }
}

#[test]
fn what_fits_nowhere_is_told_with_every_reason() {
    let (_, outcome) = plan(&cluster(), web("web:1", 3, 1_500));
    assert!(outcome.unplaced().is_some_and(|text| text.contains("web")));
    let told = json(&outcome);
    let web = &told["workloads"][0];
    assert_eq!(told["placed"], false);
    let reason = web["unplaced"][0]["reason"].as_str().expect("a reason");
    assert!(reason.contains("cpu: 1500 millis needed, at most 500 free"), "{reason}");
    let placed =
        web["create"].as_array().expect("a list").iter().filter(|one| one["node"].is_string());
    assert_eq!(placed.count(), 2);
}

#[test]
fn a_command_that_would_be_rejected_says_why() {
    let (_, outcome) = plan(&cluster(), web("web:1", 5_000, 100));
    let problem = outcome.rejected.expect("it is refused");
    assert_eq!(problem.field, "app.workloads.web.replicas");
}
