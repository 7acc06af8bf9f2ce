//! The rules of the packet filter: what is for the range goes to this process, and containers reach
//! replicas of other machines through it and in no other way.
//!
//! The range is translated to a few sockets, and not listened on: whatever the machine's own programs
//! listen on, and whatever ports its engine publishes (for which it rewrites what is for any of the
//! machine's addresses, these included), is then out of the way. Pure: texts for `nft`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use runtime::inside::Range;
use schemas::spec::Protocol;

use super::map::Map;

/// The name server's port.
const NAMES: u16 = 53;

/// Where this process listens, on the name server's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// For every TCP port of every workload.
    pub streams: u16,
    /// For questions by stream.
    pub names_tcp: u16,
    /// For questions by datagram.
    pub names_udp: u16,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    range: Range,
    sockets: Sockets,
    /// What somebody serves. All else in the range is refused.
    served: BTreeSet<(Protocol, Ipv4Addr, u16)>,
    /// The sockets of UDP ports.
    datagrams: BTreeMap<(Ipv4Addr, u16), u16>,
    /// The networks of containers.
    sources: BTreeSet<Ipv4Net>,
    /// What they do not reach.
    far: BTreeSet<(Protocol, Ipv4Addr, u16)>,
    /// Nor these ports of the machine itself.
    near: BTreeSet<(Protocol, u16)>,
}

impl Rules {
    /// Those of a map, with the sockets that its UDP ports have, by number and port.
    #[must_use]
    pub fn of(
        range: Range,
        sockets: Sockets,
        map: &Map,
        datagrams: &BTreeMap<(u16, u16), u16>,
    ) -> Self {
        let address = |number: u16| range.address(number);
        let streams = map.workloads.values().flat_map(|served| {
            let tcp = served.ports.keys().filter(|port| port.protocol == Protocol::Tcp);
            let all = tcp.map(|port| (Protocol::Tcp, address(served.number), port.port));
            let single = served.replicas.values().flat_map(|single| {
                single.ports.keys().map(|port| (Protocol::Tcp, address(single.number), port.port))
            });
            all.chain(single)
        });
        let udp = datagrams.keys().map(|(number, port)| (Protocol::Udp, address(*number), *port));
        let names = [Protocol::Tcp, Protocol::Udp].map(|p| (p, range.name_server(), NAMES));
        Self {
            range,
            sockets,
            served: streams.chain(udp).chain(names).collect(),
            datagrams: datagrams
                .iter()
                .map(|((number, port), socket)| ((address(*number), *port), *socket))
                .collect(),
            // The kernel refuses a set of networks of which one holds another.
            sources: Ipv4Net::aggregate(&map.sources.keys().copied().collect())
                .into_iter()
                .collect(),
            far: map.far.clone(),
            near: map.near.clone(),
        }
    }

    /// What puts them in place, whatever there was.
    #[must_use]
    pub fn install(&self) -> String {
        let (table, range, server) = (self.range.token(), self.range, self.range.name_server());
        let Sockets { streams, names_tcp, names_udp } = self.sockets;
        let mut text = format!(
            "table ip {table}
delete table ip {table}
table ip {table} {{
  set served {{ type inet_proto . ipv4_addr . inet_service; }}
  set sources {{ type ipv4_addr; flags interval; }}
  set far {{ type inet_proto . ipv4_addr . inet_service; }}
  set near {{ type inet_proto . inet_service; }}
  map datagrams {{ type ipv4_addr . inet_service : ipv4_addr . inet_service; }}
  chain closed {{
    meta l4proto tcp reject with tcp reset
    reject
  }}
  chain before {{
    type filter hook prerouting priority mangle;
    ct direction reply return
    ip daddr {range} meta l4proto {{ tcp, udp }} meta l4proto . ip daddr . th dport != @served goto closed
    ip daddr {range} return
    ip saddr @sources meta l4proto . ip daddr . th dport @far goto closed
    ip saddr @sources fib daddr type local meta l4proto . th dport @near goto closed
  }}
  chain to {{
    type nat hook prerouting priority -110;
    ip daddr {server} tcp dport {NAMES} dnat to {server}:{names_tcp}
    ip daddr {server} udp dport {NAMES} dnat to {server}:{names_udp}
    ip daddr {range} meta l4proto tcp dnat to {server}:{streams}
    dnat ip to ip daddr . udp dport map @datagrams
  }}
}}
"
        );
        let nothing = Self {
            served: BTreeSet::new(),
            datagrams: BTreeMap::new(),
            sources: BTreeSet::new(),
            far: BTreeSet::new(),
            near: BTreeSet::new(),
            ..self.clone()
        };
        text.push_str(&nothing.change(self));
        text
    }

    /// What makes these rules the other ones, of the same range and sockets. Empty: nothing.
    #[must_use]
    pub fn change(&self, to: &Self) -> String {
        let mut text = String::new();
        let table = self.range.token();
        let server = self.range.name_server();
        let mut say = |verb: &str, of: &str, elements: Vec<String>| {
            // One line for many: each is a message to the kernel.
            for elements in elements.chunks(AT_ONCE) {
                let elements = elements.join(", ");
                let _ = writeln!(text, "{verb} element ip {table} {of} {{ {elements} }}");
            }
        };
        let port = |(protocol, address, port): &(Protocol, Ipv4Addr, u16)| {
            format!("{} . {address} . {port}", protocol.as_str())
        };
        let own = |(protocol, port): &(Protocol, u16)| format!("{} . {port}", protocol.as_str());
        let net = |network: &Ipv4Net| network.to_string();
        let of_map =
            |((address, port), _): &(&(Ipv4Addr, u16), &u16)| format!("{address} . {port}");
        let whole = |entry: &(&(Ipv4Addr, u16), &u16)| {
            format!("{} : {server} . {}", of_map(entry), entry.1)
        };
        let less = |entry: &(&(Ipv4Addr, u16), &u16)| to.datagrams.get(entry.0) != Some(entry.1);
        let more = |entry: &(&(Ipv4Addr, u16), &u16)| self.datagrams.get(entry.0) != Some(entry.1);
        let gone: Vec<String> = self.datagrams.iter().filter(less).map(|e| of_map(&e)).collect();
        let new: Vec<String> = to.datagrams.iter().filter(more).map(|e| whole(&e)).collect();
        say("delete", "served", self.served.difference(&to.served).map(port).collect());
        say("delete", "datagrams", gone);
        say("add", "datagrams", new);
        say("add", "served", to.served.difference(&self.served).map(port).collect());
        say("delete", "sources", self.sources.difference(&to.sources).map(net).collect());
        say("add", "sources", to.sources.difference(&self.sources).map(net).collect());
        say("delete", "far", self.far.difference(&to.far).map(port).collect());
        say("add", "far", to.far.difference(&self.far).map(port).collect());
        say("delete", "near", self.near.difference(&to.near).map(own).collect());
        say("add", "near", to.near.difference(&self.near).map(own).collect());
        text
    }
}

/// How many elements are changed by one line.
const AT_ONCE: usize = 500;

/// What takes the rules of a range away.
#[must_use]
pub fn remove(range: Range) -> String {
    let table = range.token();
    format!("table ip {table}\ndelete table ip {table}\n")
}

#[cfg(test)]
mod tests;
