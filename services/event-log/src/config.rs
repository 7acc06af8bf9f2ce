//! The settings of event-log.

use std::path::{Path, PathBuf};

use runtime::Settings;

use crate::sequencer::Seat;

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
    /// Entries are read again in the background, so many a second, to find damage early; 0: never.
    #[arg(long, env = "MUSTER_SCRUB_PER_SECOND", default_value_t = 2_000)]
    pub scrub_per_second: u64,
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
    /// This is one of several instances on one NATS: one leads, the others stand by with all of the
    /// log and take over when it is silent. All must be started with this, and NATS with
    /// `sync_interval: always`. Without it, this is the only instance, and takes at once.
    #[arg(long, env = "MUSTER_ONE_OF_SEVERAL")]
    pub one_of_several: bool,
    /// With --one-of-several: begin a history where there is none. For the very first start of one
    /// of them; the others get theirs from it.
    #[arg(long, requires = "one_of_several")]
    pub begin: bool,
    /// What to do; to serve when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What event-log can do beside serving.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve until asked to stop
    Serve,
    /// Check a log that nobody serves: files, chain, indexes, snapshots, witness. Names all damage
    Verify,
    /// Make a store of what is whole in a damaged one
    Salvage {
        /// The folder for it, which must not hold a log: the state folder to start on afterwards
        #[arg(long, value_name = "DIR")]
        into: PathBuf,
        /// Forget what was published behind the salvaged part: what the events stream does not have
        /// is lost
        #[arg(long)]
        accept_loss: bool,
    },
    /// Take once although what was published behind this log's end is lost, say so in an event, and
    /// end. For when no instance that has it is left
    Take {
        /// That what was published and is in no log is given up
        #[arg(long, required = true)]
        accept_loss: bool,
    },
}

impl Config {
    /// How this instance stands to others.
    #[must_use]
    pub fn seat(&self) -> Seat {
        match self.one_of_several {
            true => Seat::OneOf { begins: self.begin },
            false => Seat::Only,
        }
    }

    /// Where the log is.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        folder(&self.settings.state_dir)
    }
}

/// Where the log is in a state folder.
#[must_use]
pub fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("event-log")
}
