//! The engine's files, looked at before the engine opens them.
//!
//! Opening is not harmless: fjall cuts a journal at the first thing that does not fit, and deletes
//! tables that a damaged version file does not name any more. So everything that opening relies on
//! is checked first, against checksums that fjall writes and does not all compare: journals to
//! their end, and each tree's `current` file and version file. Tables are checked block by block
//! when they are read, and as whole files by [`tables`].

use std::fs::{File, OpenOptions};
use std::io::{self, Cursor, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lsm_tree::{AbstractTree as _, AnyTree, Guard as _, SeqNo, SequenceNumberCounter};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::fjall::{FOLDER, LOCK};
use super::keys::decode_row;
use super::{Row, StoreError, journal};
use crate::witness::Witness;

/// How much is read between two words about progress.
const STEP_BYTES: u64 = 16 * 1024 * 1024;

/// How much of a table is read at once.
const CHUNK: usize = 256 * 1024;

/// How often a folder that is in use is tried again, and how long between.
const LOCK_TRIES: usize = 20;
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
}

impl From<Broken> for StoreError {
    fn from(Broken { path, what }: Broken) -> Self {
        Self::Broken { path, what }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// A tail that a power cut left, and that is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub(crate) path: PathBuf,
    pub(crate) at: usize,
    pub(crate) what: &'static str,
}

/// Keeps everyone else out of the folder for as long as it lives.
pub(crate) fn lock(folder: &Path) -> Result<File, StoreError> {
    let unreadable = |source: io::Error| StoreError::Unreadable {
        path: folder.to_owned(),
        source: source.into(),
    };
    std::fs::create_dir_all(folder).map_err(unreadable)?;
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).open(folder.join(LOCK));
    let file = file.map_err(unreadable)?;
    // Whoever has just ended may have something under way that still holds it.
    for wait in [Some(LOCK_WAIT); LOCK_TRIES].into_iter().chain([None]) {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => {}
            Err(std::fs::TryLockError::Error(source)) => return Err(unreadable(source)),
        }
        if let Some(wait) = wait {
            std::thread::sleep(wait);
        }
    }
    Err(StoreError::Locked { path: folder.to_owned() })
}

/// Everything that opening the database of `folder` relies on and that is not what was written, and
/// the tail that a power cut tore, if any.
pub(crate) fn check(folder: &Path) -> io::Result<(Vec<Broken>, Option<Torn>)> {
    let (database, mut broken) = (&folder.join(FOLDER), Vec::new());
    let marker = database.join("version");
    if std::fs::read(&marker)? != b"FJL\x03" {
        broken.push(Broken { path: marker, what: "it is not the mark of fjall 3".to_owned() });
    }
    for folder in trees(database)? {
        match tables_of(&folder) {
            Ok(tables) => {
                let missing = tables.iter().map(|(id, _)| table(&folder, *id));
                broken.extend(missing.filter(|path| !path.exists()).map(|path| Broken {
                    path,
                    what: "it is not there, and its tree names it".to_owned(),
                }));
            }
            Err(wrong) => broken.push(wrong),
        }
    }
    let torn = check_journals(database, promised(folder), &mut broken)?;
    Ok((broken, torn))
}

/// What is known of a log's files before it is opened.
#[derive(Debug)]
pub(crate) struct Looked {
    /// Files that are not what was written.
    pub(crate) broken: Vec<Broken>,
    /// What a power cut left, in words.
    pub(crate) torn: Option<String>,
    /// Whether opening the database would lose nothing.
    pub(crate) may_open: bool,
    /// Whether a copy may be opened as it is: the engine cuts a damaged journal, but takes lengths from
    /// what describes its trees, and ends the process when one is beyond all memory.
    pub(crate) copy_may_open: bool,
}

