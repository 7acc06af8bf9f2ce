//! What can be typed about a revision that is on its way.

use clap::Subcommand;
use schemas::id::{AppKey, WorkloadName};

use super::{Format, Patience, Waiting};

pub(super) const HELP: &str = "\
A revision that fails goes back by itself to the last one that ran as declared, unless its file says
otherwise; `muster why APP` shows what was found. See docs/rollouts.md.

Examples:
  muster rollout status shop
  muster rollout promote shop --workload web
  muster rollout abort shop --reason 'the page is blank'";

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Wait until a revision runs as declared or waits for somebody, and say how it is; exits with 1
    /// when it stalled or was taken back
    Status(RolloutStatus),
    /// Keep a revision where it is: nothing more is replaced, and nothing goes back by itself
    Pause(RolloutOf),
    /// Let what was paused go on
    Resume(RolloutOf),
    /// Let a canary go on to its next step, or blue-green over to the new replicas
    Promote {
        #[command(flatten)]
        of: RolloutOf,
        /// Pass over all the steps that are left
        #[arg(long)]
        full: bool,
    },
    /// Take a revision back that is on its way: the last good declaration comes again
    Abort(super::OnApp),
}

/// Rollouts of an app.
#[derive(Debug, clap::Args)]
pub(crate) struct RolloutOf {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// Only this workload
    #[arg(long, value_name = "WORKLOAD")]
    pub(crate) workload: Option<WorkloadName>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RolloutStatus {
    /// The app: NAME or TENANT/NAME
    #[arg(value_parser = AppKey::parse)]
    pub(crate) app: AppKey,
    /// Say how it is now, without waiting
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    /// How to print
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}
