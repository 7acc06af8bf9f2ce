//! The settings of the node-agent.

use std::collections::BTreeMap;
use std::path::PathBuf;

use runtime::Settings;
use runtime::inside::Range;
use schemas::id::NodeName;

/// The engine that only pretends.
const SIMULATED: &str = "simulated";

/// The node-agent: makes its node match its document, and states what happened.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-node-agent", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
    /// The node's name in the cluster. It stays this node's for good.
    #[arg(long, env = "MUSTER_NODE")]
    pub node: NodeName,
    /// The address at which others reach ports of this node.
    #[arg(long, env = "MUSTER_ADDRESS", default_value = "127.0.0.1")]
    pub address: String,
    /// The engine: a socket's path, unix:///path or tcp://host:port; or `simulated`, which starts
    /// nothing and says it did (`simulated:arm64` for another architecture).
    #[arg(long = "docker-host", alias = "engine", env = "MUSTER_DOCKER_HOST", value_parser = engine)]
    #[arg(default_value = "unix:///var/run/docker.sock")]
    pub engine: String,
    /// Who answers containers for the names of workloads.
    #[arg(long, env = "MUSTER_NAMES", value_enum, default_value_t = NamesBy::Auto)]
    pub names: NamesBy,
    /// The addresses on which this machine's gateway serves workloads by name: what it is given there.
    #[arg(long, env = "MUSTER_SERVICE_RANGE", default_value = Range::DEFAULT)]
    pub service_range: Range,
    /// A label of the node, as KEY=VALUE. May be given again.
    #[arg(long = "label", value_parser = label)]
    pub labels: Vec<(String, String)>,
    /// Host paths below this folder may be mounted. May be given again; none may by default.
    #[arg(long)]
    pub allow_mount: Vec<PathBuf>,
    /// Cpu that replicas may be given, in thousandths of a core. Default: all there is.
    #[arg(long, env = "MUSTER_CPU_MILLIS")]
    pub cpu_millis: Option<u64>,
    /// Above what share of the engine's disk images go that this agent pulled and nothing needs any
    /// more, in percent.
    #[arg(long, env = "MUSTER_IMAGE_GC_PERCENT", default_value_t = 85,
        value_parser = clap::value_parser!(u64).range(20..=100))]
    pub image_gc_percent: u64,
    /// Memory that replicas may be given. Default: all there is but a tenth.
    #[arg(long, env = "MUSTER_MEMORY_BYTES")]
    pub memory_bytes: Option<u64>,
    /// How many agents share the machine: each offers an equal part of it.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub shared_by: u64,
}

/// Who answers containers for the names of workloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NamesBy {
    /// The gateway, when it serves names on this machine as a container starts; else the engine
    #[default]
    Auto,
    /// The gateway, for replicas on every node
    Gateway,
    /// The engine, for replicas on this node only
    Engine,
}

impl Config {
    /// The labels by key.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.labels.iter().cloned().collect()
    }

    /// The architecture that a simulated engine pretends; none when the engine is real.
    #[must_use]
    pub fn simulated(&self) -> Option<&str> {
        self.engine.strip_prefix(SIMULATED)?.strip_prefix(':')
    }

    /// Where this node keeps what must outlive the process.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.settings.state_dir.join(format!("node-agent-{}", self.node))
    }
}

/// A bare path is a socket.
fn engine(text: &str) -> Result<String, String> {
    match text.split_once("://") {
        None if text == SIMULATED => Ok(format!("{SIMULATED}:amd64")),
        None if text.starts_with('/') => Ok(format!("unix://{text}")),
        None if text
            .strip_prefix(SIMULATED)
            .is_some_and(|arch| arch.len() > 1 && arch.starts_with(':')) =>
        {
            Ok(text.to_owned())
        }
        Some(("unix" | "tcp" | "http", rest)) if !rest.is_empty() => Ok(text.to_owned()),
        _ => Err("write a socket's absolute path, unix:///path or tcp://host:port".to_owned()),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
