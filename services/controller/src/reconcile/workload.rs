//! A replicated workload or a job: the right number of replicas, and all of what is declared.

use cluster::state::{Cause, Phase};
use schemas::event::RetireReason;
use schemas::id::ReplicaId;
use schemas::spec::{Mode, Overlap, UpdateStrategy};

use super::floor::Floor;
use super::replacement::{self, Why};
use super::roster::{Member, Roster};
use super::{Part, Plan, Subject, Wanted, dependencies, held, task, waiting};

pub(super) fn reconcile(subject: &Subject<'_>, plan: &mut Plan) {
    let mut floor = Floor::of(subject, u64::from(subject.workload.replicas));
    if held::reconcile(subject, &mut floor, plan) {
        return;
    }
    if let Some((old, wanted)) = waiting::old(subject) {
        settle(&old, wanted, &mut floor, plan);
        return;
    }
    let declared = u64::from(subject.workload.replicas);
    let wanted = match subject.spec.mode {
        Mode::Job if subject.workload.conduct.task.is_some() => task::wanted(subject),
        Mode::Job => declared.saturating_sub(subject.workload.completed),
        Mode::Replicated | Mode::Global => declared,
    };
    settle(subject, wanted, &mut floor, plan);
}

/// Brings the replicas of a part to a number, all of the part's spec.
pub(super) fn settle(subject: &Subject<'_>, wanted: u64, floor: &mut Floor, plan: &mut Plan) {
    let roster = Roster::of(subject);
    if roster.len() > wanted {
        shrink(subject, &roster, wanted, floor, plan);
        return;
    }
    if subject.part != Part::Old && !dependencies::met(subject) {
        return;
    }
    if recreates(subject) && end_first(subject, &roster, plan) {
        return;
    }
    let missing = wanted.saturating_sub(roster.len() + replacement::leaving(subject));
    let count = usize::try_from(missing).unwrap_or(usize::MAX);
    subject.request(vec![Wanted::default(); count], &subject.workload.cause, plan);
    replace(subject, &roster, missing, floor, plan);
}

/// Ends what there is too much of: those that are missed least, while enough are left; where the
/// floor keeps one, the next that does not serve goes in its place. Replicas of
/// another spec than the declared one are in excess because others took their place.
fn shrink(
    subject: &Subject<'_>,
    roster: &Roster<'_>,
    wanted: u64,
    floor: &mut Floor,
    plan: &mut Plan,
) {
    let surplus = usize::try_from(roster.len() - wanted).unwrap_or(usize::MAX);
    let cause = &subject.workload.cause;
    let (mut excess, mut replaced) = (Vec::new(), Vec::new());
    let members = roster.least_missed(subject).into_iter();
    for member in members.filter(|member| floor.may_end_all(subject, member)).take(surplus) {
        match subject.is_current(member.replica) {
            true => excess.extend(member.ids()),
            false => replaced.extend(member.ids()),
        }
    }
    subject.retire(replaced, RetireReason::Replaced, cause, plan);
    subject.retire(excess, RetireReason::ScaledDown, cause, plan);
}

/// Whether all old replicas end before the new ones begin.
fn recreates(subject: &Subject<'_>) -> bool {
    subject.spec.mode == Mode::Replicated
        && subject.workload.conduct.update.strategy == UpdateStrategy::Recreate
}

/// Ends everything that is not as declared, before anything that is begins. Says whether there is
/// something to wait for.
fn end_first(subject: &Subject<'_>, roster: &Roster<'_>, plan: &mut Plan) -> bool {
    let outdated = roster.members.iter().filter(|m| !subject.is_current(m.replica));
    let outdated: Vec<ReplicaId> = outdated.flat_map(Member::ids).collect();
    if outdated.is_empty() {
        return replacement::ending(subject, |replica| !subject.is_current(replica)) > 0;
    }
    if subject.workload.is_paused() {
        return false;
    }
    subject.retire(outdated, RetireReason::Replaced, &subject.workload.cause, plan);
    true
}

/// Replaces what must be replaced, as many at a time as the update allows. What sits on a lost node,
/// or where its image is not to be had, is replaced at once: nobody is served by waiting.
pub(super) fn replace(
    subject: &Subject<'_>,
    roster: &Roster<'_>,
    missing: u64,
    floor: &mut Floor,
    plan: &mut Plan,
) {
    let mut on_the_way = missing + replacement::leaving(subject);
    let mut beside = 0;
    let mut never_began: Vec<ReplicaId> = Vec::new();
    let mut waiting = Vec::new();
    let paused = subject.workload.is_paused();
    let exclusive = subject.workload.conduct.overlap == Overlap::Never;
    for member in &roster.members {
        if member.replacement.is_some() {
            let pursued = u64::from(replacement::pursue(subject, member, floor, plan));
            (on_the_way, beside) = (on_the_way + pursued, beside + pursued);
            continue;
        }
        match replacement::needed(subject, member.id, member.replica) {
            Some((Why::Outdated, _)) if paused => {}
            Some((Why::Outdated, _)) if member.replica.phase == Phase::Pending => {
                never_began.push(member.id.clone());
            }
            // Its agent would try again, and run it beside the other one.
            Some((why @ Why::NoImage, cause)) if exclusive => {
                subject.retire(vec![member.id.clone()], why.reason(), &cause, plan);
            }
            Some((Why::Lost | Why::NoImage, cause)) => start_another(subject, member, &cause, plan),
            Some((why, cause)) => waiting.push((member, why, cause)),
            None => on_the_way += u64::from(!proven(subject, member, plan)),
        }
    }
    let cause = &subject.workload.cause;
    subject.retire(never_began, RetireReason::Replaced, cause, plan);
    begin(subject, &waiting, (on_the_way, beside), floor, plan);
}

/// Begins with the next of those that wait for their turn: with another beside it where there may be
/// one, else with its end.
fn begin(
    subject: &Subject<'_>,
    waiting: &[(&Member<'_>, Why, Cause)],
    (mut on_the_way, mut beside): (u64, u64),
    floor: &mut Floor,
    plan: &mut Plan,
) {
    let update = &subject.workload.conduct.update;
    let at_once = u64::from(update.parallelism.max(1));
    let most_beside = update.max_surge.map_or(at_once, u64::from);
    let exclusive = subject.workload.conduct.overlap == Overlap::Never;
    for (member, why, cause) in waiting {
        if on_the_way >= at_once {
            break;
        }
        // Nothing ends for a move before another one is there.
        if *why == Why::Misplaced && (exclusive || beside >= most_beside) {
            continue;
        }
        let first = exclusive || (replacement::stop_first(subject) && *why == Why::Outdated);
        if !first && beside < most_beside {
            (on_the_way, beside) = (on_the_way + 1, beside + 1);
            start_another(subject, member, cause, plan);
            continue;
        }
        let may = match first {
            true => floor.may_end_first(subject, member.replica),
            false => floor.may_miss(subject, member.replica),
        };
        if may {
            on_the_way += 1;
            subject.retire(vec![member.id.clone()], why.reason(), cause, plan);
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
pub(super) fn proven(subject: &Subject<'_>, member: &Member<'_>, plan: &mut Plan) -> bool {
    let Some(ready_at) = member.replica.ready_ms else { return false };
    let proven_at = ready_at + subject.workload.conduct.update.healthy_for_ms;
    if subject.now_ms < proven_at {
        plan.again_at(proven_at);
        return false;
    }
    true
}
