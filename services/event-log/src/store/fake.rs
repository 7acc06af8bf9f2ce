//! A store in memory that knows what is *written* from what is *synced*, and can lose power.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;

use schemas::id::{Series, Writer};
use schemas::place::Place;

use super::{Commit, Rollback, Row, SeriesRow, SnapshotMeta, Store, StoreError, WriterRow};

/// The state of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Disk {
    log: BTreeMap<u64, Row>,
    series: BTreeMap<Series, SeriesRow>,
    writers: BTreeMap<Writer, WriterRow>,
    entities: BTreeSet<(String, u64)>,
    indexed: (u32, u64),
    orphans: Vec<Row>,
    genesis: Option<String>,
    epoch: u64,
}

#[derive(Debug, Default)]
struct Inner {
    written: Disk,
    /// The disk before each commit that was written and not synced, the oldest first. With syncing
    /// on, there is none.
    unsynced: Vec<Disk>,
    /// Whether a commit is synced before it returns.
    syncs: bool,
    /// The next commit fails: nobody knows whether it is on disk.
    fails: bool,
    /// Snapshots, the newest first. They can be made anew, so losing one loses nothing.
    snapshots: Vec<(SnapshotMeta, Vec<u8>)>,
}

impl Inner {
    fn synced(&self) -> &Disk {
        self.unsynced.first().unwrap_or(&self.written)
    }
}

/// A fake store; clones share the disk.
#[derive(Clone, Debug)]
pub struct FakeStore(Rc<RefCell<Inner>>);

impl Default for FakeStore {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeStore {
    /// A disk that syncs, as it must.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(Inner { syncs: true, ..Inner::default() })))
    }

    /// A disk that says it synced and did not: what the tests of crashes must notice.
    #[must_use]
    pub fn without_durability() -> Self {
        Self(Rc::new(RefCell::new(Inner { syncs: false, ..Inner::default() })))
    }

    /// Cuts the power. Of what was written and not synced, the first `survive` commits survive.
    pub fn crash(&self, survive: usize) {
        let mut inner = self.0.borrow_mut();
        let unsynced = std::mem::take(&mut inner.unsynced);
        if let Some(before) = unsynced.into_iter().nth(survive) {
            inner.written = before;
        }
        inner.fails = false;
    }

    /// How many commits a crash might lose.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.0.borrow().unsynced.len()
    }

    /// Makes the next commit fail, with its outcome unknown until the crash.
    pub fn fail_next(&self) {
        self.0.borrow_mut().fails = true;
    }

    /// The entry that would be there after losing power now.
    #[must_use]
    pub fn synced_row(&self, position: u64) -> Option<Row> {
        self.0.borrow().synced().log.get(&position).cloned()
    }

    /// Loses the end of the log, as a flipped byte in a journal does.
    pub fn lose_after(&self, position: u64) {
        let mut inner = self.0.borrow_mut();
        inner.written.log.retain(|at, _| *at <= position);
        inner.written.entities.retain(|(_, at)| *at <= position);
        inner.written.series.retain(|_, row| row.position <= position);
        inner.unsynced.clear();
    }

    /// Forgets the index, as if the log was written by a release that had none.
    #[cfg(test)]
    pub(crate) fn forget_index(&self) {
        let mut inner = self.0.borrow_mut();
        inner.written.entities.clear();
        inner.written.indexed = (0, 0);
    }

    /// Spoils the snapshot at a position.
    #[cfg(test)]
    pub(crate) fn spoil_snapshot(&self, position: u64) {
        let mut inner = self.0.borrow_mut();
        let found = inner.snapshots.iter_mut().find(|(meta, _)| meta.place.position == position);
        let (_, bytes) = found.expect("there is one");
        // A digit: a letter may be of the name of a field that is left out, which changes nothing.
        let middle = bytes.len() / 2;
        let digit = bytes[middle..].iter_mut().find(|byte| byte.is_ascii_digit());
        *digit.expect("a state has numbers") ^= 1;
    }

    /// Everything that was ever moved aside.
    #[must_use]
    pub fn orphans(&self) -> Vec<Row> {
        self.0.borrow().written.orphans.clone()
    }

    /// The indexes, to compare with what the log says.
    #[expect(clippy::type_complexity, reason = "three maps, taken apart at once")]
    pub(crate) fn indexes(
        &self,
    ) -> (BTreeMap<Series, SeriesRow>, BTreeMap<Writer, WriterRow>, BTreeSet<(String, u64)>) {
        let inner = self.0.borrow();
        let Disk { series, writers, entities, .. } = &inner.written;
        (series.clone(), writers.clone(), entities.clone())
    }

    fn commit(&self, change: impl FnOnce(&mut Disk)) -> Result<(), StoreError> {
        let mut inner = self.0.borrow_mut();
        let fails = std::mem::take(&mut inner.fails);
        if fails || !inner.syncs {
            let before = inner.written.clone();
            inner.unsynced.push(before);
        } else {
            inner.unsynced.clear();
        }
        change(&mut inner.written);
        if fails {
            let source = "the disk is full".into();
            return Err(StoreError::Engine { doing: "store a group", source });
        }
        Ok(())
    }
}

