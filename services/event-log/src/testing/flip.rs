//! One flipped bit in a log on disk: is it named, or of no effect?
//!
//! The log is copied, the bit flipped, and the copy verified as an operator would. Where nothing is
//! said, everything that the log answers is compared with what the undamaged one answers.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::long::LongLog;
use crate::audit::{Audit, Checks, against_witness};
use crate::store::{self, FjallStore, Store as _, StoreError, rows};
use crate::verify::{Progress, look};
use crate::witness::Witness;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any file of the store: tables, journals, versions.
    Store,
    /// The journals alone.
    Journal,
    /// The tables that hold the snapshots.
    Snapshot,
    /// The witness.
    Witness,
}

/// What is looked for. Each guard has a test that damage is silent without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Files are compared with their checksums before the engine opens them.
    pub files: bool,
    /// Entries are compared with the hash chain.
    pub chain: bool,
    /// The log is compared with its witness.
    pub witness: bool,
}

impl Guards {
    /// As it is for real.
    pub const ALL: Self = Self { files: true, chain: true, witness: true };
}

/// What came of a flipped bit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is named, in these words.
    Named(Vec<String>),
    /// Nothing was said, and every answer is as before.
    Unused,
    /// Nothing was said, and something is not as before.
    Silent,
}

/// A log, and what it answers.
pub struct Original {
    folder: PathBuf,
    answers: String,
    snapshots: PathBuf,
}

impl Original {
    /// Makes a log with tables, journal, orphans, snapshots and witness in `folder`.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn make(folder: &Path, requests: u64) -> Self {
        let mut log = LongLog::begin(folder);
        for _ in 0..4 {
            log.grow(requests / 5);
            log.flush();
        }
        log.set_aside();
        log.snapshot();
        log.flush();
        log.grow(requests / 10);
        log.end(folder);
        // Opened anew, the journal is as long as what is in it.
        let store = FjallStore::open(folder).expect("it opens");
        let snapshots = store.snapshots_path().strip_prefix(folder).expect("in it").to_owned();
        let answers = answers(&store, folder).expect("it is readable");
        drop(store);
        Self { folder: folder.to_owned(), answers, snapshots }
    }

    /// How many bytes there are of a kind.
    #[must_use]
    pub fn bytes(&self, target: Target) -> u64 {
        self.files(target).iter().map(|(_, len)| len).sum()
    }

    fn files(&self, target: Target) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let path = match target {
            Target::Store | Target::Journal => self.folder.join(store::FOLDER),
            Target::Snapshot => self.folder.join(&self.snapshots),
            Target::Witness => self.folder.join(crate::witness::FILE),
        };
        collect(&path, &mut found);
        if target == Target::Journal {
            found.retain(|(path, _)| path.extension().is_some_and(|kind| kind == "jnl"));
        }
        found.sort();
        found
    }

    /// Copies it to `scratch`, flips the `at`-th bit of its target there, and looks.
    ///
    /// # Panics
    ///
    /// When it cannot be copied.
    #[must_use]
    pub fn flip(&self, scratch: &Path, target: Target, at: u64, guards: Guards) -> Outcome {
        let _ = fs::remove_dir_all(scratch);
        store::copy_files(&self.folder, scratch).expect("there is room");
        let (mut byte, bit) = (at / 8, at % 8);
        let files = self.files(target);
        let (path, _) = files
            .iter()
            .find(|(_, len)| {
                byte < *len || {
                    byte -= len;
                    false
                }
            })
            .expect("there are so many bytes");
        let path = scratch.join(path.strip_prefix(&self.folder).expect("in it"));
        // It may be linked to the original.
        let mut bytes = fs::read(&path).expect("it is there");
        fs::remove_file(&path).expect("it is ours");
        let index = usize::try_from(byte).expect("a file fits into memory");
        bytes[index] ^= 1 << bit;
        fs::write(&path, bytes).expect("there is room");
        self.judge(scratch, guards)
    }

    /// What is said of a damaged copy.
    ///
    /// # Panics
    ///
    /// When it is in use.
    #[must_use]
    pub fn judge(&self, copy: &Path, guards: Guards) -> Outcome {
        let looked = catch_unwind(AssertUnwindSafe(|| damages(copy, guards)));
        let damages = looked.unwrap_or_else(|_| vec!["the engine panics".to_owned()]);
        if !damages.is_empty() {
            return Outcome::Named(damages);
        }
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let store = match guards.files {
                true => FjallStore::open(copy)?,
                false => store::open_unchecked(copy)?,
            };
            answers(&store, copy)
        }));
        match answered {
            Ok(Ok(answers)) if answers == self.answers => Outcome::Unused,
            _ => Outcome::Silent,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn collect(path: &Path, found: &mut Vec<(PathBuf, u64)>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("it is readable") {
            collect(&entry.expect("it is readable").path(), found);
        }
    } else {
        let len = fs::metadata(path).expect("it is there").len();
        found.push((path.to_owned(), len));
    }
}

