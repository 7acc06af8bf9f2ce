//! What the agent asks of a container engine, and what it is told.
//!
//! Every operation is idempotent, or finds out what a crash left of it: its container's name follows
//! from the replica and the run. Each has a deadline; a failure carries the engine's own words.

pub mod docker;
pub mod simulated;

mod names;
mod spec;
mod usage;

pub use usage::Reading;

use std::collections::BTreeMap;
use std::pin::Pin;

use futures_util::Stream;
use schemas::document::{Assignment, SpecDocument};
use schemas::event::{Endpoint, Evidence};
use schemas::id::{AppKey, ReplicaId};
use schemas::report::Usage;
use schemas::spec::Check;

use crate::config::Config;

use self::names::Names;

/// One thing to do. At most one per replica is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Finds out what an image reference means, pulling it if it must be.
    Resolve {
        /// What it is for.
        replica: ReplicaId,
        /// The reference and when to pull.
        spec: SpecDocument,
    },
    /// Makes a run: image, network, container, files, start.
    Start {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// What it belongs to; carries the image.
        assignment: Assignment,
        /// How it must be.
        spec: SpecDocument,
        /// The cluster it is of, when that is known.
        cluster: Option<String>,
    },
    /// Looks at a run that ended, and keeps its last words. Its container goes later, as what no run
    /// accounts for, so that the next run need not wait for that.
    Examine {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// Whether its container goes at once: something may still be asked to start it.
        remove: bool,
    },
    /// Stops a run, by force when its grace is over.
    Stop {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// The signal, if not the image's.
        signal: Option<String>,
        /// How long it may take.
        grace_ms: u64,
        /// Whether its container goes as well.
        remove: bool,
        /// Its app, whose network goes with its last container.
        app: Option<AppKey>,
    },
    /// Tries whether a run is healthy.
    Probe {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// What to try.
        check: Check,
        /// Where its ports are.
        endpoints: Vec<Endpoint>,
        /// After which it has failed.
        timeout_ms: u64,
    },
    /// Removes a container of ours that should not be (any more).
    RemoveStray {
        /// Its name.
        container: String,
    },
    /// Removes an image that nothing needs.
    RemoveImage {
        /// Its reference.
        image: String,
        /// The engine's id of it.
        id: String,
    },
    /// Lists our containers.
    List {
        /// When it was asked for, by the forward-going clock.
        asked_ms: u64,
    },
}

impl Op {
    /// The replica it is about.
    #[must_use]
    pub fn replica(&self) -> Option<&ReplicaId> {
        match self {
            Self::Resolve { replica, .. }
            | Self::Start { replica, .. }
            | Self::Examine { replica, .. }
            | Self::Stop { replica, .. }
            | Self::Probe { replica, .. } => Some(replica),
            Self::RemoveStray { .. } | Self::RemoveImage { .. } | Self::List { .. } => None,
        }
    }
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// What the reference means.
    Resolved(String),
    /// The run is on.
    Started {
        /// The engine's id of its container.
        container: String,
        /// Where its ports can be reached.
        endpoints: Vec<Endpoint>,
        /// The container's own address, with its network's prefix.
        inside: Option<String>,
        /// Whether the image brings a health check of its own.
        image_checks: bool,
    },
    /// The run has ended.
    Examined(Evidence),
    /// It runs still: there was nothing to examine.
    StillRuns,
    /// The run is stopped.
    Stopped,
    /// The probe's outcome: what it said when it failed.
    Probed(Result<(), String>),
    /// The stray is gone.
    StrayRemoved,
    /// The image is gone.
    ImageRemoved {
        /// How large it was.
        freed_bytes: u64,
    },
    /// Something else has the image.
    ImageInUse,
    /// Our containers.
    Listed(BTreeMap<String, Listed>),
    /// It could not be done.
    Failed {
        /// What was being done: `resolve`, `pull`, `create`, `start`.
        step: String,
        /// What the engine said.
        error: String,
    },
}

/// A container of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The engine's id.
    pub id: String,
    /// Its replica.
    pub replica: ReplicaId,
    /// Its run.
    pub run: u32,
    /// The cluster it is of. One without may be anybody's: it was made before this was written down.
    pub cluster: Option<String>,
    /// Whether it runs.
    pub running: bool,
    /// What the image's own health check says, if there is one.
    pub health: Option<ImageHealth>,
    /// Where its ports can be reached.
    pub endpoints: Vec<Endpoint>,
    /// Its own address, with its network's prefix.
    pub inside: Option<String>,
}

/// What an image's own health check says of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageHealth {
    /// Nothing yet.
    Starting,
    /// It does its work.
    Healthy,
    /// It failed as often as the image allows; what the check said.
    Unhealthy(String),
}

/// The name of a run's container.
#[must_use]
pub fn container_name(replica: &ReplicaId, run: u32) -> String {
    format!("{replica}-{run}")
}

/// What the engine says of itself and its machine.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its version.
    pub version: String,
    /// The machine's architecture, as images name it.
    pub arch: String,
    /// The operating system, in words.
    pub os: String,
    /// How many cores.
    pub cores: u64,
    /// How much memory.
    pub memory_bytes: u64,
    /// Where it keeps its data.
    pub data_dir: String,
}

/// An engine: a real one, or one that only pretends.
#[derive(Clone, Debug)]
pub enum Engine {
    /// Docker's.
    Docker(docker::Engine),
    /// A pretended one.
    Simulated(simulated::Engine),
}

impl Engine {
    /// Connects to the engine that the settings name.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn connect(config: &Config) -> Result<Self, String> {
        let (node, address) = (config.node.clone(), config.address.clone());
        if let Some(arch) = config.simulated() {
            let arch = arch.to_owned();
            return simulated::Engine::open(&config.folder(), address, arch).map(Self::Simulated);
        }
        let node = docker::NodeSettings {
            name: node,
            address,
            allowed: config.allow_mount.clone(),
            names: Names::new(config.names, config.service_range),
        };
        docker::Engine::connect(&config.engine, node).await.map(Self::Docker)
    }

    /// What the engine says of itself.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub async fn info(&self) -> Result<Info, String> {
        match self {
            Self::Docker(engine) => engine.info().await,
            Self::Simulated(engine) => Ok(engine.info()),
        }
    }

    /// Carries out an operation.
    pub async fn run(&self, op: Op) -> Done {
        match self {
            Self::Docker(engine) => engine.run(op).await,
            Self::Simulated(engine) => engine.run(op),
        }
    }

    /// The images that were pulled since this was last asked: reference and id.
    #[must_use]
    pub fn take_pulled(&self) -> Vec<(String, String)> {
        match self {
            Self::Docker(engine) => engine.take_pulled(),
            Self::Simulated(_) => Vec::new(),
        }
    }

    /// Hints that something happened: the name of a container that died, or that one should look.
    #[must_use]
    pub fn events(&self) -> Pin<Box<dyn Stream<Item = Option<String>> + Send>> {
        match self {
            Self::Docker(engine) => Box::pin(engine.events()),
            Self::Simulated(engine) => Box::pin(engine.events()),
        }
    }

    /// What replicas used since `before`. Who pretends uses nothing.
    pub async fn usage(
        &self,
        containers: &BTreeMap<String, ReplicaId>,
        before: &mut BTreeMap<String, Reading>,
    ) -> Vec<Usage> {
        match self {
            Self::Docker(engine) => engine.usage(containers, before).await,
            Self::Simulated(_) => Vec::new(),
        }
    }
}
