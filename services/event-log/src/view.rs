//! What anyone may see: the state at the published head, and the snapshots of it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cluster::state::Touched;
use cluster::{FOLD_VERSION, Fold, FoldError, Marks};
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::report::Mark;

use crate::packed::Packed;
use crate::sequencer::Bindings;
use crate::store::{SnapshotMeta, Store, StoreError};

/// How many of the newest snapshots are kept: a bad one is skipped for an older one.
const SNAPSHOTS_KEPT: usize = 3;

/// How many of each other version of the fold: one that goes back to it begins there.
const OTHERS_KEPT: usize = 1;

/// Of the older ones, one in so many events is kept: no moment is then much farther from a snapshot,
/// and its state is a fold of at most that many events away.
const SNAPSHOT_STRIDE: u64 = 10_000;

/// What the kept snapshots may take, before the store compresses them. Past that, every second of
/// the older ones goes, and the moments between take twice as long.
const SNAPSHOTS_BYTES: u64 = 1024 * 1024 * 1024;

/// The folded history up to the published head. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    fold: Arc<Mutex<Fold>>,
    marks: Arc<Mutex<Marks>>,
}

/// Why the view cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the log does not fold")]
    Fold(#[from] FoldError),
}

impl View {
    /// Begins from the newest snapshot that is good, or else from what is packed.
    pub(crate) fn open(store: &impl Store, packed: Option<&Packed>) -> Result<Self, StoreError> {
        let mut fold = restore(store, store.head()?.position)?;
        if let Some(packed) = packed.filter(|_| fold.place().position == 0) {
            fold = packed.fold(store)?;
        }
        Ok(Self { fold: Arc::new(Mutex::new(fold)), marks: Arc::default() })
    }

    /// Takes marks of the state at another interval.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn marking(self, marks: Marks) -> Self {
        Self { marks: Arc::new(Mutex::new(marks)), ..self }
    }

    pub(crate) fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Folds what was published since. What was published goes back only where an operator gave it
    /// up: then from the beginning.
    pub(crate) fn advance(&self, store: &impl Store, to: Place) -> Result<(), ViewError> {
        let mut fold = self.fold();
        if to.position < fold.cursor().position {
            *fold = restore(store, to.position)?;
        }
        let advanced = push_each(store, &mut fold, to.position, &mut |before, fold| {
            self.marks().pushed(before, fold);
        });
        // Nobody here asks what changed.
        fold.state_mut().touched = Touched::default();
        advanced
    }
}

/// Folds on to a position.
pub(crate) fn push(store: &impl Store, fold: &mut Fold, to: u64) -> Result<(), ViewError> {
    push_each(store, fold, to, &mut |_, _| {})
}

/// The same, and says after each entry where the fold was before it.
fn push_each(
    store: &impl Store,
    fold: &mut Fold,
    to: u64,
    each: &mut dyn FnMut(Place, &Fold),
) -> Result<(), ViewError> {
    let from = fold.cursor().position + 1;
    let mut failed = None;
    store.scan(from, to, &mut |row| {
        let before = fold.place();
        match fold.push(&row.bytes) {
            Ok(_) => {
                each(before, fold);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// The newest good snapshot at or below a position; nothing folded when there is none.
pub(crate) fn restore(store: &impl Store, at: u64) -> Result<Fold, StoreError> {
    // The log alone is the record: whatever is wrong with a snapshot, there is another way.
    let metas = store.snapshots().unwrap_or_else(|error| {
        tracing::error!(%error, "no snapshot is used: they cannot be listed");
        Vec::new()
    });
    for meta in metas {
        let usable = meta.fold_version == FOLD_VERSION && meta.place.position <= at;
        if !usable || !belongs(store, &meta)? {
            continue;
        }
        match restored(store, &meta) {
            Ok(fold) => return Ok(fold),
            Err(error) => {
                let error = runtime::process::chain(&error);
                tracing::error!(error, place = %meta.place, "skipping a damaged snapshot");
            }
        }
    }
    Ok(Fold::new())
}

fn restored(store: &impl Store, meta: &SnapshotMeta) -> Result<Fold, ViewError> {
    let len = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
    let fold = Fold::restore(&store.snapshot_bytes(meta, 0, len)?)?;
    if fold.place() != meta.place || fold.state().hash() != meta.state_hash {
        let what = format!("it is not the state of {} that it was stored as", meta.place);
        return Err(FoldError::Snapshot(what).into());
    }
    Ok(fold)
}

/// Whether a snapshot is one of this history: entries it was made from may have been moved aside.
pub(crate) fn belongs(store: &impl Store, meta: &SnapshotMeta) -> Result<bool, StoreError> {
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

    fn mark_at(&self, place: Place) -> Option<Mark> {
        self.marks().at(place).cloned()
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

/// The position of the newest snapshot of this history that this version of the fold made.
pub(crate) fn newest_snapshot(store: &impl Store) -> u64 {
    let metas = store.snapshots().unwrap_or_default();
    let mine = metas.iter().find(|meta| {
        meta.fold_version == FOLD_VERSION && belongs(store, meta).is_ok_and(|belongs| belongs)
    });
    mine.map_or(0, |meta| meta.place.position)
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
/// Kept are the newest few of this version of the fold and the newest of each other one, and of this
/// version's the oldest in every stride: what is kept once stays kept. The stride doubles until all that is kept fits.
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
            let most = if meta.fold_version == FOLD_VERSION { SNAPSHOTS_KEPT } else { OTHERS_KEPT };
            *count <= most || (meta.fold_version == FOLD_VERSION && first)
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
mod tests;
