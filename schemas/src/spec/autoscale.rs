//! How many replicas there should be as their use changes, as a user declares it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Target tracking: as many replicas as bring what is measured of each near the target. Of several
/// targets the one that asks for most replicas decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    /// Never fewer replicas than this. At least 1.
    pub min: u32,
    /// Never more than this.
    pub max: u32,
    /// The average use of cpu to track, in percent of what a replica reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u32>,
    /// The average use of memory to track, in percent of what a replica reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_percent: Option<u32>,
    /// The requests a second to track, of each ready replica, as gateways count them. Where it is not HTTP,
    /// a connection is a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// The time in which 95 of 100 answers begin, in milliseconds, as gateways measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<u32>,
    /// The requests under way at a time to track, of each ready replica, as gateways count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u32>,
    /// For how long more must have been wanted before there are more. Default 15,000.
    #[serde(default = "Autoscale::up_window_ms")]
    pub up_window_ms: u64,
    /// For how long fewer must have been wanted before there are fewer. Default 300,000.
    #[serde(default = "Autoscale::down_window_ms")]
    pub down_window_ms: u64,
}

impl Autoscale {
    /// The highest target: ten times what is reserved.
    pub const PERCENT_MAX: u32 = 1_000;

    /// The longest time of answers to track: that after which a gateway gives up.
    pub const P95_MS_MAX: u32 = 60_000;

    /// The highest target of a count.
    pub const COUNT_MAX: u32 = 1_000_000;

    /// The longest window.
    pub const WINDOW_MS_MAX: u64 = 3_600_000;

    /// Bounds without a target, with every default.
    #[must_use]
    pub fn of_bounds(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            cpu_percent: None,
            memory_percent: None,
            requests_per_second: None,
            p95_ms: None,
            in_flight: None,
            up_window_ms: Self::up_window_ms(),
            down_window_ms: Self::down_window_ms(),
        }
    }

    /// The number within bounds that is nearest to `count`.
    #[must_use]
    pub fn nearest(&self, count: u32) -> u32 {
        count.min(self.max).max(self.min)
    }

    /// The targets, by the names that they are declared under.
    #[must_use]
    pub fn targets(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("cpu_percent", self.cpu_percent),
            ("memory_percent", self.memory_percent),
            ("requests_per_second", self.requests_per_second),
            ("p95_ms", self.p95_ms),
            ("in_flight", self.in_flight),
        ]
    }

    /// Whether gateways measure what it tracks, or a part of it.
    #[must_use]
    pub fn needs_traffic(&self) -> bool {
        self.requests_per_second.or(self.p95_ms).or(self.in_flight).is_some()
    }

    fn up_window_ms() -> u64 {
        15_000
    }
    fn down_window_ms() -> u64 {
        300_000
    }
}
