//! Large states, built by events like any other.

use cluster::State;
use cluster::history::{History, app, workload};
use schemas::event::{
    AppDeployed, Endpoint, ReplicaReady, ReplicasPlaced, ReplicasRequested, RequestedReplica,
    RunStarted,
};
use schemas::id::{NodeName, ReplicaId, Writer};
use schemas::spec::{AppSpec, Protocol, WorkloadSpec};

use crate::clock::Since;

/// How many replicas an app of these states has.
const PER_APP: u64 = 500;

/// How many replicas are placed by one round, as the scheduler does it.
const PER_ROUND: usize = 2_000;

/// So many nodes with 16 cores and 64 GiB, and so many replicas that await one.
pub(crate) fn waiting(nodes: u64, replicas: u64) -> History {
    let mut history = History::default();
    for number in 1..=nodes {
        history.node(&format!("n{number}"), 16, 64);
    }
    let mut spec = WorkloadSpec::of_image("web:1");
    spec.resources.cpu_millis = Some(100);
    spec.resources.memory_bytes = Some(64 << 20);
    let web = workload("web");
    let mut left = replicas;
    for number in 1.. {
        let count = left.min(PER_APP);
        if count == 0 {
            break;
        }
        left -= count;
        let key = app(&format!("app{number}"));
        let workloads = [(web.clone(), spec.clone())].into();
        let declared = AppSpec { name: key.name.clone(), workloads };
        history.add(
            &Writer::Controller,
            AppDeployed { app: key.clone(), revision: 1, spec: declared },
        );
        // Two serial numbers may give one id: the state is told of it once.
        let ids: std::collections::BTreeSet<ReplicaId> =
            (0..count).map(|serial| ReplicaId::derive(&key, &web, serial)).collect();
        let replicas =
            ids.into_iter().map(|id| RequestedReplica { id, replaces: None, node: None }).collect();
        let requested = ReplicasRequested {
            app: key,
            workload: web.clone(),
            revision: 1,
            generation: 0,
            spec: spec.digest(),
            replicas,
        };
        history.add(&Writer::Controller, requested);
    }
    history
}

/// Places everything, round by round: how long the rounds took, without what records them.
pub(crate) fn place(history: &mut History) -> u64 {
    let mut us = 0;
    loop {
        let since = Since::now();
        let round = scheduler::place::round(history.fold.state(), PER_ROUND, 0);
        us += since.us();
        if round.placed.is_empty() {
            return us;
        }
        for ((_, node), placed) in round.placed {
            let replicas = placed.into_iter().map(|placed| placed.id).collect();
            history.add(
                &Writer::Scheduler,
                ReplicasPlaced { node, replicas, chosen: String::new(), passed_over: Vec::new() },
            );
        }
    }
}

/// Starts everything that has a node.
pub(crate) fn start(history: &mut History) {
    let placed: Vec<(ReplicaId, NodeName)> = history
        .fold
        .state()
        .replicas
        .iter()
        .filter_map(|(id, replica)| Some((id.clone(), replica.node.clone()?)))
        .collect();
    for (port, (replica, node)) in (32_768..=65_535).cycle().zip(placed) {
        let endpoint = Endpoint {
            container: 8_080,
            protocol: Protocol::Tcp,
            address: "10.0.0.1".to_owned(),
            port,
        };
        let writer = Writer::Agent(node);
        let container = "0123456789abcdef".repeat(4);
        let started = RunStarted {
            replica: replica.clone(),
            run: 1,
            container,
            endpoints: vec![endpoint],
            inside: None,
        };
        history.add(&writer, started);
        history.add(&writer, ReplicaReady { replica, run: 1 });
    }
}

/// How many replicas there are.
pub(crate) fn replicas(state: &State) -> u64 {
    u64::try_from(state.replicas.len()).unwrap_or(u64::MAX)
}
