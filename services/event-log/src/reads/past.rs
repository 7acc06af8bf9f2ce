//! `moment` and `state` of then: which place a time means, and what was true there.

use std::sync::{Mutex, PoisonError};

use cluster::{Fold, view};
use schemas::envelope::Header;
use schemas::place::Place;
use schemas::read::{Moment, MomentRequest, StateRequest};

use super::{Answered, current, encode, failed, reached};
use crate::store::{Row, Store, StoreError};
use crate::view::{self as shown, View, ViewError};

/// The state of then that was asked for last: its next page, or a moment soon after it, is near.
#[derive(Debug, Default)]
pub(super) struct Past(Mutex<Fold>);

impl Past {
    /// The state as it was.
    pub(super) fn state(
        &self,
        store: &impl Store,
        view: &View,
        request: &StateRequest,
    ) -> Answered {
        let published = reached(view, request.at_least.max(request.at))?;
        let at = end_of_batch(store, request.at.unwrap_or(published.position)).map_err(failed)?;
        let mut fold = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        go(store, &mut fold, at.place).map_err(failed)?;
        encode(&view::page(fold.state(), fold.place(), request))
    }
}

/// Brings a fold to a place: from where it is, or from a snapshot, whichever is nearer.
fn go(store: &impl Store, fold: &mut Fold, to: Place) -> Result<(), ViewError> {
    let here = fold.place().position;
    let beyond = here > to.position;
    // What the fold has read may have been moved aside since.
    let foreign = here > 0 && store.row(here)?.is_none_or(|row| row.place != fold.place());
    let nearer = store.snapshots()?.iter().any(|meta| {
        meta.fold_version == cluster::FOLD_VERSION
            && (here + 1..=to.position).contains(&meta.place.position)
    });
    if beyond || foreign || nearer {
        *fold = shown::restore(store, to.position)?;
    }
    let pushed = shown::travel(store, fold, to.position);
    if pushed.is_err() {
        *fold = Fold::new();
    }
    pushed
}

/// Which place a position or a time means.
pub(crate) fn moment(store: &impl Store, view: &View, request: &MomentRequest) -> Answered {
    if request.position.is_none() {
        current(view)?;
    }
    let mut position = reached(view, request.position)?.position;
    if let Some(time) = request.time_ms {
        let after = first(store, position, |recorded| recorded > time).map_err(failed)?;
        position = after.saturating_sub(1);
    }
    position = position.min(request.position.unwrap_or(position));
    encode(&end_of_batch(store, position).map_err(failed)?)
}

/// The last end of a batch at or before a position. A batch is some hundred events, at most.
fn end_of_batch(store: &impl Store, position: u64) -> Result<Moment, StoreError> {
    let mut at = position;
    while let Some(row) = store.row(at)? {
        if row.ends {
            return Ok(Moment { place: row.place, recorded_ms: recorded(&row)? });
        }
        at -= 1;
    }
    Ok(Moment { place: Place::START, recorded_ms: 0 })
}

/// The first position whose entry was recorded at a time that is `late`; the one after the head when
/// there is none. Found by halving: recorded times never decrease.
pub(super) fn first(
    store: &impl Store,
    head: u64,
    late: impl Fn(u64) -> bool,
) -> Result<u64, StoreError> {
    let (mut low, mut high) = (1, head + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let row = store.row(middle)?;
        if row.as_ref().map(recorded).transpose()?.is_some_and(&late) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

fn recorded(row: &Row) -> Result<u64, StoreError> {
    match Header::decode(&row.bytes) {
        Ok((header, _)) => Ok(header.recorded_ms),
        Err(error) => {
            Err(StoreError::Damaged { position: row.position(), what: error.to_string() })
        }
    }
}
