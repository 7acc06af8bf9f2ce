//! What anyone may see: the state at the published head, and the snapshots of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::{FOLD_VERSION, Fold, FoldError};
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;

use crate::sequencer::Bindings;
use crate::store::{SnapshotMeta, Store, StoreError};

/// How many of the newest snapshots are kept: a bad one is skipped for an older one.
const SNAPSHOTS_KEPT: usize = 3;

/// Of the older ones, one in so many events is kept: no moment is then much farther from a snapshot,
/// and its state is a fold of at most that many events away.
const SNAPSHOT_STRIDE: u64 = 30_000;

/// What the kept snapshots may take, before the store compresses them. Past that, every second of
/// the older ones goes, and the moments between take twice as long.
const SNAPSHOTS_BYTES: u64 = 1024 * 1024 * 1024;

/// The folded history up to the published head. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View(Arc<Mutex<Fold>>);

/// Why the view cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log does not fold")]
    Fold(#[from] FoldError),
}

impl View {
    /// Begins from the newest snapshot that is good, or from nothing.
    pub(crate) fn open(store: &impl Store) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Mutex::new(restore(store, store.head()?.position)?))))
    }

    pub(crate) fn fold(&self) -> MutexGuard<'_, Fold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what was published since.
    pub(crate) fn advance(&self, store: &impl Store, to: Place) -> Result<(), ViewError> {
        push(store, &mut self.fold(), to.position)
    }
}

