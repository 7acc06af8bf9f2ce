//! The two clocks.
#![expect(clippy::disallowed_methods, reason = "this is where the clocks are read")]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use decider::Now;

/// Milliseconds since 1970 UTC.
#[must_use]
pub fn utc_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds of a clock that only goes forward; it begins at 1,000 when it is first read, so that
/// 0 is always in the past.
#[must_use]
pub fn mono_ms() -> u64 {
    mono_us() / 1_000
}

/// The same clock in microseconds.
#[must_use]
pub fn mono_us() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX).saturating_add(1_000_000)
}

/// Both.
#[must_use]
pub fn now() -> Now {
    Now { utc_ms: utc_ms(), mono_ms: mono_ms() }
}

/// Waits until the forward-going clock shows `at_ms`.
pub async fn sleep_until(at_ms: u64) {
    tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(mono_ms()))).await;
}
