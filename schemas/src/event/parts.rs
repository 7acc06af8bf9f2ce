//! What events are made of: things that several of them say, or that are too large for a line.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use crate::spec::Protocol;

use super::RunFailed;

/// The most entries in one event; a larger decision is split.
pub const ENTRIES_MAX: usize = 500;

/// A replica that must exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct RequestedReplica {
    /// Its id.
    pub id: ReplicaId,
    /// The replica it replaces, which ends when this one is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<ReplicaId>,
    /// The node it is for, when its workload is global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
}

/// Why a replica must end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetireReason {
    /// There are more than declared.
    ScaledDown,
    /// A replica of the new revision or generation has taken its place.
    Replaced,
    /// Its workload or app is not declared any more.
    Deleted,
    /// Its node is being drained.
    Drained,
    /// Its node was lost, and another has taken its place.
    NodeLost,
    /// It came back before its replacement was ready, which is not needed any more.
    NotNeeded,
    /// It ended by itself and another has taken its place, or it was the node's document that ended it.
    Failed,
    /// Its node cannot get its image, and another has taken its place.
    NoImage,
    /// Another on a better node has taken its place.
    Rebalanced,
}

/// A move of a replica, which is another one's coming and its own end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Move {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub from: NodeName,
    /// Where the other one goes.
    pub to: NodeName,
    /// What is gained, in words: `of the workload on n1 and n3: 3 and 0, then 2 and 1`.
    pub gain: String,
    /// Whether nothing of that image runs there yet, so that it may have to be pulled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pulls: bool,
    /// The position of the event that says what was measured, when that is why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured_at: Option<u64>,
}

/// A workload of an app.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Called {
    /// The app.
    pub app: AppKey,
    /// The workload.
    pub workload: WorkloadName,
}

/// A workload that calls another one by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Caller {
    /// Its app.
    pub app: AppKey,
    /// The workload.
    pub workload: WorkloadName,
    /// Its requests (connections, where it is not HTTP) a second, in thousandths.
    pub rate_milli: u64,
}

/// How far it is from one node to another, or within one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Way {
    /// The node whose gateway connected.
    pub from: NodeName,
    /// The node that it connected to.
    pub to: NodeName,
    /// How long connections took to be made, at the median, in microseconds.
    pub connect_us: u64,
    /// How many that is the median of.
    pub connects: u64,
}

/// What gateways measured of a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Measured {
    /// Requests to replicas of the new spec.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Requests to the others.
    pub old_requests: u64,
    /// Those of them that failed.
    pub old_failed: u64,
}

/// A job of a rollout that failed, and let the revision be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TaskFailed {
    /// The job.
    pub workload: WorkloadName,
    /// Why.
    pub reason: String,
}

/// How a replica ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was asked to.
    Stopped,
    /// Its last run exited with 0, and its restart policy asks for no other.
    Completed,
    /// Its restart policy gave up.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A reason why a node was passed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct PassedOver {
    /// What fails, in words: `cpu: 500 millis needed, at most 200 free`.
    pub reason: String,
    /// On how many nodes.
    pub nodes: u64,
}

/// A reason why replicas fit nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Unfit {
    /// What fails, in words: `cpu: 500 millis needed, at most 200 free`.
    pub reason: String,
    /// On how many nodes.
    pub nodes: u64,
    /// What would make it fit.
    pub remedy: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(super) fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// What a node is and has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct NodeDescription {
    /// The address at which others reach published ports of this node.
    pub address: String,
    /// The architecture, as images name it: `amd64`, `arm64`.
    pub arch: String,
    /// The operating system, in words.
    pub os: String,
    /// The engine's version.
    pub engine: String,
    /// The agent's version.
    pub agent: String,
    /// Cpu that replicas may be given.
    pub cpu_millis: u64,
    /// Memory that replicas may be given.
    pub memory_bytes: u64,
    /// Disk that the engine's data is on; 0 when that is not known.
    pub disk_bytes: u64,
    /// Processes that replicas may be given; 0 when that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub pids: u64,
    /// Labels that the node's configuration gives it.
    pub labels: BTreeMap<String, String>,
}

/// Where a port of a run can be reached.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Endpoint {
    /// The container's port.
    pub container: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The node's address.
    pub address: String,
    /// The node's port.
    pub port: u16,
}

/// What was found when a run had ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The exit code, when the engine knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for lack of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why it ended, in words: `exited with 1`, `unhealthy`, `removed by hand`.
    pub cause: String,
    /// Its last lines of output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}

impl RunFailed {
    /// What an agent was doing when a run failed for want of its image.
    pub const FOR_WANT_OF_AN_IMAGE: [&'static str; 3] = ["resolve", "pull", "find the image"];

    /// Whether the node could not get the image.
    #[must_use]
    pub fn lacks_image(&self) -> bool {
        Self::FOR_WANT_OF_AN_IMAGE.contains(&self.step.as_str())
    }
}
