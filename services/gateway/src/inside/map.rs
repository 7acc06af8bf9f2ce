//! Who is where inside, and who may go there. It follows from the state, for one machine.
//!
//! The nodes of a machine are those that have its address. What comes from the network of an app's
//! containers there is of that app.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use cluster::State;
use cluster::state::{Phase, Replica, Workload};
use ipnet::Ipv4Net;
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::spec::{AppProtocol, Balance, Open, Protocol, WorkloadSpec};

use crate::table::{Endpoint, Published, Rank, Route, rank, weight};

/// How many networks are looked at for one address.
const LOOKED_AT: usize = 16;

/// What is served inside, on one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map {
    /// The cluster: the id of its history.
    pub cluster: String,
    /// The workloads that have a number.
    pub workloads: BTreeMap<(AppKey, WorkloadName), Served>,
    /// Whose number is whose.
    numbers: BTreeMap<u16, (AppKey, WorkloadName)>,
    /// The same of replicas that have addresses of their own.
    single: BTreeMap<u16, ((AppKey, WorkloadName), ReplicaId)>,
    /// The networks of containers on this machine, and whose they are.
    pub sources: BTreeMap<Ipv4Net, AppKey>,
    /// The addresses of containers on this machine, and the workloads that they are replicas of.
    pub callers: BTreeMap<IpAddr, (AppKey, WorkloadName)>,
    /// Where replicas of other machines are reached by gateways, and by nobody else.
    pub far: BTreeSet<(Protocol, Ipv4Addr, u16)>,
    /// Ports of this machine, at whichever address of it, that lead to replicas in the same way.
    pub near: BTreeSet<(Protocol, u16)>,
}

/// A workload as it is reached by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// Its number.
    pub number: u16,
    /// Which other apps reach it.
    pub open: Open,
    /// Its ports, those included that only its image names, while a replica is ready to serve them.
    pub ports: BTreeMap<Published, Route>,
    /// Its ready replicas, each by itself: where somebody on this machine may reach it.
    pub replicas: BTreeMap<ReplicaId, Single>,
}

/// A replica as it is reached by a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Single {
    /// Its number.
    pub number: u16,
    /// Its TCP ports. A port of UDP takes a socket, which each has not.
    pub ports: BTreeMap<Published, Route>,
}

