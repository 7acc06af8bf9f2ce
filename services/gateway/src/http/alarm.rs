//! How long an answer may take, for one request after the other.
//!
//! Setting a timer costs, and nearly every answer comes long before its time is over. So one that was set
//! stays set when the next request begins, and only when it goes off it is looked at whether anything is late.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use runtime::clock;
use tokio::time::{Instant, Sleep};

/// A timer that is seldom set.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Set>);

#[derive(Debug)]
struct Set {
    at_ms: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Ready when it is that late. Wakes whoever asked last, then or before.
    pub(crate) fn poll(&mut self, late_ms: u64, cx: &mut Context<'_>) -> Poll<()> {
        let set = self.0.get_or_insert_with(|| Set::to(late_ms));
        if set.at_ms > late_ms {
            *set = Set::to(late_ms);
        }
        while set.sleep.as_mut().poll(cx).is_ready() {
            if clock::mono_ms() >= late_ms {
                return Poll::Ready(());
            }
            *set = Set::to(late_ms);
        }
        Poll::Pending
    }
}

impl Set {
    fn to(at_ms: u64) -> Self {
        Self { at_ms, sleep: Box::pin(tokio::time::sleep_until(instant(at_ms))) }
    }
}

/// When the clock shows that.
pub(crate) fn instant(at_ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(at_ms.saturating_sub(clock::mono_ms()))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn it_goes_off_when_it_is_late_whatever_it_was_set_to_before() {
        let mut alarm = Alarm::default();
        let now_ms = clock::mono_ms();
        let noop = &mut Context::from_waker(std::task::Waker::noop());
        assert!(alarm.poll(now_ms + 100_000, noop).is_pending());
        // Set for later than that: set anew.
        poll_fn(|cx| alarm.poll(now_ms + 30, cx)).await;
        assert!(clock::mono_ms() >= now_ms + 30);
        // Gone off, and nothing is late yet.
        assert!(alarm.poll(now_ms + 100_000, noop).is_pending());
        // Set for earlier than that: it goes off, nothing is late, and it is set anew.
        let now_ms = clock::mono_ms();
        let mut alarm = Alarm::default();
        assert!(alarm.poll(now_ms + 10, noop).is_pending());
        poll_fn(|cx| alarm.poll(now_ms + 60, cx)).await;
        assert!(clock::mono_ms() >= now_ms + 60);
    }
}