/// Compares every file of the log in `folder` with its checksum.
pub(crate) fn look(folder: &Path, read: &mut dyn FnMut(u64)) -> Result<Looked, StoreError> {
    let _lock = lock(folder)?;
    let database = folder.join(FOLDER);
    let unreadable = |source: io::Error| StoreError::Unreadable {
        path: database.clone(),
        source: source.into(),
    };
    let (mut broken, torn) = check(folder).map_err(unreadable)?;
    let may_open = broken.is_empty();
    let is_journal = |path: &Path| path.extension().is_some_and(|kind| kind == "jnl");
    let copy_may_open = broken.iter().all(|broken| is_journal(&broken.path));
    let mut tables = Tables::of(&database);
    while let Some(found) = tables.check(STEP_BYTES) {
        broken.extend(found);
        read(STEP_BYTES);
    }
    let torn = torn.map(|Torn { path, at, what }| {
        let path = path.display();
        format!("{path} ends in a torn batch at byte {at} ({what}), as a power cut leaves it")
    });
    Ok(Looked { broken, torn, may_open, copy_may_open })
}

/// Copies the database into another folder. Tables never change, so they are linked.
pub(crate) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy(&path, &target)?;
        } else if from.ends_with("tables") && std::fs::hard_link(&path, &target).is_ok() {
            continue;
        } else {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The journals, in the order in which they were written.
pub(crate) fn journals(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(database)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

/// The last position that anyone may have seen; none when nobody knows.
fn promised(folder: &Path) -> Option<u64> {
    let witness = Witness::open_if_there(folder).ok().flatten()?;
    Some(witness.heads()?.published.position)
}

fn check_journals(
    database: &Path,
    promised: Option<u64>,
    broken: &mut Vec<Broken>,
) -> io::Result<Option<Torn>> {
    let paths = journals(database)?;
    let mut sequence = 0;
    let mut torn = None;
    for (i, path) in paths.iter().enumerate() {
        let bytes = std::fs::read(path)?;
        let found = journal::read(&bytes, sequence, &mut |_| {});
        sequence = found.sequence;
        let around = |at, until| {
            let (mut before, after) = positions(&bytes, at, until);
            if before == 0 {
                before = last_position(&paths[..i]);
            }
            match after {
                Some(after) => format!("events between positions {before} and {after}"),
                None => format!("events after position {before}"),
            }
        };
        // What was not synced reaches the disk in any order: after a power cut a whole batch may stand
        // behind a torn one, but nothing that was promised.
        if let Some(journal::Damage { at, what, .. }) = found.damages.first()
            && i + 1 == paths.len()
            && promised.is_some_and(|promised| {
                positions(&bytes, *at, bytes.len()).0.max(last_position(&paths[..i])) >= promised
            })
        {
            torn = Some(Torn { path: path.clone(), at: *at, what });
            break;
        }
        for journal::Damage { at, until, what } in &found.damages {
            let around = around(*at, *until);
            let what = format!("{what} at byte {at}, up to byte {until}: it may hold {around}");
            broken.push(Broken { path: path.clone(), what });
        }
        if let Some(what) = found.torn {
            if i + 1 == paths.len() {
                torn = Some(Torn { path: path.clone(), at: found.end, what });
            } else {
                // It was synced before the next one was begun.
                let around = around(found.end, bytes.len());
                let what = format!("{what} at byte {}: it may hold {around}", found.end);
                broken.push(Broken { path: path.clone(), what });
            }
        }
    }
    Ok(torn)
}

/// The last position that some journals hold.
fn last_position(paths: &[PathBuf]) -> u64 {
    let last = |path: &PathBuf| {
        let bytes = std::fs::read(path).unwrap_or_default();
        positions(&bytes, bytes.len(), bytes.len()).0
    };
    paths.iter().map(last).max().unwrap_or(0)
}

/// The last position that is written before `at`, and the first one from `until` on.
fn positions(bytes: &[u8], at: usize, until: usize) -> (u64, Option<u64>) {
    let (mut before, mut after) = (0, None);
    journal::read(&bytes[..at], 0, &mut |batch| {
        before = logged(&batch).map(|(position, _)| position).max().unwrap_or(before).max(before);
    });
    journal::read(&bytes[until..], 0, &mut |batch| {
        after = after.or_else(|| logged(&batch).map(|(position, _)| position).min());
    });
    (before, after)
}

/// The entries of the log in a batch, by their shape.
pub(crate) fn logged<'a>(
    batch: &'a journal::Batch<'a>,
) -> impl Iterator<Item = (u64, &'a [u8])> + 'a {
    batch.items.iter().filter_map(|item| {
        let position = u64::from_be_bytes(item.key.try_into().ok()?);
        let value = item.value.as_deref()?;
        decode_row(position, value).ok()?;
        Some((position, value))
    })
}

/// What the journals hold of the log, newest last; none where an entry was moved aside. Whatever is
/// wrong around it.
pub(crate) fn journalled(database: &Path) -> io::Result<Vec<(u64, Option<Row>)>> {
    let mut rows = Vec::new();
    for path in journals(database)? {
        let bytes = std::fs::read(path)?;
        journal::read(&bytes, 0, &mut |batch| {
            for item in &batch.items {
                // The index of the log is the only one with keys of eight bytes.
                let Ok(key) = item.key.try_into() else { continue };
                let position = u64::from_be_bytes(key);
                match item.value.as_deref().map(|value| decode_row(position, value)) {
                    Some(Ok(row)) => rows.push((position, Some(row))),
                    Some(Err(_)) => {}
                    None => rows.push((position, None)),
                }
            }
        });
    }
    Ok(rows)
}

/// Opens every tree that opens, and hands the entries of the log in it to `each`, up to the first
/// one that cannot be read, and on behind it. A copy: opening deletes what is not named any more.
pub(crate) fn tabled(copy: &Path, each: &mut dyn FnMut(Row)) -> io::Result<Vec<Broken>> {
    let mut broken = Vec::new();
    for path in trees(copy)? {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let counter = || SequenceNumberCounter::new(0);
            lsm_tree::Config::new(&path, counter(), counter()).open()
        }));
        let tree = match opened {
            Ok(Ok(tree)) => tree,
            Ok(Err(error)) => {
                broken.push(Broken { path, what: error.to_string() });
                continue;
            }
            Err(_) => {
                broken.push(Broken { path, what: "the engine panics on it".to_owned() });
                continue;
            }
        };
        let mut from = 0_u64;
        while let Err((at, what)) = entries_of(&tree, from, each) {
            let path = path.clone();
            broken.push(Broken { path, what: format!("position {at} cannot be read: {what}") });
            let Some(next) = readable_after(&tree, at) else { break };
            from = next;
        }
    }
    Ok(broken)
}

