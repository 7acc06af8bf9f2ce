//! Replicas of one revision are replaced by those of another.

use serde_json::json;

use super::stage::Stage;
use crate::load::{Kind, Outcome};

/// How many requests there are at least while something is done.
const LEAST: u64 = 600;

pub(super) fn rolling(stage: &mut Stage) -> Outcome {
    let before = stage.greeting();
    let next = stage.declared("rolling", &json!({}));
    let load = stage.load_on_all();
    stage.deploy(&next);
    stage.settled();
    stage.after();
    let outcome = load.end();
    outcome.is_all_well("a rolling update", LEAST);
    for greeting in [before, stage.greeting()] {
        assert!(outcome.seen().iter().any(|text| text.starts_with(&greeting)), "{greeting}");
    }
    outcome
}

pub(super) fn canary(stage: &mut Stage) -> Outcome {
    let steps = json!({"canary": {"steps": [{"weight_percent": 20}, {"weight_percent": 60}]}});
    let next = stage.declared(steps, &json!({}));
    let load = stage.load_on_all();
    let mut said = stage.deploy(&next);
    for _ in 0..2 {
        assert!(said.contains("waits to be promoted"), "{said}");
        stage.after();
        said = stage.ok(&["rollout", "promote", stage.cluster.app()]);
    }
    stage.settled();
    stage.after();
    let outcome = load.end();
    outcome.is_all_well("a canary that is promoted", LEAST);
    let greeting = stage.greeting();
    assert!(outcome.seen().iter().any(|text| text.starts_with(&greeting)), "{greeting}");
    outcome
}

/// What the canary itself answers with an error is the app's own; all else must be answered.
pub(super) fn rollback(stage: &mut Stage) -> Outcome {
    let steps = json!({"canary": {"steps": [{"weight_percent": 20, "hold_ms": 120_000}]}});
    let next = stage.declared(steps, &json!({"STATUS": "500"}));
    let bad = stage.greeting();
    let load = stage.load_on_all();
    let (well, said) = stage.try_deploy(&next);
    assert!(!well && said.contains("requests"), "{said}");
    stage.settled();
    let back_ms = runtime::clock::utc_ms();
    stage.after();
    let outcome = load.end();
    let (own, ours): (Vec<_>, Vec<_>) = outcome
        .failures
        .iter()
        .partition(|failure| failure.kind == Kind::Status(500) && failure.what.starts_with(&bad));
    let ours = Outcome { failures: ours.into_iter().cloned().collect(), ..outcome.clone() };
    assert!(ours.failures.is_empty(), "{said}{ours}{}", ours.failed());
    assert!(outcome.asked >= LEAST && own.len() >= 2, "{outcome}");
    let late = own.iter().filter(|failure| failure.sent_ms > back_ms).count();
    assert_eq!(late, 0, "what was taken back answers no more: {}", outcome.failed());
    outcome
}
