//! Certificates by ACME: one gateway orders, all answer what the CA asks, all serve what came of it.
//!
//! Gateways tell each other by the stream of `schemas::tls`. Who orders is who writes the order of a host against
//! the one before it. `schedule` says when, `shelf` holds what was told, `kept` keeps certificates for a start
//! without NATS, `order` speaks with the CA, `serve` is the wiring.

pub(crate) mod kept;
pub(crate) mod order;
pub(crate) mod schedule;
pub(crate) mod seal;
pub(crate) mod serve;
pub(crate) mod shelf;
pub(crate) mod validity;

use std::path::PathBuf;

/// What an operator says about ACME.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Acme {
    /// The key, 64 hex digits in a file, by which private keys are sealed on the bus. All gateways of a cluster have
    /// the same. Without it this one neither orders certificates nor serves ordered ones.
    #[arg(long, env = "MUSTER_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// The directory of the CA that certificates of routes with `tls: {acme: true}` are ordered from. Without it
    /// this gateway orders none.
    #[arg(long, env = "MUSTER_ACME_DIRECTORY", value_name = "URL")]
    #[arg(requires_all = ["http_port", "seal_key_file", "acme_contact", "acme_agree_terms"])]
    pub acme_directory: Option<String>,
    /// Whom the CA writes to: mailto:ops@shop.example. May be given again.
    #[arg(long, env = "MUSTER_ACME_CONTACT", value_name = "URL")]
    pub acme_contact: Vec<String>,
    /// I agree to the terms of service of the CA.
    #[arg(long, env = "MUSTER_ACME_AGREE_TERMS")]
    pub acme_agree_terms: bool,
    /// The certificate, as PEM, that the CA's directory itself is trusted by. Default: what this machine trusts.
    #[arg(long, env = "MUSTER_ACME_CA_ROOT", value_name = "FILE")]
    pub acme_ca_root: Option<PathBuf>,
}
