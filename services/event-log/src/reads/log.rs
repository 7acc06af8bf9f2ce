//! `log`: events by position, by time, and by whom and what they are about.
//!
//! Only so much is looked at for one answer, so that nobody waits long behind a rare match; `next`
//! says where to go on.

use std::ops::ControlFlow;

use bytes::Bytes;
use schemas::envelope::Header;
use schemas::place::Place;
use schemas::read::{LogPage, LogRequest, PAGE_BYTES_MAX};

use super::{Answered, PAGE_ROOM, current, encode, failed, past, reached};
use crate::entry;
use crate::index::by;
use crate::store::{Row, Store, StoreError};
use crate::view::View;

/// The type of what stands where the log never wrote: it is in no index.
const VOIDED: &str = "PositionVoided";

/// Where the events of a page go, as it is encoded without any.
const LIST: &[u8] = b"\"events\":[]";

/// The most events that are looked at for one page.
const LOOKED_MAX: usize = 10_000;

/// How many positions are asked of an index at once.
const CHUNK: usize = 512;

/// How far the rows of an index are counted to find the one with the fewest.
const COUNTED: usize = 1_000;

pub(crate) fn log(store: &impl Store, view: &View, request: &LogRequest) -> Answered {
    if request.newest {
        current(view)?;
    }
    let place = reached(view, request.at_least)?;
    let mut search = Search::new(request);
    search.narrow(store, place.position).map_err(failed)?;
    search.run(store).map_err(failed)?;
    let Search { mut events, next, .. } = search;
    if request.newest {
        events.reverse();
    }
    page(place, &events, next)
}

/// A [`LogPage`], with the events as they are: to read them as JSON only to write the same again would
/// take most of the time of a page.
fn page(place: Place, events: &[Bytes], next: Option<u64>) -> Answered {
    let around = encode(&LogPage { place, events: Vec::new(), next })?;
    let at = around.windows(LIST.len()).position(|found| found == LIST);
    let at = at.ok_or_else(|| failed("a page without a list"))? + LIST.len() - 1;
    let len: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut bytes = Vec::with_capacity(around.len() + len);
    bytes.extend_from_slice(&around[..at]);
    for (i, event) in events.iter().enumerate() {
        if i > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(event);
    }
    bytes.extend_from_slice(&around[at..]);
    Ok(bytes)
}

/// A page of events that is being filled.
struct Search<'a> {
    request: &'a LogRequest,
    /// Between which positions to look.
    from: u64,
    to: u64,
    limit: usize,
    looked: usize,
    bytes: usize,
    events: Vec<Bytes>,
    next: Option<u64>,
}

impl<'a> Search<'a> {
    fn new(request: &'a LogRequest) -> Self {
        let limit = request.limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let (from, to) = (request.from.max(1), request.to.unwrap_or(u64::MAX));
        let (events, next) = (Vec::new(), None);
        Self { request, from, to, limit, looked: 0, bytes: PAGE_ROOM, events, next }
    }

    /// Recorded times never decrease: what is between two times is between two positions.
    fn narrow(&mut self, store: &impl Store, head: u64) -> Result<(), StoreError> {
        self.to = self.to.min(head);
        if let Some(since) = self.request.since_ms {
            self.from = self.from.max(past::first(store, head, |recorded| recorded >= since)?);
        }
        if let Some(until) = self.request.until_ms {
            let after = past::first(store, head, |recorded| recorded > until)?;
            self.to = self.to.min(after.saturating_sub(1));
        }
        Ok(())
    }

    fn run(&mut self, store: &impl Store) -> Result<(), StoreError> {
        if self.from > self.to {
            return Ok(());
        }
        let mut best: Option<(usize, Vec<String>)> = None;
        for names in indexes(self.request) {
            let mut rows = 0;
            for name in &names {
                rows += store.history(name, self.from, self.to, COUNTED, false)?.len();
            }
            if best.as_ref().is_none_or(|(fewest, _)| rows < *fewest) {
                best = Some((rows, names));
            }
        }
        match best {
            Some((_, names)) => self.index(store, &names),
            None => self.scan(store),
        }
    }