/// Folds on to a position.
pub(crate) fn push(store: &impl Store, fold: &mut Fold, to: u64) -> Result<(), ViewError> {
    let from = fold.cursor().position + 1;
    let mut failed = None;
    store.scan(from, to, &mut |row| match fold.push(&row.bytes) {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The newest good snapshot at or below a position; nothing folded when there is none.
pub(crate) fn restore(store: &impl Store, at: u64) -> Result<Fold, StoreError> {
    for meta in store.snapshots()? {
        let usable = meta.fold_version == FOLD_VERSION && meta.place.position <= at;
        if !usable || !belongs(store, &meta)? {
            continue;
        }
        let len = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        let read = store.snapshot_bytes(&meta, 0, len).map_err(ViewError::from);
        match read.and_then(|bytes| Ok(Fold::restore(&bytes)?)) {
            Ok(fold) => return Ok(fold),
            Err(error) => tracing::warn!(%error, place = %meta.place, "skipping a bad snapshot"),
        }
    }
    Ok(Fold::new())
}

/// Whether a snapshot is one of this history: entries it was made from may have been moved aside.
pub(crate) fn belongs(store: &impl Store, meta: &SnapshotMeta) -> Result<bool, StoreError> {
    let row = store.row(meta.place.position)?;
    Ok(meta.place.position == 0 || row.is_some_and(|row| row.place == meta.place))
}

impl Bindings for View {
    fn node_of(&self, replica: &ReplicaId) -> Option<NodeName> {
        self.fold().state().replicas.get(replica).and_then(|replica| replica.node.clone())
    }
}

/// Writes a snapshot, reads it back, and forgets those that are near to others.
pub(crate) fn write_snapshot(store: &impl Store, fold: &Fold) -> Result<(), ViewError> {
    let bytes = fold.snapshot();
    let meta = SnapshotMeta {
        fold_version: FOLD_VERSION,
        place: fold.place(),
        state_hash: fold.state().hash(),
        bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
    };
    store.put_snapshot(&meta, &bytes)?;
    let written = store.snapshot_bytes(&meta, 0, bytes.len())?;
    let restored = Fold::restore(&written)?;
    if restored.state().hash() != meta.state_hash {
        store.drop_snapshot(&meta)?;
        return Err(FoldError::Snapshot("it does not read back as it was".to_owned()).into());
    }
    for old in thin(&store.snapshots()?, SNAPSHOTS_BYTES) {
        store.drop_snapshot(&old)?;
    }
    Ok(())
}

/// Folds on to a position, and keeps a snapshot at every stride of the way.
pub(crate) fn travel(store: &impl Store, fold: &mut Fold, to: u64) -> Result<(), ViewError> {
    loop {
        let next = (fold.cursor().position / SNAPSHOT_STRIDE + 1) * SNAPSHOT_STRIDE;
        if next >= to {
            return push(store, fold, to);
        }
        push(store, fold, next)?;
        let near = |meta: &SnapshotMeta| {
            meta.fold_version == FOLD_VERSION
                && meta.place.position / SNAPSHOT_STRIDE == fold.place().position / SNAPSHOT_STRIDE
        };
        if !store.snapshots()?.iter().any(near) {
            write_snapshot(store, fold)?;
        }
    }
}

/// The snapshots to forget, of all of them, the newest first.
///
/// Kept are the newest few of each version of the fold, and of this version's the oldest in every
/// stride: what is kept once stays kept. The stride doubles until all that is kept fits.
fn thin(all: &[SnapshotMeta], budget: u64) -> Vec<SnapshotMeta> {
    let mut stride = SNAPSHOT_STRIDE;
    loop {
        let (mut newest, mut strides) = (BTreeMap::<u32, usize>::new(), BTreeMap::new());
        for meta in all.iter().filter(|meta| meta.fold_version == FOLD_VERSION) {
            strides.insert(meta.place.position / stride, meta.place);
        }
        let (kept, gone): (Vec<&SnapshotMeta>, Vec<&SnapshotMeta>) = all.iter().partition(|meta| {
            let count = newest.entry(meta.fold_version).or_default();
            *count += 1;
            let first = strides.get(&(meta.place.position / stride)) == Some(&meta.place);
            *count <= SNAPSHOTS_KEPT || (meta.fold_version == FOLD_VERSION && first)
        });
        let bytes: u64 = kept.iter().map(|meta| meta.bytes).sum();
        // With one stride over all of history, only the newest and the oldest are left.
        if bytes <= budget || stride > all.first().map_or(0, |meta| meta.place.position) {
            return gone.into_iter().cloned().collect();
        }
        stride *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(position: u64, fold_version: u32) -> SnapshotMeta {
        let place = Place { position, ..Place::START };
        SnapshotMeta { fold_version, place, state_hash: String::new(), bytes: 1_000 }
    }

    /// What is left when snapshots come one by one.
    fn left(every: u64, count: u64, budget: u64) -> Vec<u64> {
        let mut all: Vec<SnapshotMeta> = Vec::new();
        for n in 1..=count {
            all.insert(0, meta(n * every, FOLD_VERSION));
            let gone = thin(&all, budget);
            all.retain(|meta| !gone.contains(meta));
            assert!(all.len() as u64 * 1_000 <= budget, "{all:?}");
        }
        all.iter().rev().map(|meta| meta.place.position).collect()
    }

    #[test]
    fn every_moment_stays_near_a_snapshot() {
        let kept = left(10_000, 1_000, u64::MAX);
        let widest = kept.windows(2).map(|two| two[1] - two[0]).max();
        assert!(widest <= Some(SNAPSHOT_STRIDE + 10_000), "{kept:?}");
        assert!(kept.len() < 340, "{}", kept.len());
        assert_eq!(kept[kept.len() - 3..], [9_980_000, 9_990_000, 10_000_000]);
    }

    #[test]
    fn what_is_kept_fits_and_is_spread_over_all_of_history() {
        let kept = left(10_000, 1_000, 50_000);
        let widest = kept.windows(2).map(|two| two[1] - two[0]).max();
        assert!(kept.len() > 20, "{kept:?}");
        assert!(widest <= Some(16 * SNAPSHOT_STRIDE + 10_000), "{kept:?}");
    }

    #[test]
    fn of_another_version_of_the_fold_the_newest_few_are_kept() {
        let mut all: Vec<SnapshotMeta> = (1..=9).rev().map(|n| meta(n * 50_000, 1)).collect();
        all.insert(0, meta(500_000, FOLD_VERSION));
        let gone = thin(&all, u64::MAX);
        assert_eq!(gone, all[4..]);
    }
}
