//! What the cluster's state is made of.
//!
//! Declared and observed are separate fields. A replica's node never changes once it has one.

mod calls;
mod certificate;
mod conduct;
mod index;
mod node;
mod numbers;
mod rebalance;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};

use schemas::command::Problem;
use schemas::event::{Endpoint, IntakeClosed, RetireReason, Unfit};
use schemas::id::{
    AppKey, CommandId, Digest, NodeName, ReplicaId, VolumeName, WorkloadName, Writer,
};
use schemas::spec::{Autoscale, MountSource, Protocol, WorkloadSpec};
use serde::{Deserialize, Serialize};

use crate::section::{Section, hash_of};

pub use calls::Calls;
pub use certificate::{CERTIFICATES_MAX, Certificate};
pub use conduct::Conduct;
pub use index::{Index, Load};
pub use node::{Admission, Node, NodeStatus};
pub use numbers::Numbers;
pub use rebalance::{Moving, Rebalance, Rebalancing};
pub use rollout::{Good, Held, RolledBack, Rollout, Symptom};

/// How many receipts the state holds; older ones are in the log only.
pub const RECEIPTS_MAX: usize = 10_000;

/// How many anomalies the state describes; all are counted.
pub const ANOMALIES_MAX: usize = 100;

/// Everything that the events of a history say, at one place of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Who leads what.
    pub leaders: Section<Writer, Leader>,
    /// The nodes.
    pub nodes: Section<NodeName, Node>,
    /// The apps.
    pub apps: Section<AppKey, App>,
    /// The replicas that have not ended.
    pub replicas: Section<ReplicaId, Replica>,
    /// What was answered to commands, newest [`RECEIPTS_MAX`].
    pub receipts: Section<CommandId, Receipt>,
    /// Stored files: their content in base64.
    pub configs: Section<Digest, String>,
    /// How certificates stand that gateways order, newest [`CERTIFICATES_MAX`].
    pub certificates: Section<String, Certificate>,
    /// What there is one of.
    pub cluster: Cluster,

    /// What follows from the rest and is not saved: who is where, and how full nodes are.
    #[serde(skip)]
    pub index: Index,
    /// What changed since somebody last asked.
    #[serde(skip)]
    pub touched: Touched,
}

/// What there is one of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cluster {
    /// The id of this history.
    pub genesis: String,
    /// The highest sequence of the commands stream that has a receipt.
    pub commands_read: u64,
    /// Whether so many nodes are silent that none is declared lost.
    pub eviction_paused: bool,
    /// The disk for lack of which commands that ask for more are refused.
    #[serde(default)]
    pub intake_closed: Option<IntakeClosed>,
    /// What is moved to better nodes, and whether that begins by itself.
    #[serde(default)]
    pub rebalance: Rebalance,
    /// How many impossible events were met.
    pub anomalies: u64,
    /// The first of them.
    pub anomalous: Vec<Anomaly>,
}

/// An event that its writer could not have written on what it had folded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Anomaly {
    /// Where it stands.
    pub position: u64,
    /// What is impossible about it.
    pub what: String,
}

/// A leadership of a service or of a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Leader {
    /// Its number.
    pub term: u64,
    /// The instance that has it.
    pub instance: String,
    /// Whether it was given up cleanly.
    pub released: bool,
    /// When it began.
    #[serde(default)]
    pub since_ms: u64,
}

/// Where something came from, to be carried on into what follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The command at its root.
    pub correlation: Option<CommandId>,
    /// The event that came right before.
    pub position: u64,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct App {
    /// The number of its newest declaration.
    pub revision: u64,
    /// How far it got.
    pub status: AppStatus,
    /// Its workloads, those included that are not declared any more and still have replicas.
    pub workloads: BTreeMap<WorkloadName, Workload>,
    /// The specs that its workloads or replicas have.
    pub specs: BTreeMap<Digest, WorkloadSpec>,
    /// What the image references of those specs mean.
    pub images: BTreeMap<Digest, String>,
    /// The nodes its volumes live on: those of the first replica that had them.
    pub volumes: BTreeMap<VolumeName, NodeName>,
    /// The newest revision that converged; 0 before any did.
    #[serde(default)]
    pub proven: u64,
    /// What was declared before, and can be gone back to until the present revision is proven.
    #[serde(default)]
    pub good: Option<Good>,
    /// The revision that failed, when the present declaration takes it back.
    #[serde(default)]
    pub rolled_back: Option<RolledBack>,
    /// The position of its last command; `expect_position` compares with it.
    pub changed_at: u64,
    /// When its status last began to be what it is.
    pub since_ms: u64,
    /// What its present declaration or deletion came from.
    pub cause: Cause,
}

/// How far an app got.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppStatus {
    /// On its way to what is declared.
    Converging,
    /// As declared.
    Converged,
    /// Not getting there.
    Stalled {
        /// The workload that holds it up.
        workload: WorkloadName,
        /// Why.
        reason: String,
    },
    /// On its way to nothing.
    Deleting,
}

