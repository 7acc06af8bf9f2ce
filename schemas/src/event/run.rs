//! What events say of a run: where it is reached, and what it left behind.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::Protocol;

/// Where a port of a run can be reached.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct Endpoint {
    /// The container's port.
    pub container: u16,
    /// The transport.
    pub protocol: Protocol,
    /// The node's address.
    pub address: String,
    /// The node's port.
    pub port: u16,
}

/// What was found when a run had ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct Evidence {
    /// The exit code, when the engine knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
    /// Whether the kernel killed it for lack of memory.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Why it ended, in words: `exited with 1`, `unhealthy`, `removed by hand`.
    pub cause: String,
    /// Its last lines of output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_lines: Vec<String>,
}