/// How far behind something unreadable it is tried to read on: more than a block holds.
const BLOCK_ENTRIES: u64 = 10_000;

fn readable_after(tree: &AnyTree, at: u64) -> Option<u64> {
    let readable = |at: &u64| matches!(tree.get(at.to_be_bytes(), SeqNo::MAX), Ok(Some(_)));
    (at + 1..at.saturating_add(BLOCK_ENTRIES)).find(readable)
}

fn entries_of(
    tree: &AnyTree,
    from: u64,
    each: &mut dyn FnMut(Row),
) -> Result<(), (u64, lsm_tree::Error)> {
    let mut next = from;
    for guard in tree.range(from.to_be_bytes().., SeqNo::MAX, None) {
        let (key, value) = guard.into_inner().map_err(|error| (next, error))?;
        let Ok(key) = <[u8; 8]>::try_from(&key[..]) else { continue };
        next = u64::from_be_bytes(key);
        if let Ok(row) = decode_row(next, &value) {
            each(row);
        }
        next += 1;
    }
    Ok(())
}

/// Cuts a torn tail off, and keeps it in a file of its own.
pub(crate) fn cut(folder: &Path, torn: &Torn) -> io::Result<PathBuf> {
    let bytes = std::fs::read(&torn.path)?;
    let tail = &bytes[torn.at..];
    let len = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let kept = folder.join(format!("torn-{}", torn.at));
    std::fs::write(&kept, &tail[..len])?;
    File::open(&kept)?.sync_all()?;
    File::open(folder)?.sync_all()?;
    let file = OpenOptions::new().write(true).open(&torn.path)?;
    file.set_len(torn.at as u64)?;
    file.sync_all()?;
    Ok(kept)
}

