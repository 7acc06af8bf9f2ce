//! What a power cut leaves is cut off and told; what damage leaves is not touched.

use schemas::place::Place;

use super::*;
use crate::store::{FjallStore, Store as _};
use crate::testing::Folder;
use crate::testing::flip::{Original, lose_the_end};
use crate::witness::Heads;

fn made() -> (Folder, PathBuf) {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 300);
    let journals = journals(&folder.path().join(FOLDER)).expect("it is readable");
    let last = journals.last().expect("there is one").clone();
    (folder, last)
}

fn head(folder: &Folder) -> u64 {
    let store = FjallStore::open(folder.path()).expect("it opens");
    store.head().expect("it is readable").position
}

#[test]
fn a_torn_batch_is_kept_cut_off_and_the_log_goes_on() {
    let (folder, journal) = made();
    let before = head(&folder);
    let bytes = std::fs::read(&journal).expect("it is there");
    // The last batch is torn in its middle, and zeroes follow as after a crash.
    let mut torn = bytes[..bytes.len() - 100].to_vec();
    torn.resize(bytes.len() + 5_000, 0);
    std::fs::write(&journal, &torn).expect("it is ours");
    let after = head(&folder);
    assert!(after < before, "{after} of {before}");
    let kept: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .expect("it is readable")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("torn-")))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    let tail = std::fs::read(&kept[0]).expect("it is there");
    assert!(bytes.windows(tail.len()).any(|window| window == tail));
    assert_eq!(head(&folder), after, "the second time nothing is torn");
}

#[test]
fn a_page_of_zeroes_inside_the_last_batch_is_a_torn_batch_as_well() {
    let (folder, journal) = made();
    let before = head(&folder);
    let mut bytes = std::fs::read(&journal).expect("it is there");
    let len = bytes.len();
    bytes[len - 600..len - 200].fill(0);
    std::fs::write(&journal, &bytes).expect("it is ours");
    assert!(head(&folder) < before);
}

#[test]
fn a_table_that_is_gone_is_named_and_the_store_stays_as_it_is() {
    let (folder, _journal) = made();
    let database = folder.path().join(FOLDER);
    let trees = trees(&database).expect("it is readable");
    let gone = trees.iter().find_map(|tree| {
        let tables = tables_of(tree).expect("it is whole");
        tables.first().map(|(id, _)| table(tree, *id))
    });
    let gone = gone.expect("there are tables");
    std::fs::remove_file(&gone).expect("it is ours");
    let error = FjallStore::open(folder.path()).expect_err("a table is missing").to_string();
    assert!(error.contains(&gone.display().to_string()), "{error}");
    assert!(error.contains("its tree names it"), "{error}");
}

#[test]
fn a_folder_that_is_in_use_is_left_alone() {
    let (folder, _journal) = made();
    let _store = FjallStore::open(folder.path()).expect("it opens");
    let error = FjallStore::open(folder.path()).expect_err("it is open").to_string();
    assert!(error.contains("another event-log runs on it"), "{error}");
}

#[test]
fn what_was_never_promised_may_stand_behind_a_torn_batch() {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 500);
    let before = head(&folder);
    lose_the_end(folder.path());
    let error = FjallStore::open(folder.path()).expect_err("it was promised").to_string();
    assert!(error.contains("is damaged"), "{error}");
    // A witness that saw less: the same file is what a power cut may leave of unsynced batches.
    let mut witness = Witness::open(folder.path()).expect("it is whole");
    let heads = witness.heads().expect("it saw some").clone();
    let published = Place { position: 700, ..heads.published };
    witness.write(&Heads { published, ..heads }).expect("it is ours");
    drop(witness);
    let after = head(&folder);
    assert!((700..before).contains(&after), "{after} of {before}");
}
