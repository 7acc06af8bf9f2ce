//! Replacing a replica by another: the new one first, and the old one when the new one is ready.

use cluster::state::{Admission, Cause, Node, Phase, Replica, is_bound, volumes_of};
use schemas::event::RetireReason;
use schemas::id::NodeName;
use schemas::spec::Overlap;

use super::floor::Floor;
use super::roster::Member;
use super::{Plan, Subject, task};

/// Why a replica must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its node is lost. It may still run.
    Lost,
    /// Its node cannot get its image, and another may.
    NoImage,
    /// Its node is being drained.
    Drained,
    /// It is of another spec or generation than declared.
    Outdated,
}

impl Why {
    pub(super) fn reason(self) -> RetireReason {
        match self {
            Self::Lost => RetireReason::NodeLost,
            Self::NoImage => RetireReason::NoImage,
            Self::Drained => RetireReason::Drained,
            Self::Outdated => RetireReason::Replaced,
        }
    }
}

/// Whether a replica must be replaced, and what that follows from.
pub(super) fn needed(subject: &Subject<'_>, replica: &Replica) -> Option<(Why, Cause)> {
    let node = replica.node.as_ref().and_then(|node| subject.state.nodes.get(node));
    if let Some(node) = node.filter(|_| !is_bound(subject.spec, replica)) {
        if subject.state.is_unknown(replica) {
            // Nobody knows that it has ended, so what must not overlap waits.
            let may = subject.workload.conduct.overlap != Overlap::Never;
            return may.then(|| (Why::Lost, carried(&node.cause, replica)));
        }
        if lacks_image(subject, replica) {
            return Some((Why::NoImage, replica.cause.clone()));
        }
        if node.admission == Admission::Draining && !task::stays(subject, replica) {
            return Some((Why::Drained, carried(&node.cause, replica)));
        }
    }
    (!subject.is_current(replica)).then(|| (Why::Outdated, subject.workload.cause.clone()))
}

/// Whether its node cannot get its image while some other might, and has room. Where none has, it
/// stays: its agent tries again.
fn lacks_image(subject: &Subject<'_>, replica: &Replica) -> bool {
    if !subject.is_declared() {
        return false;
    }
    let lacking = &subject.workload.lacking;
    let lacks = |node: &NodeName| lacking.contains_key(node);
    subject.is_current(replica)
        && replica.phase == Phase::Waiting
        && replica.node.as_ref().is_some_and(lacks)
        && subject.state.nodes.iter().any(|(name, node)| {
            node.takes_replicas() && !lacks(name) && has_room(subject, replica, name, node)
        })
}

/// Whether the scheduler would find a node fit for another one like this.
fn has_room(subject: &Subject<'_>, replica: &Replica, name: &NodeName, node: &Node) -> bool {
    let placement = &subject.spec.placement;
    let here = subject.state.replicas_of(subject.key, subject.name);
    let here = here.filter(|(_, r)| r.node.as_ref() == Some(name) && r.retired.is_none()).count();
    let crowded = placement
        .max_per_node
        .is_some_and(|max| here >= usize::try_from(max).unwrap_or(usize::MAX));
    let mut load = subject.state.index.loads.get(name).cloned().unwrap_or_default();
    let ports_free = replica.need.host_ports.iter().all(|port| !load.host_ports.contains(port));
    load.add(&replica.need);
    placement.constraints.iter().all(|c| node.meets(name, c))
        && !crowded
        && ports_free
        && !load.exceeds(&node.description)
}

/// A node's fate comes right before; the command that once asked for the replica stays the root,
/// unless a command decided the node's fate.
fn carried(node: &Cause, replica: &Replica) -> Cause {
    let correlation = node.correlation.clone().or_else(|| replica.cause.correlation.clone());
    Cause { correlation, position: node.position }
}

/// Whether the old one must end before the new one of another spec can begin.
pub(super) fn stop_first(subject: &Subject<'_>) -> bool {
    subject.spec.ports.iter().any(|port| port.host.is_some())
        || volumes_of(subject.spec).next().is_some()
        || subject.workload.conduct.overlap == Overlap::Never
}

/// Whether nothing may stand beside what it replaces.
fn in_place(subject: &Subject<'_>) -> bool {
    stop_first(subject) || subject.workload.conduct.update.max_surge == Some(0)
}

/// How many replicas are on their way to their end whose places may not be taken before.
pub(super) fn leaving(subject: &Subject<'_>) -> u64 {
    if !in_place(subject) {
        return 0;
    }
    ending(subject, |_| true)
}

/// How many replicas are on their way to their end, of those that are known to be.
pub(super) fn ending(subject: &Subject<'_>, of: impl Fn(&Replica) -> bool) -> u64 {
    let waits_for = |replica: &Replica| {
        let known = !subject.state.is_unknown(replica);
        replica.retired.is_some()
            && subject.owns(replica)
            && of(replica)
            && (known || subject.workload.conduct.overlap == Overlap::Never)
    };
    let replicas = subject.state.replicas_of(subject.key, subject.name);
    u64::try_from(replicas.filter(|(_, replica)| waits_for(replica)).count()).unwrap_or(u64::MAX)
}

/// What to do about a member that has a replacement. Says whether it is still on its way.
pub(super) fn pursue(
    subject: &Subject<'_>,
    member: &Member<'_>,
    floor: &mut Floor,
    plan: &mut Plan,
) -> bool {
    let Some((new_id, new)) = member.replacement else { return false };
    let needed = needed(subject, member.replica);
    let of_use = subject.is_current(new) && self::needed(subject, new).is_none();
    let no_need = needed.is_none() && member.replica.phase == Phase::Ready;
    if !of_use || no_need {
        let cause = if of_use { &member.replica.cause } else { &subject.workload.cause };
        if floor.may_end(subject, new) {
            subject.retire(vec![new_id.clone()], RetireReason::NotNeeded, cause, plan);
        }
        return true;
    }
    let Some((why, _)) = needed else { return true };
    let Some(ready_at) = new.ready_ms.filter(|_| new.phase == Phase::Ready) else { return true };
    let outdated = why == Why::Outdated;
    let healthy_for = if outdated { subject.workload.conduct.update.healthy_for_ms } else { 0 };
    if subject.now_ms < ready_at + healthy_for {
        plan.again_at(ready_at + healthy_for);
        return true;
    }
    if (outdated && subject.workload.is_paused()) || !floor.may_end(subject, member.replica) {
        return true;
    }
    subject.retire(vec![member.id.clone()], why.reason(), &new.cause, plan);
    false
}
