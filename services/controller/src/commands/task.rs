//! What a declaration may ask of the jobs of a rollout.

use schemas::command::Problem;
use schemas::id::WorkloadName;
use schemas::spec::{AppSpec, Mode, Overlap, RestartPolicy, When, WorkloadSpec};

/// A job of a rollout runs once: it is not started again where nobody knows that it ended, and not by
/// itself after it failed unless its restart policy says how often.
pub(super) fn make_exclusive(spec: &mut WorkloadSpec) {
    spec.overlap = Overlap::Never;
    if spec.restart.attempts.is_none() {
        spec.restart.policy = RestartPolicy::No;
    }
}

/// The jobs that run before a workload's new replicas.
pub(super) fn before<'a>(
    app: &'a AppSpec,
    name: &'a WorkloadName,
) -> impl Iterator<Item = &'a WorkloadName> {
    let jobs = app.workloads.iter().filter(move |(_, spec)| {
        spec.task.as_ref().is_some_and(|task| task.when == When::Before && task.of == *name)
    });
    jobs.map(|(job, _)| job)
}

pub(super) fn check(field: &str, app: &AppSpec, spec: &WorkloadSpec) -> Result<(), Problem> {
    let Some(task) = &spec.task else { return Ok(()) };
    if spec.mode != Mode::Job || spec.replicas != 1 {
        let valid = "a workload of mode job with 1 replica";
        return Err(Problem::new("invalid_value", field, "another one", valid));
    }
    let of = app.workloads.get(&task.of);
    if !of.is_some_and(|of| of.mode != Mode::Job) {
        let (field, valid) = (format!("{field}.of"), "another workload of the app that is no job");
        return Err(Problem::new("not_found", &field, task.of.as_str(), valid));
    }
    Ok(())
}
