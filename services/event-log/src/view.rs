//! What anyone may see: the state at the published head, and the snapshots of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::state::Touched;
use cluster::{FOLD_VERSION, Fold, FoldError};
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;

use crate::sequencer::Bindings;
use crate::store::{SnapshotMeta, Store, StoreError};

/// How many snapshots are kept: a bad one is skipped for an older one.
const SNAPSHOTS_KEPT: usize = 3;

/// How many of each other version of the fold: one that goes back to it begins there.
const OTHERS_KEPT: usize = 1;

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
        let fold = begin(store, store.head()?.position)?;
        Ok(Self(Arc::new(Mutex::new(fold))))
    }

    pub(crate) fn fold(&self) -> MutexGuard<'_, Fold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what was published since.
    pub(crate) fn advance(&self, store: &impl Store, to: Place) -> Result<(), ViewError> {
        let mut fold = self.fold();
        let advanced = go_on(store, &mut fold, to.position);
        // Nobody here asks what changed.
        fold.state_mut().touched = Touched::default();
        advanced
    }
}

/// The fold of history up to the last end of a batch at or before a position.
pub(crate) fn at(store: &impl Store, position: u64) -> Result<Fold, ViewError> {
    let mut fold = begin(store, position)?;
    go_on(store, &mut fold, position)?;
    Ok(fold)
}

/// Folds up to a position.
fn go_on(store: &impl Store, fold: &mut Fold, to: u64) -> Result<(), ViewError> {
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

/// The newest good snapshot at or before a position, or the beginning.
fn begin(store: &impl Store, position: u64) -> Result<Fold, StoreError> {
    // The log alone is the record: whatever is wrong with a snapshot, there is another way.
    let metas = store.snapshots().unwrap_or_else(|error| {
        tracing::error!(%error, "no snapshot is used: they cannot be listed");
        Vec::new()
    });
    for meta in metas {
        let usable = meta.fold_version == FOLD_VERSION && meta.place.position <= position;
        if !usable || !belongs(store, &meta)? {
            continue;
        }
        match restore(store, &meta) {
            Ok(fold) => return Ok(fold),
            Err(error) => {
                let error = runtime::process::chain(&error);
                tracing::error!(error, place = %meta.place, "skipping a damaged snapshot");
            }
        }
    }
    Ok(Fold::new())
}

fn restore(store: &impl Store, meta: &SnapshotMeta) -> Result<Fold, ViewError> {
    let len = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
    let fold = Fold::restore(&store.snapshot_bytes(meta, 0, len)?)?;
    if fold.place() != meta.place || fold.state().hash() != meta.state_hash {
        let what = format!("it is not the state of {} that it was stored as", meta.place);
        return Err(FoldError::Snapshot(what).into());
    }
    Ok(fold)
}

/// Whether a snapshot is one of this history: entries it was made from may have been moved aside.
fn belongs(store: &impl Store, meta: &SnapshotMeta) -> Result<bool, StoreError> {
    let row = store.row(meta.place.position)?;
    Ok(meta.place.position == 0 || row.is_some_and(|row| row.place == meta.place))
}

impl Bindings for View {
    fn intake_closed(&self) -> bool {
        self.fold().state().cluster.intake_closed.is_some()
    }

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
    let mut kept = BTreeMap::new();
    for old in &store.snapshots()? {
        let count: &mut usize = kept.entry(old.fold_version).or_default();
        *count += 1;
        let most = if old.fold_version == FOLD_VERSION { SNAPSHOTS_KEPT } else { OTHERS_KEPT };
        if *count > most {
            store.drop_snapshot(old)?;
        }
    }
    Ok(())
}

/// The position of the newest snapshot that this version of the fold made.
pub(crate) fn newest_snapshot(store: &impl Store) -> u64 {
    let metas = store.snapshots().unwrap_or_default();
    let mine = metas.iter().find(|meta| meta.fold_version == FOLD_VERSION);
    mine.map_or(0, |meta| meta.place.position)
}

#[cfg(test)]
mod tests;
