//! Replicas go away: scaled down, killed, or with the node that they are on.

use super::stage::{REPLICAS, Stage};
use crate::load::Outcome;

/// How many requests there are at least while something is done.
const LEAST: u64 = 400;

pub(super) fn scale(stage: &Stage) -> Outcome {
    let load = stage.load_on_all();
    for count in [3, REPLICAS] {
        let _ = stage.ok(&["scale", stage.cluster.app(), &format!("web={count}")]);
        stage
            .cluster
            .until("no other container is there", |cluster| cluster.containers().len() == count);
    }
    stage.settled();
    stage.after();
    let outcome = load.end();
    outcome.is_all_well("ten replicas, three, ten", LEAST);
    outcome
}

/// Nobody can take back what the replica got: a POST that it had may fail. A GET is sent to another.
pub(super) fn kill(stage: &Stage, round: usize) -> Outcome {
    let replicas = stage.replicas();
    let replica = &replicas[round * 7 % replicas.len()];
    let load = stage.load_on_all();
    stage.cluster.kill_container(&replica.node, &format!("{}-{}", replica.id, replica.run));
    let killed_ms = runtime::clock::utc_ms();
    stage.cluster.until("it has another run", |_| {
        let now = stage.replicas();
        let found = now.iter().find(|now| now.id == replica.id);
        found.is_some_and(|now| now.state == "ready" && now.run > replica.run)
    });
    stage.settled();
    stage.after();
    let outcome = load.end();
    let excused = |failure: &&crate::load::Failure| {
        !failure.may_be_repeated() && failure.sent_ms <= killed_ms
    };
    let wrong = outcome.failures.iter().filter(|failure| !excused(failure)).count();
    assert_eq!(wrong, 0, "killed at {killed_ms}: {outcome}{}", outcome.failed());
    assert!(outcome.asked >= LEAST, "{outcome}");
    outcome
}

pub(super) fn drain(stage: &Stage, round: usize) -> Outcome {
    let node = stage.cluster.nodes()[round % 3].to_string();
    let load = stage.load_on_all();
    let _ = stage.ok(&["drain", &node]);
    stage.cluster.until("the node is empty", |cluster| {
        cluster.nodes().iter().all(|on| on.as_str() != node || cluster.containers_on(on).is_empty())
    });
    stage.settled();
    stage.after();
    let outcome = load.end();
    outcome.is_all_well("a drain", LEAST);
    let _ = stage.cluster.ok(&["uncordon", &node]);
    outcome
}
