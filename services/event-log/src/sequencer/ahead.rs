//! What is ordered and not yet known to be on disk.
//!
//! The next group is checked against this first and the store behind it, so that it can be made
//! while the one before it is being synced. Nothing in here was shown to anyone: an entry is
//! published, and its request answered, when the store has said that it is on disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use schemas::id::{Series, Writer};
use schemas::place::Place;

use super::{Bindings, FRAME_BYTES, Output, Phase, Sequencer, Since};
use crate::entry::Tip;
use crate::index::Indexer;
use crate::store::{Commit, SeriesRow, Store, StoreError, WriterRow};

/// The most groups that are under way to the disk.
const GROUPS_MAX: usize = 8;

/// The most bytes of them.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Of how many entries the place is remembered: a decision is based on a place near the end.
const PLACES: usize = 4_096;

/// Of how many series, and of how many writers, the last row is remembered.
const ROWS: usize = 4_096;

/// The groups that are under way to the disk, and what they change.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    groups: VecDeque<Ordered>,
    bytes: usize,
    /// The places of the last entries, stored or not, and whether each ends a batch.
    places: VecDeque<(Place, bool)>,
    /// The newest rows of the indexes: all that are not stored, and some that are.
    series: BTreeMap<Series, SeriesRow>,
    writers: BTreeMap<Writer, WriterRow>,
}

/// A group under way.
#[derive(Debug)]
pub(super) struct Ordered {
    pub(super) commit: Arc<Commit>,
    /// The end of the log behind it.
    pub(super) tip: Tip,
    /// Where its `SequencerTaken` stands, when it has one.
    pub(super) fence_at: Option<u64>,
    /// Requests up to here need not be kept when it is stored.
    up_to: Option<u64>,
    bytes: usize,
}

impl Ahead {
    /// How far a series has got, if that is known here.
    pub(super) fn series(&self, series: &Series) -> Option<&SeriesRow> {
        self.series.get(series)
    }

    /// A writer's leadership, if it is known here.
    pub(super) fn writer(&self, writer: &Writer) -> Option<&WriterRow> {
        self.writers.get(writer)
    }

    /// Whether an entity has an event that is not stored.
    pub(super) fn names(&self, entity: &str) -> bool {
        self.groups.iter().any(|group| group.commit.names(entity))
    }

    /// The place at a position, and whether it ends a batch, if that is known here.
    pub(super) fn at(&self, position: u64) -> Option<(Place, bool)> {
        let first = self.places.front()?.0.position;
        let index = usize::try_from(position.checked_sub(first)?).ok()?;
        self.places.get(index).copied()
    }

    fn tip(&self) -> Option<Tip> {
        self.groups.back().map(|group| group.tip)
    }

    fn push(&mut self, commit: Arc<Commit>, tip: Tip, fence_at: Option<u64>) {
        self.places.extend(commit.rows.iter().map(|row| (row.place, row.ends)));
        self.series.extend(commit.series.iter().map(|(key, row)| (key.clone(), row.clone())));
        self.writers.extend(commit.writers.iter().map(|(key, row)| (key.clone(), row.clone())));
        let bytes = commit.rows.iter().map(|row| row.bytes.len()).sum();
        self.bytes += bytes;
        self.groups.push_back(Ordered { commit, tip, fence_at, up_to: None, bytes });
    }

    /// The next group that ends at or before a position that is on disk.
    fn pop(&mut self, position: u64) -> Option<Ordered> {
        let group = self.groups.pop_front_if(|group| group.tip.place.position <= position)?;
        self.bytes -= group.bytes;
        while self.places.len() > PLACES
            && self.places.front().is_some_and(|(place, _)| place.position <= position)
        {
            self.places.pop_front();
        }
        if self.series.len() > ROWS || self.writers.len() > ROWS {
            self.forget();
        }
        Some(group)
    }

    /// Keeps of the indexes only what is not stored.
    fn forget(&mut self) {
        (self.series, self.writers) = (BTreeMap::new(), BTreeMap::new());
        for group in &self.groups {
            self.series.extend(group.commit.series.clone());
            self.writers.extend(group.commit.writers.clone());
        }
    }

    /// Whether everything that was ordered is on disk.
    pub(super) fn is_stored(&self) -> bool {
        self.groups.is_empty()
    }
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// Whether there is room for another group on its way to the disk. Without, requests wait.
    pub fn has_room(&self) -> bool {
        self.ahead.groups.len() < GROUPS_MAX && self.ahead.bytes < BYTES_MAX
    }

    /// The place of the last entry that is ordered, on disk or not.
    pub fn ordered(&self) -> Place {
        self.end().place
    }

    /// The end that the next entry follows.
    pub(super) fn end(&self) -> Tip {
        self.ahead.tip().unwrap_or(self.tip)
    }

    /// A writer's leadership, by all that is ordered.
    pub(super) fn leadership(&self, writer: &Writer) -> Result<Option<WriterRow>, StoreError> {
        match self.ahead.writer(writer) {
            Some(row) => Ok(Some(row.clone())),
            None => self.store.writer(writer),
        }
    }

    /// Has a group stored. `fence_at` is where a `SequencerTaken` stands in it.
    pub(super) fn order(
        &mut self,
        (commit, tip, indexer): (Commit, Tip, Indexer),
        fence_at: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        for row in &commit.rows {
            self.counts.events += 1;
            self.since.messages += 1;
            self.since.bytes += (row.bytes.len() + row.subject.len() + FRAME_BYTES) as u64;
            if fence_at == Some(row.position()) {
                self.since = Since::default();
            }
        }
        self.counts.groups += 1;
        self.indexer = indexer;
        self.epoch = self.epoch.max(tip.place.epoch);
        let commit = Arc::new(commit);
        out.push(Output::Store(Arc::clone(&commit)));
        self.ahead.push(commit, tip, fence_at);
    }

    /// Everything up to a position is on disk.
    pub(super) fn on_disk(&mut self, position: u64, out: &mut Vec<Output>) {
        while let Some(Ordered { commit, tip, fence_at, up_to, .. }) = self.ahead.pop(position) {
            self.tip = tip;
            // After a disturbance it is sent when it is known what the stream holds.
            if let Phase::Leading { fence } = self.phase {
                self.send_rows(Arc::unwrap_or_clone(commit).rows, fence, fence_at, out);
            }
            out.extend(up_to.map(|up_to| Output::Purge { up_to }));
        }
        if matches!(self.phase, Phase::Draining) {
            self.drained(out);
        }
    }

    /// Requests up to here need not be kept, once what was made of them is on disk.
    pub(super) fn purge(&mut self, up_to: u64, out: &mut Vec<Output>) {
        match self.ahead.groups.back_mut() {
            Some(group) => group.up_to = Some(up_to),
            None => out.push(Output::Purge { up_to }),
        }
    }
}