fn damages(folder: &Path, guards: Guards) -> Vec<String> {
    if guards == Guards::ALL {
        let report = look(folder, &mut Progress::silent()).expect("nobody has it open");
        // That a slot is not whole is no damage: a power cut does that. It is named all the same.
        let notes = report.notes.into_iter().filter(|note| note.contains("witness"));
        return report.damages.into_iter().chain(notes).collect();
    }
    let opened = match guards.files {
        true => FjallStore::open(folder),
        false => store::open_unchecked(folder),
    };
    let store = match opened {
        Ok(store) => store,
        Err(error) => return vec![error.to_string()],
    };
    let checks = Checks { chain: guards.chain, indexes: guards.chain, state: guards.chain };
    let mut audit = Audit::new(&store, checks);
    audit.finish();
    let mut found: Vec<String> = audit.found().iter().map(ToString::to_string).collect();
    if guards.witness {
        match Witness::open(folder) {
            Ok(witness) => {
                let seen = against_witness(&store, witness.heads()).expect("it is readable");
                found.extend(seen.iter().map(ToString::to_string));
            }
            Err(error) => found.push(error.to_string()),
        }
    }
    found
}

/// Everything that a log answers, as one hash: rows, indexes, what was moved aside, snapshots, and
/// what the witness saw.
fn answers(store: &FjallStore, folder: &Path) -> Result<String, StoreError> {
    let mut text = String::new();
    let mut note = |what: &dyn std::fmt::Debug| {
        writeln!(text, "{what:?}").expect("a text takes more");
    };
    let head = store.head()?;
    for row in rows(store, 0, u64::MAX)? {
        note(&row);
        note(&row.place.hash.to_string());
    }
    let frozen = store.frozen();
    frozen.series(&mut |series, row| note(&(series, row)))?;
    note(&frozen.writers()?);
    frozen.entities(&mut |entity, at| note(&(entity, at)))?;
    frozen.orphans(&mut |row| note(&row))?;
    note(&(frozen.meta()?, store.genesis()?, store.epoch()?, head));
    for meta in store.snapshots()? {
        note(&meta);
        let whole = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        note(&store.snapshot_bytes(&meta, 0, whole)?);
    }
    note(&Witness::open(folder).ok().and_then(|witness| witness.heads().cloned()));
    Ok(schemas::id::hex(&Sha256::digest(&text)))
}

/// Damages the first byte of the last batch but one, behind which the engine opens nothing.
///
/// # Panics
///
/// When there is no journal.
pub fn lose_the_end(folder: &Path) {
    let mut files = Vec::new();
    collect(&folder.join(store::FOLDER), &mut files);
    files.retain(|(path, len)| *len > 0 && path.extension().is_some_and(|kind| kind == "jnl"));
    files.sort();
    let (path, len) = files.last().expect("there is a journal");
    let file = fs::OpenOptions::new().write(true).open(path).expect("it is ours");
    let bytes = fs::read(path).expect("it is readable");
    let trailer = |window: &&[u8]| *window == b"FJL\x03";
    let ends: Vec<usize> =
        (0..=bytes.len().saturating_sub(4)).filter(|at| trailer(&&bytes[*at..*at + 4])).collect();
    // The last batch but one begins here.
    let cut = ends[ends.len() - 3] + 4;
    assert!((cut as u64) < *len, "there is something behind it");
    file.write_all_at(&[9], cut as u64).expect("it is ours");
}