impl AppStatus {
    /// As users read it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Converging => "converging",
            Self::Converged => "converged",
            Self::Stalled { .. } => "stalled",
            Self::Deleting => "deleting",
        }
    }
}

/// A workload of an app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Whether the newest revision declares it.
    pub declared: bool,
    /// Its spec.
    pub spec: Digest,
    /// The revision that last changed its spec.
    pub revision: u64,
    /// How many replicas are declared.
    pub replicas: u32,
    /// Between which bounds that number follows from use, and from how much. Kept beside the spec:
    /// two workloads that differ in nothing else have one spec.
    pub autoscale: Option<Autoscale>,
    /// How it is replaced and served, beside the spec for the same reason.
    #[serde(default)]
    pub conduct: Conduct,
    /// Its change from the last good spec to the present one, until that is proven.
    #[serde(default)]
    pub rollout: Option<Rollout>,
    /// What was last wrong with a replica of a changed spec.
    #[serde(default)]
    pub symptom: Option<Symptom>,
    /// Its number among all workloads, for as long as it is there: its address inside is so far into a
    /// gateway's range. None when there are more workloads than numbers.
    #[serde(default)]
    pub number: Option<u16>,
    /// Who calls it, as was last stated; none when nothing was.
    #[serde(default)]
    pub calls: Option<Calls>,
    /// How often it was restarted.
    pub generation: u64,
    /// How many replicas were ever requested; the next one's id follows from it.
    pub requested: u64,
    /// How many replicas of this spec and generation completed.
    pub completed: u64,
    /// How many replicas in a row failed without one having been ready.
    pub failures: u32,
    /// When the last of them failed.
    pub failed_ms: u64,
    /// Why.
    pub failure: String,
    /// Whether a replica of this spec and generation was ever ready.
    pub was_ready: bool,
    /// Whether it is a job of a rollout and has yet to run for it.
    #[serde(default)]
    pub due: bool,
    /// Why replicas fit nowhere.
    pub unplaced: Vec<Unfit>,
    /// Nodes that could not get the image of its spec.
    pub lacking: BTreeMap<NodeName, Lacking>,
    /// What its present declaration, count or generation came from.
    pub cause: Cause,
}

/// A node could not get an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lacking {
    /// What it said.
    pub error: String,
    /// When it last said so.
    pub at_ms: u64,
}

impl Lacking {
    /// How long a node is passed over for it: what it lacks now, it may get later.
    pub const PASSED_OVER_MS: u64 = 60_000;
}

/// A replica that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Its app.
    pub app: AppKey,
    /// Its workload.
    pub workload: WorkloadName,
    /// Its revision.
    pub revision: u64,
    /// Its generation.
    pub generation: u64,
    /// Its spec.
    pub spec: Digest,
    /// The replica it replaces.
    pub replaces: Option<ReplicaId>,
    /// The only node it may go to.
    pub only_node: Option<NodeName>,
    /// Its node, for good.
    pub node: Option<NodeName>,
    /// What was last observed of it.
    pub phase: Phase,
    /// Since when it is as it is: its phase, whether it must end, whether its node is lost.
    pub since_ms: u64,
    /// The number of its last run.
    pub run: u32,
    /// The engine's id of the container of its last run.
    pub container: Option<String>,
    /// Why it must end, if it must.
    pub retired: Option<RetireReason>,
    /// Whether it first finishes what is under way, and goes on running until then.
    #[serde(default)]
    pub leaving: bool,
    /// Where its ports can be reached.
    pub endpoints: Vec<Endpoint>,
    /// The own address of its last run's container, with its network's prefix.
    #[serde(default)]
    pub inside: Option<String>,
    /// Its number among all workloads and replicas: its own address inside. None when so many are taken.
    pub number: Option<u16>,
    /// What was last wrong with it.
    pub trouble: Option<String>,
    /// When it was requested.
    pub requested_ms: u64,
    /// Since when it is ready.
    pub ready_ms: Option<u64>,
    /// What it reserves.
    pub need: Need,
    /// What it came from, then what placed it, then what ended it.
    pub cause: Cause,
}

/// What was last observed of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It awaits a node.
    Pending,
    /// It has a node; no run has begun.
    Placed,
    /// A run is on, and not (or no longer) healthy.
    Running,
    /// A run is on and healthy.
    Ready,
    /// A run ended or could not start; the next one comes.
    Waiting,
}

/// What a replica takes of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Need {
    /// Cpu.
    pub cpu_millis: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Disk of the engine's data.
    pub disk_bytes: u64,
    /// Processes, when the spec bounds them.
    pub pids: u64,
    /// Ports of the node.
    pub host_ports: Vec<(Protocol, u16)>,
}

/// The volumes that a replica of a spec has.
pub fn volumes_of(spec: &WorkloadSpec) -> impl Iterator<Item = &VolumeName> {
    spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name),
        MountSource::Path(_) => None,
    })
}

