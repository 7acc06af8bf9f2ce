//! The settings of the autoscaler. Bounds, targets and windows are the workload's own.

use runtime::Settings;

/// Autoscaler: decides how many replicas there should be as their use of cpu and memory, or their traffic, changes.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-autoscaler", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
}