/// Flips a bit in the middle of the largest table.
///
/// # Panics
///
/// When there is no table.
pub fn damage_a_table(folder: &Path) {
    let mut files = Vec::new();
    collect(&folder.join(store::FOLDER), &mut files);
    files.retain(|(path, _)| path.parent().is_some_and(|parent| parent.ends_with("tables")));
    let (path, len) = files.iter().max_by_key(|(_, len)| *len).expect("there is a table");
    let file = fs::OpenOptions::new().read(true).write(true).open(path).expect("it is ours");
    let mut byte = [0];
    file.read_exact_at(&mut byte, len / 2).expect("it is readable");
    file.write_all_at(&[byte[0] ^ 1], len / 2).expect("it is ours");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    fn make() -> (Folder, Folder, Original) {
        let (folder, scratch) = (Folder::new(), Folder::new());
        let original = Original::make(folder.path(), 1_000);
        (folder, scratch, original)
    }

    /// The same offsets every time.
    fn offsets(bytes: u64, count: u64) -> impl Iterator<Item = u64> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        (0..count).map(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % (bytes * 8)
        })
    }

    #[test]
    fn an_undamaged_log_has_nothing_said_against_it() {
        let (folder, _scratch, original) = make();
        assert_eq!(original.judge(folder.path(), Guards::ALL), Outcome::Unused);
        for target in [Target::Store, Target::Journal, Target::Snapshot, Target::Witness] {
            println!("{target:?}: {} bytes", original.bytes(target));
            assert!(original.bytes(target) > 1_000, "{target:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_named_or_of_no_effect() {
        let (_folder, scratch, original) = make();
        for target in [Target::Store, Target::Journal, Target::Snapshot, Target::Witness] {
            let mut unused = 0;
            for at in offsets(original.bytes(target), 8) {
                match original.flip(scratch.path(), target, at, Guards::ALL) {
                    Outcome::Named(damages) => {
                        let says =
                            |damage: &String| damage.contains("position") || damage.contains('/');
                        assert!(damages.iter().any(says), "{target:?} {at}: {damages:?}");
                    }
                    Outcome::Unused => unused += 1,
                    Outcome::Silent => panic!("silent: bit {at} of {target:?}"),
                }
            }
            println!("{target:?}: {unused} of 8 in unused bytes");
        }
    }

    /// Controls: with a guard away the same damage is silent, or the guard would prove nothing.
    #[test]
    fn without_the_files_and_the_witness_checked_a_lost_end_is_silent() {
        let (folder, scratch, original) = make();
        let lost = |guards| {
            std::fs::remove_dir_all(scratch.path()).expect("it is ours");
            store::copy_files(folder.path(), scratch.path()).expect("there is room");
            lose_the_end(scratch.path());
            original.judge(scratch.path(), guards)
        };
        let none = Guards { files: false, witness: false, ..Guards::ALL };
        assert_eq!(lost(none), Outcome::Silent);
        // Each of the two alone finds it.
        for guards in
            [Guards { witness: false, ..Guards::ALL }, Guards { files: false, ..Guards::ALL }]
        {
            let outcome = lost(guards);
            assert!(matches!(outcome, Outcome::Named(_)), "{guards:?}");
        }
        match lost(Guards { files: false, ..Guards::ALL }) {
            Outcome::Named(says) => {
                assert!(says.iter().any(|what| what.contains("are missing")), "{says:?}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_the_chain_checked_a_changed_entry_is_silent() {
        let (folder, _scratch, original) = make();
        let store = FjallStore::open(folder.path()).expect("it opens");
        let mut row = store.row(700).expect("it is readable").expect("it is there");
        let changed = String::from_utf8(row.bytes.to_vec()).expect("JSON").replace("test", "tost");
        assert_ne!(changed.as_bytes(), &row.bytes[..]);
        row.bytes = changed.into_bytes().into();
        store.replace(&row);
        drop(store);
        let off = Guards { chain: false, ..Guards::ALL };
        assert_eq!(original.judge(folder.path(), off), Outcome::Silent);
        match original.judge(folder.path(), Guards::ALL) {
            Outcome::Named(says) => {
                assert!(says.iter().any(|what| what.starts_with("position 700:")), "{says:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}
