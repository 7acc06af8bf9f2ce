//! A host is cut off. Its gateway is gone with it; those of the other two pass over its replicas long
//! before it is declared lost.

use std::time::Duration;

use super::stage::Stage;
use crate::load::{Mix, Outcome};

/// After how long the cut slows nothing that begins, in ms.
const LEFT_MS: u64 = 2_000;

/// What is not slow, in ms: more than an endpoint may take to be reached.
const SLOW_MS: u64 = 1_000;

/// For how long requests come in while it is cut off.
const CUT: Duration = Duration::from_secs(9);

pub(super) fn cut(stage: &Stage, round: usize) -> Outcome {
    // Never the first: NATS and whoever decides are reached through all of them alike, but one is enough.
    let gone = 1 + round % 2;
    let host = stage.engines.hosts()[gone].clone();
    let mut gateways = stage.gateways();
    gateways.remove(gone);
    let load = stage.load(&gateways, Mix::GetsAndPosts);
    stage.engines.cut(&host);
    let cut_ms = runtime::clock::utc_ms();
    std::thread::sleep(CUT);
    let outcome = load.end();
    stage.engines.heal(&host);
    stage.settled();
    let wrong = outcome
        .failures
        .iter()
        .filter(|failure| failure.may_be_repeated() || failure.sent_ms > cut_ms + LEFT_MS);
    assert_eq!(wrong.count(), 0, "cut at {cut_ms}: {outcome}{}", outcome.failed());
    let late = outcome.answered.iter().filter(|answered| {
        answered.sent_ms > cut_ms + LEFT_MS && answered.took_us > SLOW_MS * 1_000
    });
    let late: Vec<String> = late
        .map(|late| format!("{}+{}: {}", late.at, late.sent_ms - cut_ms, late.took_us / 1_000))
        .collect();
    assert!(late.is_empty(), "cut at {cut_ms}: {outcome}: {} {late:?}", late.len());
    assert!(outcome.asked >= 1_000, "{outcome}");
    outcome
}
