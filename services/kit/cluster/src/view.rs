//! The state as it is told to people and programs.

mod rollout;
mod staying;

use schemas::id::{AppKey, NodeName, ReplicaId};
use schemas::place::Place;
use schemas::read::{
    AppView, NodeView, ReplicaView, RolledBackView, StatePage, StateRequest, WorkloadView,
};
use schemas::spec::{Mode, WorkloadSpec};

use crate::state::{App, AppStatus, Load, Node, Phase, Replica, State, Workload};

pub use staying::staying;

/// The most replicas on a page: at about 500 bytes each it stays well under the page's bound.
const REPLICAS_PER_PAGE: usize = 500;

/// A page of the state at `place`.
#[must_use]
pub fn page(state: &State, place: Place, request: &StateRequest) -> StatePage {
    let wanted = |key: &AppKey| {
        request.tenant.as_ref().is_none_or(|tenant| *tenant == key.tenant)
            && request.app.as_ref().is_none_or(|app| *app == key.name)
    };
    let mut replicas: Vec<ReplicaView> = state
        .replicas
        .iter()
        .filter(|(id, replica)| {
            wanted(&replica.app) && request.after.as_ref().is_none_or(|after| *id > after)
        })
        .take(REPLICAS_PER_PAGE + 1)
        .map(|(id, replica)| replica_view(state, id, replica))
        .collect();
    let more = replicas.len() > REPLICAS_PER_PAGE;
    replicas.truncate(REPLICAS_PER_PAGE);
    StatePage {
        place,
        apps: state
            .apps
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, app)| app_view(state, key, app))
            .collect(),
        nodes: state.nodes.iter().map(|(name, node)| node_view(state, name, node)).collect(),
        next: if more { replicas.last().map(|last| last.replica.clone()) } else { None },
        replicas,
    }
}

fn app_view(state: &State, key: &AppKey, app: &App) -> AppView {
    let workloads = app.workloads.iter().map(|(name, workload)| {
        let spec = app.specs.get(&workload.spec);
        let of = |replica: &&Replica| replica.retired.is_none();
        let replicas: Vec<&Replica> =
            state.replicas_of(key, name).map(|(_, replica)| replica).filter(of).collect();
        let ready = |r: &&&Replica| {
            r.phase == Phase::Ready && r.spec == workload.spec && !state.is_unknown(r)
        };
        let global = spec.is_some_and(|spec| spec.mode == Mode::Global);
        let view = WorkloadView {
            image: spec.map(|spec| spec.image.clone()).unwrap_or_default(),
            declared: (!global).then(|| wanted(workload)),
            replicas: count(replicas.len()),
            ready: count(replicas.iter().filter(ready).count()),
            completed: workload.completed,
            task: task(workload),
            unplaced: workload
                .unplaced
                .iter()
                .map(|unfit| format!("{} ({} nodes): {}", unfit.reason, unfit.nodes, unfit.remedy))
                .collect(),
            ways: spec
                .filter(|_| workload.declared)
                .map_or_else(Vec::new, |spec| ways(spec, workload)),
            rollout: rollout::view(state, key, app, name, workload),
        };
        (name.clone(), view)
    });
    AppView {
        app: key.clone(),
        revision: app.revision,
        status: app.status.as_str().to_owned(),
        reason: match &app.status {
            AppStatus::Stalled { workload, reason } => Some(format!("{workload}: {reason}")),
            _ => None,
        },
        rolled_back: app.rolled_back.as_ref().map(|failed| RolledBackView {
            revision: failed.revision,
            workload: failed.workload.clone(),
            reason: failed.reason.clone(),
        }),
        good: app.good.as_ref().map(|good| good.revision),
        workloads: workloads.collect(),
    }
}

/// How many replicas are asked for. A job of a rollout that is not due asks for none.
fn wanted(workload: &Workload) -> u32 {
    match &workload.conduct.task {
        Some(_) if !workload.due => u32::try_from(workload.completed).unwrap_or(u32::MAX),
        _ => workload.replicas,
    }
}

/// Of whose rollouts a job is, and how far.
fn task(workload: &Workload) -> Option<String> {
    let task = workload.conduct.task.as_ref()?;
    let state = match workload.due {
        _ if workload.failures > 0 => format!("failed: {}", workload.failure),
        true => "has to run".to_owned(),
        false if workload.completed > 0 => "done".to_owned(),
        false => "not asked for".to_owned(),
    };
    Some(format!("{}: {state}", task.told()))
}

/// The ways on which traffic leads to a workload.
fn ways(spec: &WorkloadSpec, workload: &Workload) -> Vec<String> {
    let published = spec
        .ports
        .iter()
        .filter_map(|port| Some(format!("{}/{}", port.published?, port.protocol.as_str())));
    let routes = workload.conduct.routes.iter().map(|route| {
        let scheme = if route.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{}", route.host.as_deref().unwrap_or("*"), route.path)
    });
    published.chain(routes).collect()
}

fn node_view(state: &State, name: &NodeName, node: &Node) -> NodeView {
    let none = Load::default();
    let load = state.index.loads.get(name).unwrap_or(&none);
    let mut labels = node.description.labels.clone();
    labels.extend(node.labels.clone());
    labels.retain(|_, value| !value.is_empty());
    NodeView {
        node: name.clone(),
        status: node.status.as_str().to_owned(),
        admission: node.admission.as_str().to_owned(),
        address: node.description.address.clone(),
        cpu_millis: (node.description.cpu_millis, load.cpu_millis),
        memory_bytes: (node.description.memory_bytes, load.memory_bytes),
        replicas: load.replicas,
        labels,
        engine: node.description.engine.clone(),
        agent: node.description.agent.clone(),
        staying: staying(state, name).iter().map(|(id, why)| format!("{id}: {why}")).collect(),
    }
}

fn replica_view(state: &State, id: &ReplicaId, replica: &Replica) -> ReplicaView {
    ReplicaView {
        replica: id.clone(),
        app: replica.app.clone(),
        workload: replica.workload.clone(),
        revision: replica.revision,
        status: status(state, replica).to_owned(),
        node: replica.node.clone(),
        run: replica.run,
        image: image(state, replica),
        container: replica.container.clone(),
        since_ms: replica.since_ms,
        requested_ms: replica.requested_ms,
        trouble: replica.trouble.clone(),
        endpoints: replica
            .endpoints
            .iter()
            .map(|e| format!("{}:{}->{}/{}", e.address, e.port, e.container, e.protocol.as_str()))
            .collect(),
    }
}

/// What a replica's image reference means, or the reference while nobody has said.
fn image(state: &State, replica: &Replica) -> String {
    let Some(app) = state.apps.get(&replica.app) else { return String::new() };
    let reference = || app.specs.get(&replica.spec).map(|spec| spec.image.clone());
    app.images.get(&replica.spec).cloned().or_else(reference).unwrap_or_default()
}

/// How a replica is, in one word.
#[must_use]
pub fn status(state: &State, replica: &Replica) -> &'static str {
    if state.is_unknown(replica) {
        return "unknown";
    }
    match (replica.phase, &replica.retired) {
        (Phase::Pending, _) => "pending",
        (_, Some(_)) if replica.leaving => "leaving",
        (_, Some(_)) => "ending",
        (Phase::Placed, None) => "placed",
        (Phase::Running, None) => "running",
        (Phase::Ready, None) => "ready",
        (Phase::Waiting, None) => "waiting",
    }
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
