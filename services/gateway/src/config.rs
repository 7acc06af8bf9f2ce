//! The settings of the gateway.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use runtime::Settings;
use runtime::inside::Range;
use schemas::id::NodeName;

use crate::acme::Acme;

/// The gateway: serves published ports, and forwards them to the replicas that are ready. A second one with
/// the same --state-dir, --node and --listen takes over from the one that runs, which then ends: no
/// connection is refused meanwhile.
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
    /// The addresses on which workloads are reached by name, from the containers of this machine: a
    /// private range that nothing else here uses. The node's agent must be given the same.
    #[arg(long, env = "MUSTER_SERVICE_RANGE", default_value = Range::DEFAULT)]
    pub service_range: Range,
    /// Serves no workloads by name, and leaves the machine's routes and packet filter alone.
    #[arg(long, env = "MUSTER_NO_NAMES")]
    pub no_names: bool,
    /// Who is asked for names outside, as IP:PORT. May be given again. Default: the resolvers of
    /// /etc/resolv.conf.
    #[arg(long = "resolver", value_name = "IP:PORT")]
    pub resolvers: Vec<SocketAddr>,
    /// The port that serves HTTP for all workloads, by host and path. Without it, none does.
    #[arg(long, env = "MUSTER_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// The port that serves HTTPS for all workloads.
    #[arg(long, env = "MUSTER_HTTPS_PORT", value_name = "PORT")]
    pub https_port: Option<u16>,
    /// The folder of certificates: `<name>.crt` (the chain) and `<name>.key`, as PEM. They are read again
    /// when they change.
    #[arg(long, env = "MUSTER_CERTIFICATES", value_name = "DIR")]
    pub certificates: Option<PathBuf>,
    /// How long what is open may go on when another gateway has taken over, in ms.
    #[arg(long, env = "MUSTER_DRAIN_MS", default_value_t = 60_000)]
    pub drain_ms: u64,
    /// Certificates that are ordered.
    #[command(flatten)]
    pub acme: Acme,
    /// Writes a line about every request of HTTP.
    #[arg(long, env = "MUSTER_ACCESS_LOG")]
    pub access_log: bool,
}

impl Config {
    /// Where it serves workloads by name, if it does.
    pub(crate) fn range(&self) -> Option<Range> {
        (!self.no_names).then_some(self.service_range)
    }
}
