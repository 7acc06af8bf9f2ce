//! The settings of the controller.

use runtime::Settings;

/// The controller: accepts or rejects commands, and decides which replicas must exist.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-controller", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
}
