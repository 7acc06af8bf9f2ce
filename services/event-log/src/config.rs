//! The settings of event-log.

use std::path::PathBuf;

use runtime::Settings;

/// event-log: puts events in order, on disk and then on the bus, and answers all reads.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-event-log", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
    /// A snapshot of the state is written every so many events.
    #[arg(long, env = "MUSTER_SNAPSHOT_EVERY", default_value_t = 10_000)]
    pub snapshot_every: u64,
    /// Below so much room on a disk, commands that ask for more are refused.
    #[arg(long, env = "MUSTER_DISK_CLOSE_MIB", default_value_t = 512, value_name = "MIB")]
    pub disk_close_mib: u64,
    /// Below so much room on a disk, nothing is taken: it is offered again.
    #[arg(long, env = "MUSTER_DISK_STOP_MIB", default_value_t = 128, value_name = "MIB")]
    pub disk_stop_mib: u64,
    /// The folder in which nats-server keeps its streams, where that is on this machine: its disk is
    /// watched too.
    #[arg(long, env = "MUSTER_NATS_STORE_DIR", value_name = "DIR")]
    pub nats_store_dir: Option<PathBuf>,
    /// What to do; to serve when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What event-log can do beside serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve until asked to stop
    Serve,
    /// Check a log that nobody serves: chain, batches, witness
    Verify,
}

impl Config {
    /// Where the log is.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.settings.state_dir.join("event-log")
    }
}