impl Map {
    /// What a state says, on the machine of a node.
    #[must_use]
    pub fn of(state: &State, node: &NodeName) -> Self {
        let machine = Machine::of(state, node);
        let mut map = Self { cluster: state.cluster.genesis.clone(), ..Self::default() };
        for (key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                let Some(number) = workload.number else { continue };
                let served = served(state, &machine, key, name, workload, number);
                map.numbers.insert(number, (key.clone(), name.clone()));
                map.workloads.insert((key.clone(), name.clone()), served);
            }
        }
        map.sources = sources(state, &machine);
        map.add_replicas(state, &machine);
        map.callers = callers(state, &machine);
        for (_, replica) in state.replicas.iter() {
            let ports = reached_by_gateways(state, replica);
            if machine.has(replica) {
                map.near.extend(ports.map(|e| (e.protocol, e.port)));
            } else {
                // Those of a node whose address is a name cannot be told apart here.
                map.far.extend(
                    ports.filter_map(|e| Some((e.protocol, e.address.parse().ok()?, e.port))),
                );
            }
        }
        map
    }

    /// The app that an address is of.
    #[must_use]
    pub fn source(&self, address: Ipv4Addr) -> Option<&AppKey> {
        // Networks of one engine do not overlap: mostly the one that begins last before it has it, or
        // none. Of two that a changed engine gave, the smaller one counts.
        let before = self.sources.range(..=Ipv4Net::from(address)).rev();
        before.take(LOOKED_AT).find(|(network, _)| network.contains(&address)).map(|(_, app)| app)
    }

    /// The workload of a number.
    #[must_use]
    pub fn numbered(&self, number: u16) -> Option<(&(AppKey, WorkloadName), &Served)> {
        self.workloads.get_key_value(self.numbers.get(&number)?)
    }

    /// The replica of a number, and the workload that it is one of.
    #[must_use]
    pub fn single(&self, number: u16) -> Option<(&(AppKey, WorkloadName), &ReplicaId, &Single)> {
        let (workload, id) = self.single.get(&number)?;
        Some((workload, id, self.workloads.get(workload)?.replicas.get(id)?))
    }

    /// A workload, for one who asks from an app: none when it may not be reached from there.
    #[must_use]
    pub fn reached(&self, from: &AppKey, workload: &(AppKey, WorkloadName)) -> Option<&Served> {
        self.workloads.get(workload).filter(|served| served.is_reached(from, &workload.0))
    }

    /// Adds the replicas of workloads that apps of this machine may reach: of others nobody here asks.
    fn add_replicas(&mut self, state: &State, machine: &Machine) {
        let here: BTreeSet<&AppKey> = self.sources.values().collect();
        for (workload, served) in &mut self.workloads {
            let (key, name) = workload;
            if !here.iter().any(|from| served.is_reached(from, key)) {
                continue;
            }
            let spec = spec_of(state, key, name);
            for (id, replica) in state.replicas_of(key, name) {
                let (Some((node, _)), Some(number)) = (rank(state, replica), replica.number) else {
                    continue;
                };
                let tcp = replica.endpoints.iter().filter(|said| said.protocol == Protocol::Tcp);
                let ports = tcp.map(|said| {
                    let port = Published { protocol: said.protocol, port: said.container };
                    let endpoints = vec![endpoint(machine, id, replica, node, said)];
                    let balance = Balance::default();
                    let (app, workload) = (key.clone(), name.clone());
                    (
                        port,
                        Route { app, workload, protocol: spoken(spec, port), balance, endpoints },
                    )
                });
                let ports: BTreeMap<_, _> = ports.collect();
                self.single.insert(number, (workload.clone(), id.clone()));
                served.replicas.insert(id.clone(), Single { number, ports });
            }
        }
    }
}

impl Served {
    /// Whether one who asks from an app may reach it, a workload of another one or of the same.
    fn is_reached(&self, from: &AppKey, app: &AppKey) -> bool {
        app == from || (app.tenant == from.tenant && self.open.reaches(&from.name))
    }
}

/// The nodes that one machine is.
struct Machine(BTreeSet<NodeName>);

impl Machine {
    fn of(state: &State, node: &NodeName) -> Self {
        let address = state.nodes.get(node).map(|node| &node.description.address);
        let here = |other: &cluster::state::Node| Some(&other.description.address) == address;
        let nodes = state.nodes.iter().filter(|(_, other)| here(other));
        Self(nodes.map(|(name, _)| name.clone()).collect())
    }

    fn has(&self, replica: &Replica) -> bool {
        replica.node.as_ref().is_some_and(|node| self.0.contains(node))
    }
}

/// The container's own address, and the network that it is in.
fn inside(replica: &Replica) -> Option<Ipv4Net> {
    replica.inside.as_ref()?.parse().ok()
}

fn is_on(replica: &Replica) -> bool {
    matches!(replica.phase, Phase::Running | Phase::Ready)
}

/// The networks of a machine. One that is said to be of two apps is of that whose container is on, or
/// was last: the engine gave the other one up.
fn sources(state: &State, machine: &Machine) -> BTreeMap<Ipv4Net, AppKey> {
    let mut found: BTreeMap<Ipv4Net, ((bool, u64), AppKey)> = BTreeMap::new();
    for (_, replica) in state.replicas.iter().filter(|(_, replica)| machine.has(replica)) {
        let Some(network) = inside(replica).map(|own| own.trunc()) else { continue };
        let newness = (is_on(replica), replica.since_ms);
        if found.get(&network).is_none_or(|(known, _)| *known < newness) {
            found.insert(network, (newness, replica.app.clone()));
        }
    }
    found.into_iter().map(|(network, (_, app))| (network, app)).collect()
}

