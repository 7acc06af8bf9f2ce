//! The endpoint table: which published port leads to which replicas. It follows from the state.
//!
//! A port leads to the best replicas there are, and only to those of one kind: those on nodes that are
//! heard, or else those of suspected nodes. A replica that is not ready, or whose node is lost, gets
//! nothing. Nor does one that is to end, be it the last: that a gateway has let go of it is said once and
//! for all, so that nothing is on its way there when it is asked to stop.

pub(crate) mod weight;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cluster::State;
use cluster::state::{App, NodeStatus, Phase, Replica, Workload};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::place::Place;
use schemas::spec::{AppProtocol, Balance, Port, Protocol};

mod web;

pub use web::{Backend, Rule, Web};

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
    /// What is spoken on it.
    pub protocol: AppProtocol,
    /// Which replica gets the next connection or request.
    pub balance: Balance,
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
    /// The node.
    pub node: NodeName,
    /// The node's address.
    pub address: String,
    /// The node's port.
    pub port: u16,
    /// How much of the traffic is for it, beside what the others say.
    pub weight: u32,
}

/// What is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// The place in history from which on it holds.
    pub place: Place,
    /// The routes by port.
    pub routes: BTreeMap<Published, Route>,
    /// Those by host and path.
    pub web: Web,
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
    /// The port leads elsewhere, or in another way.
    Lead(Published, Route),
}

impl Table {
    /// What a state says is to be served as published ports.
    #[must_use]
    pub fn of(state: &State, place: Place) -> Self {
        let mut routes = BTreeMap::new();
        for (key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                for (published, port) in ports_of(app, workload) {
                    // The controller lets each port be published once.
                    routes.entry(published).or_insert_with(|| Route {
                        app: key.clone(),
                        workload: name.clone(),
                        protocol: port.app,
                        balance: workload.conduct.balance.clone(),
                        endpoints: endpoints(state, key, name, published.protocol, |replica| {
                            own_port(state, replica, published).or(Some(port.container))
                        }),
                    });
                }
            }
        }
        Self { place, routes, web: Web::of(state), inside: Map::default() }
    }

    /// Whether it leads everywhere as another one does, which may be of another moment.
    #[must_use]
    pub fn leads_as(&self, other: &Self) -> bool {
        let Self { place: _, routes, web, inside } = self;
        (routes, web, inside) == (&other.routes, &other.web, &other.inside)
    }

    /// The replicas that it leads to.
    #[must_use]
    pub fn led_to(&self) -> BTreeSet<&ReplicaId> {
        let inside = self.inside.workloads.values().flat_map(|served| served.ports.values());
        let routes = self.routes.values().chain(self.web.backends.values()).chain(inside);
        routes.flat_map(|route| &route.endpoints).map(|endpoint| &endpoint.replica).collect()
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
                Some(old) if old == new => None,
                Some(_) => Some(Change::Lead(*published, new.clone())),
            }
        });
        closed.chain(others).collect()
    }
}

/// The published ports of a workload, and what its spec says of each.
fn ports_of<'a>(
    app: &'a App,
    workload: &Workload,
) -> impl Iterator<Item = (Published, &'a Port)> + use<'a> {
    let ports: &[Port] = app.specs.get(&workload.spec).map_or(&[], |spec| &spec.ports);
    ports.iter().filter_map(|port| {
        Some((Published { protocol: port.protocol, port: port.published? }, port))
    })
}

/// How good a replica is for traffic: the lower, the better.
pub(crate) type Rank = u8;

/// The endpoints of the best replicas.
fn endpoints(
    state: &State,
    key: &AppKey,
    name: &WorkloadName,
    protocol: Protocol,
    port_of: impl Fn(&Replica) -> Option<u16>,
) -> Vec<Endpoint> {
    let mut best: Option<Rank> = None;
    let mut found = Vec::new();
    for (id, replica) in state.replicas_of(key, name) {
        let Some((node, rank)) = rank(state, replica) else { continue };
        let Some(container) = port_of(replica) else { continue };
        let mut here = replica
            .endpoints
            .iter()
            .filter(|e| e.container == container && e.protocol == protocol)
            .map(|e| Endpoint {
                replica: id.clone(),
                run: replica.run,
                node: node.clone(),
                address: e.address.clone(),
                port: e.port,
                weight: 1,
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
    match state.apps.get(key).and_then(|app| app.workloads.get(name)) {
        Some(workload) => weight::shared(state, workload, found),
        None => found,
    }
}

/// The node of a replica, and how good it is. None for one that must not be sent anything.
pub(crate) fn rank<'a>(state: &State, replica: &'a Replica) -> Option<(&'a NodeName, Rank)> {
    let node = replica.node.as_ref()?;
    let suspected = match state.nodes.get(node)?.status {
        NodeStatus::Ready => false,
        NodeStatus::Suspected => true,
        NodeStatus::Lost => return None,
    };
    (replica.retired.is_none() && replica.phase == Phase::Ready)
        .then_some((node, u8::from(suspected)))
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
