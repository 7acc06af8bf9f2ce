//! Stores what the sequencer has ordered, while it orders what comes next.
//!
//! Groups that wait behind a sync go into the next commit together: what arrives during one sync is
//! on disk with the one after it, however many groups it is.
//!
//! Not here: a thread. Whoever calls this gives it one.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use crate::sequencer::Input;
use crate::store::{Commit, Store};

/// The most entries of groups that are joined.
const JOINED: usize = 4_096;

/// Stores groups until nobody sends any more, or one may not be on disk, or `told` is not heard.
pub fn store_groups<S: Store>(
    store: &S,
    groups: &Receiver<Arc<Commit>>,
    told: &mut dyn FnMut(Input) -> bool,
) {
    while let Ok(group) = groups.recv() {
        let input = store_group(store, joined(group, groups));
        let failed = matches!(input, Input::NotStored(_));
        if !told(input) || failed {
            return;
        }
    }
}

/// Stores a group, and says so.
pub fn store_group<S: Store>(store: &S, group: Arc<Commit>) -> Input {
    match store.append(&group) {
        Ok(()) => Input::Stored(group.rows.last().map_or(0, |row| row.place.position)),
        Err(error) => Input::NotStored(Arc::new(error)),
    }
}

/// A group, with those that wait behind it.
fn joined(first: Arc<Commit>, groups: &Receiver<Arc<Commit>>) -> Arc<Commit> {
    let Ok(second) = groups.try_recv() else { return first };
    let mut all = Arc::unwrap_or_clone(first);
    all.join(Arc::unwrap_or_clone(second));
    while all.rows.len() < JOINED
        && let Ok(next) = groups.try_recv()
    {
        all.join(Arc::unwrap_or_clone(next));
    }
    Arc::new(all)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use schemas::event::AppDeleted;
    use schemas::id::AppKey;

    use super::*;
    use crate::store::Row;
    use crate::store::fake::FakeStore;
    use crate::testing::Written;

    /// A small log, in groups that touch the same series and writer.
    fn written() -> Written<FakeStore> {
        let mut written = Written::new(FakeStore::new());
        for i in 0..5 {
            let app = AppKey::parse(&format!("shop-{}", i % 2)).expect("a name");
            written.batch(i, "ana", None, &[AppDeleted { app }.into()]);
        }
        written
    }

    fn rows(store: &FakeStore) -> Vec<Row> {
        crate::store::rows(store, 1, u64::MAX).expect("readable")
    }

    #[test]
    fn groups_that_wait_are_stored_together_as_one_by_one() {
        let written = written();
        let (sender, receiver) = channel();
        for group in &written.commits {
            sender.send(Arc::new(group.clone())).expect("it is there");
        }
        drop(sender);
        let (store, mut said) = (FakeStore::new(), Vec::new());
        store_groups(&store, &receiver, &mut |input| {
            said.push(input);
            true
        });
        let last = written.store.head().expect("readable").position;
        assert!(matches!(said.as_slice(), [Input::Stored(at)] if *at == last), "{said:?}");
        assert_eq!(rows(&store), rows(&written.store));
        assert_eq!(store.indexes(), written.store.indexes());
        assert_eq!(store.genesis().expect("readable"), written.store.genesis().expect("readable"));
    }

    #[test]
    fn nothing_is_stored_behind_a_group_that_may_not_be_on_disk() {
        let written = written();
        let (sender, receiver) = channel();
        let send = |group: &Commit| sender.send(Arc::new(group.clone())).expect("it is there");
        let (store, mut said) = (FakeStore::new(), Vec::new());
        store.fail_next();
        send(&written.commits[0]);
        store_groups(&store, &receiver, &mut |input| {
            said.push(input);
            written.commits[1..].iter().for_each(send);
            true
        });
        assert!(matches!(said.as_slice(), [Input::NotStored(_)]), "{said:?}");
        // Of that group itself nobody knows.
        assert!(rows(&store).len() <= written.commits[0].rows.len());
    }
}
