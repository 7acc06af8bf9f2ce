//! How many requests a second may pass.

use std::sync::{Mutex, PoisonError};

/// A rate, and what of it is left. No clock: whoever asks says the time.
#[derive(Debug)]
pub(crate) struct Limit {
    per_second: u32,
    left: Mutex<Left>,
}

#[derive(Debug)]
struct Left {
    /// In thousandths of a request.
    parts: u64,
    at_ms: u64,
}

impl Limit {
    /// Lets as many pass at once as in a second.
    pub(crate) fn new(per_second: u32, now_ms: u64) -> Self {
        let parts = u64::from(per_second) * 1_000;
        Self { per_second, left: Mutex::new(Left { parts, at_ms: now_ms }) }
    }

    /// Whether one more may pass now.
    pub(crate) fn may_pass(&self, now_ms: u64) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let rate = u64::from(self.per_second);
        let since_ms = now_ms.saturating_sub(left.at_ms);
        left.parts = left.parts.saturating_add(since_ms.saturating_mul(rate)).min(rate * 1_000);
        left.at_ms = left.at_ms.max(now_ms);
        let passes = left.parts >= 1_000;
        if passes {
            left.parts -= 1_000;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However they come, never more pass than the rate says, after as many as in one second.
        #[test]
        fn no_more_pass_than_may(rate in 1_u32..50, gaps in proptest::collection::vec(0_u64..200, 1..500)) {
            let limit = Limit::new(rate, 0);
            let (mut now_ms, mut passed) = (0, 0_u64);
            for gap in gaps {
                now_ms += gap;
                passed += u64::from(limit.may_pass(now_ms));
                prop_assert!(passed <= u64::from(rate) + now_ms * u64::from(rate) / 1_000);
            }
        }
    }

    #[test]
    fn who_keeps_to_it_always_passes() {
        let limit = Limit::new(10, 0);
        assert!((0..1_000).all(|n| limit.may_pass(n * 100)));
        let none = Limit::new(0, 0);
        assert!(!none.may_pass(1_000_000));
    }
}
