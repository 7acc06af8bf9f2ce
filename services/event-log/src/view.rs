//! What anyone may see: the state at the published head, and the snapshots of it.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::{FOLD_VERSION, Fold, FoldError};
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;

use crate::sequencer::Bindings;
use crate::store::{SnapshotMeta, Store, StoreError};

/// How many snapshots are kept: a bad one is skipped for an older one.
const SNAPSHOTS_KEPT: usize = 3;

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
        Ok(Self(Arc::new(Mutex::new(newest(store)?))))
    }

    pub(crate) fn fold(&self) -> MutexGuard<'_, Fold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what was published since. What was published goes back only where an operator gave it
    /// up: then from the beginning.
    pub(crate) fn advance(&self, store: &impl Store, to: Place) -> Result<(), ViewError> {
        let mut fold = self.fold();
        if to.position < fold.cursor().position {
            *fold = newest(store)?;
        }
        let from = fold.cursor().position + 1;
        let mut failed = None;
        store.scan(from, to.position, &mut |row| match fold.push(&row.bytes) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// The newest snapshot that is good, or nothing.
fn newest(store: &impl Store) -> Result<Fold, StoreError> {
    let head = store.head()?;
    for meta in store.snapshots()? {
        let usable = meta.fold_version == FOLD_VERSION && meta.place.position <= head.position;
        if !usable || !belongs(store, &meta)? {
            continue;
        }
        let len = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        let bytes = store.snapshot_bytes(&meta, 0, len)?;
        match Fold::restore(&bytes) {
            Ok(fold) => return Ok(fold),
            Err(error) => {
                tracing::warn!(%error, place = %meta.place, "skipping a bad snapshot")
            }
        }
    }
    Ok(Fold::default())
}

/// Whether a snapshot is one of this history: entries it was made from may have been moved aside.
fn belongs(store: &impl Store, meta: &SnapshotMeta) -> Result<bool, StoreError> {
    let row = store.row(meta.place.position)?;
    Ok(meta.place.position == 0 || row.is_some_and(|row| row.place == meta.place))
}

impl Bindings for View {
    fn node_of(&self, replica: &ReplicaId) -> Option<NodeName> {
        self.fold().state().replicas.get(replica).and_then(|replica| replica.node.clone())
    }
}

/// Writes a snapshot, reads it back, and forgets all but the newest few.
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
    for old in store.snapshots()?.iter().skip(SNAPSHOTS_KEPT) {
        store.drop_snapshot(old)?;
    }
    Ok(())
}
