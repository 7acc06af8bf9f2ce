//! What `muster dev` takes.

use std::path::PathBuf;

use runtime::inside::Range;

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// How many nodes to run, all on this machine's engine; each offers an equal part of the machine
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) nodes: u16,
    /// The folder for everything that must outlive the process. Default: ~/.local/state/muster/dev
    #[arg(long, value_name = "DIR", env = "MUSTER_DEV_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The port of the nats-server; 0 takes a free one at the first start, and keeps it
    #[arg(long, value_name = "P")]
    pub(crate) nats_port: Option<u16>,
    /// The address that it and published ports are served on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) listen: std::net::IpAddr,
    /// The port that serves HTTP for all workloads, by host and path. Default: none does
    #[arg(long, value_name = "P")]
    pub(crate) http_port: Option<u16>,
    /// The same for HTTPS
    #[arg(long, value_name = "P")]
    pub(crate) https_port: Option<u16>,
    /// The folder of certificates: NAME.crt and NAME.key
    #[arg(long, value_name = "DIR")]
    pub(crate) certificates: Option<PathBuf>,
    /// The directory of the CA that certificates of routes with `tls: {acme: true}` are ordered from
    #[arg(long, value_name = "URL", requires_all = ["http_port", "acme_contact", "acme_agree_terms"])]
    pub(crate) acme_directory: Option<String>,
    /// Whom the CA writes to: mailto:ops@shop.example. May be given again
    #[arg(long, value_name = "URL")]
    pub(crate) acme_contact: Vec<String>,
    /// I agree to the terms of service of the CA
    #[arg(long)]
    pub(crate) acme_agree_terms: bool,
    /// The certificate, as PEM, that the CA's directory is trusted by. Default: what this machine trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) acme_ca_root: Option<PathBuf>,
    /// Write a line about every request of HTTP
    #[arg(long)]
    pub(crate) access_log: bool,
    /// The nats-server to run. Default: the one in PATH, else the one that `make setup` fetched
    #[arg(long, value_name = "FILE", env = "MUSTER_NATS_SERVER")]
    pub(crate) nats_server: Option<PathBuf>,
    /// The engine: a socket's path, unix:///path or tcp://host:port
    #[arg(long, value_name = "SOCK", env = "MUSTER_DOCKER_HOST")]
    #[arg(default_value = "/var/run/docker.sock")]
    pub(crate) docker_host: String,
    /// The addresses on which workloads are reached by name, from containers. Default: 10.201.0.0/16, or the
    /// next that no other cluster on this machine uses at the first start, and kept
    #[arg(long, value_name = "RANGE")]
    pub(crate) service_range: Option<Range>,
    /// The loopback address of /livez, /readyz and /metrics
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) admin_address: std::net::SocketAddr,
    /// Open a fork that `muster fork` made, with simulated nodes: nothing is run. DIR is the folder of the
    /// cluster then, whatever --data-dir says, and no engine is asked
    #[arg(long, value_name = "DIR", conflicts_with = "nodes")]
    pub(crate) fork: Option<PathBuf>,
    /// Host paths below this folder may be mounted. May be given again
    #[arg(long, value_name = "DIR")]
    pub(crate) allow_mount: Vec<PathBuf>,
    /// What the nodes' names begin with: clusters that share an engine must not share names
    #[arg(long, value_name = "NAME", default_value = "n", value_parser = super::parse::node_prefix)]
    pub(crate) node_prefix: String,
}
