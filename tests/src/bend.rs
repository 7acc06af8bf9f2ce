//! A state that is not what its log folds to, as a bug or bad memory would make it: what those who
//! compare states must notice.

use std::path::Path;

use cluster::{FOLD_VERSION, Fold};
use event_log::store::{FjallStore, SnapshotMeta, Store as _, rows};
use schemas::place::Place;

/// The label that one of its nodes has in a bent state, and nobody gave it.
const LABEL: &str = "bent";

/// Gives an event-log that does not run a snapshot of its newest state in which one label is too many:
/// nothing is placed by it, and only the hash tells. It begins from there, and so does whoever asks it
/// for a snapshot. Where that stands.
///
/// # Panics
///
/// When there is no such log, or no node in it.
#[must_use]
pub fn bend(folder: &Path) -> Place {
    let store = FjallStore::open(folder).expect("nobody has it open");
    let head = store.head().expect("readable").position;
    let mut fold = Fold::new();
    for row in rows(&store, 1, head).expect("readable") {
        fold.push(&row.bytes).expect("the log folds");
    }
    let state = fold.state_mut();
    let node = state.nodes.iter().next().expect("there is a node").0.clone();
    state.nodes.update(&node, |node| node.labels.insert(LABEL.to_owned(), "1".to_owned()));
    state.nodes.settle();
    let bytes = fold.snapshot();
    let meta = SnapshotMeta {
        place: fold.place(),
        fold_version: FOLD_VERSION,
        state_hash: fold.state().hash(),
        bytes: u64::try_from(bytes.len()).expect("it is small"),
    };
    store.put_snapshot(&meta, &bytes).expect("there is room");
    fold.place()
}
