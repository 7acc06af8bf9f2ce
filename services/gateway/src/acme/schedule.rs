//! When a host's certificate is ordered, and by whom. Pure.

use schemas::tls::{ORDERING_MS, Order, Phase};

/// An order of another instance of which nothing was heard for so long, in ms, is taken over.
const ABANDONED_MS: u64 = 6 * ORDERING_MS;

/// How long after its first failure an order is tried again, in ms. It doubles.
const AGAIN_MS: u64 = 60_000;

/// The longest such wait, in ms.
const AGAIN_MS_MAX: u64 = 12 * 3_600_000;

/// The shortest wait once a CA said that it was asked too often, in ms.
const LIMITED_MS: u64 = 3_600_000;

/// What was heard of an order.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) order: Order,
    /// The stream's sequence of it: the next one is written against that.
    pub(crate) sequence: u64,
    /// When it was heard, by this process's forward-going clock.
    pub(crate) at_ms: u64,
}

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    pub(crate) utc_ms: u64,
    pub(crate) mono_ms: u64,
}

/// When a certificate is ordered anew: two thirds of its life in, and up to a thirtieth later, by host and instance,
/// so that neither all certificates of a cluster nor all gateways come at once.
pub(crate) fn due_ms(validity: Option<(u64, u64)>, jitter: u64) -> u64 {
    let Some((from, until)) = validity else { return 0 };
    let life = until.saturating_sub(from);
    from + life / 3 * 2 + life / 30_000 * (jitter % 1_000)
}

/// Whether this instance orders now.
pub(crate) fn orders(
    now: Now,
    validity: Option<(u64, u64)>,
    heard: Option<&Heard>,
    instance: &str,
    jitter: u64,
) -> bool {
    if now.utc_ms < due_ms(validity, jitter) {
        return false;
    }
    match heard {
        None => true,
        Some(heard) => match heard.order.phase {
            // Our own that is under way would not be asked about: how it ended could not be told.
            Phase::Ordering if heard.order.instance == instance => true,
            Phase::Ordering => now.mono_ms.saturating_sub(heard.at_ms) > ABANDONED_MS,
            Phase::Failed | Phase::Done => now.utc_ms >= heard.order.next_ms,
        },
    }
}

/// How long a host is left alone after it got a certificate, in ms: a clock that is wrong must not have a CA asked again
/// and again.
pub(crate) const REST_MS: u64 = 3_600_000;

/// How long an order waits after so many failures in a row, in ms.
pub(crate) fn wait_ms(failures: u32, limited: bool, jitter: u64) -> u64 {
    let doubled = AGAIN_MS.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let wait = doubled.min(AGAIN_MS_MAX).max(if limited { LIMITED_MS } else { 0 });
    wait + wait / 10_000 * (jitter % 1_000)
}

#[cfg(test)]
mod tests {
    use schemas::id::NodeName;

    use super::*;

    const DAY: u64 = 86_400_000;

    fn heard(phase: Phase, instance: &str, next_ms: u64) -> Heard {
        let node = NodeName::new("n1").expect("a name");
        let (host, instance) = ("shop.example".to_owned(), instance.to_owned());
        let order =
            Order { host, node, instance, phase, since_ms: 1, failures: 1, error: None, next_ms };
        Heard { order, sequence: 1, at_ms: 1_000 }
    }

    fn at(utc_ms: u64, mono_ms: u64) -> Now {
        Now { utc_ms, mono_ms }
    }

    #[test]
    fn a_host_without_a_certificate_is_ordered_at_once_by_whoever_is_first() {
        assert!(orders(at(5, 1_000), None, None, "me", 0));
        let other = heard(Phase::Ordering, "other", 0);
        assert!(!orders(at(5, 61_000), None, Some(&other), "me", 0));
        assert!(orders(at(5, 61_001), None, Some(&other), "me", 0), "nothing is heard of it");
        assert!(orders(at(5, 1_000), None, Some(&heard(Phase::Ordering, "me", 0)), "me", 0));
    }

    #[test]
    fn a_certificate_is_renewed_two_thirds_in_and_not_by_all_at_once() {
        let valid = Some((0, 90 * DAY));
        let done = heard(Phase::Done, "other", 0);
        assert!(!orders(at(60 * DAY - 1, 0), valid, Some(&done), "me", 0));
        assert!(orders(at(60 * DAY, 0), valid, Some(&done), "me", 0));
        assert!(!orders(at(60 * DAY, 0), valid, Some(&done), "me", 500));
        for jitter in 0..3_000 {
            let due = due_ms(valid, jitter);
            assert!((60 * DAY..63 * DAY).contains(&due), "{jitter}: {due}");
        }
        assert!(orders(at(63 * DAY, 0), valid, None, "me", 999));
    }

    #[test]
    fn what_failed_waits_for_its_time_whoever_asks() {
        let failed = heard(Phase::Failed, "me", 9_000);
        assert!(!orders(at(8_999, 0), None, Some(&failed), "me", 0));
        assert!(orders(at(9_000, 0), None, Some(&failed), "me", 0));
        assert!(orders(at(9_000, 0), None, Some(&failed), "other", 0));
    }

    #[test]
    fn what_was_just_ordered_is_left_alone_even_where_it_seems_to_be_over() {
        let done = heard(Phase::Done, "other", REST_MS);
        assert!(!orders(at(REST_MS - 1, 0), Some((0, 9)), Some(&done), "me", 0));
        assert!(orders(at(REST_MS, 0), Some((0, 9)), Some(&done), "me", 0));
    }

    #[test]
    fn waits_double_to_half_a_day_and_are_long_where_the_ca_says_so() {
        let waits = [1, 2, 3, 11, u32::MAX].map(|failures| wait_ms(failures, false, 0));
        assert_eq!(waits, [60_000, 120_000, 240_000, AGAIN_MS_MAX, AGAIN_MS_MAX]);
        assert_eq!(wait_ms(1, true, 0), LIMITED_MS);
        assert_eq!(wait_ms(1, false, 999), 65_994);
    }
}
