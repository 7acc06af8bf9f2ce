//! Commands about rollouts, and what a declaration may ask of one.

use cluster::history::{node, replica, workload};
use schemas::event::{
    AppConverged, ReplicaReady, ReplicasPlaced, ReplicasRequested, RequestedReplica, RunStarted,
};

use super::*;

const STEPS: &str = r#"[{"weight_percent":10,"hold_ms":1000},{"weight_percent":50}]"#;

fn web(image: &str, more: &str) -> String {
    format!(r#"{{"app":{{"name":"shop","workloads":{{"web":{{"image":"{image}"{more}}}}}}}}}"#)
}

/// A replica of what is declared is ready.
fn serve(history: &mut History) {
    let shop = history.fold.state().apps.get(&app("shop")).expect("it is there");
    let id = replica("shop-web-aaaaa");
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: shop.workloads[&workload("web")].spec.clone(),
        replicas: vec![RequestedReplica { id: id.clone(), replaces: None, node: None }],
    };
    history.add(&Writer::Controller, requested);
    let (on, replicas) = (node("n1"), vec![id.clone()]);
    let (chosen, passed_over) = (String::new(), Vec::new());
    let agent = Writer::Agent(on.clone());
    let placed = ReplicasPlaced { node: on, replicas, chosen, passed_over };
    let (run, container) = (1, "c".to_owned());
    let started =
        RunStarted { replica: id.clone(), run, container, endpoints: Vec::new(), inside: None };
    history.add(&Writer::Scheduler, placed).add(&agent, started);
    history.add(&agent, ReplicaReady { replica: id, run });
}

