//! Ports of a declaration: numbers that are ports, and none that two would have at once.

use std::collections::BTreeMap;

use cluster::State;
use schemas::command::Problem;
use schemas::id::AppKey;
use schemas::spec::{AppSpec, Protocol, WorkloadSpec};

pub(super) fn check_numbers(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    for (i, port) in spec.ports.iter().enumerate() {
        let given = [
            ("container", Some(port.container)),
            ("published", port.published),
            ("host", port.host),
        ];
        if let Some((name, _)) = given.into_iter().find(|(_, number)| *number == Some(0)) {
            let field = format!("{field}[{i}].{name}");
            return Err(Problem::new("invalid_value", &field, "port 0", "1 to 65535"));
        }
    }
    Ok(())
}

/// A published port belongs to one workload of the whole cluster: every node serves it, so that no
/// replica can have it of its node either.
pub(super) fn check(state: &State, key: &AppKey, spec: &AppSpec) -> Result<(), Problem> {
    let mut taken = Taken::default();
    for (other, app) in state.apps.iter().filter(|(other, _)| *other != key) {
        for (name, workload) in app.workloads.iter().filter(|(_, workload)| workload.declared) {
            let Some(spec) = app.specs.get(&workload.spec) else { continue };
            for (protocol, number, how) in ports(spec) {
                // Of those that were let in before this was checked, the first counts.
                let _ = taken.take(protocol, number, how, &format!("{other}/{name}"));
            }
        }
        // What it may go back to keeps its ports.
        for (name, spec) in app.good.iter().flat_map(|good| &good.spec.workloads) {
            for (protocol, number, how) in ports(spec) {
                let _ = taken.take(protocol, number, how, &format!("{other}/{name}"));
            }
        }
    }
    for (name, workload) in &spec.workloads {
        let me = format!("{key}/{name}");
        for (protocol, number, how) in ports(workload) {
            let Err(holder) = taken.take(protocol, number, how, &me) else { continue };
            let field = format!("app.workloads.{name}.ports");
            let got = format!("{} {}/{number}", how.as_str(), protocol.as_str());
            let valid = format!("a port that nobody has: {holder}");
            return Err(Problem::new("port_taken", &field, &got, &valid));
        }
    }
    Ok(())
}

/// How a port is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Of every node.
    Published,
    /// Of the node of each replica.
    Host,
}

impl How {
    fn as_str(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Host => "host",
        }
    }
}

fn ports(spec: &WorkloadSpec) -> impl Iterator<Item = (Protocol, u16, How)> {
    spec.ports.iter().flat_map(|port| {
        let of = |number: Option<u16>, how| number.map(|number| (port.protocol, number, how));
        of(port.published, How::Published).into_iter().chain(of(port.host, How::Host))
    })
}

/// Which ports are wanted by whom.
#[derive(Default)]
struct Taken {
    published: BTreeMap<(Protocol, u16), String>,
    /// Several may want one of their nodes: they go to different ones.
    hosts: BTreeMap<(Protocol, u16), Vec<String>>,
}

impl Taken {
    /// Takes a port for a workload, or says who has it.
    fn take(&mut self, protocol: Protocol, port: u16, how: How, me: &str) -> Result<(), String> {
        let port = (protocol, port);
        if let Some(holder) = self.published.get(&port) {
            return Err(format!("{holder} publishes it"));
        }
        let on_nodes = self.hosts.get(&port).map(Vec::as_slice).unwrap_or_default();
        match how {
            How::Published => {
                if let Some(holder) = on_nodes.first() {
                    return Err(format!("{holder} has it of its nodes"));
                }
                self.published.insert(port, me.to_owned());
            }
            How::Host => {
                if on_nodes.iter().any(|holder| holder == me) {
                    return Err(format!("{me} has it of its nodes already"));
                }
                self.hosts.entry(port).or_default().push(me.to_owned());
            }
        }
        Ok(())
    }
}
