//! How far it is to nodes: how long connections to replicas there took to be made.
//!
//! Only what is made anyway is measured, but for one thing: where connections are kept for a long time, a
//! request makes a new one from time to time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::id::NodeName;
use schemas::report::WayTo;

/// How many of the last connections to a node are looked at.
const KEPT: usize = 64;

/// How long one is looked at, in ms.
const KEPT_MS: u64 = 120_000;

/// Fewer of them say nothing.
const LEAST: usize = 5;

/// After how long without a connection that was made a request makes one, in ms.
const DUE_MS: u64 = 10_000;

/// The ways to all nodes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ways(Arc<Mutex<BTreeMap<NodeName, Arc<Way>>>>);

/// The way to one node.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// When connections were made, and how long each took, in microseconds.
    made: Mutex<VecDeque<(u64, u64)>>,
    /// When the next one is due, in ms; 0 before the first.
    due_ms: AtomicU64,
}

impl Way {
    /// A connection was made, in so long.
    pub(crate) fn connected(&self, took_us: u64, now_ms: u64) {
        self.due_ms.store(now_ms + DUE_MS, Relaxed);
        let mut made = self.made();
        if made.len() == KEPT {
            made.pop_front();
        }
        made.push_back((now_ms, took_us));
    }

    /// Whether a connection is to be made though another one is there. It is said to one who asks.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        let due_ms = self.due_ms.load(Relaxed);
        let next_ms = now_ms + DUE_MS;
        due_ms <= now_ms && self.due_ms.compare_exchange(due_ms, next_ms, Relaxed, Relaxed).is_ok()
    }

    /// How many there were of late, and how long they took at the median.
    fn told(&self, now_ms: u64) -> Option<(usize, u64)> {
        let mut made = self.made();
        while made.front().is_some_and(|(at_ms, _)| at_ms + KEPT_MS < now_ms) {
            made.pop_front();
        }
        let mut took: Vec<u64> = made.iter().map(|(_, took_us)| *took_us).collect();
        drop(made);
        took.sort_unstable();
        (took.len() >= LEAST).then(|| (took.len(), took[took.len() / 2]))
    }

    fn made(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ways {
    /// The way to a node.
    pub(crate) fn to(&self, node: &NodeName) -> Arc<Way> {
        self.ways().entry(node.clone()).or_default().clone()
    }

    /// How far it is to each node that was connected to of late.
    #[must_use]
    pub fn tell(&self, now_ms: u64) -> Vec<WayTo> {
        let mut ways = self.ways();
        // Of those to which nothing leads any more the last connections still count.
        ways.retain(|_, way| Arc::strong_count(way) > 1 || !way.made().is_empty());
        let told = ways.iter().filter_map(|(to, way)| {
            let (connects, connect_us) = way.told(now_ms)?;
            let connects = u64::try_from(connects).unwrap_or(u64::MAX);
            Some(WayTo { to: to.clone(), connects, connect_us })
        });
        told.collect()
    }

    fn ways(&self) -> MutexGuard<'_, BTreeMap<NodeName, Arc<Way>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::new(name).expect("a name")
    }

    #[test]
    fn the_median_of_many_is_told_and_of_few_or_of_long_ago_nothing() {
        let ways = Ways::default();
        let way = ways.to(&node("n2"));
        for took_us in [2_000, 2_100, 90_000, 1_900] {
            way.connected(took_us, 1_000);
            assert_eq!(ways.tell(1_000), []);
        }
        way.connected(2_050, 2_000);
        let told = WayTo { to: node("n2"), connects: 5, connect_us: 2_050 };
        assert_eq!(ways.tell(2_000), [told]);
        assert_eq!(ways.tell(1_000 + KEPT_MS).len(), 1);
        assert_eq!(ways.tell(1_001 + KEPT_MS), [], "four of five were too long ago");
        for took_us in 0..1_000 {
            way.connected(took_us, 1_000_000);
        }
        let all = ways.tell(1_000_000);
        assert_eq!((all[0].connects, all[0].connect_us), (64, 968), "the last ones count");
        drop(way);
        assert_eq!(ways.tell(1_000_000).len(), 1);
        assert_eq!(ways.tell(2_000_000), []);
        assert_eq!(ways.tell(2_000_000), []);
        assert!(ways.ways().is_empty(), "nobody goes there any more");
    }

    #[test]
    fn one_of_many_requests_makes_a_connection_when_none_was_made_for_a_while() {
        let way = Way::default();
        way.connected(100, 1_000);
        assert!(!way.is_due(1_000 + DUE_MS - 1));
        assert!(way.is_due(1_000 + DUE_MS));
        assert!(!way.is_due(1_000 + DUE_MS), "somebody does already");
        assert!(!way.is_due(1_000 + 2 * DUE_MS - 1));
        assert!(way.is_due(1_000 + 2 * DUE_MS), "that came to nothing");
        way.connected(100, 30_000);
        assert!(!way.is_due(30_001));
    }
}
