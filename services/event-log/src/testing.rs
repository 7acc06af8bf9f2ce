//! What tests have in place of a disk and a server, here and in the simulator of the whole system.

pub mod flip;
mod folder;
pub mod long;
mod stream;
#[cfg(test)]
mod written;

use std::collections::{BTreeMap, BTreeSet};

use cluster::{Fold, Marks};
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::read::{LogPage, LogRequest};
use schemas::report::Mark;

use crate::index::{Indexer, Leaderships, replay};
use crate::sequencer::Bindings;
use crate::store::Store;
use crate::view::{self, View};
use crate::{entry, reads};

pub use self::folder::Folder;
pub use self::stream::FakeStream;
#[cfg(test)]
pub(crate) use self::written::Written;
pub use crate::store::bare::{Bare, BareRow, rows_between};
pub use crate::store::fake::FakeStore;
pub use crate::store::write_without_sync;

/// What event-log shows of a fake store: state, pages and snapshots, up to the published head.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Shown {
    store: FakeStore,
    view: View,
}

impl Shown {
    /// Begins from the newest snapshot that is good, as a start does, and takes such marks.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn open(store: &FakeStore, marks: Marks) -> Result<Self, String> {
        let view = View::open(store, None).map_err(|error| error.to_string())?;
        Ok(Self { store: store.clone(), view: view.marking(marks) })
    }

    /// Shows what was published since.
    ///
    /// # Errors
    ///
    /// When it does not follow from what was shown before.
    pub fn advance(&self, to: Place) -> Result<(), String> {
        self.view.advance(&self.store, to).map_err(|error| error.to_string())
    }

    /// The place and the hash of the state.
    #[must_use]
    pub fn head(&self) -> (Place, String) {
        let fold = self.view.fold();
        (fold.place(), fold.state().hash())
    }

    /// A page of events, as the endpoint answers it.
    ///
    /// # Errors
    ///
    /// When the log has not got to what is asked for.
    pub fn page(&self, request: &LogRequest) -> Result<LogPage, String> {
        let bytes = reads::log(&self.store, &self.view, request).map_err(|(_, text)| text)?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    /// Writes a snapshot of what is shown.
    ///
    /// # Errors
    ///
    /// When it does not read back.
    pub fn snapshot(&self) -> Result<(), String> {
        view::write_snapshot(&self.store, &self.view.fold()).map_err(|error| error.to_string())
    }

    /// The newest snapshot, restored.
    ///
    /// # Errors
    ///
    /// When it is not what its hash says.
    pub fn restore(&self) -> Result<Option<Fold>, String> {
        let newest = self.store.snapshots().map_err(|error| error.to_string())?.into_iter().next();
        let Some(meta) = newest else { return Ok(None) };
        let bytes = self.store.snapshot_bytes(&meta, 0, usize::MAX);
        let bytes = bytes.map_err(|error| error.to_string())?;
        Fold::restore(&bytes).map(Some).map_err(|error| error.to_string())
    }
}

impl Bindings for Shown {
    fn intake_closed(&self) -> bool {
        self.view.intake_closed()
    }

    fn node_of(&self, replica: &ReplicaId) -> Option<NodeName> {
        self.view.node_of(replica)
    }

    fn mark_at(&self, place: Place) -> Option<Mark> {
        self.view.mark_at(place)
    }
}

/// Keeps the snapshots that a service which had served this log all along would have kept.
///
/// # Errors
///
/// When the log cannot be read, or the disk takes no snapshot.
pub fn keep_snapshots(store: &impl Store) -> Result<(), String> {
    let head = store.head().map_err(|error| error.to_string())?;
    view::travel(store, &mut Fold::new(), head.position).map_err(|error| error.to_string())
}

/// Whether a log is whole: the chain and the batches hold, every row says where it stands, no number
/// of a series is used twice, nothing impossible is in it, and the indexes are as it says.
///
/// # Errors
///
/// At the first thing that is not so.
pub fn audit(store: &FakeStore) -> Result<Fold, String> {
    let head = store.head().map_err(|error| error.to_string())?.position;
    let mut fold = Fold::new();
    let mut indexer = Indexer::default();
    let mut leaderships = Leaderships::default();
    let (mut series, mut entities) = (BTreeMap::new(), BTreeSet::new());
    let mut wrong = Vec::new();
    let read = replay(store, 1, head, &mut |row, header, event| {
        let at = row.position();
        if let Err(error) = fold.push(&row.bytes) {
            wrong.push(format!("position {at}: {error}"));
        } else if fold.cursor() != row.place || (fold.cursor() == fold.place()) != row.ends {
            wrong.push(format!("position {at} is stored as another: {row:?}"));
        }
        let Some(effects) = indexer.push(header, event).effects else { return };
        let (name, row, named) = leaderships.take(effects);
        let n = row.n;
        let before = series.insert(name, row);
        if before.map_or(0, |before: crate::store::SeriesRow| before.n) + 1 != n {
            wrong.push(format!("position {at} is number {n} of its series, out of turn"));
        }
        entities.extend(named);
    });
    read.map_err(|error| error.to_string())?;
    if store.indexes() != (series, leaderships.0, entities) {
        wrong.push("the indexes are not as the log says".to_owned());
    }
    if fold.state().anomalies() > 0 {
        wrong.push(format!("impossible: {:?}", fold.state().cluster.anomalous));
    }
    match wrong.into_iter().next() {
        Some(wrong) => Err(wrong),
        None => Ok(fold),
    }
}

/// Whether a stored entry stands for what is in the stream at its position.
#[must_use]
pub fn stands_for(stored: &[u8], streamed: &[u8]) -> bool {
    entry::stands_for(stored, streamed)
}
