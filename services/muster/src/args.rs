//! What can be typed.

mod act;
mod bundle;
mod dev;
mod help;
mod history;
mod parse;
mod rollout;
mod when;

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};
use schemas::id::{AppKey, AppName, NodeName, WorkloadName};

pub(crate) use act::{Bisect, Changes, Fork, Rebalance, Switch, Undo, Whatif, Workload};
pub(crate) use bundle::Bundle;
pub(crate) use dev::Dev;
pub(crate) use history::{Aspect, At, Audit, Blame, Diff, Export, Filter, Log, Show, Why};
pub(crate) use rollout::{Rollout, RolloutOf, RolloutStatus};
pub(crate) use when::{Point, When};

/// A container orchestrator you can ask why, and that can go back.
#[derive(Debug, Parser)]
#[command(name = "muster", version, after_help = help::ALL)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) to: To,
    /// Print without colours, as NO_COLOR does
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct To {
    /// The NATS server. Default: what the NATS context says, else that of `muster dev`, else
    /// nats://127.0.0.1:4222
    #[arg(long, env = "MUSTER_NATS_URL", global = true)]
    pub(crate) nats_url: Option<String>,
    /// The user to be
    #[arg(long, env = "MUSTER_NATS_USER", global = true)]
    pub(crate) nats_user: Option<String>,
    /// The user's password
    #[arg(long, env = "MUSTER_NATS_PASSWORD", hide_env_values = true, global = true)]
    pub(crate) nats_password: Option<String>,
    /// The NATS context to use; see `muster context ls`. Default: the selected one, if any
    #[arg(short, long, env = "MUSTER_CONTEXT", global = true)]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in this process, with a nats-server of its own
    #[command(after_help = help::DEV)]
    Dev(Dev),
    /// Make an app be as a file declares, and wait until it is
    #[command(after_help = help::DEPLOY)]
    Deploy(Deploy),
    /// Say what a deploy would change and where replicas would go; write nothing
    #[command(after_help = help::PLAN)]
    Plan(Plan),
    /// Say what would follow if nodes or workloads were other than they are; write nothing
    #[command(after_help = act::WHATIF)]
    Whatif(Whatif),
    /// Bring apps back to what was declared at another moment
    #[command(after_help = act::UNDO)]
    Undo(Undo),
    /// Copy history up to a moment, to explore it and let it go on otherwise with simulated nodes
    #[command(after_help = act::FORK)]
    Fork(Fork),
    /// Make a bundle of what happened to hand on: a fork without secrets
    #[command(after_help = bundle::EXPORT)]
    Export(Bundle),
    /// Find the first event that made something true
    #[command(after_help = act::BISECT)]
    Bisect(Bisect),
    /// Print the command that a file becomes, or what Compose files may say
    #[command(after_help = help::CONFIG)]
    Config(Config),
    /// End an app, and wait until nothing of it is left
    #[command(after_help = help::DELETE)]
    Delete(OnApp),
    /// Set the number of a workload's replicas
    #[command(after_help = help::SCALE)]
    Scale(Scale),
    /// Replace every replica of a workload by a new one
    #[command(after_help = help::RESTART)]
    Restart(Restart),
    /// Say how far a revision is; pause, resume, promote or abort it
    #[command(after_help = rollout::HELP)]
    Rollout {
        #[command(subcommand)]
        command: Rollout,
    },
    /// List replicas
    #[command(after_help = help::PS)]
    Ps(Look),
    /// List the ways on which traffic leads to workloads, and the replicas at their ends
    #[command(after_help = help::ROUTES)]
    Routes(Look),
    /// List apps and their workloads
    #[command(after_help = help::APPS)]
    Apps(Look),
    /// List nodes
    #[command(after_help = help::NODES)]
    Nodes(Then),
    /// Print the whole state as JSON
    #[command(after_help = help::STATE)]
    State(Look),
    /// Print history, one line an event
    #[command(after_help = history::LOG)]
    Log(Log),
    /// Print one event in full, or all of one command, with its cause and what it caused
    #[command(after_help = history::SHOW)]
    Show(Show),
    /// Say who last set each field of an app's declaration
    #[command(after_help = history::BLAME)]
    Blame(Blame),
    /// Say what changed between two moments
    #[command(after_help = history::DIFF)]
    Diff(Diff),
    /// Check that history is whole, or write it out
    #[command(after_help = history::AUDIT)]
    Audit {
        #[command(subcommand)]
        command: Audit,
    },
    /// Print what replicas wrote, merged over all nodes
    #[command(after_help = help::LOGS)]
    Logs(Logs),
    /// Run a command in a replica; its exit code is this one's
    #[command(after_help = help::EXEC)]
    Exec(Exec),
    /// Say why a replica, app, workload, node or command is as it is
    #[command(after_help = history::WHY)]
    Why(Why),
    /// Fold the whole history again
    #[command(after_help = help::REPLAY)]
    Replay {
        /// Compare with the state of the running event-log
        #[arg(long, conflicts_with = "to")]
        verify: bool,
        /// Only as far as this position: the state as it was then
        #[arg(long, value_name = "POSITION")]
        to: Option<u64>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Write history into a folder, or add to it what is new; nothing stops meanwhile
    #[command(after_help = help::BACKUP)]
    Backup(crate::backup::Backup),
    /// Make the log of an event-log from a backup; needs no cluster
    #[command(after_help = help::RESTORE)]
    Restore(crate::backup::Restore),
    /// Wait until an app is as declared, or gone
    #[command(after_help = help::WAIT)]
    Wait(Wait),
    /// Place nothing new on a node
    #[command(after_help = help::CORDON)]
    Cordon(OnNode),
    /// Let a node have replicas again
    #[command(after_help = help::UNCORDON)]
    Uncordon(OnNode),
    /// Cordon a node and move its replicas elsewhere
    #[command(after_help = help::DRAIN)]
    Drain(Drain),
    /// Move replicas to nodes that are better for them, and say first what that costs and gains
    #[command(after_help = act::REBALANCE)]
    Rebalance(Rebalance),
    /// Set labels of a node, which constraints can ask for
    #[command(name = "label-node", after_help = help::LABEL)]
    Label(Label),
    /// Forget a node that is lost or empty
    #[command(name = "remove-node", after_help = help::REMOVE)]
    Forget(OnNode),
    /// State that a silent node is gone, so that its replicas are replaced
    #[command(name = "lost-node", after_help = help::LOST)]
    Lost(OnNode),
    /// Leave a note on any object, kept in history
    #[command(after_help = help::NOTE)]
    Note(Note),
    /// Look for what is wrong: versions, streams, services, nodes
    #[command(after_help = help::DOCTOR)]
    Doctor(Plain),
    /// List, choose or show NATS contexts
    #[command(after_help = help::CONTEXT)]
    Context {
        #[command(subcommand)]
        command: ContextCommand,
    },
    /// Print the JSON Schema of a command or event, or the names of all
    #[command(after_help = help::SCHEMA)]
    Schema {
        /// `app.deploy`, `ReplicasPlaced`; none: list them
        name: Option<String>,
        /// How to print the list; a schema is JSON either way
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Print a completion script for a shell
    #[command(after_help = help::COMPLETION)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What every command that changes something may carry.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Remark {
    /// Why, kept in history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// How long to wait, and what to show meanwhile.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Waiting {
    /// How long to wait, as 90s or 5m
    #[arg(long, value_name = "D", default_value = "5m", value_parser = parse::duration)]
    pub(crate) timeout: Duration,
    /// What to show on standard error meanwhile
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub(crate) progress: Progress,
}

/// What to show while waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// A live view on a terminal, else plain lines
    Auto,
    /// One line an event
    Plain,
    /// Nothing
    Quiet,
}

/// What a command may carry that takes its time.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Patience {
    /// Do not wait: exit once the command is accepted
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) remark: Remark,
    /// Refuse if it has changed since this position, as -o json prints it in `at`
    #[arg(long, value_name = "N", value_parser = when::position)]
    pub(crate) expect_position: Option<u64>,
}

