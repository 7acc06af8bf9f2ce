//! What can be typed to act on history: to find in it, to go back, to ask what would be.

use std::path::PathBuf;

use schemas::id::{AppKey, NodeName, WorkloadName};
use schemas::spec::Strategy;

use super::when::{When, when};
use super::{Format, Patience};

/// Whether something is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

pub(super) const UNDO: &str = "\
Sends the commands that bring every app back to what was declared at that moment, one after the other, and
waits for each; with --detach only for apps to end, whose ports others may want. What no command brings back is listed first: data that was written since, and images that
a tag does not mean any more. Nodes stay as they are.

Examples:
  muster undo r184 --dry-run
  muster undo r184 --app shop --reason 'the release of tonight'";

pub(super) const BISECT: &str = "\
EXPR is in CEL, the Common Expression Language, over what `muster state` prints: `apps`, `nodes`,
`replicas`, and `position`. Halves the history between the two moments, and so takes for granted that
what became true stays true; if it came and went, it finds one of the times it came.

Examples:
  muster bisect --where 'replicas.exists(r, r.app == \"shop\" && r.state == \"waiting\")'
  muster bisect --good r100 --bad r900 --where 'nodes.exists(n, n.state == \"lost\")'";

pub(super) const WHATIF: &str = "\
Folds the cluster's history here and lets the real controller and the real scheduler decide over that copy,
as if every new replica became ready. Nothing is written. Several questions are asked at once. Exits with
3 when something would not be placed.

Examples:
  muster whatif --kill-node n2
  muster whatif --kill-node n2 --add-node n9=n1
  muster whatif --scale shop/web=20 --policy shop/web=bin_pack";

pub(super) const FORK: &str = "\
The fork has the whole history up to there, and a nats-server of its own once it is opened: whatever is
done in it, the cluster it is of knows nothing of. What ran then runs there on simulated nodes.

Examples:
  muster fork --at r184 --into incident
  muster dev --fork incident";

pub(super) const REBALANCE: &str = "\
Folds the cluster's history here and lets the real controller and the real scheduler decide over that copy,
so that it can say what moves before anything does. Then each replica ends after another one on the better
node is ready; min_ready holds. What is gained is room and spread: how near callers are is not looked at.
Ctrl-C stops waiting and nothing else.

Examples:
  muster rebalance --dry-run
  muster rebalance --app shop --reason 'n4 is new'
  muster rebalance --continuous on";

