//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use schemas::id::{AppKey, NodeName, WorkloadName};

/// A container orchestrator you can ask why, and that can go back.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) to: To,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the answer is no, 2 wrong input, 3 refused, 4 timed out, \
5 cluster unreachable, 6 changed meanwhile, 7 not found, 10 internal, 130 interrupted.";

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// The NATS server. Default: that of the running `muster dev`, else nats://127.0.0.1:4222.
    #[arg(long, env = "MUSTER_NATS_URL", global = true)]
    pub(crate) nats_url: Option<String>,
    /// The user to be.
    #[arg(long, env = "MUSTER_NATS_USER", global = true)]
    pub(crate) nats_user: Option<String>,
    /// The user's password.
    #[arg(long, env = "MUSTER_NATS_PASSWORD", hide_env_values = true, global = true)]
    pub(crate) nats_password: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in this process, with a nats-server of its own
    Dev(Dev),
    /// Make an app be as a file declares, and wait until it is
    Deploy(Deploy),
    /// End an app, and wait until nothing of it is left
    Delete(OnApp),
    /// Set the number of a workload's replicas
    Scale(Scale),
    /// Replace every replica of a workload by a new one
    Restart(Restart),
    /// List replicas
    Ps(Look),
    /// List apps and their workloads
    Apps(Look),
    /// List nodes
    Nodes(Look),
    /// Print the whole state as JSON
    State(Look),
    /// Print history, one line an event
    Log(Log),
    /// Say why a replica, app, node or command is as it is
    Why {
        /// A replica's id, app/NAME, node/NAME or a command's id
        object: String,
    },
    /// Fold the whole history again
    Replay {
        /// Compare with the state of the running event-log
        #[arg(long)]
        verify: bool,
    },
    /// Wait until an app is as declared
    Wait(OnApp),
    /// Place nothing new on a node
    Cordon(OnNode),
    /// Let a node have replicas again
    Uncordon(OnNode),
    /// Cordon a node and move its replicas elsewhere
    Drain(OnNode),
    /// Forget a node that is lost or empty
    #[command(name = "remove-node")]
    Forget(OnNode),
    /// State that a silent node is gone, so that its replicas are replaced
    #[command(name = "lost-node")]
    Lost(OnNode),
    /// Look for what is wrong: versions, streams, services
    Doctor,
    /// Print the JSON Schema of a command or event, or the names of all
    Schema {
        /// `app.deploy`, `ReplicasPlaced`; none: list them
        name: Option<String>,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// How many nodes to run, all on this machine's engine
    #[arg(long, default_value_t = 1)]
    pub(crate) nodes: u16,
    /// What the nodes' names begin with. Two clusters on one engine need two: an agent takes every
    /// container that bears its node's name for its own
    #[arg(long, default_value = "n", value_name = "PREFIX")]
    pub(crate) node_prefix: String,
    /// The folder for everything that must outlive the process
    #[arg(long, env = "MUSTER_DEV_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// The port of the nats-server; 0 takes a free one at the first start
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// The address it listens on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) listen: std::net::IpAddr,
    /// The nats-server to run. Default: the one in .tools, else the one in PATH
    #[arg(long, env = "MUSTER_NATS_SERVER")]
    pub(crate) nats_server: Option<PathBuf>,
    /// The engine's socket
    #[arg(long, env = "MUSTER_ENGINE", default_value = "unix:///var/run/docker.sock")]
    pub(crate) engine: String,
    /// The loopback address of /livez, /readyz and /metrics
    #[arg(long, default_value = "127.0.0.1:0")]
    pub(crate) admin_address: std::net::SocketAddr,
    /// Host paths below this folder may be mounted. May be given again
    #[arg(long)]
    pub(crate) allow_mount: Vec<PathBuf>,
}

/// How long to wait for what was asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Patience {
    /// Do not wait: exit once the command is accepted
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// How long to wait, as 90s or 5m
    #[arg(long, default_value = "5m", value_parser = duration)]
    pub(crate) timeout: Duration,
    /// Why, kept in history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// The file: JSON of `app.deploy`, or of the app alone. `-` reads standard input
    #[arg(short, long, default_value = "app.json")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OnApp {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// WORKLOAD=REPLICAS
    #[arg(value_parser = workload_count)]
    pub(crate) workload: (WorkloadName, u32),
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// The workload
    pub(crate) workload: WorkloadName,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct OnNode {
    /// The node
    pub(crate) node: NodeName,
    /// Why, kept in history
    #[arg(long)]
    pub(crate) reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    /// Only this app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: Option<AppKey>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Log {
    /// Only of this object: app/NAME, node/NAME, replica/ID, command/ID, or a replica's id alone
    pub(crate) object: Option<String>,
    /// The newest so many
    #[arg(short = 'n', long)]
    pub(crate) newest: Option<u64>,
    /// From this position on
    #[arg(long, default_value_t = 1)]
    pub(crate) from: u64,
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
}

fn workload_count(text: &str) -> Result<(WorkloadName, u32), String> {
    let (name, count) = text.split_once('=').ok_or("write WORKLOAD=REPLICAS, as web=3")?;
    let name = WorkloadName::new(name).map_err(|error| error.to_string())?;
    let count = count.parse().map_err(|error| format!("{count} replicas: {error}"))?;
    Ok((name, count))
}

fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| "write a number and a unit, as 90s".to_owned())?;
    let seconds = match unit {
        "ms" => return Ok(Duration::from_millis(number)),
        "" | "s" => number,
        "m" => number * 60,
        "h" => number * 3_600,
        _ => return Err(format!("unknown unit {unit:?}: use ms, s, m or h")),
    };
    Ok(Duration::from_secs(seconds))
}

/// Prints the completion script of a shell.
pub(crate) fn completion(shell: clap_complete::Shell) {
    clap_complete::generate(shell, &mut Args::command(), "muster", &mut std::io::stdout());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn counts_and_durations_say_what_is_wrong() {
        assert!(
            workload_count("web=3").is_ok_and(|(name, count)| name.as_str() == "web" && count == 3)
        );
        assert!(workload_count("web").is_err_and(|text| text.contains("web=3")));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert!(duration("5 parsecs").is_err_and(|text| text.contains("parsecs")));
    }
}
