//! Parts of a spec that need a value or two, with every default for the rest.

use super::{Autoscale, Check, Probe};

impl Probe {
    /// A probe with every default.
    #[must_use]
    pub fn of_check(check: Check) -> Self {
        Self {
            check,
            interval_ms: Self::interval_ms(),
            timeout_ms: Self::timeout_ms(),
            retries: Self::retries(),
            start_period_ms: 0,
        }
    }
}

impl Autoscale {
    /// Bounds without a target, with every default.
    #[must_use]
    pub fn of_bounds(min: u32, max: u32) -> Self {
        Self {
            min,
            max,
            cpu_percent: None,
            memory_percent: None,
            up_window_ms: Self::up_window_ms(),
            down_window_ms: Self::down_window_ms(),
        }
    }
}