/// What a command on a node may carry that has come about with its receipt.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AtOnce {
    #[command(flatten)]
    pub(crate) remark: Remark,
    /// Refuse if the node has changed since this position, as -o json prints it in `at`
    #[arg(long, value_name = "N", value_parser = when::position)]
    pub(crate) expect_position: Option<u64>,
}

/// What declares an app.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A Compose file, or JSON of `app.deploy` or of the app alone; `-` reads standard input.
    /// Given again, later files go over earlier ones. Default: compose.yaml, compose.yml,
    /// docker-compose.yaml or docker-compose.yml with compose.override.yaml, else app.json
    #[arg(short, long)]
    pub(crate) file: Vec<PathBuf>,
    /// The app's name. Default: `name:` in the file, else the name of its folder
    #[arg(long = "app", value_name = "NAME", value_parser = AppName::new)]
    pub(crate) app_name: Option<AppName>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    #[command(flatten)]
    pub(crate) files: Files,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) files: Files,
    /// Exit with 1 when something would change
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) files: Files,
    /// How to print: json is what can be published to muster.v1.cmd.app.deploy
    #[arg(short, long, value_enum, default_value_t = Format::Json)]
    pub(crate) output: Format,
    /// Print every key of Compose files: honoured, ignored or refused
    #[arg(long, conflicts_with_all = ["file", "app_name", "output"])]
    pub(crate) support: bool,
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
pub(crate) struct Wait {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = Condition::Converged)]
    pub(crate) condition: Condition,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Condition {
    /// It runs as declared
    Converged,
    /// Nothing of it is left
    Deleted,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Scale {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// WORKLOAD=REPLICAS
    #[arg(value_parser = parse::workload_count)]
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
    #[command(flatten)]
    pub(crate) at_once: AtOnce,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Drain {
    /// The node
    pub(crate) node: NodeName,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Label {
    /// The node
    pub(crate) node: NodeName,
    /// KEY=VALUE; an empty value takes the label away
    #[arg(required = true, value_parser = parse::key_value)]
    pub(crate) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) at_once: AtOnce,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Note {
    /// What it is about: app/NAME, node/NAME, or a replica's id
    pub(crate) object: String,
    /// The note
    pub(crate) text: String,
    /// Anything more, as KEY=VALUE. May be given again
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::key_value)]
    pub(crate) field: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) remark: Remark,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Look {
    /// Only this app: NAME or TENANT/NAME; or a workload: NAME/WORKLOAD
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: Option<AppKey>,
    #[command(flatten)]
    pub(crate) at: At,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Then {
    #[command(flatten)]
    pub(crate) at: At,
    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Plain {
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// List them; * marks the selected one
    Ls(Plain),
    /// Select one, for `nats` as well
    Use {
        /// Its name
        name: String,
    },
    /// Say which cluster the command line reaches and why, or what a context holds
    Show {
        /// Its name
        name: Option<String>,
        /// How to print
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    /// APP, APP/WORKLOAD or a replica; none: all there are
    pub(crate) targets: Vec<String>,
    /// Go on with what is written from now on, by new replicas as well
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last so many lines of each replica, or `all`
    #[arg(short = 'n', long, default_value = "200", value_parser = parse::tail)]
    pub(crate) tail: Tail,
    /// Only what was written in this time, as 90s or 5m
    #[arg(long, value_parser = parse::duration)]
    pub(crate) since: Option<Duration>,
    /// Say when each line was written
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Do not say which replica wrote a line
    #[arg(long)]
    pub(crate) no_log_prefix: bool,
    /// How to print: JSON is one object a line
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How many lines of each replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    All,
    Lines(u64),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// A replica, or APP/WORKLOAD for the first of its replicas that is ready
    pub(crate) replica: String,
    /// Hand standard input to the command
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Run it on a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The user to be in the container, as NAME or UID:GID
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// The folder to be in
    #[arg(short, long)]
    pub(crate) workdir: Option<String>,
    /// The command and its arguments
    #[arg(trailing_var_arg = true, required = true)]
    pub(crate) command: Vec<String>,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON value
    Json,
}

/// Prints the completion script of a shell.
pub(crate) fn completion(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "muster", &mut script);
    print!("{}", String::from_utf8_lossy(&script));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example_that_parses() {
        for command in Args::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().filter_map(|line| line.trim().strip_prefix("muster ")).collect();
            assert!(!examples.is_empty(), "{} has no example", command.get_name());
            for example in examples {
                let plain = example.split(['#', '|', '<', '>']).next().unwrap_or(example);
                // Between quotes is one word.
                let words = plain.split('\'').enumerate().flat_map(|(i, part)| match i % 2 {
                    0 => part.split_whitespace().collect(),
                    _ => vec![part],
                });
                let typed = std::iter::once("muster").chain(words);
                let parsed = Args::try_parse_from(typed);
                assert!(parsed.is_ok(), "{example}: {}", parsed.expect_err("it is wrong"));
            }
        }
    }

    #[test]
    fn every_read_prints_json() {
        for read in [
            "ps",
            "apps",
            "nodes",
            "state",
            "log",
            "logs",
            "replay",
            "plan",
            "config",
            "wait shop",
            "doctor",
            "context ls",
            "context show",
            "schema",
        ] {
            let typed = format!("muster {read} -o json");
            let parsed = Args::try_parse_from(typed.split(' '));
            assert!(parsed.is_ok(), "{read}: {}", parsed.expect_err("it is wrong"));
        }
    }

    #[test]
    fn dev_takes_exactly_what_is_promised() {
        let typed = "muster dev --nodes 2 --data-dir d --nats-port 4300 --docker-host /s";
        let parsed = Args::try_parse_from(typed.split(' ')).expect("it parses");
        let Command::Dev(dev) = parsed.command else { panic!("another command") };
        assert_eq!((dev.nodes, dev.nats_port), (2, Some(4300)));
        assert_eq!(dev.data_dir, Some(PathBuf::from("d")));
        assert_eq!(dev.docker_host, "/s");
        let url = Args::try_parse_from(["muster", "dev", "--nats-url", "nats://127.0.0.1:1"]);
        assert_eq!(url.expect("it parses").to.nats_url.as_deref(), Some("nats://127.0.0.1:1"));
        assert!(Args::try_parse_from(["muster", "dev", "--nodes", "0"]).is_err());
    }
}
