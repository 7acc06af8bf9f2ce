//! What a user may declare: an app, its workloads, and everything about how one should run.
//!
//! Units are in the names: `_millis` of a cpu, `_bytes`, `_ms`. There are no floats. A field that is
//! left out has the default written beside it.

mod autoscale;
mod port;
mod task;
mod traffic;
mod update;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{AppName, Digest, VolumeName, WorkloadName};

pub use autoscale::Autoscale;
pub use port::{AppProtocol, Port, Protocol};
pub use task::{Task, When};
pub use traffic::{Balance, Open, Route, Tls};
pub use update::{Step, Strategy as UpdateStrategy, Update};

/// A set of workloads, deployed as one revision. A Compose file is one app.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// The name of the app within its tenant.
    pub name: AppName,
    /// The workloads by name. At least one.
    pub workloads: BTreeMap<WorkloadName, WorkloadSpec>,
}

/// One declared thing of an app: what a Compose file calls a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkloadSpec {
    /// The image reference, as `docker run` takes it.
    pub image: String,
    /// How copies are counted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// How many replicas there should be; for a job, how many must complete. Ignored when global, and
    /// when an autoscaled workload is declared again: that keeps the number it has.
    #[serde(default = "one")]
    pub replicas: u32,
    /// The entrypoint, if not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, if not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Labels for the container, beside Muster's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// User (and group) to run as: `1000`, `1000:1000`, `nobody`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The working directory, if not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What is reserved for each replica, and its limits.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// What is relaxed or tightened from the safe defaults.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security: Security,
    /// In-memory file systems by mount path, with their size limit in bytes (0: none).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, u64>,
    /// Volumes and host paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Files whose content was stored by `config.put`, by mount path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, ConfigFile>,
    /// Ports that the container listens on and that others should reach.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// How to tell that a replica is healthy. Without one the image's own health check says, and
    /// where it has none, running is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// When the agent starts another run after one ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub restart: Restart,
    /// The signal that asks a container to stop, if not the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long a container may take to stop before it is killed. Default 10,000.
    #[serde(default = "stop_grace_ms")]
    pub stop_grace_ms: u64,
    /// Workloads of the same app that must have got somewhere before this one starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub depends_on: BTreeMap<WorkloadName, Condition>,
    /// Where replicas may and should go.
    #[serde(default, skip_serializing_if = "is_default")]
    pub placement: Placement,
    /// How a changed revision replaces the old one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: Update,
    /// How many ready replicas drains, rollouts and rebalancing together must leave at any time.
    /// Default: what each of them by itself sees to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready: Option<u32>,
    /// How long what is under way on a replica may go on once nothing new is sent to it, before it is
    /// asked to stop. Default 10,000.
    #[serde(default = "drain_ms", skip_serializing_if = "is_drain_ms")]
    pub drain_ms: u64,
    /// Which requests, by host and path, lead here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Which of its ready replicas gets the next connection or request.
    #[serde(default, skip_serializing_if = "is_default")]
    pub balance: Balance,
    /// Which other apps reach it by its name. Default: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub open: Open,
    /// Makes a job a part of the rollouts of another workload. Default: it is one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// When to pull the image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull: Pull,
    /// How many replicas there should be as their use of cpu and memory changes. Default: as many as
    /// `replicas` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<Autoscale>,
    /// Whether a replica and the one that takes its place may run at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: Overlap,
    /// Of workloads that await room, which is placed first: the higher. Default 0.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn one() -> u32 {
    1
}

fn stop_grace_ms() -> u64 {
    10_000
}

