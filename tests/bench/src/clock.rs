//! The clock that everything is measured by.
#![expect(clippy::disallowed_methods, reason = "measuring time is what this program does")]

use std::time::{Duration, Instant};

/// A moment that time is counted from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since(Instant);

impl Since {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// In microseconds.
    pub(crate) fn us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// How often something happens in a second, when `count` of it took so many microseconds.
pub(crate) fn per_second(count: u64, us: u64) -> u64 {
    count.saturating_mul(1_000_000) / us.max(1)
}
