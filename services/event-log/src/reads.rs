//! Reads: what event-log answers about history and state, never above the published head.

use std::ops::ControlFlow;

use bus::{Bus, Request};
use cluster::view;
use runtime::{Failure, Shutdown};
use schemas::read::{
    Head, LogPage, LogRequest, PAGE_BYTES_MAX, SnapshotPart, SnapshotRequest, StateRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::watch::Receiver;

use crate::store::{FjallStore, Row, Store};
use crate::view::View;

/// The endpoints, each on a subject of its own.
const HEAD: &str = "muster.v1.api.head";
const LOG: &str = "muster.v1.api.log";
const STATE: &str = "muster.v1.api.state";
const SNAPSHOT: &str = "muster.v1.api.snapshot";

/// Room that a page leaves for what is around its events.
const PAGE_ROOM: usize = 8 * 1024;

/// The most events that are looked up for one page of an entity's history.
const HISTORY_MAX: usize = 2_000;

/// How long until it is tried again to be found on the bus.
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) type Answered = Result<Vec<u8>, (u16, String)>;

/// Answers until asked to stop, while this instance is the one that does.
pub(crate) async fn serve(
    bus: Bus,
    store: FjallStore,
    view: View,
    mut serves: Receiver<bool>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let subjects = [HEAD, LOG, STATE, SNAPSHOT];
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            gone = becomes(&mut serves, true) => if gone { return Ok(()) },
        }
        let mut served = match bus.serve("muster-event-log", "history and state", &subjects).await {
            Ok(served) => served,
            Err(error) => {
                tracing::warn!(%error, "reads are not answered yet");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        loop {
            let request = tokio::select! {
                () = shutdown.requested() => return Ok(()),
                _ = becomes(&mut serves, false) => break,
                request = served.next() => request,
            };
            let Some(request) = request else {
                return Err("the connection to NATS is gone".into());
            };
            let answered = tokio::task::block_in_place(|| answer(&store, &view, &request));
            request.respond(answered).await;
        }
        served.stop().await;
    }
}

/// Waits until the switch is in a position; whether nobody holds it any more.
async fn becomes(switch: &mut Receiver<bool>, position: bool) -> bool {
    switch.wait_for(|now| *now == position).await.is_err()
}

fn answer(store: &FjallStore, view: &View, request: &Request) -> Answered {
    match request.subject {
        HEAD => encode(&head(view)),
        LOG => log(store, view, &decode(request)?),
        STATE => state(view, &decode(request)?),
        SNAPSHOT => snapshot(store, view, &decode(request)?),
        other => Err((404, format!("there is no {other}"))),
    }
}

/// An empty request means every default.
fn decode<T: DeserializeOwned + Default>(request: &Request) -> Result<T, (u16, String)> {
    if request.payload.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&request.payload)
        .map_err(|error| (400, format!("the request does not decode: {error}")))
}

fn encode(value: &impl Serialize) -> Answered {
    serde_json::to_vec(value).map_err(|error| (500, error.to_string()))
}

fn failed(error: impl std::fmt::Display) -> (u16, String) {
    (500, error.to_string())
}

fn head(view: &View) -> Head {
    let fold = view.fold();
    Head {
        place: fold.place(),
        genesis: fold.state().cluster.genesis.clone(),
        fold_version: cluster::FOLD_VERSION,
        state_hash: fold.state().hash(),
        anomalies: fold.state().anomalies(),
    }
}

/// Refuses one who asks for more than there is yet.
fn reached(view: &View, at_least: Option<u64>) -> Result<schemas::place::Place, (u16, String)> {
    let place = view.fold().place();
    match at_least {
        Some(wanted) if wanted > place.position => {
            Err((425, format!("the log has got to {place}, not to {wanted} yet")))
        }
        _ => Ok(place),
    }
}

pub(crate) fn log(store: &impl Store, view: &View, request: &LogRequest) -> Answered {
    let place = reached(view, request.at_least)?;
    let limit =
        request.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut page = Page { events: Vec::new(), bytes: PAGE_ROOM, limit, next: None };
    let (from, to) = (request.from.max(1), place.position);
    match &request.entity {
        Some(entity) => {
            let most = limit.min(HISTORY_MAX);
            let positions =
                store.history(entity, from, to, most, request.newest).map_err(failed)?;
            let full = positions.len() == most && limit > most;
            for position in &positions {
                let Some(row) = store.row(*position).map_err(failed)? else { continue };
                if !page.takes(&row) {
                    break;
                }
            }
            if full && page.next.is_none() {
                page.next = positions.last().map(|last| last + 1);
            }
        }
        None => {
            let count = request.limit.filter(|_| request.newest);
            let from = count.map_or(from, |count| from.max((to + 1).saturating_sub(count)));
            let mut take = |row: Row| match page.takes(&row) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
            store.scan(from, to, &mut take).map_err(failed)?;
        }
    }
    encode(&LogPage { place, events: page.events, next: page.next })
}

/// A page of events that is being filled.
struct Page {
    events: Vec<Box<RawValue>>,
    bytes: usize,
    limit: usize,
    next: Option<u64>,
}

impl Page {
    /// Takes an event, or notes that the next page begins with it.
    fn takes(&mut self, row: &Row) -> bool {
        let full = self.bytes + row.bytes.len() > PAGE_BYTES_MAX && !self.events.is_empty();
        if self.events.len() >= self.limit {
            return false;
        }
        let text = String::from_utf8_lossy(&row.bytes).into_owned();
        let Ok(event) = RawValue::from_string(text) else { return true };
        if full {
            self.next = Some(row.position());
            return false;
        }
        self.bytes += row.bytes.len() + 1;
        self.events.push(event);
        true
    }
}

fn state(view: &View, request: &StateRequest) -> Answered {
    reached(view, request.at_least)?;
    let fold = view.fold();
    encode(&view::page(fold.state(), fold.place(), request))
}

fn snapshot(store: &FjallStore, view: &View, request: &SnapshotRequest) -> Answered {
    let published = view.fold().place();
    let found = store.snapshots().map_err(failed)?.into_iter().find(|meta| {
        meta.fold_version == request.fold_version
            && meta.place.position <= published.position
            && request.position.is_none_or(|position| position == meta.place.position)
    });
    let Some(meta) = found else { return encode(&SnapshotPart::none()) };
    // JSON is told as a text inside JSON: what is escaped takes more room than it had.
    let len = PAGE_BYTES_MAX / 2 - PAGE_ROOM;
    let bytes = store.snapshot_bytes(&meta, request.offset, len).map_err(failed)?;
    let text = whole_characters(&bytes);
    encode(&SnapshotPart {
        place: meta.place,
        state_hash: meta.state_hash,
        bytes: meta.bytes,
        part: text.to_owned(),
    })
}

/// A part may end inside a character; the next one then begins with it.
fn whole_characters(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}
