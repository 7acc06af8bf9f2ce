//! What can be gone back to, and what a rollout remembers.

use schemas::event::{
    AppConverged, AppDeleteStarted, AppDeployed, ImageResolved, ReplicaReady, ReplicasPlaced,
    ReplicasRequested, RequestedReplica, RolloutFailed, RolloutPaused, RolloutPromoted,
    RolloutResumed, RolloutStepped, RunStarted, WorkloadScaled,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Step, Update, UpdateStrategy, WorkloadSpec};

use crate::history::{History, app, node, replica, workload};
use crate::state::{App, Held, Workload};

fn web(image: &str) -> WorkloadSpec {
    let steps = vec![
        Step { weight_percent: 10, hold_ms: Some(1_000) },
        Step { weight_percent: 50, hold_ms: None },
    ];
    let strategy = UpdateStrategy::Canary { steps };
    let update = Update { strategy, ..Update::default() };
    WorkloadSpec { replicas: 4, update, ..WorkloadSpec::of_image(image) }
}

fn deploy(history: &mut History, image: &str) {
    let spec =
        AppSpec { name: app("shop").name, workloads: [(workload("web"), web(image))].into() };
    let revision = history.fold.state().apps.get(&app("shop")).map_or(1, |app| app.revision + 1);
    let event = AppDeployed { app: app("shop"), revision, spec };
    history.add(&Writer::Controller, event);
}

fn converge(history: &mut History) {
    let revision = shop(history).revision;
    history
        .add(&Writer::Controller, AppConverged { app: app("shop"), revision, failed: Vec::new() });
}

/// One replica of `web:1` is ready.
fn serve(history: &mut History) {
    let id = replica("shop-web-aaaaa");
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: web("web:1").digest(),
        replicas: vec![RequestedReplica { id: id.clone(), replaces: None, node: None }],
    };
    history.node("n1", 1, 1).add(&Writer::Controller, requested);
    let placed = ReplicasPlaced {
        node: node("n1"),
        replicas: vec![id.clone()],
        chosen: String::new(),
        passed_over: Vec::new(),
    };
    let agent = Writer::Agent(node("n1"));
    let (run, container) = (1, "c".to_owned());
    let started =
        RunStarted { replica: id.clone(), run, container, endpoints: Vec::new(), inside: None };
    history.add(&Writer::Scheduler, placed).add(&agent, started);
    history.add(&agent, ReplicaReady { replica: id, run });
}

fn shop(history: &History) -> &App {
    history.fold.state().apps.get(&app("shop")).expect("it is there")
}

fn of(history: &History) -> &Workload {
    &shop(history).workloads[&workload("web")]
}

fn fail(history: &mut History) {
    let shop = shop(history);
    let event = RolloutFailed {
        app: app("shop"),
        workload: workload("web"),
        revision: shop.revision,
        back_to: shop.good.as_ref().map_or(0, |good| good.revision),
        reason: "it crashes".to_owned(),
        replica: None,
        evidence: None,
        evidence_at: None,
        measured: None,
    };
    history.add(&Writer::Controller, event);
}

#[test]
fn what_converged_stays_until_something_else_does() {
    let mut history = History::default();
    deploy(&mut history, "web:1");
    assert_eq!((shop(&history).good.clone(), of(&history).rollout.clone()), (None, None));
    converge(&mut history);
    let one = web("web:1").digest();
    let agent = Writer::Agent(node("n1"));
    history.node("n1", 1, 1);
    let image = "web@sha256:1".to_owned();
    let (key, reference) = (app("shop"), "web:1".to_owned());
    let resolved = ImageResolved { app: key.clone(), spec: one.clone(), reference, image };
    history.add(&agent, resolved);
    let (app_key, name) = (key, workload("web"));
    let scaled = WorkloadScaled { app: app_key, workload: name, from: 4, to: 7, reason: None };
    history.add(&Writer::Controller, scaled);
    converge(&mut history);

    deploy(&mut history, "web:2");
    deploy(&mut history, "web:3");
    let good = shop(&history).good.clone().expect("the first one converged");
    assert_eq!((good.revision, &good.digests[&workload("web")]), (1, &one));
    assert_eq!(good.spec.workloads[&workload("web")].replicas, 7, "as it was scaled");
    assert_eq!(shop(&history).images[&one], "web@sha256:1", "what it means stays known");
    assert!(!shop(&history).specs.contains_key(&web("web:2").digest()), "that one is nothing");
    assert_eq!(of(&history).rollout.as_ref().map(|r| r.from.clone()), Some(one.clone()));

    converge(&mut history);
    assert_eq!((shop(&history).good.clone(), of(&history).rollout.clone()), (None, None));
    assert!(!shop(&history).specs.contains_key(&one) && !shop(&history).images.contains_key(&one));
    assert_eq!(history.fold.state().anomalies(), 0);
}