#[derive(Debug, clap::Args)]
pub(crate) struct Undo {
    /// The moment to go back to: r184, -10m, 14:03, 'yesterday 14:03', 2026-11-23T14:03:00Z
    #[arg(value_parser = when, allow_hyphen_values = true)]
    pub(crate) to: When,
    /// Only this app. May be given again
    #[arg(long = "app", value_name = "APP", value_parser = AppKey::parse)]
    pub(crate) apps: Vec<AppKey>,
    /// Say what would be sent; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// How to print what would be sent
    #[arg(short, long, value_enum, default_value_t = Format::Table, requires = "dry_run")]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rebalance {
    /// Only replicas of this app: NAME or TENANT/NAME
    #[arg(long, value_name = "APP", value_parser = AppKey::parse)]
    pub(crate) app: Option<AppKey>,
    /// Say what would move; send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Whether replicas move by themselves once a node has joined, come back or been opened, and stayed
    /// for a minute, or a workload was measured to be far from its callers
    #[arg(long, value_enum, conflicts_with_all = ["app", "dry_run", "output"])]
    pub(crate) continuous: Option<Switch>,
    #[command(flatten)]
    pub(crate) patience: Patience,
    /// How to print what would move
    #[arg(short, long, value_enum, default_value_t = Format::Table, requires = "dry_run")]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Bisect {
    /// A moment at which it was not yet true. Default: before the first event
    #[arg(long, value_name = "A", value_parser = when, allow_hyphen_values = true)]
    pub(crate) good: Option<When>,
    /// A moment at which it was true. Default: now
    #[arg(long, value_name = "B", value_parser = when, allow_hyphen_values = true)]
    pub(crate) bad: Option<When>,
    /// What became true
    #[arg(long = "where", value_name = "EXPR")]
    pub(crate) condition: String,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// Up to this moment: r184, -10m, 14:03. Default: now
    #[arg(long, value_name = "WHEN", value_parser = when, allow_hyphen_values = true)]
    pub(crate) at: Option<When>,
    /// The folder to make it in
    #[arg(long, value_name = "DIR")]
    pub(crate) into: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Whatif {
    #[command(flatten)]
    pub(crate) changes: Changes,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// What is supposed.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Changes {
    /// This node is gone for good
    #[arg(long, value_name = "NODE", value_parser = NodeName::new)]
    pub(crate) kill_node: Vec<NodeName>,
    /// There is one more node, like another one
    #[arg(long, value_name = "NODE=LIKE", value_parser = new_node)]
    pub(crate) add_node: Vec<(NodeName, NodeName)>,
    /// A workload has another number of replicas
    #[arg(long, value_name = "APP/WORKLOAD=N", value_parser = scaled)]
    pub(crate) scale: Vec<(Workload, u32)>,
    /// A workload has another image
    #[arg(long, value_name = "APP/WORKLOAD=IMAGE", value_parser = imaged)]
    pub(crate) image: Vec<(Workload, String)>,
    /// A workload is placed otherwise: spread or bin_pack
    #[arg(long, value_name = "APP/WORKLOAD=STRATEGY", value_parser = placed)]
    pub(crate) policy: Vec<(Workload, Strategy)>,
}

/// A workload of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub(crate) app: AppKey,
    pub(crate) name: WorkloadName,
}

fn new_node(text: &str) -> Result<(NodeName, NodeName), String> {
    let (node, like) = text.split_once('=').ok_or("write NODE=LIKE, as n9=n1")?;
    let name = |text| NodeName::new(text).map_err(|error| error.to_string());
    Ok((name(node)?, name(like)?))
}

fn scaled(text: &str) -> Result<(Workload, u32), String> {
    let (workload, count) = about(text, "shop/web=3")?;
    Ok((workload, count.parse().map_err(|error| format!("{count} replicas: {error}"))?))
}

fn imaged(text: &str) -> Result<(Workload, String), String> {
    let (workload, image) = about(text, "shop/web=web:2")?;
    Ok((workload, image.to_owned()))
}

fn placed(text: &str) -> Result<(Workload, Strategy), String> {
    let (workload, strategy) = about(text, "shop/web=spread")?;
    let strategy = serde_json::from_value(strategy.into());
    Ok((workload, strategy.map_err(|_| "write spread or bin_pack after the `=`".to_owned())?))
}

/// What is said of a workload.
fn about<'a>(text: &'a str, example: &str) -> Result<(Workload, &'a str), String> {
    let wanted = || format!("write APP/WORKLOAD=…, as {example}");
    let (path, value) = text.split_once('=').ok_or_else(wanted)?;
    let (app, name) = path.rsplit_once('/').ok_or_else(wanted)?;
    let app = AppKey::parse(app).map_err(|error| error.to_string())?;
    let name = WorkloadName::new(name).map_err(|error| error.to_string())?;
    Ok((Workload { app, name }, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_supposed_is_said_of_a_workload() {
        let (web, count) = scaled("shop/web=3").expect("it is valid");
        assert_eq!(
            (web.app.to_string().as_str(), web.name.as_str(), count),
            ("main/shop", "web", 3)
        );
        assert!(
            imaged("team/shop/web=web:2").is_ok_and(|(web, _)| web.app.tenant.as_str() == "team")
        );
        assert!(placed("shop/web=tight").is_err_and(|text| text.contains("bin_pack")));
        assert!(scaled("web=3").is_err_and(|text| text.contains("shop/web=3")));
        assert!(new_node("n9").is_err_and(|text| text.contains("n9=n1")));
    }
}