/// Whether a replica cannot go to another node: there it would be without its data, or it is for its
/// own node only. `spec` is what its workload declares now.
#[must_use]
pub fn is_bound(spec: &WorkloadSpec, replica: &Replica) -> bool {
    volumes_of(spec).next().is_some() || replica.only_node.is_some()
}

impl Need {
    /// What a replica of a spec takes.
    #[must_use]
    pub fn of(spec: &WorkloadSpec) -> Self {
        Self {
            cpu_millis: spec.resources.reserved_cpu_millis(),
            memory_bytes: spec.resources.reserved_memory_bytes(),
            disk_bytes: spec.resources.disk_bytes.unwrap_or(0),
            pids: spec.resources.pids_limit.unwrap_or(0),
            host_ports: spec
                .ports
                .iter()
                .filter_map(|port| Some((port.protocol, port.host?)))
                .collect(),
        }
    }
}

/// What was answered to a command.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// Where the answer stands.
    pub position: u64,
    /// The command's sequence in the commands stream.
    pub sequence: u64,
    /// What was wrong with it; none when it was accepted.
    pub problem: Option<Problem>,
}

/// What changed since somebody last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Apps whose declaration or replicas changed.
    pub apps: BTreeSet<AppKey>,
    /// Nodes whose document may have changed.
    pub nodes: BTreeSet<NodeName>,
    /// Whether something may fit that did not before.
    pub room: bool,
}

impl State {
    /// The hash of everything that is saved, as 32 hex digits.
    #[must_use]
    pub fn hash(&self) -> String {
        let sections = [
            self.leaders.hash(),
            self.nodes.hash(),
            self.apps.hash(),
            self.replicas.hash(),
            self.receipts.hash(),
            self.configs.hash(),
            self.certificates.hash(),
            hash_of(&self.cluster),
        ];
        format!("{:032x}", hash_of(&sections))
    }

    /// Counts what has changed into the hash. Asking for it gives the same without, and takes longer.
    pub(crate) fn settle(&mut self) {
        self.leaders.settle();
        self.nodes.settle();
        self.apps.settle();
        self.replicas.settle();
        self.receipts.settle();
        self.configs.settle();
        self.certificates.settle();
    }

    /// How many impossible events were met. Always 0, or there is a bug in a writer.
    #[must_use]
    pub fn anomalies(&self) -> u64 {
        self.cluster.anomalies
    }

    /// The current leadership of a writer: 0 when there never was one.
    #[must_use]
    pub fn term(&self, writer: &Writer) -> u64 {
        self.leaders.get(writer).map_or(0, |leader| leader.term)
    }

    /// The replicas of a workload, in order of their ids.
    pub fn replicas_of<'a>(
        &'a self,
        app: &AppKey,
        workload: &WorkloadName,
    ) -> impl Iterator<Item = (&'a ReplicaId, &'a Replica)> + use<'a> {
        let ids = self.index.by_workload.get(&(app.clone(), workload.clone()));
        ids.into_iter().flatten().filter_map(|id| Some((id, self.replicas.get(id)?)))
    }

    /// The replicas on a node, in order of their ids.
    pub fn replicas_on<'a>(
        &'a self,
        node: &NodeName,
    ) -> impl Iterator<Item = (&'a ReplicaId, &'a Replica)> + use<'a> {
        let ids = self.index.by_node.get(node);
        ids.into_iter().flatten().filter_map(|id| Some((id, self.replicas.get(id)?)))
    }

    /// The spec of a replica.
    #[must_use]
    pub fn spec_of(&self, replica: &Replica) -> Option<&WorkloadSpec> {
        self.apps.get(&replica.app)?.specs.get(&replica.spec)
    }

    /// Whether nobody knows how a replica is, because its node is lost.
    #[must_use]
    pub fn is_unknown(&self, replica: &Replica) -> bool {
        let node = replica.node.as_ref().and_then(|node| self.nodes.get(node));
        node.is_some_and(|node| node.status == NodeStatus::Lost)
    }

    /// Puts the index beside a state that was read back, and touches everything.
    pub(crate) fn rebuild_index(&mut self) {
        let mut index = Index::default();
        for (name, _) in self.nodes.iter() {
            index.loads.insert(name.clone(), Load::default());
        }
        for (id, replica) in self.replicas.iter() {
            index.add(id, replica);
            replica.number.into_iter().for_each(|number| index.numbers.keep(number));
        }
        for (_, app) in self.apps.iter() {
            for number in app.workloads.values().filter_map(|workload| workload.number) {
                index.numbers.keep(number);
            }
        }
        for (id, receipt) in self.receipts.iter() {
            index.receipts.insert(receipt.position, id.clone());
        }
        self.index = index;
        self.touch_everything();
    }

    /// Makes everything count as changed, for one who begins to decide.
    pub fn touch_everything(&mut self) {
        self.touched.apps = self.apps.iter().map(|(key, _)| key.clone()).collect();
        self.touched.nodes = self.nodes.iter().map(|(name, _)| name.clone()).collect();
        self.touched.room = true;
    }
}
