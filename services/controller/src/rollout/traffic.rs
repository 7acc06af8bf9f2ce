//! What gateways measure of workloads that are rolled out, since that began.
//!
//! Each gateway tells how much went through it to each replica since its instance began. What came
//! since its last report is counted for the rollout that the replica's workload is in.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::Workload;
use schemas::event::Measured;
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::report::TrafficReport;

/// What is known of the traffic of rollouts. It is no state: whoever leads next counts anew.
#[derive(Debug, Default)]
pub struct Traffic {
    gateways: BTreeMap<NodeName, Seen>,
    windows: BTreeMap<(AppKey, WorkloadName), Window>,
}

/// What a gateway last told.
#[derive(Debug)]
struct Seen {
    instance: String,
    /// Requests, and failed ones, by replica.
    counts: BTreeMap<ReplicaId, (u64, u64)>,
}

/// What was measured of one rollout.
#[derive(Debug)]
struct Window {
    /// The revision that began it.
    revision: u64,
    measured: Measured,
}

impl Traffic {
    /// Takes in a report. Returns the apps of which more is known now.
    pub fn hear(&mut self, report: &TrafficReport, state: &State) -> Vec<AppKey> {
        self.forget(state);
        let before = self.gateways.remove(&report.node);
        let known = before.is_some();
        let same = before.filter(|seen| seen.instance == report.instance);
        let mut apps = Vec::new();
        let mut counts = BTreeMap::new();
        for one in &report.replicas {
            let now = (one.requests, one.failed);
            counts.insert(one.replica.clone(), now);
            let last = match &same {
                Some(seen) => seen.counts.get(&one.replica).copied().unwrap_or((0, 0)),
                None => (0, 0),
            };
            let more = (now.0.saturating_sub(last.0), now.1.saturating_sub(last.1));
            apps.extend(self.count(&one.replica, more, known, state));
        }
        let instance = report.instance.clone();
        self.gateways.insert(report.node.clone(), Seen { instance, counts });
        apps.dedup();
        apps
    }

    /// Counts what came for a replica, if its workload is rolled out. Of a gateway that was never
    /// heard before nobody knows when that was; what it is of a new replica is of this rollout.
    fn count(
        &mut self,
        id: &ReplicaId,
        more: (u64, u64),
        known: bool,
        state: &State,
    ) -> Option<AppKey> {
        let replica = state.replicas.get(id)?;
        let workload = state.apps.get(&replica.app)?.workloads.get(&replica.workload)?;
        workload.rollout.as_ref()?;
        let key = (replica.app.clone(), replica.workload.clone());
        let revision = workload.revision;
        let fresh = || Window { revision, measured: Measured::default() };
        let window = self.windows.entry(key).or_insert_with(fresh);
        if window.revision != revision {
            *window = fresh();
        }
        let measured = &mut window.measured;
        let (requests, failed) = match replica.spec == workload.spec {
            true => (&mut measured.requests, &mut measured.failed),
            false if known => (&mut measured.old_requests, &mut measured.old_failed),
            false => return None,
        };
        *requests = requests.saturating_add(more.0);
        *failed = failed.saturating_add(more.1);
        (more.0 > 0).then(|| replica.app.clone())
    }

    /// Drops what is not rolled out any more.
    fn forget(&mut self, state: &State) {
        self.windows.retain(|(key, name), _| {
            let workload = state.apps.get(key).and_then(|app| app.workloads.get(name));
            workload.is_some_and(|workload| workload.rollout.is_some())
        });
    }

    /// What was measured of the present rollout of a workload; none when nothing was.
    #[must_use]
    pub fn measured(
        &self,
        key: &AppKey,
        name: &WorkloadName,
        workload: &Workload,
    ) -> Option<Measured> {
        let window = self.windows.get(&(key.clone(), name.clone()))?;
        let of_it = window.revision == workload.revision && workload.rollout.is_some();
        (of_it && window.measured != Measured::default()).then_some(window.measured)
    }
}

#[cfg(test)]
mod tests;
