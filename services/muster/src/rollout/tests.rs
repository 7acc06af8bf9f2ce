//! Rollouts in words.

use schemas::event::Evidence;
use schemas::id::{ReplicaId, WorkloadName};
use schemas::read::RolledBackView;

use super::*;

fn name() -> WorkloadName {
    WorkloadName::new("web").expect("a name")
}

fn view(rollout: Option<RolloutView>, ready: u64) -> AppView {
    let web = WorkloadView {
        image: "web:2".to_owned(),
        declared: Some(4),
        replicas: 5,
        ready,
        completed: 0,
        task: None,
        unplaced: Vec::new(),
        ways: Vec::new(),
        rollout,
    };
    AppView {
        app: AppKey::parse("shop").expect("a name"),
        revision: 2,
        status: "converging".to_owned(),
        reason: None,
        rolled_back: None,
        good: Some(1),
        workloads: [(name(), web)].into(),
    }
}

fn canary(hold_ms: Option<u64>) -> RolloutView {
    RolloutView {
        strategy: "canary".to_owned(),
        from: "web:1".to_owned(),
        old_ready: 4,
        paused: false,
        weight_percent: Some(10),
        wanted: Some(1),
        step: Some((1, 3)),
        hold_ms,
        since_ms: 1_000,
    }
}

#[test]
fn a_canary_is_told_with_its_share_and_what_it_waits_for() {
    let held = view(Some(canary(Some(60_000))), 1);
    let text = told(&held, 13_000);
    assert!(text.contains("10 %") && text.contains("step 1 of 3 for 12s of 1m"), "{text}");
    assert!(!rests(&held));

    let manual = view(Some(canary(None)), 1);
    assert!(rests(&manual) && told(&manual, 0).contains("muster rollout promote"));
    assert!(!rests(&view(Some(canary(None)), 0)), "its replica is not ready yet");

    let paused = view(Some(RolloutView { paused: true, ..canary(Some(1)) }), 0);
    assert!(rests(&paused) && told(&paused, 0).contains("muster rollout resume"));
}

#[test]
fn what_was_taken_back_says_why() {
    let (revision, workload, reason) = (1, name(), "it crashes".to_owned());
    let rolled_back = Some(RolledBackView { revision, workload, reason });
    let app = AppView { rolled_back, status: "converged".to_owned(), ..view(None, 4) };
    let text = told(&app, 0);
    assert!(text.contains("revision 1 failed and was taken back: web: it crashes"), "{text}");
}

#[test]
fn a_deploy_that_failed_shows_what_was_found() {
    let app = AppKey::parse("shop").expect("a name");
    let lines = (0..20).map(|i| format!("line {i}")).collect();
    let cause = "exited with 3".to_owned();
    let failed = RolloutFailed {
        app: app.clone(),
        workload: name(),
        revision: 2,
        back_to: 1,
        reason: "it ended 3 times".to_owned(),
        replica: Some(ReplicaId::derive(&app, &name(), 1)),
        evidence: Some(Evidence { cause, last_lines: lines, ..Evidence::default() }),
        evidence_at: Some(7),
        measured: None,
    };
    let error = went_back(&failed, 3, 99, false).expect_err("it did not come about");
    assert_eq!(error.code, Code::No);
    for part in ["revision 2 of shop failed: web", "exited with 3", "line 19", "as revision 3"] {
        assert!(error.text.contains(part), "{part}: {}", error.text);
    }
    assert!(!error.text.contains("line 9\n"), "the last ones do: {}", error.text);
    assert!(went_back(&failed, 3, 99, true).is_ok(), "it was asked for");
}
