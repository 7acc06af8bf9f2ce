//! Who calls a workload, as far as that was stated.

use schemas::event::Caller;
use serde::{Deserialize, Serialize};

/// Who calls a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Calls {
    /// Those who do.
    pub callers: Vec<Caller>,
    /// The position of the event that says so.
    pub at: u64,
    /// When that was recorded.
    pub at_ms: u64,
}
