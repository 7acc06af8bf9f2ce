//! Reads: what event-log answers about history and state, never above the published head.

mod select;

use std::ops::ControlFlow;

use bus::{Bus, Request};
use runtime::{Failure, Shutdown};
use schemas::place::Place;
use schemas::proof::ProofRequest;
use schemas::read::{
    Head, LogPage, LogRequest, Moment, MomentRequest, PAGE_BYTES_MAX, SnapshotPart,
    SnapshotRequest, StateRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::proof::{ProofError, Prover};
use crate::store::{FjallStore, Row, Store};
use crate::view::{self, View};

/// The endpoints, each on a subject of its own.
const HEAD: &str = "muster.v1.api.head";
const LOG: &str = "muster.v1.api.log";
const STATE: &str = "muster.v1.api.state";
const SNAPSHOT: &str = "muster.v1.api.snapshot";
const MOMENT: &str = "muster.v1.api.moment";
const PROOF: &str = "muster.v1.api.proof";

/// Room that a page leaves for what is around its events.
const PAGE_ROOM: usize = 8 * 1024;

/// The most events that are asked for as the newest.
const NEWEST_MAX: usize = 10_000;

pub(crate) type Answered = Result<Vec<u8>, (u16, String)>;

/// Answers until asked to stop.
pub(crate) async fn serve(
    bus: Bus,
    store: FjallStore,
    view: View,
    prover: Prover<FjallStore>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let subjects = [HEAD, LOG, STATE, SNAPSHOT, PROOF, MOMENT];
    let mut served = bus.serve("muster-event-log", "history and state", &subjects).await?;
    loop {
        let request = tokio::select! {
            () = shutdown.requested() => return Ok(()),
            request = served.next() => request,
        };
        let Some(request) = request else { return Err("the connection to NATS is gone".into()) };
        let answered = tokio::task::block_in_place(|| answer(&store, &view, &prover, &request));
        request.respond(answered).await;
    }
}

fn answer(
    store: &FjallStore,
    view: &View,
    prover: &Prover<FjallStore>,
    request: &Request,
) -> Answered {
    match request.subject {
        HEAD => encode(&head(view)),
        MOMENT => moment(store, view, &decode(request)?),
        LOG => log(store, view, &decode(request)?),
        STATE => state(store, view, &decode(request)?),
        PROOF => prove(view, prover, &decode(request)?),
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
    let mut page = Page { events: Vec::new(), bytes: PAGE_ROOM, limit };
    let range = select::range(store, request, place.position).map_err(failed)?;
    if request.newest {
        let most = limit.min(NEWEST_MAX);
        for row in select::newest(store, request, &range, most).map_err(failed)? {
            let _ = page.takes(&row);
        }
        return encode(&LogPage { place, events: page.events, next: None });
    }
    let next = select::oldest(store, request, &range, &mut |row| page.takes(row));
    let next = next.map_err(failed)?.filter(|_| page.events.len() < limit);
    encode(&LogPage { place, events: page.events, next })
}

/// The last end of a batch at or before a position or a time.
fn moment(store: &impl Store, view: &View, request: &MomentRequest) -> Answered {
    let head = view.fold().place().position;
    let mut at = request.position.unwrap_or(head);
    if at > head {
        return Err((404, format!("history has got to {head}, not to {at}")));
    }
    if let Some(ms) = request.time_ms {
        at = at.min(select::first_after(store, head, ms).map_err(failed)? - 1);
    }
    while at > 0 {
        let row = store.row(at).map_err(failed)?;
        if let Some(row) = row.filter(|row| row.ends) {
            let recorded_ms = select::recorded_ms(&row).unwrap_or(0);
            return encode(&Moment { place: row.place, recorded_ms });
        }
        at -= 1;
    }
    encode(&Moment { place: Place::START, recorded_ms: 0 })
}

/// A page of events that is being filled.
struct Page {
    events: Vec<Box<RawValue>>,
    bytes: usize,
    limit: usize,
}

impl Page {
    /// Takes an event, if there is room.
    fn takes(&mut self, row: &Row) -> ControlFlow<()> {
        let full = self.bytes + row.bytes.len() > PAGE_BYTES_MAX && !self.events.is_empty();
        if full || self.events.len() >= self.limit {
            return ControlFlow::Break(());
        }
        let text = String::from_utf8_lossy(&row.bytes).into_owned();
        if let Ok(event) = RawValue::from_string(text) {
            self.bytes += row.bytes.len() + 1;
            self.events.push(event);
        }
        ControlFlow::Continue(())
    }
}

fn state(store: &impl Store, view: &View, request: &StateRequest) -> Answered {
    let head = reached(view, request.at_least)?.position;
    match request.at {
        Some(at) if at > head => Err((404, format!("history has got to {head}, not to {at}"))),
        Some(at) => {
            let fold = view::at(store, at).map_err(failed)?;
            encode(&cluster::view::page(fold.state(), fold.place(), request))
        }
        None => {
            let fold = view.fold();
            encode(&cluster::view::page(fold.state(), fold.place(), request))
        }
    }
}

fn prove(view: &View, prover: &Prover<FjallStore>, request: &ProofRequest) -> Answered {
    let (place, genesis) = {
        let fold = view.fold();
        (fold.place(), fold.state().cluster.genesis.clone())
    };
    let proof = prover.prove(place, genesis, request.position).map_err(|error| match &error {
        ProofError::NotThere { .. } => (404, error.to_string()),
        ProofError::Building { .. } => (425, error.to_string()),
        _ => failed(error),
    })?;
    encode(&proof)
}

fn snapshot(store: &FjallStore, view: &View, request: &SnapshotRequest) -> Answered {
    let published = view.fold().place();
    let found = store.snapshots().map_err(failed)?.into_iter().find(|meta| {
        meta.fold_version == request.fold_version
            && meta.place.position <= published.position
            && request.position.is_none_or(|position| position == meta.place.position)
            && request.at.is_none_or(|at| meta.place.position <= at)
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
