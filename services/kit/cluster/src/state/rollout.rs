//! How a workload gets from one spec to the next, and how far it is.

use schemas::event::Evidence;
use schemas::id::{Digest, ReplicaId, WorkloadName};
use schemas::spec::{AppSpec, UpdateStrategy};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{App, Workload};

/// A declaration that converged: what a rollback declares again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Good {
    /// The revision that converged.
    pub revision: u64,
    /// The whole of it, with the numbers that commands had set when it was replaced.
    pub spec: AppSpec,
    /// The digests of its specs.
    pub digests: BTreeMap<WorkloadName, Digest>,
}

/// A revision that failed and was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RolledBack {
    /// The revision.
    pub revision: u64,
    /// The workload that failed.
    pub workload: WorkloadName,
    /// Why.
    pub reason: String,
}

/// What was found wrong with a replica.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Symptom {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it is told.
    pub position: u64,
    /// What was found.
    pub evidence: Evidence,
}

/// A change from the last good spec to the present one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rollout {
    /// The good spec.
    pub from: Digest,
    /// The step it is at, where there are steps.
    pub step: u32,
    /// Since when it is at it, or goes on after a pause.
    pub since_ms: u64,
    /// Whether it stays where it is.
    pub paused: bool,
    /// Whether nothing is held back any more.
    pub promoted: bool,
    /// How many replicas of the good spec failed in a row since it began.
    pub failures: u32,
    /// When the last of them did.
    pub failed_ms: u64,
}

impl Rollout {
    /// One that begins. Where nothing of the good spec serves, nothing is held back for it.
    #[must_use]
    pub fn begin(from: Digest, serves: bool, since_ms: u64) -> Self {
        Self {
            from,
            step: 0,
            since_ms,
            paused: false,
            promoted: !serves,
            failures: 0,
            failed_ms: 0,
        }
    }
}

/// What a rollout is held at: the new spec stands beside the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// How much of the traffic the new spec gets, in percent.
    pub weight_percent: u32,
    /// How many replicas of the new spec there should be, beside those of the old one.
    pub replicas: u32,
    /// How long it must go well; none when it waits to be promoted.
    pub hold_ms: Option<u64>,
}

impl Workload {
    /// What its rollout is held at, if it is held.
    #[must_use]
    pub fn held(&self) -> Option<Held> {
        let rollout = self.rollout.as_ref().filter(|rollout| !rollout.promoted)?;
        match &self.conduct.update.strategy {
            UpdateStrategy::Rolling | UpdateStrategy::Recreate => None,
            UpdateStrategy::Canary { steps } => {
                let at = usize::try_from(rollout.step).unwrap_or(usize::MAX);
                let step = steps.get(at)?;
                Some(Held {
                    weight_percent: step.weight_percent,
                    replicas: share(self.replicas, step.weight_percent),
                    hold_ms: step.hold_ms,
                })
            }
            UpdateStrategy::BlueGreen { promote_after_ms } => Some(Held {
                weight_percent: 0,
                replicas: self.replicas,
                hold_ms: *promote_after_ms,
            }),
        }
    }

    /// Whether its rollout is to stay where it is.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.rollout.as_ref().is_some_and(|rollout| rollout.paused)
    }
}

/// So many percent of a number, rounded up; one at least where there is any.
fn share(replicas: u32, percent: u32) -> u32 {
    let part = (u64::from(replicas) * u64::from(percent.min(100))).div_ceil(100);
    u32::try_from(part).unwrap_or(u32::MAX).max(1).min(replicas)
}

impl App {
    /// Whether a workload is declared otherwise than in the good declaration that can be gone back to.
    #[must_use]
    pub fn is_changed(&self, name: &WorkloadName, workload: &Workload) -> bool {
        let good = self.good.as_ref();
        good.is_some_and(|good| good.digests.get(name) != Some(&workload.spec))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_up_and_never_nothing_of_something() {
        assert_eq!(share(0, 50), 0);
        assert_eq!(share(3, 0), 1);
        assert_eq!(share(3, 34), 2);
        assert_eq!(share(10, 10), 1);
        assert_eq!(share(10, 100), 10);
        assert_eq!(share(10, 400), 10);
    }
}