/// Whose the addresses of containers are. Of two that had the same one it is the one that is on.
fn callers(state: &State, machine: &Machine) -> BTreeMap<IpAddr, (AppKey, WorkloadName)> {
    let here = state.replicas.iter().map(|(_, replica)| replica);
    let on = here.filter(|replica| machine.has(replica) && is_on(replica));
    let own = on.filter_map(|replica| Some((inside(replica)?, replica)));
    own.map(|(own, replica)| (own.addr().into(), (replica.app.clone(), replica.workload.clone())))
        .collect()
}

/// The ports of a replica's node that lead to it and that nobody declared for others.
fn reached_by_gateways<'a>(
    state: &'a State,
    replica: &'a Replica,
) -> impl Iterator<Item = &'a schemas::event::Endpoint> + use<'a> {
    let spec = state.spec_of(replica);
    let declared = move |endpoint: &schemas::event::Endpoint| {
        let ports = spec.into_iter().flat_map(|spec| &spec.ports);
        ports
            .filter_map(|port| Some((port.protocol, port.host?)))
            .any(|port| port == (endpoint.protocol, endpoint.port))
    };
    replica.endpoints.iter().filter(move |endpoint| !declared(endpoint))
}

fn served(
    state: &State,
    machine: &Machine,
    key: &AppKey,
    name: &WorkloadName,
    workload: &Workload,
    number: u16,
) -> Served {
    let spec = spec_of(state, key, name);
    let mut best: BTreeMap<Published, (Rank, Route)> = BTreeMap::new();
    for (id, replica) in state.replicas_of(key, name) {
        let Some((node, rank)) = rank(state, replica) else { continue };
        for said in &replica.endpoints {
            let port = Published { protocol: said.protocol, port: said.container };
            let endpoint = endpoint(machine, id, replica, node, said);
            let route = || Route {
                app: key.clone(),
                workload: name.clone(),
                protocol: spoken(spec, port),
                balance: workload.conduct.balance.clone(),
                endpoints: Vec::new(),
            };
            let (known, route) = best.entry(port).or_insert_with(|| (rank, route()));
            if rank < *known {
                *known = rank;
                route.endpoints.clear();
            }
            if rank == *known {
                route.endpoints.push(endpoint);
            }
        }
    }
    let ports = best.into_iter().map(|(port, (_, route))| {
        let endpoints = weight::shared(state, workload, route.endpoints);
        (port, Route { endpoints, ..route })
    });
    let ports = ports.collect();
    let open = workload.conduct.open.clone();
    Served { number, open, ports, replicas: BTreeMap::new() }
}

/// The spec that is declared of a workload.
fn spec_of<'a>(state: &'a State, key: &AppKey, name: &WorkloadName) -> Option<&'a WorkloadSpec> {
    let app = state.apps.get(key)?;
    app.specs.get(&app.workloads.get(name)?.spec)
}

/// What is declared to be spoken on a port; found out where nothing is.
fn spoken(spec: Option<&WorkloadSpec>, of: Published) -> AppProtocol {
    let mut ports = spec.into_iter().flat_map(|spec| &spec.ports);
    let port = ports.find(|port| (port.protocol, port.container) == (of.protocol, of.port));
    port.map(|port| port.app).unwrap_or_default()
}

/// Where a replica is reached from here: on its own address when it is on this machine.
fn endpoint(
    machine: &Machine,
    id: &ReplicaId,
    replica: &Replica,
    node: &NodeName,
    said: &schemas::event::Endpoint,
) -> Endpoint {
    let own = inside(replica).filter(|_| machine.has(replica));
    let (address, port) = match own {
        Some(own) => (own.addr().to_string(), said.container),
        None => (said.address.clone(), said.port),
    };
    let (replica, run, node) = (id.clone(), replica.run, node.clone());
    Endpoint { replica, run, node, address, port, weight: 1 }
}

#[cfg(test)]
pub(crate) mod tests;