/// `shop` on its way from one image to another, by a strategy.
fn under_way(strategy: &str) -> History {
    let mut history = History::default();
    history.node("n1", 4, 4);
    for (revision, image) in [(1, "web:1"), (2, "web:2")] {
        let update = format!(r#","replicas":4,"update":{{"strategy":{strategy}}}"#);
        let payload = web(image, &update);
        let Ok((_, Command::Deploy(deploy))) = Command::decode("app.deploy", payload.as_bytes())
        else {
            panic!("{payload}")
        };
        let event = AppDeployed { app: app("shop"), revision, spec: deploy.app };
        history.add(&Writer::Controller, event);
        if revision == 1 {
            serve(&mut history);
            let event = AppConverged { app: app("shop"), revision, failed: Vec::new() };
            history.add(&Writer::Controller, event);
        }
    }
    history
}

/// What a command brings about, once it is in the history.
fn done(history: &mut History, verb: &str, payload: &str) -> Vec<Event> {
    let id = format!("c{}", history.entries.len());
    let subject = subject::command(verb);
    let payload = payload.as_bytes().to_vec();
    let message = CommandMessage::new(1, &subject, Some(&id), None, 0, payload);
    let answer = answer(history.fold.state(), &message, Now::default());
    let events = answer.events.iter().map(|draft| {
        Event::decode(&draft.kind, draft.data.get()).expect("a type").expect("it decodes")
    });
    let events: Vec<Event> = events.collect();
    history.batch(&Writer::Controller, events.clone());
    assert_eq!(history.fold.state().anomalies(), 0);
    events
}

#[track_caller]
fn problem(events: &[Event], code: &str, valid: &str) {
    let [Event::CommandRejected(rejected)] = events else { panic!("{events:?}") };
    assert_eq!(rejected.problem.code, code, "{}", rejected.problem);
    assert!(rejected.problem.valid.contains(valid), "{}", rejected.problem);
}

#[test]
fn what_is_rolled_out_is_paused_stepped_on_and_promoted() {
    let mut history = under_way(&format!(r#"{{"canary":{{"steps":{STEPS}}}}}"#));
    let shop = r#"{"app":"shop"}"#;
    let paused = done(&mut history, "rollout.pause", shop);
    assert!(matches!(&paused[1..], [Event::RolloutPaused(e)] if e.revision == 2), "{paused:?}");
    problem(&done(&mut history, "rollout.pause", shop), "nothing_to_do", "not paused");
    let named = r#"{"app":"shop","workload":"web"}"#;
    let resumed = done(&mut history, "rollout.resume", named);
    assert!(matches!(&resumed[1..], [Event::RolloutResumed(_)]), "{resumed:?}");
    let stepped = done(&mut history, "rollout.promote", shop);
    let [_, Event::RolloutStepped(step)] = stepped.as_slice() else { panic!("{stepped:?}") };
    assert_eq!((step.step, step.weight_percent), (1, 50));
    let promoted = done(&mut history, "rollout.promote", shop);
    assert!(matches!(&promoted[1..], [Event::RolloutPromoted(_)]), "{promoted:?}");
    problem(&done(&mut history, "rollout.promote", shop), "nothing_to_do", "held back");

    let mut history = under_way(&format!(r#"{{"canary":{{"steps":{STEPS}}}}}"#));
    let all = done(&mut history, "rollout.promote", r#"{"app":"shop","full":true}"#);
    assert!(matches!(&all[1..], [Event::RolloutPromoted(_)]), "{all:?}");
}

#[test]
fn an_abort_brings_the_last_good_declaration_back_once() {
    let mut history = under_way(r#""rolling""#);
    let payload = r#"{"app":"shop","reason":"it is blank"}"#;
    let aborted = done(&mut history, "rollout.abort", payload);
    let [_, Event::RolloutFailed(failed), Event::AppDeployed(back)] = aborted.as_slice() else {
        panic!("{aborted:?}")
    };
    assert_eq!((failed.revision, failed.back_to, back.revision), (2, 1, 3));
    assert!(failed.reason.contains("it is blank"), "{}", failed.reason);
    assert_eq!(back.spec.workloads.values().next().map(|w| w.image.as_str()), Some("web:1"));
    problem(&done(&mut history, "rollout.abort", payload), "nothing_to_do", "somebody declared");
    let converged = AppConverged { app: app("shop"), revision: 3, failed: Vec::new() };
    history.add(&Writer::Controller, converged);
    let again = done(&mut history, "rollout.abort", payload);
    assert!(matches!(again.as_slice(), [Event::CommandRejected(_)]), "{again:?}");
}

#[test]
fn a_port_of_what_may_come_back_is_taken() {
    let mut history = under_way(r#""rolling""#);
    let port = r#","ports":[{"container":80,"published":8080}]"#;
    let _ = done(&mut history, "app.deploy", &web("web:1", port));
    history.add(
        &Writer::Controller,
        AppConverged { app: app("shop"), revision: 3, failed: Vec::new() },
    );
    let _ = done(&mut history, "app.deploy", &web("web:4", ""));
    let other = web("web:1", port).replace("\"shop\"", "\"other\"");
    problem(&done(&mut history, "app.deploy", &other), "port_taken", "main/shop/web publishes it");
    history.add(
        &Writer::Controller,
        AppConverged { app: app("shop"), revision: 4, failed: Vec::new() },
    );
    assert!(matches!(done(&mut history, "app.deploy", &other)[..], [_, Event::AppDeployed(_)]));
}

#[test]
fn a_rollout_that_could_never_get_anywhere_is_refused() {
    for (more, field) in [
        (r#","update":{"max_surge":0}"#, "update.max_surge"),
        (r#","update":{"max_error_permille":1001}"#, "update.max_error_permille"),
        (r#","update":{"strategy":{"canary":{"steps":[]}}}"#, "update.strategy.canary.steps"),
        (
            r#","update":{"strategy":{"canary":{"steps":[{"weight_percent":60},{"weight_percent":5}]}}}"#,
            "update.strategy.canary.steps",
        ),
        (r#","overlap":"never","update":{"strategy":{"blue_green":{}}}"#, "update.strategy"),
        (r#","mode":"global","update":{"strategy":"recreate"}"#, "update.strategy"),
        (r#","replicas":2,"min_ready":3"#, "min_ready"),
        (r#","replicas":2,"min_ready":1,"update":{"strategy":"recreate"}"#, "min_ready"),
        (r#","replicas":2,"min_ready":2,"overlap":"never""#, "min_ready"),
    ] {
        let field = format!("app.workloads.web.{field}");
        refused("app.deploy", &web("web:1", more), "invalid_value", &field);
    }
    for more in [
        r#","update":{"max_surge":0,"max_unavailable":1}"#,
        r#","replicas":2,"min_ready":2"#,
        r#","replicas":2,"min_ready":1,"overlap":"never""#,
        r#","mode":"global","min_ready":2"#,
    ] {
        accepted("app.deploy", &web("web:1", more), &["CommandAccepted", "AppDeployed"]);
    }
}