    /// Looks at every entry.
    fn scan(&mut self, store: &impl Store) -> Result<(), StoreError> {
        let (from, to, newest) = (self.from, self.to, self.request.newest);
        let mut each = |row: Row| self.look(&row);
        match newest {
            true => store.scan_back(from, to, &mut each),
            false => store.scan(from, to, &mut each),
        }
    }

    /// Looks at the entries that any of these rows of the index names.
    fn index(&mut self, store: &impl Store, names: &[String]) -> Result<(), StoreError> {
        let newest = self.request.newest;
        while self.from <= self.to {
            let chunk = self.limit.clamp(1, CHUNK);
            let mut found = Vec::new();
            for name in names {
                found.extend(store.history(name, self.from, self.to, chunk, newest)?);
            }
            found.sort_unstable();
            found.dedup();
            if newest {
                found.reverse();
            }
            // Beyond so many, a name may have some that were not asked for yet.
            found.truncate(chunk);
            for position in &found {
                let Some(row) = store.row(*position)? else { continue };
                if self.look(&row).is_break() {
                    return Ok(());
                }
            }
            match found.last() {
                Some(last) if newest => self.to = last.saturating_sub(1),
                Some(last) => self.from = last + 1,
                None => break,
            }
        }
        Ok(())
    }

    /// Takes an entry if it is wanted. Breaks when the page is done.
    fn look(&mut self, row: &Row) -> ControlFlow<()> {
        if self.events.len() >= self.limit {
            return ControlFlow::Break(());
        }
        let full = self.bytes + row.bytes.len() > PAGE_BYTES_MAX && !self.events.is_empty();
        if full || self.looked == LOOKED_MAX {
            self.next = Some(row.position());
            return ControlFlow::Break(());
        }
        self.looked += 1;
        if !wants(self.request, row) {
            return ControlFlow::Continue(());
        }
        self.bytes += row.bytes.len() + 1;
        self.events.push(row.bytes.clone());
        ControlFlow::Continue(())
    }
}

/// The indexes that can answer a request: for each, the names whose rows hold every event that is
/// wanted. What event-log put in the place of something it never wrote is in none of them.
fn indexes(request: &LogRequest) -> Vec<Vec<String>> {
    let LogRequest { entity, correlation, actor, kinds, .. } = request;
    let mut found: Vec<Vec<String>> = Vec::new();
    found.extend(entity.iter().map(|entity| vec![entity.clone()]));
    found.extend(correlation.iter().map(|id| vec![by::command(id)]));
    let actor = actor.as_deref().filter(|actor| *actor != entry::ACTOR);
    found.extend(actor.iter().map(|actor| vec![by::actor(actor)]));
    if !kinds.is_empty() && !kinds.iter().any(|kind| kind == VOIDED) {
        found.push(kinds.iter().map(|kind| by::kind(kind)).collect());
    }
    found
}

/// Whether an entry is one of those that a request names, its times apart.
fn wants(request: &LogRequest, row: &Row) -> bool {
    let LogRequest { correlation, actor, kinds, entity, .. } = request;
    if correlation.is_none() && actor.is_none() && kinds.is_empty() {
        // There are no others than those that the index of entities names.
        return true;
    }
    let Ok((header, kind)) = Header::decode(&row.bytes) else { return false };
    let about = |entity: &String| {
        let event = entry::decode(&row.bytes).ok().and_then(|(_, event)| event);
        event.is_some_and(|event| event.about().entities.contains(entity))
    };
    (correlation.is_none() || header.correlation == *correlation)
        && actor.as_ref().is_none_or(|actor| header.actor == *actor)
        && (kinds.is_empty() || kinds.contains(&kind))
        && entity.as_ref().is_none_or(about)
}
