//! Whether a replica fits a node, and if not, everything that keeps it from there.

use std::collections::BTreeMap;

use cluster::state::{App, Lacking, Load, Need, Node, NodeStatus, volumes_of};
use schemas::event::{PassedOver, Unfit};
use schemas::id::NodeName;
use schemas::spec::WorkloadSpec;

/// The most replicas on one node: as many as its document may name.
pub const REPLICAS_PER_NODE_MAX: u64 = 500;

/// A replica that looks for a node.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its app.
    pub app: &'a App,
    /// Its spec.
    pub spec: &'a WorkloadSpec,
    /// What it takes.
    pub need: &'a Need,
    /// The only node it may go to.
    pub only_node: Option<&'a NodeName>,
    /// Nodes that could not get its image.
    pub lacking: Option<&'a BTreeMap<NodeName, Lacking>>,
    /// The time, in ms since 1970.
    pub now_ms: u64,
}

impl Wanted<'_> {
    /// What keeps its image from a node, for as long as that counts.
    pub(crate) fn lacking(&self, node: &NodeName) -> Option<&Lacking> {
        let lacking = self.lacking?.get(node)?;
        (self.now_ms < lacking.at_ms + Lacking::PASSED_OVER_MS).then_some(lacking)
    }
}

/// A node as it would be after what was placed on it in this round.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a NodeName,
    /// What it is and has.
    pub node: &'a Node,
    /// How full it is.
    pub load: &'a Load,
    /// How many replicas of the same workload it has.
    pub of_workload: u64,
    /// How many of those leave it for one that is there already, or for the one that looks for a
    /// node: both count as one.
    pub replaced: u64,
}

/// One thing that keeps a replica from a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is for another node.
    OtherNode,
    /// The node is not heard.
    Silent,
    /// The node takes nothing new.
    Closed(&'static str),
    /// A constraint does not hold, as `label.disk == ssd`.
    Constraint(String),
    /// One of its volumes lives elsewhere.
    Volume(String, NodeName),
    /// A port that it must have is taken.
    HostPort(String),
    /// The node has as many of the workload as it may.
    MaxPerNode(u32),
    /// The node could not get the image: what it said.
    Image(String),
    /// The node has as many replicas as it may.
    Full,
    /// Too few processes are left: how many.
    Pids(u64),
    /// Too little disk is left: how much.
    Disk(u64),
    /// Too little cpu is left: how much.
    Cpu(u64),
    /// Too little memory is left: how much.
    Memory(u64),
}

/// Everything that keeps a replica from a node. Empty: it fits.
#[must_use]
pub fn obstacles(wanted: &Wanted<'_>, at: &Candidate<'_>) -> Vec<Obstacle> {
    if wanted.only_node.is_some_and(|only| only != at.name) {
        return vec![Obstacle::OtherNode];
    }
    let mut found = Vec::new();
    if at.node.status != NodeStatus::Ready {
        found.push(Obstacle::Silent);
    }
    if !at.node.admits(wanted.spec.mode) {
        found.push(Obstacle::Closed(at.node.admission.as_str()));
    }
    let placement = &wanted.spec.placement;
    for constraint in placement.constraints.iter().filter(|c| !at.node.meets(at.name, c)) {
        found.push(Obstacle::Constraint(constraint.to_string()));
    }
    for volume in volumes_of(wanted.spec) {
        if let Some(home) = wanted.app.volumes.get(volume).filter(|home| *home != at.name) {
            found.push(Obstacle::Volume(volume.to_string(), home.clone()));
        }
    }
    for (protocol, port) in &wanted.need.host_ports {
        if at.load.host_ports.contains(&(*protocol, *port)) {
            found.push(Obstacle::HostPort(format!("{port}/{}", protocol.as_str())));
        }
    }
    let of_workload = at.of_workload.saturating_sub(at.replaced);
    if let Some(max) = placement.max_per_node.filter(|max| of_workload >= u64::from(*max)) {
        found.push(Obstacle::MaxPerNode(max));
    }
    if let Some(lacking) = wanted.lacking(at.name) {
        found.push(Obstacle::Image(lacking.error.clone()));
    }
    if at.load.replicas >= REPLICAS_PER_NODE_MAX {
        found.push(Obstacle::Full);
    }
    found.extend(shortages(wanted.need, at));
    found
}

