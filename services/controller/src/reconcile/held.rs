//! A rollout that is held: the old spec at its whole number, and the new one beside it.

use cluster::state::{Held, Phase, Replica};
use schemas::event::{RolloutPromoted, RolloutStepped};
use schemas::spec::Mode;

use super::floor::Floor;
use super::{Part, Plan, Subject, workload};
use crate::rollout::{Traffic, next_step};

/// The two parts of a workload whose rollout is held, and how many replicas each should have.
fn parts<'a>(subject: &Subject<'a>) -> Option<[(Subject<'a>, u64); 2]> {
    let held = of(subject)?;
    let from = &subject.workload.rollout.as_ref()?.from;
    let spec = subject.app.specs.get(from)?;
    let old = Subject { part: Part::Old, spec, digest: from, ..*subject };
    let new = Subject { part: Part::New, ..*subject };
    Some([(old, u64::from(subject.workload.replicas)), (new, u64::from(held.replicas))])
}

fn of(subject: &Subject<'_>) -> Option<Held> {
    subject.workload.held().filter(|_| subject.spec.mode == Mode::Replicated)
}

/// Goes on to the next step when this one went well for as long as it asks.
pub(super) fn go_on(subject: &Subject<'_>, traffic: &Traffic, plan: &mut Plan) {
    let (Some(held), Some(rollout)) = (of(subject), &subject.workload.rollout) else { return };
    let Some(hold_ms) = held.hold_ms.filter(|_| !rollout.paused) else { return };
    let replicas = subject.state.replicas_of(subject.key, subject.name);
    let new: Vec<_> = replicas
        .map(|(_, replica)| replica)
        .filter(|r| r.retired.is_none() && subject.is_current(r))
        .collect();
    let serves = |r: &&Replica| r.phase == Phase::Ready && !subject.state.is_unknown(r);
    let all = u64::try_from(new.len()).unwrap_or(u64::MAX) == u64::from(held.replicas);
    if !all || !new.iter().all(serves) {
        return;
    }
    let ready_ms = new.iter().filter_map(|replica| replica.ready_ms).max().unwrap_or(0);
    let at = rollout.since_ms.max(ready_ms).saturating_add(hold_ms);
    if subject.now_ms < at {
        plan.again_at(at);
        return;
    }
    let measured = traffic.measured(subject.key, subject.name, subject.workload);
    let (app, workload) = (subject.key.clone(), subject.name.clone());
    let (revision, cause) = (subject.app.revision, &subject.workload.cause);
    match next_step(subject.workload) {
        None => plan.say(RolloutPromoted { app, workload, revision, measured }, cause),
        Some((step, weight_percent)) => {
            let stepped =
                RolloutStepped { app, workload, revision, step, weight_percent, measured };
            plan.say(stepped, cause);
        }
    }
}

/// Reconciles both parts. Says whether there are any.
pub(super) fn reconcile(subject: &Subject<'_>, floor: &mut Floor, plan: &mut Plan) -> bool {
    let Some(parts) = parts(subject) else { return false };
    for (part, wanted) in &parts {
        workload::settle(part, *wanted, floor, plan);
    }
    true
}
