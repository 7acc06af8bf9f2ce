//! Rollouts: what can be gone back to, and how far a change is.

use std::collections::BTreeSet;

use schemas::event::{
    Evidence, RolloutFailed, RolloutPaused, RolloutPromoted, RolloutResumed, RolloutStepped,
};
use schemas::id::{AppKey, Digest, ReplicaId, WorkloadName};
use schemas::spec::Mode;

use super::At;
use crate::state::{Good, Phase, RolledBack, Rollout, State, Symptom, Workload};

impl State {
    /// What can be gone back to once another declaration has come: the present one if it converged,
    /// else what could be gone back to before.
    pub(super) fn good_before(&self, key: &AppKey) -> Option<Good> {
        let app = self.apps.get(key)?;
        if app.proven == 0 || app.proven != app.revision {
            return app.good.clone();
        }
        let spec = self.declared(key)?;
        let declared = app.workloads.iter().filter(|(_, workload)| workload.declared);
        let digests = declared.map(|(name, workload)| (name.clone(), workload.spec.clone()));
        Some(Good { revision: app.revision, spec, digests: digests.collect() })
    }

    /// The workloads of which a replica of the good spec is ready. What is no number of replicas that
    /// are kept running has nothing to stand beside.
    pub(super) fn serving(&self, key: &AppKey, good: Option<&Good>) -> BTreeSet<WorkloadName> {
        let Some(good) = good else { return BTreeSet::new() };
        let serves = |name: &WorkloadName, digest: &Digest| {
            self.replicas_of(key, name).any(|(_, replica)| {
                replica.spec == *digest
                    && replica.phase == Phase::Ready
                    && replica.retired.is_none()
            })
        };
        let kept = good.spec.workloads.iter().filter(|(_, spec)| spec.mode == Mode::Replicated);
        let kept = kept.filter_map(|(name, _)| Some((name, good.digests.get(name)?)));
        kept.filter(|(name, digest)| serves(name, digest)).map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn rollout_failed(&mut self, at: &At<'_>, e: &RolloutFailed) {
        let failed = RolledBack {
            revision: e.revision,
            workload: e.workload.clone(),
            reason: e.reason.clone(),
        };
        let done = self.apps.update(&e.app, |app| {
            app.rolled_back = Some(failed);
            app.good.is_some() && app.revision == e.revision
        });
        if done != Some(true) {
            self.anomaly(at, format!("{} failed with nothing to go back to", e.app));
        }
        self.touched.apps.insert(e.app.clone());
    }

    pub(crate) fn rollout_stepped(&mut self, at: &At<'_>, e: &RolloutStepped) {
        self.change_rollout(at, &e.app, &e.workload, |rollout| {
            rollout.step = e.step;
            rollout.since_ms = at.recorded_ms;
        });
    }

    pub(crate) fn rollout_promoted(&mut self, at: &At<'_>, e: &RolloutPromoted) {
        self.change_rollout(at, &e.app, &e.workload, |rollout| {
            rollout.promoted = true;
            rollout.since_ms = at.recorded_ms;
        });
    }

    pub(crate) fn rollout_paused(&mut self, at: &At<'_>, e: &RolloutPaused) {
        self.change_rollout(at, &e.app, &e.workload, |rollout| rollout.paused = true);
        self.apps.update(&e.app, |app| app.changed_at = at.position);
    }

    pub(crate) fn rollout_resumed(&mut self, at: &At<'_>, e: &RolloutResumed) {
        self.change_rollout(at, &e.app, &e.workload, |rollout| {
            rollout.paused = false;
            rollout.since_ms = at.recorded_ms;
        });
        self.apps.update(&e.app, |app| app.changed_at = at.position);
    }

    /// Only the controller ends a rollout, so one that it speaks of is there.
    fn change_rollout(
        &mut self,
        at: &At<'_>,
        key: &AppKey,
        name: &WorkloadName,
        change: impl FnOnce(&mut Rollout),
    ) {
        let done = self.apps.update(key, |app| {
            let rollout = app.workloads.get_mut(name)?.rollout.as_mut()?;
            change(rollout);
            Some(())
        });
        if done.flatten().is_none() {
            self.anomaly(at, format!("{key}/{name} is told of without being rolled out"));
        }
        self.touched.apps.insert(key.clone());
    }

    /// Notes what is wrong with a replica of a changed spec, as evidence should the change fail.
    pub(super) fn note_symptom(
        &mut self,
        at: &At<'_>,
        id: &ReplicaId,
        found: impl FnOnce() -> Evidence,
    ) {
        let Some(replica) = self.replicas.get(id).filter(|r| r.retired.is_none()) else { return };
        let changed = self.apps.get(&replica.app).is_some_and(|app| {
            let workload = app.workloads.get(&replica.workload);
            workload.is_some_and(|workload| {
                let changed = app.is_changed(&replica.workload, workload);
                workload.spec == replica.spec && (changed || workload.due)
            })
        });
        if !changed {
            return;
        }
        let (key, name) = (replica.app.clone(), replica.workload.clone());
        let symptom = Symptom { replica: id.clone(), position: at.position, evidence: found() };
        self.apps.update(&key, |app| {
            if let Some(workload) = app.workloads.get_mut(&name) {
                workload.symptom = Some(symptom);
            }
        });
    }

    /// A replica of the good spec is ready while another is rolled out.
    pub(super) fn good_ready(&mut self, key: &AppKey, name: &WorkloadName, spec: &Digest) {
        let failing = |workload: &Workload| {
            let rollout = workload.rollout.as_ref();
            rollout.is_some_and(|rollout| rollout.from == *spec && rollout.failures > 0)
        };
        let workload = self.apps.get(key).and_then(|app| app.workloads.get(name));
        if !workload.is_some_and(failing) {
            return;
        }
        self.apps.update(key, |app| {
            let workload = app.workloads.get_mut(name);
            if let Some(rollout) = workload.and_then(|workload| workload.rollout.as_mut()) {
                rollout.failures = 0;
            }
        });
    }
}

impl Workload {
    /// A replica of the good spec failed while another is rolled out.
    pub(super) fn good_failed(&mut self, spec: &Digest, at_ms: u64) {
        if let Some(rollout) = self.rollout.as_mut().filter(|rollout| rollout.from == *spec) {
            rollout.failures = rollout.failures.saturating_add(1);
            rollout.failed_ms = at_ms;
        }
    }
}

#[cfg(test)]
mod tests;