/// The folder of each tree, those that are still being made excepted.
pub(crate) fn trees(database: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(database.join("keyspaces"))? {
        let path = entry?.path();
        let begun =
            std::fs::read_dir(path.join("tables")).is_ok_and(|mut all| all.next().is_some());
        if path.join("current").exists() || begun {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

pub(crate) fn table(tree: &Path, id: u64) -> PathBuf {
    tree.join("tables").join(id.to_string())
}

/// The tables of a tree, each with its checksum, as its version file says.
pub(crate) fn tables_of(tree: &Path) -> Result<Vec<(u64, u128)>, Broken> {
    let path = tree.join("current");
    let broken = |path: &Path, what: &str| Broken { path: path.to_owned(), what: what.to_owned() };
    let failed = |path: &Path, error: io::Error| broken(path, &error.to_string());
    let bytes = std::fs::read(&path).map_err(|error| failed(&path, error))?;
    let current = (|| {
        let (version, rest) = bytes.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        (rest == [0]).then_some((u64::from_le_bytes(*version), u128::from_le_bytes(*sum)))
    })();
    let Some((version, sum)) = current else {
        return Err(broken(&path, "it does not name a version"));
    };
    let path = tree.join(format!("v{version}"));
    let bytes = std::fs::read(&path).map_err(|error| failed(&path, error))?;
    if xxh3_128(&bytes) != sum {
        return Err(broken(&path, "it does not have the checksum that `current` has for it"));
    }
    listed(&bytes).ok_or_else(|| broken(&path, "its list of tables does not read"))
}

/// The list of tables in a version file: levels of runs of tables.
fn listed(bytes: &[u8]) -> Option<Vec<(u64, u128)>> {
    let archive = sfa::Reader::from_reader(&mut Cursor::new(bytes)).ok()?;
    let section = archive.toc().section(b"tables")?;
    let from = usize::try_from(section.pos()).ok()?;
    let len = usize::try_from(section.len()).ok()?;
    let mut rest = bytes.get(from..from.checked_add(len)?)?;
    let mut tables = Vec::new();
    for _ in 0..byte(&mut rest)? {
        for _ in 0..byte(&mut rest)? {
            for _ in 0..u32::from_le_bytes(array(&mut rest)?) {
                let id = u64::from_le_bytes(array(&mut rest)?);
                byte(&mut rest).filter(|kind| *kind == 0)?;
                let sum = u128::from_le_bytes(array(&mut rest)?);
                let _sequence: [u8; 8] = array(&mut rest)?;
                tables.push((id, sum));
            }
        }
    }
    Some(tables)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, more) = rest.split_first_chunk()?;
    *rest = more;
    Some(*taken)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    array(rest).map(|[byte]| byte)
}

/// Whole tables, each compared with its checksum, in steps.
pub(crate) struct Tables {
    left: Vec<(PathBuf, u128)>,
    reading: Option<(File, Xxh3)>,
}

impl Tables {
    /// All that there are now. One that goes before it is read was merged into others.
    pub(crate) fn of(database: &Path) -> Self {
        let mut left = Vec::new();
        for tree in trees(database).unwrap_or_default() {
            // While the database is open, `current` may just be replaced.
            let listed = tables_of(&tree).unwrap_or_default();
            left.extend(listed.into_iter().map(|(id, sum)| (table(&tree, id), sum)));
        }
        Self { left, reading: None }
    }

    /// Reads so many bytes more: what is wrong in them; none when there is nothing left to read.
    pub(crate) fn check(&mut self, mut bytes: u64) -> Option<Vec<Broken>> {
        let mut found = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while bytes > 0 {
            let Some((path, sum)) = self.left.last().cloned() else {
                return (!found.is_empty()).then_some(found);
            };
            let read = self.read(&path, &mut chunk);
            let what = match read {
                Ok(Read::More(len)) => {
                    bytes = bytes.saturating_sub(len as u64);
                    continue;
                }
                Ok(Read::End(got)) if got == sum => None,
                Ok(Read::End(_)) => Some("this table does not have its checksum".to_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(error.to_string()),
            };
            found.extend(what.map(|what| Broken { path, what }));
            self.reading = None;
            self.left.pop();
        }
        Some(found)
    }

    fn read(&mut self, path: &Path, chunk: &mut [u8]) -> io::Result<Read> {
        if self.reading.is_none() {
            self.reading = Some((File::open(path)?, Xxh3::new()));
        }
        let Some((file, sum)) = &mut self.reading else { return Ok(Read::More(0)) };
        let len = file.read(chunk)?;
        sum.update(&chunk[..len]);
        Ok(if len == 0 { Read::End(sum.digest128()) } else { Read::More(len) })
    }
}

enum Read {
    More(usize),
    End(u128),
}

#[cfg(test)]
mod tests;
