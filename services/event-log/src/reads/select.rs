//! Which entries a `log` request wants, found with a bounded amount of work a request.

use std::ops::{ControlFlow, RangeInclusive};

use schemas::envelope::Header;
use schemas::read::LogRequest;

use crate::store::{Row, Store, StoreError};

/// The most entries that are looked at for one page.
const LOOKED_AT_MAX: u64 = 20_000;

/// How many positions of an entity are looked up at once.
const AT_ONCE: usize = 2_000;

/// Hands wanted entries to `each` until it breaks or enough was looked at. Says where to go on, if there
/// may be more.
pub(super) fn oldest(
    store: &impl Store,
    request: &LogRequest,
    range: &RangeInclusive<u64>,
    each: &mut dyn FnMut(&Row) -> ControlFlow<()>,
) -> Result<Option<u64>, StoreError> {
    let (from, to) = (*range.start(), *range.end());
    if let Some(entity) = &request.entity {
        let positions = store.history(entity, from, to, AT_ONCE, false)?;
        for position in &positions {
            let Some(row) = store.row(*position)? else { continue };
            if wants(request, &row) && each(&row).is_break() {
                return Ok(Some(*position));
            }
        }
        let full = positions.len() == AT_ONCE;
        return Ok(positions.last().filter(|_| full).map(|last| last + 1));
    }
    let end = to.min(from.saturating_add(LOOKED_AT_MAX - 1));
    let mut stopped = None;
    store.scan(from, end, &mut |row| {
        if wants(request, &row) && each(&row).is_break() {
            stopped = Some(row.position());
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(stopped.or((end < to).then_some(end + 1)))
}

/// The newest `limit` wanted entries, in order.
pub(super) fn newest(
    store: &impl Store,
    request: &LogRequest,
    range: &RangeInclusive<u64>,
    limit: usize,
) -> Result<Vec<Row>, StoreError> {
    let (from, mut to) = (*range.start(), *range.end());
    let mut found: Vec<Row> = Vec::new();
    while found.len() < limit && to >= from && to > 0 {
        let (mut rows, next) = match &request.entity {
            Some(entity) => {
                let positions = store.history(entity, from, to, AT_ONCE.min(limit), true)?;
                let rows = positions.iter().filter_map(|at| store.row(*at).transpose());
                (rows.collect::<Result<Vec<_>, _>>()?, positions.first().map_or(0, |at| at - 1))
            }
            None => {
                let begin = from.max(to.saturating_sub(AT_ONCE as u64 - 1));
                (crate::store::rows(store, begin, to)?, begin - 1)
            }
        };
        rows.retain(|row| wants(request, row));
        rows.append(&mut found);
        found = rows;
        to = next;
    }
    Ok(found.split_off(found.len().saturating_sub(limit)))
}

/// The positions that a request may want, by position and by time.
pub(super) fn range(
    store: &impl Store,
    request: &LogRequest,
    head: u64,
) -> Result<RangeInclusive<u64>, StoreError> {
    let mut from = request.from.max(1);
    let mut to = request.to.map_or(head, |to| to.min(head));
    if let Some(since_ms) = request.since_ms {
        from = from.max(first_after(store, head, since_ms.saturating_sub(1))?);
    }
    if let Some(until_ms) = request.until_ms {
        to = to.min(first_after(store, head, until_ms)? - 1);
    }
    Ok(from..=to)
}

/// The first position that was recorded after a time, or the next one. Recorded times never decrease,
/// so it is found by halving.
pub(super) fn first_after(store: &impl Store, head: u64, ms: u64) -> Result<u64, StoreError> {
    let (mut low, mut high) = (1, head + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let later = store.row(middle)?.and_then(|row| recorded_ms(&row)).is_none_or(|at| at > ms);
        if later {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(low)
}

pub(super) fn recorded_ms(row: &Row) -> Option<u64> {
    Header::decode(&row.bytes).ok().map(|(header, _)| header.recorded_ms)
}

fn wants(request: &LogRequest, row: &Row) -> bool {
    let LogRequest { correlation, actor, kinds, .. } = request;
    if correlation.is_none() && actor.is_none() && kinds.is_empty() {
        return true;
    }
    let Ok((header, kind)) = Header::decode(&row.bytes) else { return false };
    (correlation.is_none() || header.correlation == *correlation)
        && actor.as_ref().is_none_or(|actor| *actor == header.actor)
        && (kinds.is_empty() || kinds.contains(&kind))
}