/// What the node has too little of. What it does not know of itself is not asked for.
fn shortages(need: &Need, at: &Candidate<'_>) -> impl Iterator<Item = Obstacle> {
    let (has, load) = (&at.node.description, at.load);
    let short = |needed: u64, has: u64, taken: u64, obstacle: fn(u64) -> Obstacle| {
        let free = has.saturating_sub(taken);
        (needed > free).then(|| obstacle(free))
    };
    let disk = (has.disk_bytes > 0)
        .then(|| short(need.disk_bytes, has.disk_bytes, load.disk_bytes, Obstacle::Disk));
    let pids = (has.pids > 0).then(|| short(need.pids, has.pids, load.pids, Obstacle::Pids));
    [
        short(need.cpu_millis, has.cpu_millis, load.cpu_millis, Obstacle::Cpu),
        short(need.memory_bytes, has.memory_bytes, load.memory_bytes, Obstacle::Memory),
        disk.flatten(),
        pids.flatten(),
    ]
    .into_iter()
    .flatten()
}

/// What keeps a replica from every node, told once a reason, with what would make it fit.
#[must_use]
pub fn explain(wanted: &Wanted<'_>, per_node: &[Vec<Obstacle>]) -> Vec<Unfit> {
    if per_node.is_empty() {
        return vec![Unfit {
            reason: "nodes: there is none".to_owned(),
            nodes: 0,
            remedy: "start a node-agent on a machine with an engine".to_owned(),
        }];
    }
    counted(per_node)
        .map(|(nodes, obstacle)| {
            let (reason, remedy) = told(wanted, obstacle);
            Unfit { reason, nodes, remedy }
        })
        .collect()
}

/// What keeps a replica from the nodes it does not fit, told once a reason.
#[must_use]
pub fn passed_over(wanted: &Wanted<'_>, per_node: &[Vec<Obstacle>]) -> Vec<PassedOver> {
    let reasons = counted(per_node);
    reasons.map(|(nodes, found)| PassedOver { reason: told(wanted, found).0, nodes }).collect()
}

/// Each kind of obstacle, and on how many nodes it is.
fn counted(per_node: &[Vec<Obstacle>]) -> impl Iterator<Item = (u64, &Obstacle)> {
    let mut reasons: BTreeMap<String, (u64, &Obstacle)> = BTreeMap::new();
    for obstacle in per_node.iter().flatten() {
        let entry = reasons.entry(kind(obstacle)).or_insert((0, obstacle));
        entry.0 += 1;
        // Of several nodes that have too little, the one with most is nearest to having enough.
        entry.1 = entry.1.max(obstacle);
    }
    reasons.into_values()
}

fn kind(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Cpu(_) => "cpu".to_owned(),
        Obstacle::Memory(_) => "memory".to_owned(),
        Obstacle::Disk(_) => "disk".to_owned(),
        Obstacle::Pids(_) => "pids".to_owned(),
        other => format!("{other:?}"),
    }
}

fn told(wanted: &Wanted<'_>, obstacle: &Obstacle) -> (String, String) {
    let need = wanted.need;
    match obstacle {
        Obstacle::OtherNode => {
            let node = wanted.only_node.map_or("another node", NodeName::as_str);
            (format!("node: it is for {node}"), format!("free {node}"))
        }
        Obstacle::Silent => {
            ("silence: the node is not heard".to_owned(), "bring the node back".to_owned())
        }
        Obstacle::Closed(how) => {
            (format!("admission: the node is {how}"), "muster uncordon the node".to_owned())
        }
        Obstacle::Constraint(text) => (
            format!("constraint: {text}"),
            "give a node what the constraint asks for, or change the constraint".to_owned(),
        ),
        Obstacle::Volume(volume, home) => {
            (format!("volume: {volume} lives on {home}"), format!("make {home} take replicas"))
        }
        Obstacle::HostPort(port) => (
            format!("host port: {port} is taken"),
            "add a node, or let the engine choose the port".to_owned(),
        ),
        Obstacle::MaxPerNode(max) => (
            format!("max per node: the node has {max} of the workload"),
            "add a node, or raise max_per_node".to_owned(),
        ),
        Obstacle::Full => {
            (format!("replicas: the node has {REPLICAS_PER_NODE_MAX}"), "add a node".to_owned())
        }
        Obstacle::Image(error) => (
            format!("image: {} is not to be had there: {error}", wanted.spec.image),
            "load the image there or mend the registry, then deploy again".to_owned(),
        ),
        Obstacle::Cpu(free) => too_little("cpu", "millis", need.cpu_millis, *free),
        Obstacle::Memory(free) => too_little("memory", "bytes", need.memory_bytes, *free),
        Obstacle::Disk(free) => too_little("disk", "bytes", need.disk_bytes, *free),
        Obstacle::Pids(free) => too_little("pids", "processes", need.pids, *free),
    }
}

fn too_little(what: &str, unit: &str, needed: u64, free: u64) -> (String, String) {
    let short = needed.saturating_sub(free);
    (
        format!("{what}: {needed} {unit} needed, at most {free} free"),
        format!("free {short} {unit} on one node, or add a node"),
    )
}
