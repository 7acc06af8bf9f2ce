//! The ports of a container, and what is spoken on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;

/// A port of the container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The port inside the container.
    pub container: u16,
    /// The port on which every node serves the workload. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<u16>,
    /// A port of the node that this replica alone must have: at most one such replica fits a node.
    /// Default: the engine chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<u16>,
    /// Default tcp.
    #[serde(default, skip_serializing_if = "is_default")]
    pub protocol: Protocol,
    /// What is spoken on it. Default: what the first bytes of a connection show.
    #[serde(default, skip_serializing_if = "is_default")]
    pub app: AppProtocol,
}

/// A transport protocol.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// As it is written in subjects, container ports and Compose files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// What is spoken on a port.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum AppProtocol {
    /// What the first bytes of a connection show: HTTP, or anything else.
    #[default]
    Detect,
    /// Bytes, forwarded as they are.
    Tcp,
    /// The same, behind a PROXY protocol header (version 2) that tells the client's address.
    Proxy,
    /// HTTP/1.1 with clients and replicas; HTTP/2 with clients that begin with it.
    Http,
    /// HTTP/2 without TLS with replicas, as gRPC has it.
    Http2,
}
