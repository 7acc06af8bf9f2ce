//! What the log needs of a disk: one durable commit per group of entries, and ways to find them.
//!
//! The sequencer and the reads know this trait only. What they rely on: a commit that returned
//! survives a power cut, and one that did not return is there whole or not at all.
//!
//! Not here: which entries are right (`sequencer`), and the engine (`store/fjall.rs`).

mod files;
mod fjall;
mod frozen;
mod journal;
mod keys;
mod names;

#[cfg(any(test, feature = "testing"))]
pub mod bare;
#[cfg(any(test, feature = "testing"))]
pub mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use schemas::id::{Series, Writer};
use schemas::place::Place;
use serde::{Deserialize, Serialize};

pub(crate) use self::files::look;
pub(crate) use self::fjall::FOLDER;
pub use self::fjall::FjallStore;
#[cfg(any(test, feature = "testing"))]
pub use self::fjall::write_without_sync;
pub(crate) use self::frozen::Frozen;
pub use self::names::Names;

/// An entry as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Where it stands, and the hash of the log up to and including it.
    pub place: Place,
    /// Whether its place is the end of a batch, and so a place that anyone may name.
    pub ends: bool,
    /// Where it is published.
    pub subject: String,
    /// The record: its exact published bytes.
    pub bytes: Bytes,
}

impl Row {
    /// Its number in the log.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.place.position
    }
}

/// How far a series has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesRow {
    /// Whose series it is; nobody else may go on with it.
    pub writer: Writer,
    /// The last number that is stored.
    pub n: u64,
    /// Where the last event of that request stands.
    pub position: u64,
}

/// The leadership of a writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterRow {
    /// Its number.
    pub term: u64,
    /// The instance that holds it.
    pub instance: String,
    /// Whether the holder released it.
    pub released: bool,
    /// For an agent: whether an event since says that its node is lost.
    pub lost: bool,
    /// For an agent: whether its node was described and not removed since.
    #[serde(default)]
    pub known: bool,
    /// Where the writer's last event stands.
    pub position: u64,
}

/// A group of entries and everything that follows from them, stored as one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The entries, in order.
    pub rows: Vec<Row>,
    /// How far each series has got.
    pub series: BTreeMap<Series, SeriesRow>,
    /// The leadership of each writer that it concerns.
    pub writers: BTreeMap<Writer, WriterRow>,
    /// Which entity has an event at which position; which command, actor and type as well.
    pub entities: Names,
    /// The id of the history, when the group holds its first entry.
    pub genesis: Option<String>,
}

impl Commit {
    /// Whether an entity has an event in it.
    #[must_use]
    pub fn names(&self, entity: &str) -> bool {
        self.entities.has(entity)
    }

    /// Adds the group that follows, so that both are stored as one.
    pub fn join(&mut self, next: Self) {
        let Self { rows, series, writers, entities, genesis } = next;
        self.rows.extend(rows);
        self.series.extend(series);
        self.writers.extend(writers);
        self.entities.join(entities);
        self.genesis = self.genesis.take().or(genesis);
    }
}

/// Entries that turned out not to be history, and the indexes as they were before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollback {
    /// The entries, which are kept as orphans.
    pub rows: Vec<Row>,
    /// The place of the last entry that stays.
    pub head: Place,
    /// The series that they touched, as they are without them.
    pub series: BTreeMap<Series, Option<SeriesRow>>,
    /// The leaderships that they touched, as they are without them.
    pub writers: BTreeMap<Writer, Option<WriterRow>>,
    /// The index rows that go.
    pub entities: BTreeSet<(String, u64)>,
    /// Whether the entry that names the history is among them.
    pub forgets_genesis: bool,
}

/// A snapshot of the folded state, described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// The version of the fold that made it.
    pub fold_version: u32,
    /// The place it is the state of.
    pub place: Place,
    /// The hash that the state has.
    pub state_hash: String,
    /// How long it is.
    pub bytes: u64,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed. After a failed write it takes no other: only opening it anew tells what
    /// is on disk.
    #[error("the store failed to {doing}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process has it open.
    #[error("the store at {path} is in use: another event-log runs on it; stop that one first")]
    Locked {
        /// Where it is.
        path: PathBuf,
    },
    /// It does not open, and must not be replaced silently.
    #[error(
        "the store at {path} does not open; move it aside and start again: it is rebuilt from the \
         events stream, as far as that holds every event since the first"
    )]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the engine said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file of it is not what was written. Nothing was opened or changed.
    #[error(
        "the file {path} is damaged: {what}; nothing was changed. Run `muster-event-log verify` \
         to see all damage, then `muster-event-log salvage --into DIR` to make a store of what is \
         whole, and start on that: what the events stream still has is taken in from there"
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// What is stored is not what was written.
    #[error("the store is damaged at position {position}: {what}; run `muster-event-log verify`")]
    Damaged {
        /// Where.
        position: u64,
        /// What does not fit.
        what: String,
    },
}

/// A place on disk for the log. All methods may block on the disk.
pub trait Store {
    /// The last entry's place; [`Place::START`] when there is none.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn head(&self) -> Result<Place, StoreError>;

