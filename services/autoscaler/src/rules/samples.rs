//! What replicas were last heard to use.
//!
//! Ages are counted by this process's own forward-going clock, from when something was heard: no
//! clock of a node is trusted. What was not heard is not there, and what is not there changes nothing.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Phase, Replica};
use schemas::id::{NodeName, ReplicaId};
use schemas::report::UsageReport;

/// A sample older than this says nothing any more: three were missed.
const FRESH_MS: u64 = 15_000;

/// What a replica was heard to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) cpu_millis: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) heard_ms: u64,
}

/// What was heard of a node.
#[derive(Debug, Default)]
struct Heard {
    /// When its last report was sampled, by its clock.
    sampled_ms: u64,
    /// When that was heard.
    at_ms: u64,
    replicas: BTreeMap<ReplicaId, Sample>,
}

/// What was heard, by node: a node speaks of its own replicas only.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    nodes: BTreeMap<NodeName, Heard>,
}

impl Samples {
    /// Takes in a node's report.
    pub(crate) fn take(&mut self, report: UsageReport, now_ms: u64) {
        let heard = self.nodes.entry(report.node).or_default();
        // One that arrives again, or late, is not newer for that. A node whose clock went back is
        // believed again once its last report has grown old.
        if report.time_ms <= heard.sampled_ms && is_fresh(heard.at_ms, now_ms) {
            return;
        }
        (heard.sampled_ms, heard.at_ms) = (report.time_ms, now_ms);
        heard.replicas.retain(|_, sample| is_fresh(sample.heard_ms, now_ms));
        heard.replicas.extend(report.replicas.into_iter().map(|usage| {
            let (cpu_millis, memory_bytes) = (usage.cpu_millis, usage.memory_bytes);
            (usage.replica, Sample { cpu_millis, memory_bytes, heard_ms: now_ms })
        }));
    }

    /// The last sample of a replica, if it still says something.
    pub(crate) fn of(&self, id: &ReplicaId, replica: &Replica, now_ms: u64) -> Option<Sample> {
        let sample = self.nodes.get(replica.node.as_ref()?)?.replicas.get(id)?;
        is_fresh(sample.heard_ms, now_ms).then_some(*sample)
    }

    /// Forgets nodes that are not there any more.
    pub(crate) fn forget(&mut self, state: &State) {
        self.nodes.retain(|node, _| state.nodes.contains(node));
    }
}

fn is_fresh(heard_ms: u64, now_ms: u64) -> bool {
    now_ms.saturating_sub(heard_ms) <= FRESH_MS
}

/// Whether a replica does its work, as far as anybody knows, and is meant to go on.
pub(crate) fn is_ready(state: &State, replica: &Replica) -> bool {
    replica.phase == Phase::Ready && replica.retired.is_none() && !state.is_unknown(replica)
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node, replica, workload};
    use schemas::event::{AppDeployed, ReplicasPlaced, ReplicasRequested, RequestedReplica};
    use schemas::report::Usage;
    use schemas::spec::{AppSpec, WorkloadSpec};

    use super::*;

    /// `shop-web-a` on n1.
    fn history() -> History {
        let mut history = History::default();
        history.node("n1", 1, 1).node("n2", 1, 1);
        let spec = WorkloadSpec::of_image("web:1");
        let digest = spec.digest();
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: app("shop").name, workloads };
        let controller = schemas::id::Writer::Controller;
        history.add(&controller, AppDeployed { app: app("shop"), revision: 1, spec });
        let id = replica("shop-web-a");
        history.add(
            &controller,
            ReplicasRequested {
                app: app("shop"),
                workload: workload("web"),
                revision: 1,
                generation: 0,
                spec: digest,
                replicas: vec![RequestedReplica { id: id.clone(), replaces: None, node: None }],
            },
        );
        let chosen = String::new();
        let placed = ReplicasPlaced {
            node: node("n1"),
            replicas: vec![id],
            chosen,
            passed_over: Vec::new(),
        };
        history.add(&schemas::id::Writer::Scheduler, placed);
        history
    }

    fn report(on: &str, time_ms: u64, cpu_millis: u64) -> UsageReport {
        let usage = Usage { replica: replica("shop-web-a"), cpu_millis, memory_bytes: 0 };
        UsageReport { node: node(on), time_ms, replicas: vec![usage] }
    }

    fn cpu(samples: &Samples, history: &History, now_ms: u64) -> Option<u64> {
        let id = replica("shop-web-a");
        let found = history.fold.state().replicas.get(&id).expect("it is there");
        samples.of(&id, found, now_ms).map(|sample| sample.cpu_millis)
    }

    #[test]
    fn a_sample_says_something_for_as_long_as_it_is_fresh() {
        let (history, mut samples) = (history(), Samples::default());
        assert_eq!(cpu(&samples, &history, 1_000), None);
        samples.take(report("n1", 7, 40), 1_000);
        assert_eq!(cpu(&samples, &history, 1_000 + FRESH_MS), Some(40));
        assert_eq!(cpu(&samples, &history, 1_001 + FRESH_MS), None);
    }

    #[test]
    fn a_report_that_comes_again_is_no_news_until_the_last_has_grown_old() {
        let (history, mut samples) = (history(), Samples::default());
        samples.take(report("n1", 7_000, 40), 1_000);
        for time_ms in [7_000, 6_000] {
            samples.take(report("n1", time_ms, 90), 1_000 + FRESH_MS);
            assert_eq!(cpu(&samples, &history, 1_000 + FRESH_MS), Some(40));
        }
        samples.take(report("n1", 6_000, 90), 1_001 + FRESH_MS);
        assert_eq!(cpu(&samples, &history, 1_001 + FRESH_MS), Some(90));
    }

    #[test]
    fn a_node_speaks_of_its_own_replicas_only() {
        let (history, mut samples) = (history(), Samples::default());
        samples.take(report("n2", 7, 40), 1_000);
        assert_eq!(cpu(&samples, &history, 1_000), None);
    }

    #[test]
    fn a_replica_that_one_report_leaves_out_keeps_its_sample_while_that_is_fresh() {
        let (history, mut samples) = (history(), Samples::default());
        samples.take(report("n1", 7, 40), 1_000);
        let without = UsageReport { replicas: Vec::new(), ..report("n1", 8, 0) };
        samples.take(without, 6_000);
        assert_eq!(cpu(&samples, &history, 6_000), Some(40));
        assert_eq!(cpu(&samples, &history, 1_001 + FRESH_MS), None);
    }
}
