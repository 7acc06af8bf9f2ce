//! Reads: what event-log answers on `muster.v1.api.<verb>`. An answer names the place it is true for.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{AppKey, AppName, CommandId, NodeName, ReplicaId, Tenant, WorkloadName};
use crate::place::Place;

/// The largest page of an answer, in bytes.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;

/// `head`: where the log ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// The published head: the last place anyone may see.
    pub place: Place,
    /// The id of this history.
    pub genesis: String,
    /// The version of the fold.
    pub fold_version: u32,
    /// The hash of the state at `place`.
    pub state_hash: String,
    /// Impossible events that the fold met.
    pub anomalies: u64,
}

/// `log`: events by position, of one entity if wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogRequest {
    /// The first position. Default 1.
    pub from: u64,
    /// The most events. Default and bound: as many as fit a page.
    pub limit: Option<u64>,
    /// Only of this entity: `app/main/shop`, `replica/<id>`, `node/<name>`, `command/<id>`.
    pub entity: Option<String>,
    /// The newest `limit` events instead of the first ones; still in order within a page.
    pub newest: bool,
    /// The last position. Default: the published head.
    pub to: Option<u64>,
    /// Only what was recorded at or after this time.
    pub since_ms: Option<u64>,
    /// Only what was recorded at or before this time.
    pub until_ms: Option<u64>,
    /// Only what goes back to this command.
    pub correlation: Option<CommandId>,
    /// Only what this actor did.
    pub actor: Option<String>,
    /// Only events of these types.
    pub kinds: Vec<String>,
    /// Answer only when the log has got this far.
    pub at_least: Option<u64>,
}

/// `moment`: which place a position or a time means. Without either, the published head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MomentRequest {
    /// A position, inside a batch or not.
    pub position: Option<u64>,
    /// A time, in ms since 1970, as event-log recorded it.
    pub time_ms: Option<u64>,
}

/// The last end of a batch at or before what was asked for: a place that has a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// The place; [`Place::START`] when there is none that early.
    pub place: Place,
    /// When its entry was recorded; 0 at the start.
    pub recorded_ms: u64,
}

/// A page of events.
#[derive(Debug, Serialize, Deserialize)]
pub struct LogPage {
    /// The published head.
    pub place: Place,
    /// The events as they were published, byte for byte.
    pub events: Vec<Box<RawValue>>,
    /// Where the next page begins; none when this is the last, or `limit` was reached. A page that
    /// has a next may be empty: only so much is looked at for one answer. With `newest`, where the
    /// next page ends: the `to` of a request for what is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `state`: the declared and observed state, of one app if wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StateRequest {
    /// Only this tenant's. Default: every tenant's.
    pub tenant: Option<Tenant>,
    /// Only this app.
    pub app: Option<AppName>,
    /// Only replicas after this id: the `next` of the page before.
    pub after: Option<ReplicaId>,
    /// The state as it was at this position, or at the last end of a batch before it. Default: now.
    pub at: Option<u64>,
    /// Answer only when the log has got this far.
    pub at_least: Option<u64>,
}

/// A page of the state: all apps and nodes that match, and as many replicas as fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatePage {
    /// The place it is true for.
    pub place: Place,
    /// The apps.
    pub apps: Vec<AppView>,
    /// The nodes.
    pub nodes: Vec<NodeView>,
    /// The replicas.
    pub replicas: Vec<ReplicaView>,
    /// Where the next page begins; none when this is the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<ReplicaId>,
}

/// An app, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AppView {
    /// The app.
    pub app: AppKey,
    /// The revision that is declared.
    pub revision: u64,
    /// `converging`, `converged`, `stalled`, `deleting`.
    pub status: String,
    /// Why, when stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of the revision that the present declaration takes back, where it takes one back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBackView>,
    /// The revision that is gone back to if the present one fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub good: Option<u64>,
    /// The workloads by name.
    pub workloads: BTreeMap<WorkloadName, WorkloadView>,
}

