//! A global workload: one replica on every node that takes it, cordoned ones included.

use std::collections::BTreeSet;

use cluster::state::{Admission, Node, NodeStatus};
use schemas::event::RetireReason;
use schemas::id::NodeName;
use schemas::spec::Mode;

use super::floor::Floor;
use super::roster::{Member, Roster};
use super::{Plan, Subject, Wanted, dependencies, waiting, workload};

pub(super) fn reconcile(subject: &Subject<'_>, plan: &mut Plan) {
    let old = waiting::old(subject).map(|(old, _)| old);
    let subject = old.as_ref().unwrap_or(subject);
    let roster = Roster::of(subject);
    let begins = old.is_some() || dependencies::met(subject);
    let mut has: BTreeSet<&NodeName> = BTreeSet::new();
    let (mut leave, mut drains) = (Vec::new(), Vec::new());
    for member in &roster.members {
        let Some(name) = member.replica.only_node.as_ref() else { continue };
        let node = subject.state.nodes.get(name);
        if node.is_some_and(|node| node.admission == Admission::Draining) {
            drains.push(member);
        } else if !node.is_some_and(|node| may_have(subject, name, node)) || !has.insert(name) {
            leave.push(member);
        }
    }
    let wanted = if begins { without(subject, &has) } else { Vec::new() };
    let missing = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
    // A node that is to have one counts from now on, and what must leave does not.
    let mut floor = Floor::of(subject, roster.len() + missing);
    leave.iter().for_each(|member| floor.ends(subject, member));
    // What drains ends all the same, once enough others are ready.
    drains.retain(|member| floor.may_end_all(subject, member));
    let ids = |members: Vec<&Member<'_>>| members.into_iter().flat_map(Member::ids).collect();
    subject.retire(ids(leave), RetireReason::ScaledDown, &subject.workload.cause, plan);
    subject.retire(ids(drains), RetireReason::Drained, &subject.workload.cause, plan);
    if !begins {
        return;
    }
    subject.request(wanted, &subject.workload.cause, plan);
    workload::replace(subject, &roster, missing, &mut floor, plan);
}

/// The nodes that are to have one and have none.
fn without(subject: &Subject<'_>, has: &BTreeSet<&NodeName>) -> Vec<Wanted> {
    let lacks = |name: &NodeName, node: &Node| {
        node.status == NodeStatus::Ready
            && node.admits(Mode::Global)
            && may_have(subject, name, node)
            && !has.contains(name)
    };
    let nodes = subject.state.nodes.iter().filter(|(name, node)| lacks(name, node));
    nodes.map(|(name, _)| Wanted { replaces: None, node: Some(name.clone()) }).collect()
}

/// Whether a node may keep the replica it has. A silent one may: nobody knows that it stopped.
fn may_have(subject: &Subject<'_>, name: &NodeName, node: &Node) -> bool {
    let constraints = &subject.spec.placement.constraints;
    node.status == NodeStatus::Lost || constraints.iter().all(|c| node.meets(name, c))
}
