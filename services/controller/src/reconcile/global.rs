//! A global workload: one replica on every node that takes it, cordoned ones included.

use std::collections::BTreeSet;

use cluster::state::{Admission, Node, NodeStatus};
use schemas::event::RetireReason;
use schemas::id::{NodeName, ReplicaId};
use schemas::spec::Mode;

use super::floor::Floor;
use super::roster::{Member, Roster};
use super::{Plan, Subject, Wanted, dependencies, waiting, workload};

pub(super) fn reconcile(subject: &Subject<'_>, plan: &mut Plan) {
    let old = waiting::old(subject).map(|(old, _)| old);
    let subject = old.as_ref().unwrap_or(subject);
    let roster = Roster::of(subject);
    let mut floor = Floor::of(subject, roster.len());
    let mut has: BTreeSet<&NodeName> = BTreeSet::new();
    let mut leave: Vec<ReplicaId> = Vec::new();
    let mut drained: Vec<ReplicaId> = Vec::new();
    for member in &roster.members {
        let Some(name) = member.replica.only_node.as_ref() else { continue };
        let node = subject.state.nodes.get(name);
        if node.is_some_and(|node| node.admission == Admission::Draining) {
            // It ends all the same, once enough others are ready.
            if floor.may_end_all(subject, member) {
                drained.extend(Member::ids(member));
            }
        } else if !node.is_some_and(|node| may_have(subject, name, node)) || !has.insert(name) {
            leave.extend(Member::ids(member));
        }
    }
    subject.retire(leave, RetireReason::ScaledDown, &subject.workload.cause, plan);
    subject.retire(drained, RetireReason::Drained, &subject.workload.cause, plan);
    if old.is_none() && !dependencies::met(subject) {
        return;
    }
    let wanted: Vec<Wanted> = subject
        .state
        .nodes
        .iter()
        .filter(|(name, node)| {
            node.status == NodeStatus::Ready
                && node.admits(Mode::Global)
                && may_have(subject, name, node)
                && !has.contains(name)
        })
        .map(|(name, _)| Wanted { replaces: None, node: Some(name.clone()) })
        .collect();
    let missing = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
    subject.request(wanted, &subject.workload.cause, plan);
    workload::replace(subject, &roster, missing, &mut floor, plan);
}

/// Whether a node may keep the replica it has. A silent one may: nobody knows that it stopped.
fn may_have(subject: &Subject<'_>, name: &NodeName, node: &Node) -> bool {
    let constraints = &subject.spec.placement.constraints;
    node.status == NodeStatus::Lost || constraints.iter().all(|c| node.meets(name, c))
}
