//! What went to each replica, in numbers: counted without a lock, told once a second.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::id::ReplicaId;
use schemas::report::Traffic;

use crate::open::Open;

/// How many sizes a spread tells apart: eight for each doubling, up to two and a half hours in µs.
const SIZES: usize = 256;

/// Over how many tellings a spread is looked at.
const WINDOW: usize = 10;

/// The numbers of all replicas. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<BTreeMap<ReplicaId, Entry>>>);

#[derive(Debug, Default)]
struct Entry {
    numbers: Arc<Numbers>,
    /// The spread as it was at the last tellings, oldest first.
    before: VecDeque<Box<[u32; SIZES]>>,
}

/// The numbers of one replica.
#[derive(Debug)]
pub(crate) struct Numbers {
    requests: AtomicU64,
    failed: AtomicU64,
    spread: [AtomicU32; SIZES],
}

impl Default for Numbers {
    fn default() -> Self {
        let spread = [const { AtomicU32::new(0) }; SIZES];
        Self { requests: 0.into(), failed: 0.into(), spread }
    }
}

impl Numbers {
    /// A request was sent, or a connection made.
    pub(crate) fn sent(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// It failed: not reached, broken off, or answered with an error of the server.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// The answer began after so long.
    pub(crate) fn answered(&self, after_us: u64) {
        self.spread[size_of(after_us)].fetch_add(1, Relaxed);
    }

    fn spread(&self) -> Box<[u32; SIZES]> {
        let mut now = Box::new([0; SIZES]);
        for (now, size) in now.iter_mut().zip(&self.spread) {
            *now = size.load(Relaxed);
        }
        now
    }
}

impl Tally {
    /// The numbers of a replica.
    pub(crate) fn of(&self, replica: &ReplicaId) -> Arc<Numbers> {
        self.entries().entry(replica.clone()).or_default().numbers.clone()
    }

    /// Everything that was counted, of replicas that were ever sent something. Replicas that nobody has
    /// any more are forgotten. To be called once a second: the times are those of the last ten calls.
    #[must_use]
    pub fn tell(&self, open: &Open) -> Vec<Traffic> {
        let open = open.counts();
        let mut entries = self.entries();
        entries.retain(|_, entry| Arc::strong_count(&entry.numbers) > 1);
        let told = entries.iter_mut().filter_map(|(replica, entry)| {
            let requests = entry.numbers.requests.load(Relaxed);
            if requests == 0 {
                return None;
            }
            let now = entry.numbers.spread();
            // Before the first telling nothing is known of how long it took.
            let over = entry.before.len();
            let recent = entry.before.front().map_or_else(|| now.clone(), |then| since(&now, then));
            entry.before.push_back(now);
            if entry.before.len() > WINDOW {
                entry.before.pop_front();
            }
            Some(Traffic {
                replica: replica.clone(),
                requests,
                failed: entry.numbers.failed.load(Relaxed),
                in_flight: open.get(replica).copied().unwrap_or(0),
                rate_milli: rate_milli(&recent, over),
                p50_us: at(&recent, 50),
                p95_us: at(&recent, 95),
                p99_us: at(&recent, 99),
            })
        });
        told.collect()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many a second there are, in thousandths, over so many seconds.
fn rate_milli(spread: &[u32; SIZES], seconds: usize) -> u64 {
    let total: u64 = spread.iter().map(|count| u64::from(*count)).sum();
    total * 1_000 / u64::try_from(seconds.max(1)).unwrap_or(u64::MAX)
}

/// What came after an earlier spread. The counts go round; the difference does not mind.
fn since(now: &[u32; SIZES], then: &[u32; SIZES]) -> Box<[u32; SIZES]> {
    let mut difference = Box::new([0; SIZES]);
    for (difference, (now, then)) in difference.iter_mut().zip(now.iter().zip(then)) {
        *difference = now.wrapping_sub(*then);
    }
    difference
}

/// The size that so many of a hundred do not exceed; 0 when there are none.
fn at(spread: &[u32; SIZES], percent: u64) -> u64 {
    let total: u64 = spread.iter().map(|count| u64::from(*count)).sum();
    let wanted = (total * percent).div_ceil(100);
    let mut seen = 0;
    for (size, count) in spread.iter().enumerate() {
        seen += u64::from(*count);
        if *count > 0 && seen >= wanted {
            return largest_of(size);
        }
    }
    0
}

/// Which size a number has: numbers below eight their own, above that eight for each doubling.
fn size_of(number: u64) -> usize {
    let Some(exponent) = number.checked_ilog2().filter(|exponent| *exponent >= 3) else {
        return usize::try_from(number).unwrap_or(0);
    };
    let eighth = (number >> (exponent - 3)) & 7;
    let size = u64::from(exponent - 2) * 8 + eighth;
    usize::try_from(size).unwrap_or(usize::MAX).min(SIZES - 1)
}

/// The largest number of a size.
fn largest_of(size: usize) -> u64 {
    if size < 8 {
        return u64::try_from(size).unwrap_or(0);
    }
    let (doubling, eighth) = (size / 8 - 1, u64::try_from(size % 8).unwrap_or(0));
    ((8 + eighth + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(&format!("shop-web-{name}")).expect("an id")
    }

    proptest! {
        /// Every number is told at most an eighth too large, and never too small.
        #[test]
        fn sizes_are_near(number in 0_u64..1 << 33) {
            let told = largest_of(size_of(number));
            prop_assert!(told >= number && told - number <= number / 8, "{number} as {told}");
        }

        #[test]
        fn sizes_are_in_order(one in 0_u64..1 << 40, other in 0_u64..1 << 40) {
            prop_assert_eq!(one.cmp(&other).is_lt(), size_of(one) < size_of(other)
                || (one < other && size_of(one) == size_of(other)));
        }
    }

    #[test]
    fn counts_stay_and_times_are_of_the_last_ten_tellings() {
        let (tally, open) = (Tally::default(), Open::default());
        let numbers = tally.of(&id("a"));
        assert!(tally.tell(&open).is_empty(), "nothing was sent to it");
        for after_us in 1..=100 {
            numbers.sent();
            numbers.answered(after_us * 1_000);
        }
        numbers.failed();
        let held = open.of(&id("a")).hold();
        let told = tally.tell(&open);
        let [traffic] = told.as_slice() else { panic!("one replica: {told:?}") };
        assert_eq!((traffic.requests, traffic.failed, traffic.in_flight), (100, 1, 1));
        assert!((50_000..57_000).contains(&traffic.p50_us), "{traffic:?}");
        assert!((95_000..107_000).contains(&traffic.p95_us), "{traffic:?}");
        assert!((99_000..112_000).contains(&traffic.p99_us), "{traffic:?}");
        drop(held);
        for _ in 0..WINDOW {
            assert_eq!(tally.tell(&open).len(), 1);
        }
        numbers.sent();
        numbers.answered(7);
        let told = tally.tell(&open);
        let [traffic] = told.as_slice() else { panic!("one replica: {told:?}") };
        assert_eq!((traffic.requests, traffic.p50_us, traffic.p99_us), (101, 7, 7));
        assert_eq!(traffic.rate_milli, 100, "one in ten seconds");
        drop(numbers);
        assert!(tally.tell(&open).is_empty(), "nobody has it any more");
    }
}