impl Store for FakeStore {
    fn head(&self) -> Result<Place, StoreError> {
        let inner = self.0.borrow();
        Ok(inner.written.log.last_key_value().map_or(Place::START, |(_, row)| row.place))
    }

    fn row(&self, position: u64) -> Result<Option<Row>, StoreError> {
        Ok(self.0.borrow().written.log.get(&position).cloned())
    }

    fn scan(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from > to {
            return Ok(());
        }
        let rows: Vec<Row> =
            self.0.borrow().written.log.range(from..=to).map(|(_, row)| row.clone()).collect();
        for row in rows {
            if each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn scan_back(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        for row in super::rows(self, from, to)?.into_iter().rev() {
            if each(row).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn series(&self, series: &Series) -> Result<Option<SeriesRow>, StoreError> {
        Ok(self.0.borrow().written.series.get(series).cloned())
    }

    fn writer(&self, writer: &Writer) -> Result<Option<WriterRow>, StoreError> {
        Ok(self.0.borrow().written.writers.get(writer).cloned())
    }

    fn history(
        &self,
        entity: &str,
        from: u64,
        to: u64,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<u64>, StoreError> {
        let inner = self.0.borrow();
        let range = (entity.to_owned(), from)..=(entity.to_owned(), to);
        let mut found: Vec<u64> =
            inner.written.entities.range(range).map(|(_, position)| *position).collect();
        if newest {
            found.drain(..found.len().saturating_sub(limit));
        }
        found.truncate(limit);
        Ok(found)
    }

    fn indexed(&self) -> Result<(u32, u64), StoreError> {
        Ok(self.0.borrow().written.indexed)
    }

    fn fill(&self, rows: &BTreeSet<(String, u64)>, indexed: (u32, u64)) -> Result<(), StoreError> {
        self.commit(|disk| {
            disk.entities.extend(rows.clone());
            disk.indexed = indexed;
        })
    }

    fn genesis(&self) -> Result<Option<String>, StoreError> {
        Ok(self.0.borrow().written.genesis.clone())
    }

    fn epoch(&self) -> Result<u64, StoreError> {
        Ok(self.0.borrow().written.epoch)
    }

    fn append(&self, commit: &Commit) -> Result<(), StoreError> {
        self.commit(|disk| {
            for row in &commit.rows {
                disk.epoch = disk.epoch.max(row.place.epoch);
                let before = disk.log.insert(row.position(), row.clone());
                assert_eq!(before, None, "an entry is written once");
            }
            disk.series.extend(commit.series.clone());
            disk.writers.extend(commit.writers.clone());
            let entities = commit.entities.iter().map(|(name, at)| (name.to_owned(), at));
            disk.entities.extend(entities);
            disk.genesis = commit.genesis.clone().or(disk.genesis.take());
        })
    }

    fn set_aside(&self, rollback: &Rollback) -> Result<(), StoreError> {
        self.commit(|disk| {
            for row in &rollback.rows {
                disk.log.remove(&row.position());
                disk.orphans.push(row.clone());
            }
            for (series, row) in rollback.series.clone() {
                disk.series.remove(&series);
                disk.series.extend(row.map(|row| (series, row)));
            }
            for (writer, row) in rollback.writers.clone() {
                disk.writers.remove(&writer);
                disk.writers.extend(row.map(|row| (writer, row)));
            }
            disk.entities.retain(|row| !rollback.entities.contains(row));
            if rollback.forgets_genesis {
                disk.genesis = None;
            }
        })
    }

    fn snapshots(&self) -> Result<Vec<SnapshotMeta>, StoreError> {
        Ok(self.0.borrow().snapshots.iter().map(|(meta, _)| meta.clone()).collect())
    }

    fn snapshot_bytes(
        &self,
        meta: &SnapshotMeta,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let inner = self.0.borrow();
        let found = inner.snapshots.iter().find(|(known, _)| known == meta);
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = found.map(|(_, bytes)| bytes.iter().skip(skipped).take(len).copied().collect());
        Ok(bytes.unwrap_or_default())
    }

    fn put_snapshot(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), StoreError> {
        let snapshots = &mut self.0.borrow_mut().snapshots;
        snapshots.retain(|(known, _)| known != meta);
        snapshots.push((meta.clone(), bytes.to_vec()));
        snapshots.sort_by_key(|(meta, _)| std::cmp::Reverse(meta.place.position));
        Ok(())
    }

    fn drop_snapshot(&self, meta: &SnapshotMeta) -> Result<(), StoreError> {
        self.0.borrow_mut().snapshots.retain(|(known, _)| known != meta);
        Ok(())
    }
}
