//! What the log needs of a disk: one durable commit per group of entries, and ways to find them.
//!
//! The sequencer and the reads know this trait only. What they rely on: a commit that returned
//! survives a power cut, and one that did not return is there whole or not at all.
//!
//! Not here: which entries are right (`sequencer`), and the engine (`store/fjall.rs`).

mod fjall;

#[cfg(any(test, feature = "testing"))]
pub mod bare;
#[cfg(any(test, feature = "testing"))]
pub mod fake;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;

use bytes::Bytes;
use schemas::id::{Series, Writer};
use schemas::place::Place;
use serde::{Deserialize, Serialize};

pub use self::fjall::FjallStore;

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
    /// Which entity has an event at which position.
    pub entities: BTreeSet<(String, u64)>,
    /// The id of the history, when the group holds its first entry.
    pub genesis: Option<String>,
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
