//! What rollouts need beside the replicas: the way back, the next step, and what gateways measure.

mod traffic;

use cluster::state::{App, Cause, Workload};
use schemas::event::{AppDeployed, Event, Measured, RolloutFailed};
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use schemas::spec::UpdateStrategy;

pub use traffic::Traffic;

/// How much of what a failed replica wrote is kept in the event, in bytes: all of it is in the log,
/// where the event says.
const EVIDENCE_BYTES: usize = 4_096;

/// Why a revision failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The workload that failed.
    pub workload: WorkloadName,
    /// Why.
    pub reason: String,
    /// The replica that showed it.
    pub replica: Option<ReplicaId>,
    /// What gateways measured, when that is why.
    pub measured: Option<Measured>,
}

/// Takes the present revision of an app back: what is said of it, and the good declaration again.
/// None when there is nothing to go back to.
#[must_use]
pub fn back(key: &AppKey, app: &App, failure: Failure) -> Option<[(Event, Cause); 2]> {
    let good = app.good.as_ref()?;
    let symptom = app.workloads.get(&failure.workload).and_then(|w| w.symptom.clone());
    let cause = Cause {
        correlation: app.cause.correlation.clone(),
        position: symptom.as_ref().map_or(app.cause.position, |symptom| symptom.position),
    };
    let replica = failure.replica.or_else(|| symptom.as_ref().map(|s| s.replica.clone()));
    let evidence_at = symptom.as_ref().map(|symptom| symptom.position);
    let evidence = symptom.map(|symptom| {
        let mut evidence = symptom.evidence;
        let mut left = EVIDENCE_BYTES;
        // The last lines say most.
        let kept = evidence.last_lines.iter().rev().take_while(|line| {
            let fits = line.len() <= left;
            left = left.saturating_sub(line.len());
            fits
        });
        let kept = kept.count();
        let passed = evidence.last_lines.len() - kept;
        evidence.last_lines.drain(..passed);
        evidence
    });
    let failed = RolloutFailed {
        app: key.clone(),
        workload: failure.workload,
        revision: app.revision,
        back_to: good.revision,
        reason: failure.reason,
        replica,
        evidence,
        evidence_at,
        measured: failure.measured,
    };
    let declared =
        AppDeployed { app: key.clone(), revision: app.revision + 1, spec: good.spec.clone() };
    Some([(failed.into(), cause.clone()), (declared.into(), cause)])
}

/// The step behind the one that a canary is at, and its weight in percent; none behind the last.
#[must_use]
pub fn next_step(workload: &Workload) -> Option<(u32, u32)> {
    let UpdateStrategy::Canary { steps } = &workload.conduct.update.strategy else { return None };
    let step = workload.rollout.as_ref()?.step.checked_add(1)?;
    let next = steps.get(usize::try_from(step).ok()?)?;
    Some((step, next.weight_percent))
}

#[cfg(test)]
mod tests;