/// A revision that failed and was taken back, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolledBackView {
    /// The revision.
    pub revision: u64,
    /// The workload that failed.
    pub workload: WorkloadName,
    /// Why.
    pub reason: String,
}

/// A workload's change from the last good spec to another, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutView {
    /// `rolling`, `recreate`, `canary`, `blue_green`.
    pub strategy: String,
    /// The image of the good spec.
    pub from: String,
    /// How many replicas of the good spec are ready.
    pub old_ready: u64,
    /// Whether it stays where it is.
    pub paused: bool,
    /// While it is held back: how much of the traffic the new spec gets, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_percent: Option<u32>,
    /// While it is held back: how many replicas of the new spec there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<u32>,
    /// While a canary is held back: its step, from 1, and how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<(u32, u32)>,
    /// While it is held back: how long it must go well there; none when it waits to be promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_ms: Option<u64>,
    /// Since when it is where it is, in ms since 1970.
    pub since_ms: u64,
}

/// A workload, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadView {
    /// The image reference.
    pub image: String,
    /// How many replicas are declared; none for a global workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared: Option<u32>,
    /// How many there are that are not to end.
    pub replicas: u64,
    /// How many of them are ready, and of the declared revision.
    pub ready: u64,
    /// How many completed, for a job.
    pub completed: u64,
    /// Of whose rollouts it is a job, and how far: `before web: done`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Why replicas fit nowhere, when they do not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unplaced: Vec<String>,
    /// The ways on which traffic leads to it: `8080/tcp`, `http://shop.example/api`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<String>,
    /// Its change from the last good spec, until that is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutView>,
}

/// A node, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// The node.
    pub node: NodeName,
    /// `ready`, `suspected`, `lost`.
    pub status: String,
    /// Whether it takes new replicas: `open`, `cordoned`, `draining`.
    pub admission: String,
    /// Its address.
    pub address: String,
    /// Cpu it has, and cpu its replicas reserve.
    pub cpu_millis: (u64, u64),
    /// Memory it has, and memory its replicas reserve.
    pub memory_bytes: (u64, u64),
    /// How many replicas it has.
    pub replicas: u64,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The engine's version.
    #[serde(default)]
    pub engine: String,
    /// The agent's version.
    #[serde(default)]
    pub agent: String,
    /// While it drains: the replicas that do not leave it, each with the reason, as `<replica>:
    /// <reason>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staying: Vec<String>,
}

/// A replica, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReplicaView {
    /// Its id.
    pub replica: ReplicaId,
    /// Its app.
    pub app: AppKey,
    /// Its workload.
    pub workload: WorkloadName,
    /// Its revision.
    pub revision: u64,
    /// `pending`, `placed`, `starting`, `running`, `ready`, `waiting`, `ending`, `unknown`.
    pub status: String,
    /// Its node, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The number of its last run.
    pub run: u32,
    /// What its image reference means; the reference itself while that is not known.
    #[serde(default)]
    pub image: String,
    /// The engine's id of its last container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Since when its status is what it is.
    pub since_ms: u64,
    /// When it was requested.
    #[serde(default)]
    pub requested_ms: u64,
    /// What was last wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Where its ports can be reached, as `address:port -> container port`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
}

/// `snapshot`: a part of the newest snapshot of the state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SnapshotRequest {
    /// The version of the fold that must have made it.
    pub fold_version: u32,
    /// The position of the snapshot that is being read; none for the newest.
    pub position: Option<u64>,
    /// The newest at or below this position, instead of the newest of all.
    pub at: Option<u64>,
    /// The first byte wanted.
    pub offset: u64,
}

/// A part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotPart {
    /// The place of the snapshot; [`Place::START`] when there is none.
    pub place: Place,
    /// The hash that the state must have once it is loaded.
    pub state_hash: String,
    /// How long the whole is, in bytes.
    pub bytes: u64,
    /// The part, as text: a snapshot is JSON.
    pub part: String,
}

impl SnapshotPart {
    /// There is no snapshot.
    #[must_use]
    pub fn none() -> Self {
        Self { place: Place::START, state_hash: String::new(), bytes: 0, part: String::new() }
    }
}
