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
    assert_eq!(View::open(&store, None).expect("readable").fold().place(), mine);
    assert_eq!(newest_snapshot(&store), mine.position);
    for _ in 0..4 {
        log.grow(10);
        log.snapshot();
    }
    let count = |version| {
        let all = store.snapshots().expect("readable");
        all.iter().filter(|meta| meta.fold_version == version).count()
    };
    // The newest three and the oldest.
    assert_eq!((count(FOLD_VERSION), count(older), count(newer)), (4, 1, 1));
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
    assert_eq!(View::open(&store, None).expect("readable").fold().place(), good);
}

fn meta(position: u64, fold_version: u32) -> SnapshotMeta {
    let place = Place { position, ..Place::START };
    SnapshotMeta { fold_version, place, state_hash: String::new(), bytes: 1_000 }
}

/// What is left when snapshots come one by one.
fn left(every: u64, count: u64, budget: u64) -> Vec<u64> {
    let mut all: Vec<SnapshotMeta> = Vec::new();
    for n in 1..=count {
        all.insert(0, meta(n * every, FOLD_VERSION));
        let gone = thin(&all, budget);
        all.retain(|meta| !gone.contains(meta));
        assert!(all.len() as u64 * 1_000 <= budget, "{all:?}");
    }
    all.iter().rev().map(|meta| meta.place.position).collect()
}

#[test]
fn every_moment_stays_near_a_snapshot() {
    let kept = left(4_000, 2_500, u64::MAX);
    let widest = kept.windows(2).map(|two| two[1] - two[0]).max();
    assert!(widest <= Some(SNAPSHOT_STRIDE + 4_000), "{kept:?}");
    assert!(kept.len() < 1_010, "{}", kept.len());
    assert_eq!(kept[kept.len() - 3..], [9_992_000, 9_996_000, 10_000_000]);
}

#[test]
fn what_is_kept_fits_and_is_spread_over_all_of_history() {
    let kept = left(4_000, 2_500, 50_000);
    let widest = kept.windows(2).map(|two| two[1] - two[0]).max();
    assert!(kept.len() > 20, "{kept:?}");
    assert!(widest <= Some(32 * SNAPSHOT_STRIDE + 4_000), "{kept:?}");
}

#[test]
fn of_another_version_of_the_fold_the_newest_is_kept() {
    let mut all: Vec<SnapshotMeta> = (1..=9).rev().map(|n| meta(n * 50_000, 1)).collect();
    all.insert(0, meta(500_000, FOLD_VERSION));
    let gone = thin(&all, u64::MAX);
    assert_eq!(gone, all[2..]);
}
