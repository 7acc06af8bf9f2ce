//! When a snapshot is due, and the writing of it beside everything else.

use crate::packed::Packed;
use crate::store::{FjallStore, Store};
use crate::view::{self, View};

/// Writes snapshots, one at a time.
pub(super) struct Snapshots {
    packed: Packed,
    due: Due,
    writing: Option<tokio::task::JoinHandle<()>>,
}

/// So many entries behind the newest one, the next is due.
#[derive(Debug)]
struct Due {
    every: u64,
    /// Where the newest was taken.
    newest: u64,
}

impl Due {
    fn is_at(&self, position: u64) -> bool {
        position >= self.newest.saturating_add(self.every)
    }

    /// What was published behind some place was given up, and so were the snapshots of it.
    fn went_back(&mut self, store: &impl Store) {
        self.newest = view::newest_snapshot(store);
    }
}

impl Snapshots {
    pub(super) fn new(store: &FjallStore, packed: Packed, every: u64) -> Self {
        let due = Due { every: every.max(1), newest: view::newest_snapshot(store) };
        Self { packed, due, writing: None }
    }

    pub(super) fn went_back(&mut self, store: &FjallStore) {
        self.due.went_back(store);
    }

    pub(super) fn write_if_due(&mut self, store: &FjallStore, view: &View) {
        let busy = self.writing.as_ref().is_some_and(|writing| !writing.is_finished());
        let fold = view.fold();
        let position = fold.place().position;
        if busy || !self.due.is_at(position) {
            return;
        }
        self.due.newest = position;
        let (store, packed, fold) = (store.clone(), self.packed.clone(), fold.clone());
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = view::write_snapshot(&store, &fold) {
                tracing::error!(error = runtime::process::chain(&error), "no snapshot was written");
            }
            if let Err(error) = packed.catch_up(&store, fold.place().position) {
                tracing::error!(error = runtime::process::chain(&error), "the log was not packed");
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use schemas::place::{Hash, Place};

    use super::*;
    use crate::store::SnapshotMeta;
    use crate::testing::Folder;
    use crate::testing::long::LongLog;

    #[test]
    fn after_going_back_the_next_is_due_behind_the_newest_that_is_left() {
        let folder = Folder::new();
        let mut log = LongLog::begin(folder.path());
        let store = log.store();
        let mut places = Vec::new();
        for _ in 0..2 {
            log.grow(60);
            log.snapshot();
            places.push(log.place());
        }
        let mut due = Due { every: 50, newest: places[1].position };
        assert!(!due.is_at(places[1].position + 49));
        // What an operator gives up takes its snapshots with it, but for one that was just written:
        // that is of no place of this history.
        let given_up = store.snapshots().expect("readable").remove(0);
        assert_eq!(given_up.place, places[1]);
        store.drop_snapshot(&given_up).expect("it goes");
        let place = Place { hash: Hash::ZERO, ..places[1] };
        let late = SnapshotMeta { place, bytes: 1, ..given_up };
        store.put_snapshot(&late, b"s").expect("the disk takes it");
        due.went_back(&store);
        assert!(!due.is_at(places[0].position + 49));
        assert!(due.is_at(places[0].position + 50));
    }
}