#[test]
fn what_goes_back_is_held_by_nothing_and_known_as_such() {
    let mut history = History::default();
    deploy(&mut history, "web:1");
    converge(&mut history);
    deploy(&mut history, "web:2");
    fail(&mut history);
    let spec = shop(&history).good.clone().expect("there is one").spec;
    let event = AppDeployed { app: app("shop"), revision: 3, spec };
    history.add(&Writer::Controller, event);
    assert_eq!(of(&history).rollout, None);
    assert_eq!(shop(&history).rolled_back.as_ref().map(|failed| failed.revision), Some(2));
    assert!(!shop(&history).is_changed(&workload("web"), of(&history)));
    deploy(&mut history, "web:4");
    assert_eq!(shop(&history).rolled_back, None, "somebody declared another");
    assert!(shop(&history).good.is_some(), "and the good one is still the good one");
    history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    assert_eq!((&shop(&history).good, &of(&history).rollout), (&None, &None));
    assert_eq!(history.fold.state().anomalies(), 0);
}

#[test]
fn a_failure_with_nothing_to_go_back_to_is_impossible() {
    let mut history = History::default();
    deploy(&mut history, "web:1");
    converge(&mut history);
    fail(&mut history);
    assert_eq!(history.fold.state().anomalies(), 1);
}

#[test]
fn a_canary_is_held_at_its_steps_until_it_is_promoted() {
    let mut history = History::default();
    deploy(&mut history, "web:1");
    assert_eq!(of(&history).held(), None, "nothing was there before");
    converge(&mut history);
    deploy(&mut history, "web:0");
    assert_eq!(of(&history).held(), None, "nothing of it serves");
    deploy(&mut history, "web:1");
    converge(&mut history);
    serve(&mut history);
    deploy(&mut history, "web:2");
    let (key, name) = (app("shop"), workload("web"));
    let held = |weight_percent, replicas, hold_ms| Some(Held { weight_percent, replicas, hold_ms });
    assert_eq!(of(&history).held(), held(10, 1, Some(1_000)));
    let (app, workload) = (key.clone(), name.clone());
    let paused = RolloutPaused { app: app.clone(), workload: workload.clone(), revision: 4 };
    history.add(&Writer::Controller, paused);
    assert!(of(&history).is_paused());
    let resumed = RolloutResumed { app: app.clone(), workload: workload.clone(), revision: 4 };
    history.add(&Writer::Controller, resumed);
    assert!(!of(&history).is_paused());
    let (revision, step, weight_percent, measured) = (4, 1, 50, None);
    history.add(
        &Writer::Controller,
        RolloutStepped { app, workload, revision, step, weight_percent, measured },
    );
    assert_eq!(of(&history).held(), held(50, 2, None));
    let promoted = RolloutPromoted { app: key, workload: name, revision: 4, measured: None };
    history.add(&Writer::Controller, promoted.clone());
    assert_eq!(of(&history).held(), None);
    converge(&mut history);
    assert_eq!(history.fold.state().anomalies(), 0);
    history.add(&Writer::Controller, promoted);
    assert_eq!(history.fold.state().anomalies(), 1, "nothing is rolled out");
}
