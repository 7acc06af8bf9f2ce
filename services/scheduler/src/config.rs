//! The settings of the scheduler.

use runtime::Settings;

/// The scheduler: decides which node a replica goes to, and writes the node documents.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-scheduler", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
}
