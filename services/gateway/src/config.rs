//! The settings of the gateway.

use std::net::IpAddr;
use std::path::PathBuf;

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
    /// The port that serves HTTP for all workloads, by host and path. Without it, none does.
    #[arg(long, env = "MUSTER_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// The port that serves HTTPS for all workloads.
    #[arg(long, env = "MUSTER_HTTPS_PORT", value_name = "PORT", requires = "certificates")]
    pub https_port: Option<u16>,
    /// The folder of certificates: `<name>.crt` (the chain) and `<name>.key`, as PEM. They are read again
    /// when they change.
    #[arg(long, env = "MUSTER_CERTIFICATES", value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// Writes a line about every request of HTTP.
    #[arg(long, env = "MUSTER_ACCESS_LOG")]
    pub access_log: bool,
}
