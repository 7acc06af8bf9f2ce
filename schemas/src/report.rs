//! Observations that are not of record: newest per subject, in memory, never replayed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AppKey, Digest, NodeName, ReplicaId, WorkloadName, Writer};
use crate::place::Place;
use crate::tls::Phase;

/// How often an agent says that it is there, in ms.
pub const HEARTBEAT_MS: u64 = 1_000;

/// How often a leader says that it is there, in ms.
pub const BEAT_MS: u64 = 250;

/// After how many missed beats another instance claims the leadership.
pub const BEATS_MISSED: u64 = 3;

/// An agent is there, and this is the document it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Heartbeat {
    /// The node.
    pub node: NodeName,
    /// The agent's instance.
    pub instance: String,
    /// The agent's leadership of its node.
    pub term: u64,
    /// When it was sent, by the node's clock.
    pub time_ms: u64,
    /// The place of the document it holds.
    pub place: Place,
    /// The digest of that document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<Digest>,
    /// Facts that wait in its spool.
    pub spooled: u64,
    /// Free bytes on the disk of the engine's data.
    pub disk_free_bytes: u64,
}

/// A deciding service's leader is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Beat {
    /// The service.
    pub writer: Writer,
    /// Its leadership.
    pub term: u64,
    /// The instance that leads.
    pub instance: String,
    /// The place it has folded.
    pub place: Place,
    /// The newest mark of its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// How often an instance that stands by says what its state is, in ms.
pub const STANDBY_MS: u64 = 1_000;

/// An instance that stands by, and what its state is: whoever takes over must have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StandbyReport {
    /// The service.
    pub writer: Writer,
    /// The instance that stands by.
    pub instance: String,
    /// The newest mark of its state.
    pub mark: Mark,
}

/// How far apart marks are: one is taken at the first end of a batch at or behind each multiple.
pub const MARK_EVERY: u64 = 1_000;

/// The hash of a state at a place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mark {
    /// The place.
    pub place: Place,
    /// The version of the fold that made the state; only equal versions compare.
    pub fold_version: u32,
    /// The state's hash.
    pub state_hash: String,
}

/// What the replicas of a node use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UsageReport {
    /// The node.
    pub node: NodeName,
    /// When it was sampled, by the node's clock.
    pub time_ms: u64,
    /// One entry a replica.
    pub replicas: Vec<Usage>,
}

/// What one replica uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// The replica.
    pub replica: ReplicaId,
    /// Cpu since the last sample, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory without the page cache.
    pub memory_bytes: u64,
}

/// How often a gateway says that it is there, in ms. It says at once that it let go of replicas.
pub const GATEWAY_MS: u64 = 500;

/// A gateway is there, and this is what it goes by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayReport {
    /// The node.
    pub node: NodeName,
    /// The gateway's instance.
    pub instance: String,
    /// Whether other instances of this node's gateway are there as well.
    #[serde(default)]
    pub standing: Standing,
    /// The place of the table it serves by: what left before it gets nothing new.
    pub place: Place,
    /// What is still under way on replicas that are leaving, or not in the table any more. What is
    /// not here has nothing.
    pub open: Vec<OpenOn>,
    /// The newest mark of its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// How the orders of certificates stand that are this node's, or were last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordered: Vec<Ordered>,
}

/// How the order of a host's certificate stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ordered {
    /// The host.
    pub host: String,
    /// How it stands.
    pub phase: Phase,
    /// Since when, by the gateway's clock, in ms since 1970 UTC.
    pub since_ms: u64,
    /// How often in a row it failed.
    #[serde(default)]
    pub failures: u32,
    /// Why it failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Not tried again before this, in ms since 1970 UTC.
    #[serde(default)]
    pub next_ms: u64,
    /// From when until when the newest certificate is valid, in ms since 1970 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_ms: Option<(u64, u64)>,
}

/// How an instance of a gateway stands to others of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It serves. Those that said the same before are over.
    #[default]
    Serves,
    /// Another one takes over, or has done so: what either says holds beside what the other says.
    Beside,
    /// It has ended, and nothing is under way through it.
    Ended,
}

/// What is under way on a replica through one gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpenOn {
    /// The replica.
    pub replica: ReplicaId,
    /// Connections (or, where the gateway knows requests, requests) that have not ended.
    pub open: u64,
}

/// How often a gateway tells of its traffic, in ms.
pub const TRAFFIC_MS: u64 = 1_000;

/// What went through a gateway to replicas. Counts never fall while the instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficReport {
    /// The node.
    pub node: NodeName,
    /// The gateway's instance.
    pub instance: String,
    /// When it was sent, by the node's clock.
    pub time_ms: u64,
    /// One entry a replica that the gateway ever sent something to and that the table still has.
    pub replicas: Vec<Traffic>,
    /// What replicas of this node asked of workloads by their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Calls>,
    /// How far it is to nodes that were connected to of late.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<WayTo>,
}

/// What replicas of one workload on a node asked of another workload by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Calls {
    /// The app of those who asked.
    pub from_app: AppKey,
    /// Their workload.
    pub from: WorkloadName,
    /// The app of the workload that was asked.
    pub to_app: AppKey,
    /// The workload that was asked.
    pub to: WorkloadName,
    /// Requests (connections, where it is not HTTP) since the instance began.
    pub requests: u64,
}

/// How far it is from a gateway's node to another one, or within its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WayTo {
    /// The node.
    pub to: NodeName,
    /// How many connections to replicas there were made in the last two minutes, as far as they are kept.
    pub connects: u64,
    /// How long they took to be made, at the median, in microseconds.
    pub connect_us: u64,
}

/// What went through a gateway to one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// The replica.
    pub replica: ReplicaId,
    /// Requests (connections, where it is not HTTP) since the instance began.
    pub requests: u64,
    /// Those that failed: not reached, broken off, or answered with 500 to 599.
    pub failed: u64,
    /// Those under way.
    pub in_flight: u64,
    /// Answers a second over the last 10 s, in thousandths.
    #[serde(default)]
    pub rate_milli: u64,
    /// How long answers of the last 10 s took, at the median, in microseconds.
    pub p50_us: u64,
    /// The same for 95 of 100.
    pub p95_us: u64,
    /// The same for 99 of 100.
    pub p99_us: u64,
}
