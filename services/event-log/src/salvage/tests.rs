//! What can be had from damaged stores, and that it is exactly what was written.

use super::*;
use crate::store::{FjallStore, rows};
use crate::testing::Folder;
use crate::testing::flip::{Guards, Original, Outcome, Target, lose_the_end};
use crate::verify::{Progress, look};

fn made() -> (Folder, Original, Folder) {
    let folder = Folder::new();
    let original = Original::make(folder.path(), 500);
    (folder, original, Folder::new())
}

/// The salvaged log is whole, and its entries are the first of the original's.
fn compare(original: &[crate::store::Row], into: &Folder) -> u64 {
    let store = FjallStore::open(into.path()).expect("it opens");
    let salvaged = rows(&store, 0, u64::MAX).expect("it is readable");
    assert_eq!(salvaged, original[..salvaged.len()]);
    drop(store);
    let report = look(into.path(), &mut Progress::silent()).expect("nobody has it open");
    // The old witness is kept: what it saw and is not there is still missing.
    let wrong = report.damages.iter().filter(|what| !what.contains("are missing")).count();
    assert_eq!(wrong, 0, "{:?}", report.damages);
    salvaged.len() as u64
}

fn written(folder: &Folder) -> Vec<crate::store::Row> {
    let store = FjallStore::open(folder.path()).expect("it opens");
    rows(&store, 0, u64::MAX).expect("it is readable")
}

#[test]
fn of_a_whole_store_everything() {
    let (folder, _original, into) = made();
    let rows = written(&folder);
    let salvaged = salvage(folder.path(), into.path(), false).expect("there is room");
    assert_eq!(salvaged.place, rows.last().expect("there are").place);
    assert!(salvaged.to_string().contains("nothing that the witness saw published is missing"));
    assert_eq!(compare(&rows, &into), rows.len() as u64);
    let error = salvage(folder.path(), into.path(), false).expect_err("there is one").to_string();
    assert!(error.contains("holds a log already"), "{error}");
}

#[test]
fn of_a_damaged_journal_what_is_before_the_damage() {
    let (folder, _original, into) = made();
    let rows = written(&folder);
    lose_the_end(folder.path());
    let salvaged = salvage(folder.path(), into.path(), false).expect("there is room");
    let text = salvaged.to_string();
    let place = salvaged.place.position;
    assert!(place < rows.len() as u64);
    let missing = format!("missing: positions {} to {}, which", place + 1, rows.len());
    assert!(text.contains(&missing), "{text}");
    assert!(text.contains("it ends there because position"), "{text}");
    assert!(text.contains("not taken: what is left of positions"), "{text}");
    assert_eq!(compare(&rows, &into), place);
}

#[test]
fn accepted_loss_has_a_witness_of_its_own() {
    let (folder, _original, into) = made();
    lose_the_end(folder.path());
    let salvaged = salvage(folder.path(), into.path(), true).expect("there is room");
    assert!(salvaged.to_string().contains("given up"));
    let witness = Witness::open(into.path()).expect("it is whole");
    assert_eq!(witness.heads().expect("it saw some").published, salvaged.place);
    let report = look(into.path(), &mut Progress::silent()).expect("nobody has it open");
    assert_eq!(report.damages, Vec::<String>::new());
}

#[test]
fn of_any_flipped_store_a_prefix_of_what_was_written() {
    let (folder, original, _) = made();
    let rows = written(&folder);
    let scratch = Folder::new();
    let bits = original.bytes(Target::Store) * 8;
    let mut salvaged_all = 0;
    for i in 0..8 {
        let at = (i * 2_654_435_761 + 977) % bits;
        let outcome = original.flip(scratch.path(), Target::Store, at, Guards::ALL);
        assert_ne!(outcome, Outcome::Silent);
        let into = Folder::new();
        let salvaged = salvage(scratch.path(), into.path(), false);
        let salvaged = salvaged.unwrap_or_else(|error| panic!("bit {at}: {error}"));
        let count = compare(&rows, &into);
        assert_eq!(count, salvaged.place.position);
        salvaged_all += u64::from(count == rows.len() as u64);
    }
    assert!(salvaged_all > 0, "damage of an index loses no entry");
}
