//! The settings of event-log.

use std::path::PathBuf;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Command {
    /// Serve until asked to stop
    Serve,
    /// Check a log that nobody serves: chain, batches, witness
    Verify,
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
        self.settings.state_dir.join("event-log")
    }
}
