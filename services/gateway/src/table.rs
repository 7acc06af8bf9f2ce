//! The endpoint table: which published port leads to which replicas. It follows from the state.
//!
//! A port leads to the best replicas there are, and only to those of one kind. Best is a replica
//! that stays, on a node that is heard; then one that is about to end; then those of a suspected
//! node. A replica that is not ready, or whose node is lost, gets nothing.

use std::collections::BTreeMap;
use std::fmt;

use cluster::State;
use cluster::state::{App, NodeStatus, Phase, Replica, Workload};
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use schemas::spec::{Port, Protocol};

use crate::inside::map::Map;

/// A port on which a workload is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Published {
    /// The transport.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.protocol.as_str())
    }
}

/// Where a published port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The app whose port it is.
    pub app: AppKey,
    /// Its workload.
    pub workload: WorkloadName,
    /// Where its replicas are reached, in order. None: nobody is ready.
    pub endpoints: Vec<Endpoint>,
}

/// Where a run of a replica is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The replica.
    pub replica: ReplicaId,
    /// The run. The next one is another endpoint, even on the same port.
    pub run: u32,
    /// The node's address.
    pub address: String,
    /// The node's port.
    pub port: u16,
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The routes by port.
    pub routes: BTreeMap<Published, Route>,
    /// What containers reach by name.
    pub inside: Map,
}

/// A difference between two tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The port is not served any more, or not for this workload.
    Close(Published),
    /// The port is served from now on.
    Open(Published, Route),
    /// The port leads elsewhere.
    Lead(Published, Vec<Endpoint>),
}

impl Table {
    /// What a state says is to be served as published ports.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut routes = BTreeMap::new();
        for (key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                for (published, container) in ports_of(app, workload) {
                    // The controller lets each port be published once.
                    routes.entry(published).or_insert_with(|| Route {
                        app: key.clone(),
                        workload: name.clone(),
                        endpoints: endpoints(state, key, name, published, container),
                    });
                }
            }
        }
        Self { routes, inside: Map::default() }
    }

    /// What to do so that this table becomes the other one. What closes comes first.
    #[must_use]
    pub fn changes(&self, to: &Self) -> Vec<Change> {
        let of_same = |a: &Route, b: &Route| (&a.app, &a.workload) == (&b.app, &b.workload);
        let closed = self.routes.iter().filter_map(|(published, old)| {
            let stays = to.routes.get(published).is_some_and(|new| of_same(old, new));
            (!stays).then_some(Change::Close(*published))
        });
        let others = to.routes.iter().filter_map(|(published, new)| {
            match self.routes.get(published).filter(|old| of_same(old, new)) {
                None => Some(Change::Open(*published, new.clone())),
                Some(old) if old.endpoints == new.endpoints => None,
                Some(_) => Some(Change::Lead(*published, new.endpoints.clone())),
            }
        });
        closed.chain(others).collect()
    }
}

/// The published ports of a workload, and the container's port behind each.
fn ports_of<'a>(
    app: &'a App,
    workload: &Workload,
) -> impl Iterator<Item = (Published, u16)> + use<'a> {
    let ports: &[Port] = app.specs.get(&workload.spec).map_or(&[], |spec| &spec.ports);
    ports.iter().filter_map(|port| {
        Some((Published { protocol: port.protocol, port: port.published? }, port.container))
    })
}

/// How good a replica is for traffic: the lower, the better.
pub(crate) type Rank = (bool, bool);

/// The endpoints of the best replicas.
fn endpoints(
    state: &State,
    key: &AppKey,
    name: &WorkloadName,
    published: Published,
    container: u16,
) -> Vec<Endpoint> {
    let mut best: Option<Rank> = None;
    let mut found = Vec::new();
    for (id, replica) in state.replicas_of(key, name) {
        let Some(rank) = rank(state, replica) else { continue };
        let container = own_port(state, replica, published).unwrap_or(container);
        let mut here = replica
            .endpoints
            .iter()
            .filter(|e| e.container == container && e.protocol == published.protocol)
            .map(|e| Endpoint {
                replica: id.clone(),
                run: replica.run,
                address: e.address.clone(),
                port: e.port,
            })
            .peekable();
        if here.peek().is_none() || best.is_some_and(|best| rank > best) {
            continue;
        }
        if best.is_none_or(|best| rank < best) {
            best = Some(rank);
            found.clear();
        }
        found.extend(here);
    }
    found
}

/// None for a replica that must not be sent anything.
pub(crate) fn rank(state: &State, replica: &Replica) -> Option<Rank> {
    let node = state.nodes.get(replica.node.as_ref()?)?;
    let suspected = match node.status {
        NodeStatus::Ready => false,
        NodeStatus::Suspected => true,
        NodeStatus::Lost => return None,
    };
    (replica.phase == Phase::Ready).then_some((suspected, replica.retired.is_some()))
}

/// The container's port that the replica's own spec publishes there: during an update it may differ
/// from that of the spec that is declared.
fn own_port(state: &State, replica: &Replica, published: Published) -> Option<u16> {
    let spec = state.spec_of(replica)?;
    let behind = |port: &&Port| {
        port.protocol == published.protocol && port.published == Some(published.port)
    };
    spec.ports.iter().find(behind).map(|port| port.container)
}

#[cfg(test)]
mod tests;
