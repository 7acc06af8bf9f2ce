//! A replicated workload or a job: the right number of replicas, and all of what is declared.

use cluster::state::{Cause, Phase};
use schemas::event::RetireReason;
use schemas::id::ReplicaId;
use schemas::spec::{Mode, Overlap};

use super::replacement::{self, Why};
use super::roster::{Member, Roster};
use super::{Plan, Subject, Wanted, dependencies};

pub(super) fn reconcile(subject: &Subject<'_>, plan: &mut Plan) {
    let roster = Roster::of(subject);
    let declared = u64::from(subject.workload.replicas);
    let wanted = match subject.spec.mode {
        Mode::Job => declared.saturating_sub(subject.workload.completed),
        Mode::Replicated | Mode::Global => declared,
    };
    if roster.len() > wanted {
        let surplus = usize::try_from(roster.len() - wanted).unwrap_or(usize::MAX);
        let least = roster.least_missed(subject, surplus);
        let ids = least.into_iter().flat_map(Member::ids).collect();
        subject.retire(ids, RetireReason::ScaledDown, &subject.workload.cause, plan);
        return;
    }
    if !dependencies::met(subject) {
        return;
    }
    let missing = wanted.saturating_sub(roster.len() + replacement::leaving(subject));
    let count = usize::try_from(missing).unwrap_or(usize::MAX);
    subject.request(vec![Wanted::default(); count], &subject.workload.cause, plan);
    replace(subject, &roster, missing, plan);
}

/// Replaces what must be replaced, as many at a time as the update allows. What sits on a lost node,
/// or where its image is not to be had, is replaced at once: nobody is served by waiting.
pub(super) fn replace(subject: &Subject<'_>, roster: &Roster<'_>, missing: u64, plan: &mut Plan) {
    let at_once = u64::from(subject.workload.conduct.update.parallelism.max(1));
    let mut on_the_way = missing;
    let mut never_began: Vec<ReplicaId> = Vec::new();
    let mut waiting = Vec::new();
    for member in &roster.members {
        if member.replacement.is_some() {
            on_the_way += u64::from(replacement::pursue(subject, member, plan));
            continue;
        }
        match replacement::needed(subject, member.replica) {
            Some((Why::Outdated, _)) if member.replica.phase == Phase::Pending => {
                never_began.push(member.id.clone());
            }
            Some((Why::Lost | Why::NoImage, cause)) => start_another(subject, member, &cause, plan),
            Some((why, cause)) => waiting.push((member, why, cause)),
            None => on_the_way += u64::from(!proven(subject, member, plan)),
        }
    }
    let cause = &subject.workload.cause;
    subject.retire(never_began, RetireReason::Replaced, cause, plan);
    for (member, why, cause) in waiting {
        if on_the_way >= at_once {
            break;
        }
        on_the_way += 1;
        let exclusive = subject.spec.overlap == Overlap::Never;
        if exclusive || (replacement::stop_first(subject) && why == Why::Outdated) {
            subject.retire(vec![member.id.clone()], why.reason(), &cause, plan);
        } else {
            start_another(subject, member, &cause, plan);
        }
    }
}

fn start_another(subject: &Subject<'_>, member: &Member<'_>, cause: &Cause, plan: &mut Plan) {
    let wanted =
        Wanted { replaces: Some(member.id.clone()), node: member.replica.only_node.clone() };
    subject.request(vec![wanted], cause, plan);
}

/// Whether a replica has been ready for as long as the update asks. One of the declared spec that
/// is not ready holds a rollout back, so that a bad revision takes one replica and not all.
fn proven(subject: &Subject<'_>, member: &Member<'_>, plan: &mut Plan) -> bool {
    let Some(ready_at) = member.replica.ready_ms else { return false };
    let proven_at = ready_at + subject.workload.conduct.update.healthy_for_ms;
    if subject.now_ms < proven_at {
        plan.again_at(proven_at);
        return false;
    }
    true
}