fn drain_ms() -> u64 {
    10_000
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_drain_ms(ms: &u64) -> bool {
    *ms == drain_ms()
}

impl WorkloadSpec {
    /// The probe, unless it says that nothing is tried.
    #[must_use]
    pub fn tried(&self) -> Option<&Probe> {
        self.probe.as_ref().filter(|probe| probe.check != Check::None)
    }

    /// A workload of one image with every default.
    #[must_use]
    pub fn of_image(image: &str) -> Self {
        Self {
            image: image.to_owned(),
            mode: Mode::default(),
            replicas: one(),
            entrypoint: None,
            command: None,
            env: BTreeMap::new(),
            labels: BTreeMap::new(),
            user: None,
            working_dir: None,
            resources: Resources::default(),
            security: Security::default(),
            tmpfs: BTreeMap::new(),
            mounts: Vec::new(),
            configs: BTreeMap::new(),
            ports: Vec::new(),
            probe: None,
            restart: Restart::default(),
            stop_signal: None,
            stop_grace_ms: stop_grace_ms(),
            depends_on: BTreeMap::new(),
            placement: Placement::default(),
            update: Update::default(),
            min_ready: None,
            drain_ms: drain_ms(),
            routes: Vec::new(),
            balance: Balance::default(),
            open: Open::default(),
            task: None,
            pull: Pull::default(),
            autoscale: None,
            overlap: Overlap::default(),
            priority: 0,
        }
    }

    /// What identifies the containers of this workload: everything but how many there are, which
    /// come first, how they are replaced and which traffic they get. Two specs with one digest need
    /// no replacement of replicas.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let running = Self {
            replicas: 1,
            update: Update::default(),
            min_ready: None,
            drain_ms: drain_ms(),
            routes: Vec::new(),
            balance: Balance::default(),
            open: Open::default(),
            task: None,
            autoscale: None,
            overlap: Overlap::default(),
            priority: 0,
            ..self.clone()
        };
        Digest::of(&serde_json::to_vec(&running).expect("a spec has string keys only"))
    }
}

/// How the copies of a workload are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A number of replicas, kept running.
    #[default]
    Replicated,
    /// One replica on every node that fits, kept running. A cordon keeps other work away and not
    /// this; a drain ends it.
    Global,
    /// A number of replicas that run until they succeed.
    Job,
}

/// What a replica is given. What is reserved is what the scheduler counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Reserved cpu in thousandths of a core. Default: the limit, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_millis: Option<u64>,
    /// Reserved memory. Default: the limit, else 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The most cpu it may use. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_millis: Option<u64>,
    /// The most memory it may use before it is killed. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// The most processes it may have. Default 4,096.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// Reserved disk of the engine's data. Counted for placement, not enforced. Default 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

impl Resources {
    /// The limit on processes when none is given: far above what a service needs, far below what
    /// would hurt its neighbours.
    pub const PIDS_LIMIT: u64 = 4_096;

    /// Reserved cpu, as counted.
    #[must_use]
    pub fn reserved_cpu_millis(&self) -> u64 {
        self.cpu_millis.or(self.cpu_limit_millis).unwrap_or(0)
    }

    /// Reserved memory, as counted.
    #[must_use]
    pub fn reserved_memory_bytes(&self) -> u64 {
        self.memory_bytes.or(self.memory_limit_bytes).unwrap_or(0)
    }
}

/// Relaxations of, and additions to, the safe defaults: no new privileges, the default seccomp
/// profile, the engine's default capabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Capabilities added to the engine's default set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities dropped; `ALL` drops every one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// Mounts the root file system read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// Runs the engine's init as process 1.
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    /// Allows a process to gain privileges through set-user-id programs.
    #[serde(skip_serializing_if = "is_default")]
    pub allow_new_privileges: bool,
}

/// A volume or a host path inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// The absolute path in the container.
    pub target: String,
    /// Whether the container may only read it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub read_only: bool,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A named volume of the app, kept on the node when the replica ends.
    Volume(VolumeName),
    /// A path of the node, which the node's configuration must allow.
    Path(String),
}

/// A file whose content is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// SHA-256 of the content that `config.put` stored.
    pub digest: Digest,
    /// The file's mode in octal digits. Default `0444`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
}

/// How the agent tells whether a replica is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// What is tried.
    pub check: Check,
    /// From one try to the next. Default 10,000. What is not ready yet is tried twice a second, so
    /// that it is ready soon; of those tries one an interval counts.
    #[serde(default = "Probe::interval_ms")]
    pub interval_ms: u64,
    /// After which a try has failed. Default 5,000.
    #[serde(default = "Probe::timeout_ms")]
    pub timeout_ms: u64,
    /// How many tries in a row must fail before the replica is unhealthy. Default 3.
    #[serde(default = "Probe::retries")]
    pub retries: u32,
    /// How long after a start failed tries are not counted. Default 0.
    #[serde(default)]
    pub start_period_ms: u64,
}

