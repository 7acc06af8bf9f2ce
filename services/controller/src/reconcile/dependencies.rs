//! Order among the workloads of an app: what must come first, and what must end first.

use cluster::state::{Phase, Workload};
use schemas::event::RetireReason;
use schemas::id::{ReplicaId, WorkloadName};
use schemas::spec::{Condition, Mode};

use super::{Plan, Subject, task};

/// Whether the first replicas of this spec may be requested. A workload that was ready once is not
/// held back again when what it depends on fails later, nor is one that is restarted.
pub(super) fn met(subject: &Subject<'_>) -> bool {
    let begun = subject.workload.was_ready
        || subject
            .state
            .replicas_of(subject.key, subject.name)
            .any(|(_, replica)| replica.spec == *subject.digest && replica.retired.is_none());
    let there = || {
        subject.spec.depends_on.iter().all(|(name, condition)| {
            subject
                .app
                .workloads
                .get(name)
                .is_some_and(|workload| has_reached(subject, name, workload, *condition))
        })
    };
    begun || (task::come_first(subject) && there())
}

fn has_reached(
    subject: &Subject<'_>,
    name: &WorkloadName,
    workload: &Workload,
    condition: Condition,
) -> bool {
    let mode = subject.app.specs.get(&workload.spec).map_or(Mode::Replicated, |spec| spec.mode);
    let current = |phases: &[Phase]| {
        let replicas = subject.state.replicas_of(subject.key, name);
        let there = replicas.filter(|(_, replica)| {
            replica.spec == workload.spec
                && replica.generation == workload.generation
                && phases.contains(&replica.phase)
        });
        u64::try_from(there.count()).unwrap_or(u64::MAX)
    };
    let wanted = match mode {
        Mode::Global => 1,
        Mode::Replicated | Mode::Job => u64::from(workload.replicas),
    };
    match condition {
        Condition::Completed => workload.completed >= wanted,
        Condition::Started => {
            let started = current(&[Phase::Running, Phase::Ready, Phase::Waiting]);
            started + workload.completed >= wanted
        }
        Condition::Healthy => current(&[Phase::Ready]) >= wanted,
    }
}

/// Ends a workload that is not declared any more, after those that depend on it.
pub(super) fn end(subject: &Subject<'_>, plan: &mut Plan) {
    let waits_for = subject.app.workloads.iter().any(|(name, workload)| {
        let spec = subject.app.specs.get(&workload.spec);
        let depends = spec.is_some_and(|spec| spec.depends_on.contains_key(subject.name));
        depends
            && !workload.declared
            && subject.state.replicas_of(subject.key, name).next().is_some()
    });
    if waits_for {
        return;
    }
    let replicas: Vec<ReplicaId> = subject
        .state
        .replicas_of(subject.key, subject.name)
        .filter(|(_, replica)| replica.retired.is_none())
        .map(|(id, _)| id.clone())
        .collect();
    subject.retire(replicas, RetireReason::Deleted, &subject.workload.cause, plan);
}
