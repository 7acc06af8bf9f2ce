//! The replicas of a workload that are not to end, each with the one that is to take its place.

use std::collections::BTreeMap;

use cluster::state::{Phase, Replica};
use schemas::id::ReplicaId;

use super::Subject;

/// The replicas that count: a replacement counts with the one it replaces.
pub(super) struct Roster<'a> {
    pub(super) members: Vec<Member<'a>>,
}

/// A replica, and the one that is to take its place.
pub(super) struct Member<'a> {
    pub(super) id: &'a ReplicaId,
    pub(super) replica: &'a Replica,
    pub(super) replacement: Option<(&'a ReplicaId, &'a Replica)>,
}

impl<'a> Roster<'a> {
    pub(super) fn of(subject: &Subject<'a>) -> Self {
        let live: BTreeMap<&ReplicaId, &Replica> = subject
            .state
            .replicas_of(subject.key, subject.name)
            .filter(|(_, replica)| replica.retired.is_none() && subject.owns(replica))
            .collect();
        let replaced = |replica: &Replica| {
            let id = replica.replaces.as_ref()?;
            live.get_key_value(id).map(|(id, replica)| (*id, *replica))
        };
        let mut replacements = BTreeMap::new();
        let mut roots = Vec::new();
        for (id, replica) in &live {
            // One of another part may have come to this one: the place that it was to take has another for it, or
            // is to be taken itself. It counts by itself.
            match replaced(replica).filter(|(_, old)| replaced(old).is_none()) {
                Some((old, _)) if !replacements.contains_key(old) => {
                    replacements.insert(old, (*id, *replica));
                }
                _ => roots.push((*id, *replica)),
            }
        }
        let members = roots
            .into_iter()
            .map(|(id, replica)| Member { id, replica, replacement: replacements.remove(id) })
            .collect();
        Self { members }
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.members.len()).unwrap_or(u64::MAX)
    }

    /// The members, those that are missed least first: those that do least, then the youngest.
    pub(super) fn least_missed(&self, subject: &Subject<'_>) -> Vec<&Member<'a>> {
        let mut members: Vec<&Member<'a>> = self.members.iter().collect();
        members.sort_by_key(|member| {
            let replica = member.replica;
            let use_of_it = match replica.phase {
                _ if subject.state.is_unknown(replica) => 1,
                Phase::Pending => 0,
                Phase::Placed | Phase::Waiting => 2,
                Phase::Running => 3,
                Phase::Ready => 4,
            };
            let outdated = !subject.is_current(replica);
            (use_of_it, !outdated, std::cmp::Reverse(replica.requested_ms), member.id)
        });
        members
    }
}

impl Member<'_> {
    /// The replica and its replacement.
    pub(super) fn ids(&self) -> Vec<ReplicaId> {
        std::iter::once(self.id).chain(self.replacement.map(|(id, _)| id)).cloned().collect()
    }
}
