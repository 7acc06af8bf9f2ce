//! How many ready replicas must remain, whatever ends others: drains, rollouts, rebalancing.

use cluster::state::{NodeStatus, Phase, Replica};

use super::Subject;
use super::roster::Member;

/// The ready replicas of a workload that are not to end, in the course of one decision.
pub(super) struct Floor {
    ready: u64,
    least: u64,
    /// As `least`, where an old one must end before the new one begins: scaling may have brought the
    /// declared number down to the floor, or a global one is on no more nodes, and then nothing could
    /// ever be replaced.
    least_between: u64,
    /// How many there should be.
    wanted: u64,
}

impl Floor {
    /// All of the workload's, of whichever spec, of which there should be so many.
    pub(super) fn of(subject: &Subject<'_>, wanted: u64) -> Self {
        let replicas = subject.state.replicas_of(subject.key, subject.name);
        let ready = replicas.filter(|(_, replica)| counts(subject, replica)).count();
        let min_ready = u64::from(subject.workload.conduct.min_ready.unwrap_or(0));
        Self {
            ready: u64::try_from(ready).unwrap_or(u64::MAX),
            least: min_ready.min(wanted),
            least_between: min_ready.min(wanted.saturating_sub(1)),
            wanted,
        }
    }

    /// Takes a replica out, unless too few would be left.
    pub(super) fn may_end(&mut self, subject: &Subject<'_>, replica: &Replica) -> bool {
        self.may_leave(u64::from(counts(subject, replica)), self.least)
    }

    /// Takes a replica out that must end before another may take its place.
    pub(super) fn may_end_first(&mut self, subject: &Subject<'_>, replica: &Replica) -> bool {
        self.may_leave(u64::from(counts(subject, replica)), self.least_between)
    }

    /// Takes a member out, and what is to take its place.
    pub(super) fn may_end_all(&mut self, subject: &Subject<'_>, member: &Member<'_>) -> bool {
        self.may_leave(serve(subject, member), self.least)
    }

    /// A member ends, and what is to take its place, whatever is left.
    pub(super) fn ends(&mut self, subject: &Subject<'_>, member: &Member<'_>) {
        self.ready = self.ready.saturating_sub(serve(subject, member));
    }

    /// Takes a replica out that nothing has taken the place of yet, unless too few would be left or
    /// more would be missing than the update allows.
    pub(super) fn may_miss(&mut self, subject: &Subject<'_>, replica: &Replica) -> bool {
        let update = &subject.workload.conduct.update;
        let missing = u64::from(update.max_unavailable);
        let floor = if update.max_surge == Some(0) { self.least_between } else { self.least };
        let least = floor.max(self.wanted.saturating_sub(missing));
        self.may_leave(u64::from(counts(subject, replica)), least)
    }

    fn may_leave(&mut self, serve: u64, least: u64) -> bool {
        let may = serve == 0 || self.ready >= least.saturating_add(serve);
        if may {
            self.ready = self.ready.saturating_sub(serve);
        }
        may
    }
}

/// How many of a member and what is to take its place serve.
fn serve(subject: &Subject<'_>, member: &Member<'_>) -> u64 {
    let beside = member.replacement.is_some_and(|(_, replica)| counts(subject, replica));
    u64::from(counts(subject, member.replica)) + u64::from(beside)
}

/// Whether it serves, as far as anybody knows.
fn counts(subject: &Subject<'_>, replica: &Replica) -> bool {
    let node = replica.node.as_ref().and_then(|node| subject.state.nodes.get(node));
    replica.phase == Phase::Ready
        && replica.retired.is_none()
        && node.is_some_and(|node| node.status == NodeStatus::Ready)
}
