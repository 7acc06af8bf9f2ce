//! Jobs that are a part of another workload's rollout.

use cluster::state::{Phase, Replica};
use schemas::event::TaskFailed;
use schemas::id::WorkloadName;
use schemas::spec::When;

use super::{Plan, Subject};

/// How many replicas of one there should be: it runs when it is due, and when it failed it is not tried
/// again by itself.
pub(super) fn wanted(subject: &Subject<'_>) -> u64 {
    let workload = subject.workload;
    let left = u64::from(workload.replicas).saturating_sub(workload.completed);
    if workload.due && workload.failures == 0 { left } else { 0 }
}

/// Whether it holds nothing up any more.
pub(super) fn is_over(subject: &Subject<'_>) -> bool {
    let Some(task) = &subject.workload.conduct.task else { return false };
    !subject.workload.due || (subject.workload.failures > 0 && !task.fails_revision())
}

/// Whether a replica of one runs: nobody moves it, for it would run twice.
pub(super) fn stays(subject: &Subject<'_>, replica: &Replica) -> bool {
    subject.workload.conduct.task.is_some()
        && matches!(replica.phase, Phase::Running | Phase::Ready)
}

/// Whether everything that comes before a workload, or before a job that runs after one, is there.
pub(super) fn come_first(subject: &Subject<'_>) -> bool {
    let after = |task: &schemas::spec::Task| task.when == When::After;
    if !subject.workload.conduct.task.as_ref().is_some_and(after) {
        let mut jobs = of(subject, subject.name, When::Before);
        return jobs.all(|job| !job.due);
    }
    let mut others = subject
        .app
        .workloads
        .iter()
        .filter(|(_, other)| other.declared && !other.conduct.task.as_ref().is_some_and(after));
    // What it takes for them to be there, they see to themselves.
    others.all(|(name, other)| {
        let (state, key, app) = (subject.state, subject.key, subject.app);
        let other = Subject::of(state, key, app, name, other, subject.now_ms);
        other.is_some_and(|other| other.is_done(&mut Plan::default()))
    })
}

/// The jobs that run before, or after, a workload.
fn of<'a>(
    subject: &Subject<'a>,
    name: &'a WorkloadName,
    when: When,
) -> impl Iterator<Item = &'a cluster::state::Workload> {
    let workloads = subject.app.workloads.values().filter(|workload| workload.declared);
    workloads.filter(move |workload| {
        let task = workload.conduct.task.as_ref();
        task.is_some_and(|task| task.of == *name && task.when == when)
    })
}

/// The jobs of a revision that failed and let it be.
pub(super) fn failed(app: &cluster::state::App) -> Vec<TaskFailed> {
    let failed = app.workloads.iter().filter(|(_, workload)| {
        let task = workload.conduct.task.as_ref();
        workload.declared && workload.due && workload.failures > 0 && task.is_some()
    });
    let told = failed.map(|(name, workload)| TaskFailed {
        workload: name.clone(),
        reason: workload.failure.clone(),
    });
    told.collect()
}
