//! Damage of many kinds in one log: all of it is named.

use super::*;
use crate::store::Row;
use crate::testing::Folder;
use crate::testing::flip::{Original, lose_the_end};

fn changed(row: &Row) -> Row {
    let text = String::from_utf8(row.bytes.to_vec()).expect("JSON");
    Row { bytes: text.replace("test", "tost").into_bytes().into(), ..row.clone() }
}

fn damages(folder: &Folder) -> Vec<String> {
    look(folder.path(), &mut Progress::silent()).expect("nobody has it open").damages
}

#[track_caller]
fn says(damages: &[String], what: &str) {
    assert!(damages.iter().any(|damage| damage.contains(what)), "{what} in {damages:#?}");
}

#[test]
fn it_goes_on_behind_the_first_damage() {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 500);
    assert_eq!(damages(&folder), Vec::<String>::new());
    let store = FjallStore::open(folder.path()).expect("it opens");
    for position in [100, 300] {
        let row = store.row(position).expect("readable").expect("there");
        store.replace(&changed(&row));
    }
    let row = store.row(500).expect("readable").expect("there");
    store.replace(&Row { ends: !row.ends, ..row.clone() });
    let row = store.row(550).expect("readable").expect("there");
    store.replace(&Row { subject: "muster.v1.evt.other".to_owned(), ..row.clone() });
    drop(store);
    let damages = damages(&folder);
    says(&damages, "position 100: it does not have its hash");
    says(&damages, "position 300: it does not have its hash");
    says(&damages, "position 500: its row does not say right whether its batch ends");
    says(&damages, "position 550: it is stored for another subject");
    assert!(verify(folder.path()).expect_err("it is damaged").to_string().contains("things"));
}

#[test]
fn indexes_are_compared_with_the_entries_in_both_directions() {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 500);
    let store = FjallStore::open(folder.path()).expect("it opens");
    let said = store.spoil_indexes();
    drop(store);
    let damages = damages(&folder);
    for what in &said {
        says(&damages, what);
    }
    assert_eq!(said.len(), 6);
}

#[test]
fn a_lost_end_is_named_by_file_and_by_position_and_nothing_is_changed() {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 500);
    lose_the_end(folder.path());
    for _ in 0..2 {
        let damages = damages(&folder);
        says(&damages, ".jnl: no batch begins here at byte");
        says(&damages, "it may hold events between positions");
        says(&damages, "are missing");
        let error = FjallStore::open(folder.path()).expect_err("it is damaged").to_string();
        assert!(error.contains("nothing was changed") && error.contains("salvage"), "{error}");
    }
}

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let folder = Folder::new();
    let error = verify(folder.path()).expect_err("there is nothing").to_string();
    assert!(error.contains("there is no log in"), "{error}");
}

/// The engine takes lengths from the file that lists a tree's tables, and would ask for memory that no
/// machine has: that ends the process before anything is named.
#[test]
fn what_describes_a_tree_is_not_given_to_the_engine_when_a_byte_of_it_differs() {
    let folder = Folder::new();
    let _original = Original::make(folder.path(), 500);
    let trees = folder.path().join(store::FOLDER).join("keyspaces");
    let tree = std::fs::read_dir(trees).expect("trees").flatten().next().expect("one").path();
    let described = std::fs::read_dir(&tree).expect("readable").flatten().map(|file| file.path());
    let is_version = |path: &std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('v'))
    };
    let version = described.into_iter().find(is_version).expect("a version");
    let whole = std::fs::read(&version).expect("readable");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x80;
        std::fs::write(&version, &bytes).expect("writable");
        says(&damages(&folder), "the checksum that `current` has for it");
    }
    std::fs::write(&version, &whole).expect("writable");
    assert_eq!(damages(&folder), Vec::<String>::new());
}