impl Probe {
    /// A probe with every default.
    #[must_use]
    pub fn of_check(check: Check) -> Self {
        Self {
            check,
            interval_ms: Self::interval_ms(),
            timeout_ms: Self::timeout_ms(),
            retries: Self::retries(),
            start_period_ms: 0,
        }
    }

    fn interval_ms() -> u64 {
        10_000
    }
    fn timeout_ms() -> u64 {
        5_000
    }
    fn retries() -> u32 {
        3
    }
}

/// What a probe tries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// A GET that must be answered with a status from 200 to 399.
    Http {
        /// The container's port.
        port: u16,
        /// The path, beginning with `/`.
        path: String,
    },
    /// A connection that must be accepted.
    Tcp {
        /// The container's port.
        port: u16,
    },
    /// A program in the container that must exit with 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// Nothing: running is healthy, and the image's own health check is off.
    None,
}

/// When a run that ended is followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// After which ends. Default `always`.
    pub policy: RestartPolicy,
    /// How many runs may follow the first before the replica has failed. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The wait before the second run, which is most often worth no wait. Default 0.
    #[serde(skip_serializing_if = "is_default")]
    pub first_delay_ms: u64,
    /// The wait before the third run. It doubles with each run up to the longest. Default 500.
    pub delay_ms: u64,
    /// The longest wait. Default 60,000.
    pub delay_max_ms: u64,
    /// A run that lasted this long starts the waits anew. Default 60,000.
    pub reset_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::default(),
            attempts: None,
            first_delay_ms: 0,
            delay_ms: 500,
            delay_max_ms: 60_000,
            reset_ms: 60_000,
        }
    }
}

/// After which ends a run is followed by another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// After every end.
    #[default]
    Always,
    /// After an exit code other than 0.
    OnFailure,
    /// Never: the first end is the replica's end.
    No,
}

/// What a dependency must have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Every replica has started once.
    Started,
    /// Every replica is ready.
    Healthy,
    /// It is a job, and it has completed.
    Completed,
}

/// Where replicas may and should go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Placement {
    /// Each must hold for the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constraints: Vec<Constraint>,
    /// Which of the nodes that fit is chosen. Default `spread`.
    #[serde(skip_serializing_if = "is_default")]
    pub strategy: Strategy,
    /// A node label over whose values the replicas are spread first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spread_over: Option<String>,
    /// The most replicas of this workload on one node. Default: no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_node: Option<u32>,
}

/// Which of the nodes that fit is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one with the fewest replicas of the workload, then with the most room.
    #[default]
    Spread,
    /// The fullest that still has room.
    BinPack,
}

/// A condition on a node: an attribute that must (not) have a value.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Constraint {
    /// `node` for its name, `arch` for its architecture, `label.<key>` for one of its labels.
    pub attribute: String,
    /// Whether it must be the value, or must not be.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub equal: bool,
    /// The value.
    pub value: String,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_yes(value: &bool) -> bool {
    *value
}

impl std::fmt::Display for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let operator = if self.equal { "==" } else { "!=" };
        write!(f, "{} {operator} {}", self.attribute, self.value)
    }
}

/// Whether a replica and the one that takes its place may run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// They may: the new one is ready before the old one ends.
    #[default]
    Allow,
    /// Never, because they would share what only one may have. The new one begins when the old one
    /// is proven to have ended, or its node was removed by hand.
    Never,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pull {
    /// Unless the node has it.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never: a node that lacks it cannot run the workload.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_does_not_change_the_digest_and_an_image_does() {
        let one = WorkloadSpec::of_image("web:1");
        let two = WorkloadSpec { replicas: 5, ..one.clone() };
        let other = WorkloadSpec::of_image("web:2");
        assert_eq!(one.digest(), two.digest());
        assert_ne!(one.digest(), other.digest());
    }

    #[test]
    fn an_image_alone_is_a_whole_workload() {
        let spec: WorkloadSpec = serde_json::from_str(r#"{"image":"web:1"}"#).expect("it decodes");
        assert_eq!(spec, WorkloadSpec::of_image("web:1"));
    }
}
