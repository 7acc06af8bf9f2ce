//! A host is cut off. Its gateway is gone with it; those of the other two pass over its replicas long
//! before it is declared lost.

use std::time::Duration;

use super::stage::Stage;
use crate::load::{Answered, Mix, Outcome};

/// After how long the cut slows nothing that begins, in ms.
const LEFT_MS: u64 = 2_000;

/// What is not slow, in ms: more than an endpoint may take to be reached.
const SLOW_MS: u64 = 1_000;

/// What is sent within so long is sent at the same time, in ms.
const BESIDE_MS: u64 = 50;

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
    let late = outcome.answered.iter().filter(|one| {
        one.sent_ms > cut_ms + LEFT_MS && one.took_us > SLOW_MS * 1_000 && is_alone(one, &outcome)
    });
    let late: Vec<String> = late
        .map(|late| {
            let (after_ms, took_ms) = (late.sent_ms - cut_ms, late.took_us / 1_000);
            format!("{after_ms} ms after the cut, at {}: {took_ms} ms", late.at)
        })
        .collect();
    assert!(late.is_empty(), "{outcome}: {late:?}");
    assert!(outcome.asked >= 1_000, "{outcome}");
    outcome
}

/// Whether one is slow while another beside it is not: where the whole machine has no time, all are.
fn is_alone(slow: &Answered, outcome: &Outcome) -> bool {
    outcome.answered.iter().any(|other| {
        other.at == slow.at
            && other.sent_ms.abs_diff(slow.sent_ms) <= BESIDE_MS
            && other.took_us < SLOW_MS * 500
    })
}