    /// The entry at a position.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn row(&self, position: u64) -> Result<Option<Row>, StoreError>;

    /// Hands the entries from `from` to `to` to `each`, in order, until it breaks.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn scan(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// Hands the entries from `to` back to `from` to `each`, the last one first, until it breaks.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn scan_back(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError>;

    /// How far a series has got.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn series(&self, series: &Series) -> Result<Option<SeriesRow>, StoreError>;

    /// A writer's leadership.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn writer(&self, writer: &Writer) -> Result<Option<WriterRow>, StoreError>;

    /// The positions of an entity's events from `from` to `to`: the first `limit`, or the newest.
    /// Always in order.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn history(
        &self,
        entity: &str,
        from: u64,
        to: u64,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<u64>, StoreError>;

    /// The version of what is indexed, and up to which position.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn indexed(&self) -> Result<(u32, u64), StoreError>;

    /// Adds rows to the index of entities, and notes up to where it is whole.
    ///
    /// # Errors
    ///
    /// When it may not be on disk.
    fn fill(&self, rows: &BTreeSet<(String, u64)>, indexed: (u32, u64)) -> Result<(), StoreError>;

    /// The id of the history.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn genesis(&self) -> Result<Option<String>, StoreError>;

    /// The highest epoch that was ever stored, among orphans too.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn epoch(&self) -> Result<u64, StoreError>;

    /// Stores a group, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk. Nothing must be stored after that.
    fn append(&self, commit: &Commit) -> Result<(), StoreError>;

    /// Moves entries aside and puts the indexes back, durably and as one.
    ///
    /// # Errors
    ///
    /// When it may not be on disk. Nothing must be stored after that.
    fn set_aside(&self, rollback: &Rollback) -> Result<(), StoreError>;

    /// Every snapshot, the newest first.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn snapshots(&self) -> Result<Vec<SnapshotMeta>, StoreError>;

    /// `len` bytes of a snapshot from `offset` on; fewer at its end.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    fn snapshot_bytes(
        &self,
        meta: &SnapshotMeta,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError>;

    /// Stores a snapshot, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk.
    fn put_snapshot(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), StoreError>;

    /// Forgets a snapshot.
    ///
    /// # Errors
    ///
    /// When the store cannot be written.
    fn drop_snapshot(&self, meta: &SnapshotMeta) -> Result<(), StoreError>;
}

/// Opens a store as the engine itself would: what the tests of damage compare with.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn open_unchecked(folder: &Path) -> Result<FjallStore, StoreError> {
    FjallStore::open_as_is(folder, files::lock(folder)?)
}

/// Copies a log's folder; tables are linked.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    files::copy(from, to)
}

/// The rows that were written at each position, the newest last.
pub(crate) type Written = BTreeMap<u64, Vec<Row>>;

/// Everything of the log that can be read without the engine, and what could not be read.
///
/// # Errors
///
/// When the files cannot be read or copied.
pub(crate) fn readable(folder: &Path, copy: &Path) -> Result<(Written, Vec<String>), StoreError> {
    let unreadable = |source: std::io::Error| StoreError::Unreadable {
        path: folder.to_owned(),
        source: source.into(),
    };
    let _lock = files::lock(folder)?;
    let (database, copy) = (folder.join(FOLDER), copy.join(FOLDER));
    let mut rows = Written::new();
    // What can be copied of the trees; the journals are read where they are.
    files::copy(&database.join("keyspaces"), &copy.join("keyspaces")).map_err(unreadable)?;
    let broken = files::tabled(&copy, &mut |row| rows.entry(row.position()).or_default().push(row));
    let broken = broken.map_err(unreadable)?.iter().map(ToString::to_string).collect();
    for (position, row) in files::journalled(&database).map_err(unreadable)? {
        match row {
            Some(row) => rows.entry(position).or_default().push(row),
            None => drop(rows.remove(&position)),
        }
    }
    Ok((rows, broken))
}

/// Opens a copy of the database of `folder` as the engine does, which may cut off what is damaged.
///
/// # Errors
///
/// When it cannot be copied, or does not open.
pub(crate) fn open_copy(folder: &Path, copy: &Path) -> Result<FjallStore, StoreError> {
    let unreadable = |source: std::io::Error| StoreError::Unreadable {
        path: copy.to_owned(),
        source: source.into(),
    };
    if copy.exists() {
        std::fs::remove_dir_all(copy).map_err(unreadable)?;
    }
    let _lock = files::lock(folder)?;
    files::copy(&folder.join(FOLDER), &copy.join(FOLDER)).map_err(unreadable)?;
    FjallStore::open_as_is(copy, files::lock(copy)?)
}

/// Collects the entries from `from` to `to`.
///
/// # Errors
///
/// When the store cannot be read.
pub fn rows(store: &impl Store, from: u64, to: u64) -> Result<Vec<Row>, StoreError> {
    let mut rows = Vec::new();
    store.scan(from, to, &mut |row| {
        rows.push(row);
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}
