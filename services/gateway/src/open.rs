//! What is under way on replicas: one count each, whatever carries it.
//!
//! Whoever sends something to a replica holds it open for as long as that lasts. It must be held before
//! the table by which the replica was chosen can be replaced: under the lock that the choice is made
//! under, or with the choice made again once it is held. Then a count of 0 under a newer table means
//! that nothing is there, and that nothing is on its way there.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::id::ReplicaId;
use tokio::sync::watch;

/// The counts of all replicas. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_replica: Mutex<BTreeMap<ReplicaId, OnReplica>>,
    emptied: watch::Sender<()>,
}

/// The count of one replica. Cheap to clone, and to hold something open by: no lock is taken.
#[derive(Clone, Debug)]
pub struct OnReplica(Arc<Count>);

#[derive(Debug)]
struct Count {
    open: AtomicU64,
    /// Whether somebody waits for it to be 0.
    awaited: AtomicBool,
    emptied: watch::Sender<()>,
}

/// Something is under way on a replica until this is dropped.
#[derive(Debug)]
pub struct Held(OnReplica);

impl Open {
    /// The count of a replica.
    #[must_use]
    pub fn of(&self, replica: &ReplicaId) -> OnReplica {
        let fresh = || {
            let emptied = self.0.emptied.clone();
            OnReplica(Arc::new(Count { open: 0.into(), awaited: false.into(), emptied }))
        };
        self.by_replica().entry(replica.clone()).or_insert_with(fresh).clone()
    }

    /// Has the end of the last thing on each of these replicas be told of, and not of others.
    pub fn await_end(&self, of: impl Fn(&ReplicaId) -> bool) {
        for (replica, count) in self.by_replica().iter() {
            count.0.awaited.store(of(replica), SeqCst);
        }
    }

    /// Changes when the last thing ended on a replica whose end is awaited.
    #[must_use]
    pub fn emptied(&self) -> watch::Receiver<()> {
        self.0.emptied.subscribe()
    }

    /// How much is under way, where something is. Forgets counts that nobody has any more.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<ReplicaId, u64> {
        let mut by_replica = self.by_replica();
        by_replica.retain(|_, count| Arc::strong_count(&count.0) > 1);
        let open = by_replica.iter().map(|(replica, count)| (replica.clone(), count.open()));
        open.filter(|(_, open)| *open > 0).collect()
    }

    fn by_replica(&self) -> MutexGuard<'_, BTreeMap<ReplicaId, OnReplica>> {
        self.0.by_replica.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OnReplica {
    /// One more thing is under way.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.0.open.fetch_add(1, SeqCst);
        Held(self.clone())
    }

    /// How much is under way.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.0.open.load(SeqCst)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Count { open, awaited, emptied } = &*self.0.0;
        // Whoever awaits it says so first and counts then, so one of the two sees the other.
        if open.fetch_sub(1, SeqCst) == 1 && awaited.load(SeqCst) {
            emptied.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(&format!("shop-web-{name}")).expect("an id")
    }

    #[test]
    fn what_is_held_is_counted_by_replica_until_it_is_dropped() {
        let open = Open::default();
        let count = open.of(&id("a"));
        let (one, two) = (count.hold(), open.of(&id("a")).hold());
        let other = open.of(&id("b")).hold();
        assert_eq!(open.counts(), [(id("a"), 2), (id("b"), 1)].into());
        drop((one, other));
        assert_eq!(open.counts(), [(id("a"), 1)].into());
        assert_eq!(count.open(), 1);
        drop(two);
        assert_eq!(open.counts(), [].into());
    }

    #[test]
    fn the_last_end_is_told_of_where_it_is_awaited_and_nowhere_else() {
        let open = Open::default();
        let mut emptied = open.emptied();
        let mut told = || {
            let told = emptied.has_changed().expect("the counts are there");
            emptied.mark_unchanged();
            told
        };
        let (a, b) = (open.of(&id("a")), open.of(&id("b")));
        drop(a.hold());
        assert!(!told(), "nobody waits for it");
        let held = [a.hold(), a.hold(), b.hold()];
        open.await_end(|replica| *replica == id("a"));
        let [first, second, other] = held;
        drop((first, other));
        assert!(!told(), "one of a is left, and b is not awaited");
        drop(second);
        assert!(told());
        open.await_end(|_| false);
        drop(a.hold());
        assert!(!told());
    }

    #[test]
    fn a_count_that_nobody_has_is_forgotten_and_one_that_is_held_is_not() {
        let open = Open::default();
        let held = open.of(&id("a")).hold();
        drop(open.of(&id("b")));
        assert_eq!(open.counts().len(), 1);
        assert_eq!(open.by_replica().len(), 1);
        // The count goes on, whoever asks for it.
        assert_eq!(open.of(&id("a")).open(), 1);
        drop(held);
        assert_eq!(open.counts().len(), 0);
        assert!(open.by_replica().is_empty());
    }
}
