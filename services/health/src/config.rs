//! The settings of the health service.

use runtime::{Failure, Settings};

use crate::rules::Limits;

/// Health: decides which nodes are suspected, lost and back.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "muster-health", version)]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub settings: Settings,
    /// Silence after which nothing new is placed on a node, in ms.
    #[arg(long, env = "MUSTER_SUSPECTED_MS", default_value_t = Limits::default().suspected_ms)]
    pub suspected_ms: u64,
    /// Silence after which a node's replicas are replaced, in ms.
    #[arg(long, env = "MUSTER_LOST_MS", default_value_t = Limits::default().lost_ms)]
    pub lost_ms: u64,
}

impl Config {
    /// The limits, checked.
    ///
    /// # Errors
    ///
    /// When a node would be lost before it is suspected, or between two of its heartbeats.
    pub fn limits(&self) -> Result<Limits, Failure> {
        let beat = schemas::report::HEARTBEAT_MS;
        if self.suspected_ms < 2 * beat || self.lost_ms <= self.suspected_ms {
            let text = format!(
                "--suspected-ms {} and --lost-ms {}: an agent is heard every {beat} ms, so use at least {} and more than that",
                self.suspected_ms,
                self.lost_ms,
                2 * beat
            );
            return Err(text.into());
        }
        let (suspected_ms, lost_ms) = (self.suspected_ms, self.lost_ms);
        Ok(Limits { suspected_ms, lost_ms, ..Limits::default() })
    }
}
