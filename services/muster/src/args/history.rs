//! What can be typed to look at history.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use schemas::id::{AppKey, CommandId};

use super::when::{self, When};
use super::{Format, parse};

/// What every moment may be written as.
macro_rules! moments {
    () => {
        "A moment is a position (r184), so long ago (-10m), a local time (14:03, 'yesterday 14:03',\n\
         '2026-11-23 14:03') or 2026-11-23T14:03:00Z."
    };
}

pub(super) const LOG: &str = concat!(
    "OBJECT is a replica, app/NAME, APP/WORKLOAD, node/NAME, certificate/HOST or command/ID; a name alone\n\
     does, where it is clear what has it. ",
    moments!(),
    "\n\n\
     Examples:\n  \
     muster log -f\n  \
     muster log app/shop --since 2h\n  \
     muster log shop/web --from r100 --to r200\n  \
     muster log --since 14:00 --until 14:10 --graph\n  \
     muster log --type RunEnded --type NodeLost -n 20\n  \
     muster log --actor ana -o json"
);

pub(super) const SHOW: &str = "\
Examples:
  muster show r184
  muster show e9320b139b55";

pub(super) const WHY: &str = "\
OBJECT is a replica, running or long gone, an app, APP/WORKLOAD, a node, certificate/HOST, a command's id,
or a position.
The answer goes from what is so back to the person or the timer at its root.

STATE asks for one thing: exists, here (why on this node), pending, dead, moved, count (why so many).

Examples:
  muster why shop-web-k3v9q
  muster why shop-web-k3v9q dead
  muster why shop/web count
  muster why node/n1
  muster why certificate/shop.example
  muster why e9320b139b55
  muster why shop --at 02:13";

pub(super) const BLAME: &str = "\
Examples:
  muster blame shop
  muster blame shop --at 'yesterday 14:03' -o json";

pub(super) const DIFF: &str = concat!(
    "What comes and goes by itself (restarts, probes) is counted, not listed. ",
    moments!(),
    "\n\n\
     Examples:\n  \
     muster diff r163..r191\n  \
     muster diff 14:00.. --app shop\n  \
     muster diff -1h.. --exit-code"
);

pub(super) const AUDIT: &str = "\
Examples:
  muster audit verify
  muster audit export --format csv --since 'yesterday 00:00' > events.csv
  muster audit export --format cloudevents app/shop";

/// At which moment a read is to be true.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct At {
    /// As it was then: r184, -10m, 14:03, 'yesterday 14:03', 2026-11-23T14:03:00Z
    #[arg(long, value_name = "WHEN", value_parser = when::when, allow_hyphen_values = true)]
    pub(crate) at: Option<When>,
}

/// Which events.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Filter {
    /// Only of this object: app/NAME, APP/WORKLOAD, node/NAME, command/ID, or a replica
    pub(crate) object: Option<String>,
    /// From this position or moment on
    #[arg(long, visible_alias = "since", value_name = "WHEN", value_parser = when::when)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) from: Option<When>,
    /// Up to this position or moment
    #[arg(long, visible_alias = "until", value_name = "WHEN", value_parser = when::when)]
    #[arg(allow_hyphen_values = true)]
    pub(crate) to: Option<When>,
    /// Only events of this type, as ReplicaReady. May be given again
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::event_type)]
    pub(crate) kinds: Vec<String>,
    /// Only what this person or service is behind
    #[arg(long, value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Only what goes back to this command
    #[arg(long, value_name = "ID", value_parser = CommandId::new)]
    pub(crate) correlation: Option<CommandId>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// The newest so many
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) newest: Option<u64>,
    /// As trees: what followed from what, with the command at the root
    #[arg(long, conflicts_with = "follow")]
    pub(crate) graph: bool,
    /// Go on with what happens from now on
    #[arg(short, long, conflicts_with = "to")]
    pub(crate) follow: bool,
    /// How to print: with --follow, JSON is one object a line
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// A position, or a command's id for all of it
    pub(crate) what: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// A replica, app, APP/WORKLOAD, node, command's id or position
    pub(crate) object: String,
    /// What about it
    #[arg(value_enum)]
    pub(crate) state: Option<Aspect>,
    #[command(flatten)]
    pub(crate) at: At,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What `why` may be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Aspect {
    /// Why it was asked for
    Exists,
    /// Why on this node
    Here,
    /// Why it has no node, or does not get ready
    Pending,
    /// Why it ended, or its last run did
    Dead,
    /// Why another took its place, or it took another's
    Moved,
    /// Why so many
    Count,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Blame {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    #[command(flatten)]
    pub(crate) at: At,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// A..B; B left out is now
    #[arg(value_name = "A..B", value_parser = when::range, allow_hyphen_values = true)]
    pub(crate) range: (When, When),
    /// Only this app: NAME or TENANT/NAME
    #[arg(long, value_parser = AppKey::parse)]
    pub(crate) app: Option<AppKey>,
    /// Exit with 1 when something differs
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Hash all of history again: every event must follow from the one before it
    Verify {
        /// How to print
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Print the signed end of the log: whoever keeps it can check every proof that leads to it
    Head,
    /// Print the proof that an event is in the log, as JSON
    Prove {
        /// The event's position
        #[arg(value_parser = when::position)]
        position: u64,
    },
    /// Check a proof. Needs no cluster
    Check {
        /// What `prove` printed; `-` reads standard input
        proof: PathBuf,
        /// The head that one trusts, as `head` printed it
        #[arg(long, value_name = "FILE")]
        head: Option<PathBuf>,
        /// The key that one trusts
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
    },
    /// Write events to standard output
    Export {
        #[command(flatten)]
        filter: Filter,
        /// In which format
        #[arg(long, value_enum, default_value_t = Export::Jsonl)]
        format: Export,
    },
}

/// What events are exported as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Export {
    /// One event a line, byte for byte as it was recorded and hashed
    Jsonl,
    /// One row an event, with its words and its data
    Csv,
    /// One CloudEvents 1.0 envelope a line
    Cloudevents,
}
