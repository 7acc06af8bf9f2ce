//! Certificates of hosts that gateways order.

use schemas::id::NodeName;
use schemas::tls::Phase;
use serde::{Deserialize, Serialize};

/// How many hosts the state holds; of others the log knows.
pub const CERTIFICATES_MAX: usize = 10_000;

/// How the certificate of a host stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificate {
    /// The node of the gateway that orders it, or did last.
    pub node: NodeName,
    /// How the order stands.
    pub phase: Phase,
    /// Since when, by that gateway's clock.
    pub since_ms: u64,
    /// Until when the newest one is valid; 0 while there is none.
    pub not_after_ms: u64,
}
