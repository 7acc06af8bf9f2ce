//! Which workloads are not moved, and why.

use cluster::State;
use cluster::state::{App, AppStatus, Phase, Workload, volumes_of};
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::{Mode, Overlap, Strategy, WorkloadSpec};
use serde::Serialize;

use super::is_meant;

/// A workload that is not moved, whatever would be gained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stays {
    /// The app.
    pub app: AppKey,
    /// The workload.
    pub workload: WorkloadName,
    /// How many replicas it has.
    pub replicas: usize,
    /// Why.
    pub reason: String,
}

/// The workloads that are not moved, of one app or of all.
#[must_use]
pub fn stays(state: &State, only: Option<&AppKey>) -> Vec<Stays> {
    let mut found = Vec::new();
    for (key, app) in state.apps.iter().filter(|(key, _)| is_meant(only, key)) {
        for (name, workload) in &app.workloads {
            let replicas =
                state.replicas_of(key, name).filter(|(_, r)| r.retired.is_none()).count();
            if let Some(reason) = why(state, key, app, name, workload).filter(|_| replicas > 0) {
                let (app, workload) = (key.clone(), name.clone());
                found.push(Stays { app, workload, replicas, reason });
            }
        }
    }
    found
}

/// Why none of a workload is moved; none when it may be.
pub(super) fn why(
    state: &State,
    key: &AppKey,
    app: &App,
    name: &WorkloadName,
    workload: &Workload,
) -> Option<String> {
    let Some(spec) = app.specs.get(&workload.spec) else {
        return Some("its spec is not known".to_owned());
    };
    if let Some(why) = by_its_spec(app, workload, spec) {
        return Some(why);
    }
    if app.status != AppStatus::Converged || app.good.is_some() {
        return Some(format!(
            "its app is {}: what is rolled out is left alone",
            app.status.as_str()
        ));
    }
    let mut live = state.replicas_of(key, name).filter(|(_, r)| r.retired.is_none());
    let whole = live.all(|(id, replica)| {
        let current = replica.spec == workload.spec && replica.generation == workload.generation;
        let moves = state.cluster.rebalance.moving(id).is_some();
        current && !moves && replica.phase == Phase::Ready && !state.is_unknown(replica)
    });
    (!whole).then(|| "not all of its replicas are ready".to_owned())
}

/// What its declaration says that keeps it where it is.
fn by_its_spec(app: &App, workload: &Workload, spec: &WorkloadSpec) -> Option<String> {
    match spec.mode {
        Mode::Global => return Some("it has a replica on every node".to_owned()),
        Mode::Job => return Some("it is a job, which runs to its end where it is".to_owned()),
        Mode::Replicated => {}
    }
    if let Some(volume) = volumes_of(spec).next() {
        let home = app.volumes.get(volume);
        let home = home.map_or_else(|| "its node".to_owned(), ToString::to_string);
        return Some(format!("its volume {volume} lives on {home}"));
    }
    if let Some(port) = spec.ports.iter().find_map(|port| port.host) {
        return Some(format!("it has port {port} of its node, where others look for it"));
    }
    let pinned = |c: &&schemas::spec::Constraint| c.equal && c.attribute == "node";
    if let Some(constraint) = spec.placement.constraints.iter().find(pinned) {
        return Some(format!("it is for {} only", constraint.value));
    }
    if spec.placement.strategy == Strategy::BinPack {
        return Some("it is to fill nodes, not to be spread over them".to_owned());
    }
    if workload.conduct.overlap == Overlap::Never {
        return Some("no other may run beside the one whose place it takes".to_owned());
    }
    if workload.conduct.update.max_surge == Some(0) {
        return Some("max_surge says that none may stand beside the others".to_owned());
    }
    None
}
