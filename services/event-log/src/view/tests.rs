//! Snapshots: of several versions of the fold, and bad ones.

use super::*;
use crate::testing::Folder;
use crate::testing::long::LongLog;

/// A log with a state, and a place to put snapshots.
fn made() -> (Folder, LongLog) {
    let folder = Folder::new();
    let mut log = LongLog::begin(folder.path());
    log.grow(60);
    (folder, log)
}

/// A snapshot of another release, which only that one can read.
fn foreign(store: &impl Store, version: u32, place: Place) {
    let bytes = b"a state as it will be";
    let (state_hash, bytes_len) = ("hash".to_owned(), bytes.len() as u64);
    let meta = SnapshotMeta { fold_version: version, place, state_hash, bytes: bytes_len };
    store.put_snapshot(&meta, bytes).expect("the disk takes it");
}

#[test]
fn snapshots_of_other_versions_are_not_used_and_not_forgotten() {
    let (_folder, mut log) = made();
    let store = log.store();
    log.snapshot();
    let mine = log.place();
    let (older, newer) = (FOLD_VERSION - 1, FOLD_VERSION + 1);
    for _ in 0..4 {
        log.grow(10);
        foreign(&store, older, log.place());
        foreign(&store, newer, log.place());
    }
    // The newest are of others: mine is the one to begin from, and the next one is soon due.
    assert_eq!(View::open(&store).expect("readable").fold().place(), mine);
    assert_eq!(newest_snapshot(&store), mine.position);
    for _ in 0..4 {
        log.grow(10);
        log.snapshot();
    }
    let count = |version| {
        let all = store.snapshots().expect("readable");
        all.iter().filter(|meta| meta.fold_version == version).count()
    };
    assert_eq!((count(FOLD_VERSION), count(older), count(newer)), (3, 1, 1));
}

#[test]
fn a_bad_snapshot_is_skipped_for_an_older_one() {
    let (_folder, mut log) = made();
    let store = log.store();
    log.snapshot();
    let good = log.place();
    log.grow(10);
    log.snapshot();
    let bad = store.snapshots().expect("readable").remove(0);
    assert!(bad.place.position > good.position);
    // It is whole, and of another place than it says.
    let older = store.snapshots().expect("readable").remove(1);
    let len = usize::try_from(older.bytes).expect("small");
    let bytes = store.snapshot_bytes(&older, 0, len).expect("readable");
    store.put_snapshot(&SnapshotMeta { bytes: older.bytes, ..bad }, &bytes).expect("room");
    assert_eq!(View::open(&store).expect("readable").fold().place(), good);
}
