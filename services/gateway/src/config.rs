//! The settings of the gateway.

use std::net::IpAddr;

use runtime::Settings;
use schemas::id::NodeName;

/// The gateway: serves published ports, and forwards them to the replicas that are ready.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-gateway", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
    /// The name of the node it serves on.
    #[arg(long, env = "MUSTER_NODE")]
    pub node: NodeName,
    /// The address on which published ports are served.
    #[arg(long, env = "MUSTER_LISTEN", default_value = "0.0.0.0")]
    pub listen: IpAddr,
}
