//! A long history read in every way: replayed, started from a snapshot, asked about one replica.

use std::ops::ControlFlow;
use std::path::Path;

use cluster::{At, FOLD_VERSION, Fold};
use event_log::packed::Packed;
use event_log::store::{FjallStore, SnapshotMeta, Store as _};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::place::Place;

use super::head;
use super::jetstream::JetStream;
use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Goal, Row, Spread, Unit};

/// How far behind what is asked for the snapshot is that it is folded from.
const TAIL: u64 = 25_000;

/// How many events JetStream is given.
const JETSTREAM_EVENTS: u64 = 100_000;

pub(super) async fn measure(args: &Args, folder: &Path) -> Result<Vec<Row>, Failure> {
    let (mut bare, mut checked) = (Vec::new(), Vec::new());
    let (mut yard, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    let events = head(&FjallStore::open(folder)?)?;
    let rate = |since: Since| per_second(events, since.us());
    let mut last = None;
    for _ in 0..args.repeat {
        args.goes_on()?;
        let dropped = drop_caches();
        let store = FjallStore::open(folder)?;
        let since = Since::now();
        let fold = replay(&store, folder)?;
        if dropped {
            cold.push(rate(since));
        }
        let since = Since::now();
        let again = replay(&store, folder)?;
        warm.push(rate(since));
        let since = Since::now();
        scan(&store)?;
        bare.push(rate(since));
        let since = Since::now();
        let plain = scan_and_fold(&store)?;
        yard.push(rate(since));
        let hash = plain.state().hash();
        if fold.state().hash() != hash || again.state().hash() != hash {
            return Err("the packed history folds to another state".into());
        }
        if plain.state().anomalies() > 0 {
            return Err(format!("impossible: {:?}", plain.state().cluster.anomalous).into());
        }
        last = Some(plain);
    }
    let fold = last.ok_or("nothing was measured")?;
    let store = FjallStore::open(folder)?;
    let since = Since::now();
    if verified(&store)? != fold.state().hash() {
        return Err("the checked history folds to another state".into());
    }
    checked.push(rate(since));
    let row = |what: &str, ours: Vec<u64>, name: &str, beside: &[u64], goal| Row {
        what: format!("{what}, {events} events"),
        unit: Unit::PerSecond,
        ours: Spread::of(ours),
        beside: Some((name.to_owned(), Spread::of(beside.iter().copied()))),
        goal,
    };
    let scanned = "scan, serde_json, the same fold, one core";
    let mut rows = vec![
        row("full replay, warm", warm.clone(), scanned, &yard, Some(Goal::AtLeastYardstick(200))),
        row("full replay, warm", warm, "bare scan of the store", &bare, None),
        row("full replay with the chain checked", checked, "bare scan of the store", &bare, None),
    ];
    if !cold.is_empty() {
        rows.push(row("full replay, cold", cold, scanned, &yard, None));
    }
    rows.push(jetstream(args, &store).await?);
    rows.extend(starts(args, &store, folder, &fold)?);
    Ok(rows)
}

/// Whether the page cache could be emptied.
fn drop_caches() -> bool {
    std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// What event-log does when it has no snapshot.
fn replay(store: &FjallStore, folder: &Path) -> Result<Fold, Failure> {
    let fold = Packed::of(folder).fold(store)?;
    follow(store, fold, head(store)?)
}

/// Folds from where a fold is to a position.
fn follow(store: &FjallStore, mut fold: Fold, to: u64) -> Result<Fold, Failure> {
    let mut failed = None;
    store.scan(fold.cursor().position + 1, to, &mut |row| match fold.push(&row.bytes) {
        Ok(_) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(fold),
    }
}

fn verified(store: &FjallStore) -> Result<String, Failure> {
    Ok(follow(store, Fold::new(), head(store)?)?.state().hash())
}

fn scan(store: &FjallStore) -> Result<(), Failure> {
    let mut bytes = 0;
    store.scan(1, u64::MAX, &mut |row| {
        bytes += row.bytes.len();
        ControlFlow::Continue(())
    })?;
    std::hint::black_box(bytes);
    Ok(())
}

/// The yardstick: no chain, no batches.
fn scan_and_fold(store: &FjallStore) -> Result<Fold, Failure> {
    let mut replay = Fold::new().replay();
    let (mut place, mut failed) = (Place::START, None);
    store.scan(1, u64::MAX, &mut |row| match Envelope::decode(&row.bytes) {
        Ok(Envelope { header, event }) => {
            replay.apply(&At::from(&header), &event);
            place = row.place;
            ControlFlow::Continue(())
        }
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(replay.at(place)),
    }
}

/// The beginning of the history, folded as it comes from an ordered consumer.
async fn jetstream(args: &Args, store: &FjallStore) -> Result<Row, Failure> {
    let some = event_log::store::rows(store, 1, JETSTREAM_EVENTS)?;
    let jetstream = JetStream::start(false).await?;
    jetstream.publish(&some, 4_096).await?;
    let (mut ours, mut there) = (Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let mut fold = Fold::new();
        let push = |bytes: &[u8]| Ok(fold.push(bytes).map(|_| ())?);
        there.push(jetstream.read(some.len(), push).await?);
        let since = Since::now();
        let fold = follow(store, Fold::new(), some.len() as u64)?;
        ours.push(per_second(fold.cursor().position, since.us()));
    }
    Ok(Row {
        what: format!("replay from the store, chain checked, the first {} events", some.len()),
        unit: Unit::PerSecond,
        ours: Spread::of(ours),
        beside: Some(("from an ordered consumer of JetStream".to_owned(), Spread::of(there))),
        goal: None,
    })
}

/// What is quick because it does not begin at the beginning.
fn starts(
    args: &Args,
    store: &FjallStore,
    folder: &Path,
    fold: &Fold,
) -> Result<Vec<Row>, Failure> {
    let bytes = fold.snapshot();
    let meta = SnapshotMeta {
        fold_version: FOLD_VERSION,
        place: fold.place(),
        state_hash: fold.state().hash(),
        bytes: u64::try_from(bytes.len())?,
    };
    store.put_snapshot(&meta, &bytes)?;
    let end = head(store)?;
    let middle = follow(
        store,
        Packed::of(folder).fold_to(store, end.saturating_sub(TAIL))?,
        end.saturating_sub(TAIL),
    )?;
    let older = middle.snapshot();
    let replica = fold.state().replicas.iter().next().ok_or("nothing is alive")?.0.clone();
    let entity = schemas::event::replica_entity(&replica);
    let (mut started, mut at, mut asked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let since = Since::now();
        let newest = store.snapshots()?.into_iter().next().ok_or("there is no snapshot")?;
        let bytes = store.snapshot_bytes(&newest, 0, usize::try_from(newest.bytes)?)?;
        let restored = Fold::restore(&bytes)?;
        started.push(since.us());
        if restored.place() != fold.place() {
            return Err("the snapshot is of another place".into());
        }
        let since = Since::now();
        follow(store, Fold::restore(&older)?, end)?;
        at.push(since.us());
        let since = Since::now();
        for position in store.history(&entity, 0, u64::MAX, 100, true)? {
            std::hint::black_box(store.row(position)?);
        }
        asked.push(since.us());
    }
    let row = |what: String, us, most| Row {
        what,
        unit: Unit::Microseconds,
        ours: Spread::of(us),
        beside: None,
        goal: Some(Goal::AtMost(most)),
    };
    Ok(vec![
        row(format!("start from a snapshot, {end} events behind it"), started, 1_000_000),
        row(format!("a state from a snapshot {TAIL} events before it"), at, 200_000),
        row(format!("the last 100 events of a replica, of {end}"), asked, 200_000),
    ])
}
