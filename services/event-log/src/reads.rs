//! Reads: what event-log answers about history and state, never above the published head.

mod log;
mod past;
#[cfg(test)]
mod tests;

use bus::{Bus, Request};
use cluster::view;
use runtime::tasks::Tasks;
use runtime::{Failure, Shutdown};
use schemas::place::Place;
use schemas::proof::ProofRequest;
use schemas::read::{Head, PAGE_BYTES_MAX, SnapshotPart, SnapshotRequest, StateRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;

use self::past::Past;
use crate::proof::{ProofError, Prover};
use crate::store::{FjallStore, Store};
use crate::view::{self as shown, View};

pub(crate) use self::log::log;

/// The endpoints, each on a subject of its own.
const HEAD: &str = "muster.v1.api.head";
const LOG: &str = "muster.v1.api.log";
const STATE: &str = "muster.v1.api.state";
const SNAPSHOT: &str = "muster.v1.api.snapshot";
const MOMENT: &str = "muster.v1.api.moment";
const PROOF: &str = "muster.v1.api.proof";

/// How many requests about history may wait. One that waits longer than its asker is lost work.
const WAITING: usize = 64;

/// Room that a page leaves for what is around its events.
const PAGE_ROOM: usize = 8 * 1024;

/// How long until it is tried again to be found on the bus.
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);

pub(crate) type Answered = Result<Vec<u8>, (u16, String)>;

/// Answers until asked to stop, while this instance is the one that does. What is about now never
/// waits behind what is about history.
pub(crate) async fn serve(
    bus: Bus,
    store: FjallStore,
    view: View,
    prover: Prover<FjallStore>,
    mut serves: watch::Receiver<bool>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let subjects = [HEAD, LOG, STATE, SNAPSHOT, MOMENT, PROOF];
    let (queue, arrived) = channel(WAITING);
    let mut history = Tasks::default();
    history.spawn("history", serve_history(store, view.clone(), prover, arrived));
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
                // Only a failure ends it, and then nobody would be answered about history.
                Some((task, ended)) = history.ended() => {
                    return Err(format!("{task} ended: {ended:?}").into());
                }
                request = served.next() => request,
            };
            let Some(request) = request else {
                return Err("the connection to NATS is gone".into());
            };
            respond(&view, &queue, request).await;
        }
        served.stop().await;
    }
}

/// Waits until the switch is in a position; whether nobody holds it any more.
async fn becomes(switch: &mut watch::Receiver<bool>, position: bool) -> bool {
    switch.wait_for(|now| *now == position).await.is_err()
}

async fn respond(view: &View, queue: &Sender<Request>, request: Request) {
    match now(view, &request) {
        Some(answered) => request.respond(answered).await,
        None => {
            if let Err(full) = queue.try_send(request) {
                let busy = "too many ask about history at once; ask again".to_owned();
                full.into_inner().respond(Err((503, busy))).await;
            }
        }
    }
}

async fn serve_history(
    store: FjallStore,
    view: View,
    prover: Prover<FjallStore>,
    mut arrived: Receiver<Request>,
) -> Result<(), Failure> {
    let past = Past::default();
    while let Some(request) = arrived.recv().await {
        let answered =
            tokio::task::block_in_place(|| history(&store, &view, &past, &prover, &request));
        request.respond(answered).await;
    }
    Ok(())
}

/// The answer on what is true now; none when the request is about history.
fn now(view: &View, request: &Request) -> Option<Answered> {
    match request.subject {
        HEAD => Some(head(view)),
        STATE => match decode::<StateRequest>(request) {
            Ok(wanted) if wanted.at.is_some() => None,
            Ok(wanted) => Some(state(view, &wanted)),
            Err(error) => Some(Err(error)),
        },
        _ => None,
    }
}

fn history(
    store: &FjallStore,
    view: &View,
    past: &Past,
    prover: &Prover<FjallStore>,
    request: &Request,
) -> Answered {
    match request.subject {
        LOG => log(store, view, &decode(request)?),
        STATE => past.state(store, view, &decode(request)?),
        SNAPSHOT => snapshot(store, view, &decode(request)?),
        PROOF => prove(view, prover, &decode(request)?),
        MOMENT => past::moment(store, view, &decode(request)?),
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

/// Refuses one who asks for what is now while this is of the past: after a start, until all that the
/// log has is in the stream. What is of record is told meanwhile as far as it got.
fn current(view: &View) -> Result<(), (u16, String)> {
    match view.refilling() {
        None => Ok(()),
        Some((at, to)) => {
            let what = format!("event-log has begun and is refilling up to {to}: it is at {at}");
            Err((425, format!("{what}; ask again")))
        }
    }
}

fn head(view: &View) -> Answered {
    current(view)?;
    let fold = view.fold();
    encode(&Head {
        place: fold.place(),
        genesis: fold.state().cluster.genesis.clone(),
        fold_version: cluster::FOLD_VERSION,
        state_hash: fold.state().hash(),
        anomalies: fold.state().anomalies(),
    })
}

/// Refuses one who asks for more than there is yet.
fn reached(view: &View, at_least: Option<u64>) -> Result<Place, (u16, String)> {
    let place = view.fold().place();
    match at_least {
        Some(wanted) if wanted > place.position => {
            Err((425, format!("the log has got to {place}, not to {wanted} yet")))
        }
        _ => Ok(place),
    }
}

fn state(view: &View, request: &StateRequest) -> Answered {
    current(view)?;
    reached(view, request.at_least)?;
    let fold = view.fold();
    encode(&view::page(fold.state(), fold.place(), request))
}

fn prove(view: &View, prover: &Prover<FjallStore>, request: &ProofRequest) -> Answered {
    current(view)?;
    let genesis = view.fold().state().cluster.genesis.clone();
    let proof =
        prover.prove(|| view.fold().place(), genesis, request.position).map_err(|error| {
            match &error {
                ProofError::NotThere { .. } => (404, error.to_string()),
                ProofError::Building { .. } => (425, error.to_string()),
                _ => failed(error),
            }
        })?;
    encode(&proof)
}

pub(crate) fn snapshot(store: &impl Store, view: &View, request: &SnapshotRequest) -> Answered {
    let published = view.fold().place();
    let most = request.at.unwrap_or(u64::MAX).min(published.position);
    let mut found = None;
    for meta in store.snapshots().map_err(failed)? {
        let fits = meta.fold_version == request.fold_version
            && meta.place.position <= most
            && request.position.is_none_or(|position| position == meta.place.position);
        if fits && shown::belongs(store, &meta).map_err(failed)? {
            found = Some(meta);
            break;
        }
    }
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
