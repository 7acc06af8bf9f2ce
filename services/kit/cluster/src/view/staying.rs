//! Which replicas do not leave a node that drains, and why: what its operator has to decide about.

use schemas::id::{NodeName, ReplicaId};
use schemas::spec::{Mode, Overlap, WorkloadSpec};

use crate::state::{
    Admission, App, AppStatus, NodeStatus, Phase, Replica, State, Workload, is_bound, volumes_of,
};

/// The replicas that stay on a draining node as things are, each with the reason. What ends, or
/// waits for its turn to be replaced, is not among them; nor is anything while the node does not
/// drain. Nothing but the state is looked at: right after a drain began, an app that was stalled
/// before it is still said to stay.
#[must_use]
pub fn staying(state: &State, name: &NodeName) -> Vec<(ReplicaId, String)> {
    let draining = state.nodes.get(name).is_some_and(|node| node.admission == Admission::Draining);
    let on_it =
        state.replicas_on(name).filter(|(_, replica)| draining && replica.retired.is_none());
    on_it.filter_map(|(id, replica)| Some((id.clone(), why(state, name, id, replica)?))).collect()
}

fn why(state: &State, node: &NodeName, id: &ReplicaId, replica: &Replica) -> Option<String> {
    let app = state.apps.get(&replica.app).filter(|app| app.status != AppStatus::Deleting)?;
    let workload = app.workloads.get(&replica.workload).filter(|workload| workload.declared)?;
    let spec = app.specs.get(&workload.spec)?;
    if spec.mode == Mode::Global {
        // One for every node: it ends with the drain, and nothing takes its place.
        return floor(state, workload, u32::MAX, replica);
    }
    let outdated = replica.spec != workload.spec || replica.generation != workload.generation;
    if is_bound(spec, replica) {
        // A rollout ends it all the same, and its successor waits for the node.
        return (!outdated).then(|| bound(node, spec));
    }
    if state.is_unknown(replica) && workload.conduct.overlap == Overlap::Never {
        return Some(format!(
            "{node} is lost, and nobody knows that it ended; it must not run twice"
        ));
    }
    let runs = matches!(replica.phase, Phase::Running | Phase::Ready);
    if workload.conduct.task.is_some() && runs && !outdated {
        return Some(
            "it is a job of a rollout, which nobody moves; its end is waited for".to_owned(),
        );
    }
    if workload.conduct.overlap == Overlap::Never
        && let Some(why) = floor(state, workload, workload.replicas, replica)
    {
        return Some(why);
    }
    held_up(state, app, workload, id, replica)
}

/// Whether so few are ready that none of them may end.
fn floor(state: &State, workload: &Workload, declared: u32, replica: &Replica) -> Option<String> {
    let least = workload.conduct.min_ready?.min(declared);
    let heard = |r: &Replica| {
        let node = r.node.as_ref().and_then(|node| state.nodes.get(node));
        node.is_some_and(|node| node.status == NodeStatus::Ready)
    };
    let serves = |r: &Replica| r.phase == Phase::Ready && r.retired.is_none() && heard(r);
    let all = state.replicas_of(&replica.app, &replica.workload);
    let ready = u32::try_from(all.filter(|(_, r)| serves(r)).count()).unwrap_or(u32::MAX);
    (serves(replica) && ready <= least)
        .then(|| format!("{ready} are ready, and min_ready says that {least} must remain"))
}

fn bound(node: &NodeName, spec: &WorkloadSpec) -> String {
    let volumes: Vec<&str> = volumes_of(spec).map(|volume| volume.as_str()).collect();
    match volumes.as_slice() {
        [] => format!("it is for {node} only"),
        [one] => format!("its volume {one} lives on {node}"),
        more => format!("its volumes {} live on {node}", more.join(", ")),
    }
}

/// What could go elsewhere, and does not get there.
fn held_up(
    state: &State,
    app: &App,
    workload: &Workload,
    id: &ReplicaId,
    replica: &Replica,
) -> Option<String> {
    let replacement = state
        .replicas_of(&replica.app, &replica.workload)
        .find(|(_, other)| other.replaces.as_ref() == Some(id) && other.retired.is_none());
    if let Some((new_id, new)) = replacement {
        if new.phase == Phase::Ready {
            return floor(state, workload, workload.replicas, replica);
        }
        if new.phase == Phase::Pending && !workload.unplaced.is_empty() {
            let reasons: Vec<&str> = workload.unplaced.iter().map(|u| u.reason.as_str()).collect();
            return Some(format!("its replacement {new_id} fits nowhere: {}", reasons.join("; ")));
        }
    }
    match &app.status {
        AppStatus::Stalled { workload, reason } if *workload == replica.workload => {
            Some(format!("{} is stalled: {reason}", replica.app))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
