//! Whether a changed revision has failed, or only does not get to where it should.

use cluster::state::{AppStatus, Phase, Replica};
use schemas::event::Measured;
use schemas::id::ReplicaId;
use schemas::spec::Mode;

use super::{Plan, Subject, replacement};
use crate::rollout::{Failure, Traffic};

/// After how many replicas in a row that failed a revision has, or an app counts as stalled.
const FAILURES: u32 = 3;

/// After how many runs of one replica that ended a revision has failed.
const RUNS: u32 = 3;

/// For how long replicas that fit nowhere may wait before their app counts as stalled, in ms.
const UNPLACED_STALLED_MS: u64 = 10_000;

/// For how long no node may be able to get an image before the revision has failed, in ms.
const IMAGE_MS: u64 = 10_000;

/// How many requests the new spec must have had before failures are compared.
const REQUESTS_MIN: u64 = 20;

/// A replica that is not ready after its time.
struct Overdue {
    replica: ReplicaId,
    reason: String,
}

impl Subject<'_> {
    /// Why the revision has failed, where that is to be taken back.
    pub(super) fn failed(&self, traffic: &Traffic, plan: &mut Plan) -> Option<Failure> {
        let task = self.workload.conduct.task.as_ref();
        let due = self.workload.due && self.app.good.is_some();
        let may = self.workload.declared
            && task.is_none_or(schemas::spec::Task::fails_revision)
            && self.app.status != AppStatus::Deleting
            && self.workload.conduct.update.rollback
            && self.app.rolled_back.is_none()
            && !self.workload.is_paused()
            && (due || self.app.is_changed(self.name, self.workload));
        if !may {
            return None;
        }
        let failure = |reason: String, replica: Option<&ReplicaId>, measured: Option<Measured>| {
            Failure { workload: self.name.clone(), reason, replica: replica.cloned(), measured }
        };
        if let Some(reason) = self.given_up() {
            return Some(failure(reason, None, None));
        }
        if let Some((id, reason)) = self.crashing(plan) {
            return Some(failure(reason, Some(id), None));
        }
        let measured = traffic.measured(self.key, self.name, self.workload);
        if let Some((reason, measured)) = measured.and_then(|m| Some((self.worse(m)?, m))) {
            return Some(failure(reason, None, Some(measured)));
        }
        let overdue = self.overdue(false, plan)?;
        Some(failure(overdue.reason, Some(&overdue.replica), None))
    }

    fn given_up(&self) -> Option<String> {
        let workload = self.workload;
        if let Some(task) = workload.conduct.task.as_ref().filter(|_| workload.failures > 0) {
            return Some(format!("the job {} failed: {}", task.told(), workload.failure));
        }
        (workload.failures >= FAILURES)
            .then(|| format!("{} replicas failed: {}", workload.failures, workload.failure))
    }

    /// A replica that does not stay up, or does not come up for want of its image.
    fn crashing(&self, plan: &mut Plan) -> Option<(&ReplicaId, String)> {
        for (id, replica) in self.mine().filter(|(_, r)| r.phase == Phase::Waiting) {
            let why = replica.trouble.as_deref().unwrap_or("nobody said why");
            let lacks = replica.node.as_ref().and_then(|node| self.workload.lacking.get(node));
            let Some(lacking) = lacks else {
                if replica.run >= RUNS {
                    return Some((id, format!("{id} ended {} times: {why}", replica.run)));
                }
                continue;
            };
            if replacement::needed(self, replica).is_some() {
                continue;
            }
            let at = self.since(replica) + IMAGE_MS;
            if self.now_ms >= at {
                return Some((id, format!("no node can get its image: {}", lacking.error)));
            }
            plan.again_at(at);
        }
        None
    }

    /// Whether more requests fail than of the old spec, by more than is allowed.
    fn worse(&self, measured: Measured) -> Option<String> {
        if measured.requests < REQUESTS_MIN {
            return None;
        }
        let permille = |failed: u64, of: u64| failed.saturating_mul(1_000) / of.max(1);
        let new = permille(measured.failed, measured.requests);
        let old = permille(measured.old_failed, measured.old_requests);
        let allowed = u64::from(self.workload.conduct.update.max_error_permille);
        (new > old + allowed).then(|| {
            format!(
                "{new} of 1000 requests failed, {old} of 1000 of the revision before; \
                 {allowed} more are allowed"
            )
        })
    }

    /// The replicas that are as declared and not to end.
    fn mine(&self) -> impl Iterator<Item = (&ReplicaId, &Replica)> {
        let replicas = self.state.replicas_of(self.key, self.name);
        replicas.filter(|(_, replica)| replica.retired.is_none() && self.is_current(replica))
    }

    /// Since when a replica may be expected to come up.
    fn since(&self, replica: &Replica) -> u64 {
        let rollout = self.workload.rollout.as_ref().map_or(0, |rollout| rollout.since_ms);
        if self.spec.mode == Mode::Job && self.state.is_unknown(replica) {
            return replica.since_ms.max(rollout);
        }
        replica.requested_ms.max(self.app.since_ms).max(rollout)
    }

    /// A replica that had its time and is not ready: one that fits nowhere, or one that has a node.
    fn overdue(&self, nowhere: bool, plan: &mut Plan) -> Option<Overdue> {
        let unfit = &self.workload.unplaced;
        for (id, replica) in self.mine() {
            // A job may run for as long as it likes; one that does not get to run has a deadline.
            let known = !self.state.is_unknown(replica);
            let works = self.spec.mode == Mode::Job && replica.phase == Phase::Running && known;
            let pends = replica.phase == Phase::Pending && !unfit.is_empty();
            if replica.phase == Phase::Ready || works || pends != nowhere {
                continue;
            }
            let patience = self.workload.conduct.update.deadline_ms;
            let patience = if nowhere { patience.min(UNPLACED_STALLED_MS) } else { patience };
            let at = self.since(replica).saturating_add(patience);
            if self.now_ms < at {
                plan.again_at(at);
                continue;
            }
            let reason = if nowhere {
                let reasons: Vec<String> = unfit.iter().map(|u| u.reason.clone()).collect();
                format!("{id} fits nowhere: {}", reasons.join("; "))
            } else {
                let why = replica.trouble.as_deref().unwrap_or("nothing was heard of it");
                format!("{id} was not ready after {patience} ms: {why}")
            };
            return Some(Overdue { replica: id.clone(), reason });
        }
        None
    }

    /// Why the workload does not get to what is declared, once it has had its time.
    pub(super) fn stalled(&self, plan: &mut Plan) -> Option<String> {
        if let Some(reason) = self.given_up() {
            return Some(reason);
        }
        if self.app.status == AppStatus::Converged {
            return None;
        }
        let overdue = self.overdue(true, plan).or_else(|| self.overdue(false, plan));
        overdue.map(|overdue| overdue.reason)
    }
}
