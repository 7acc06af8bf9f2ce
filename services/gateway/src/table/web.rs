//! Where requests lead by their host and path, on the ports that serve HTTP and HTTPS for all workloads.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::Replica;
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::{self, Protocol, WorkloadSpec};

use super::{Route, endpoints};

/// The port of a workload that requests lead to; no port: the first one that its spec has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Backend {
    /// The app.
    pub app: AppKey,
    /// Its workload.
    pub workload: WorkloadName,
    /// The container's port.
    pub port: Option<u16>,
}

/// Which requests lead where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// As it is declared.
    pub route: spec::Route,
    /// Where it leads.
    pub to: Backend,
}

/// All of them, and what they lead to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Web {
    /// The rules, in the order of apps, workloads and declaration. Of two for the same requests the
    /// first one holds.
    pub rules: Vec<Rule>,
    /// What they lead to.
    pub backends: BTreeMap<Backend, Route>,
}

impl Web {
    /// What a state says.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut web = Self::default();
        for (key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                let Some(spec) = app.specs.get(&workload.spec) else { continue };
                for route in &workload.conduct.routes {
                    let (app, workload_name) = (key.clone(), name.clone());
                    let to = Backend { app, workload: workload_name, port: route.port };
                    web.backends.entry(to.clone()).or_insert_with(|| Route {
                        app: key.clone(),
                        workload: name.clone(),
                        protocol: spoken(spec, route.port),
                        balance: workload.conduct.balance.clone(),
                        endpoints: endpoints(state, key, name, Protocol::Tcp, |replica| {
                            route.port.or_else(|| first_port(state, replica))
                        }),
                    });
                    web.rules.push(Rule { route: route.clone(), to });
                }
            }
        }
        web
    }
}

fn spoken(spec: &WorkloadSpec, port: Option<u16>) -> spec::AppProtocol {
    let tcp =
        |p: &&spec::Port| p.protocol == Protocol::Tcp && port.is_none_or(|n| n == p.container);
    spec.ports.iter().find(tcp).map(|port| port.app).unwrap_or_default()
}

/// The first TCP port of the replica's own spec.
fn first_port(state: &State, replica: &Replica) -> Option<u16> {
    let ports = &state.spec_of(replica)?.ports;
    ports.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.container)
}
