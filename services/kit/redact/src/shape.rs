//! What a state must have in common with that of the history it was written from.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Admission, NodeStatus, Phase};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};

/// Everything of a state but words and what follows from them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    apps: BTreeMap<AppKey, AppShape>,
    replicas: BTreeMap<ReplicaId, ReplicaShape>,
    nodes: BTreeMap<NodeName, (NodeStatus, Admission)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct AppShape {
    revision: u64,
    status: &'static str,
    changed_at: u64,
    specs: usize,
    images: usize,
    volumes: usize,
    workloads: BTreeMap<WorkloadName, WorkloadShape>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct WorkloadShape {
    declared: bool,
    revision: u64,
    replicas: u32,
    generation: u64,
    requested: u64,
    completed: u64,
    failures: u32,
    unplaced: usize,
    lacking: usize,
    command: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct ReplicaShape {
    app: AppKey,
    workload: WorkloadName,
    revision: u64,
    generation: u64,
    node: Option<NodeName>,
    phase: Phase,
    run: u32,
    retired: bool,
    leaving: bool,
    /// Whether its spec is the one that is declared.
    current: bool,
    since_ms: u64,
}

impl Shape {
    /// The shape of a state, of one app if wanted.
    #[must_use]
    pub fn of(state: &State, app: Option<&AppKey>) -> Self {
        let wanted = |key: &AppKey| app.is_none_or(|app| app == key);
        let apps = state.apps.iter().filter(|(key, _)| wanted(key));
        let replicas = state.replicas.iter().filter(|(_, replica)| wanted(&replica.app));
        let nodes = state.nodes.iter();
        Self {
            apps: apps.map(|(key, app)| (key.clone(), app_shape(app))).collect(),
            replicas: replicas
                .map(|(id, replica)| (id.clone(), replica_shape(state, replica)))
                .collect(),
            nodes: nodes.map(|(name, n)| (name.clone(), (n.status, n.admission))).collect(),
        }
    }

    /// How many apps, replicas and nodes there are.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        [self.apps.len(), self.replicas.len(), self.nodes.len()]
    }
}

fn app_shape(app: &cluster::state::App) -> AppShape {
    let workloads = app.workloads.iter().map(|(name, workload)| {
        let shape = WorkloadShape {
            declared: workload.declared,
            revision: workload.revision,
            replicas: workload.replicas,
            generation: workload.generation,
            requested: workload.requested,
            completed: workload.completed,
            failures: workload.failures,
            unplaced: workload.unplaced.len(),
            lacking: workload.lacking.len(),
            command: workload.cause.correlation.is_some(),
        };
        (name.clone(), shape)
    });
    AppShape {
        revision: app.revision,
        status: app.status.as_str(),
        changed_at: app.changed_at,
        specs: app.specs.len(),
        images: app.images.len(),
        volumes: app.volumes.len(),
        workloads: workloads.collect(),
    }
}

fn replica_shape(state: &State, replica: &cluster::state::Replica) -> ReplicaShape {
    let app = state.apps.get(&replica.app);
    let workload = app.and_then(|app| app.workloads.get(&replica.workload));
    ReplicaShape {
        app: replica.app.clone(),
        workload: replica.workload.clone(),
        revision: replica.revision,
        generation: replica.generation,
        node: replica.node.clone(),
        phase: replica.phase,
        run: replica.run,
        retired: replica.retired.is_some(),
        leaving: replica.leaving,
        current: workload.is_some_and(|workload| workload.spec == replica.spec),
        since_ms: replica.since_ms,
    }
}
