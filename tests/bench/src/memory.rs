//! What a replica takes of memory in the fold, and how fast a history is folded again.

use cluster::{At, Fold};
use runtime::Failure;
use schemas::envelope::Envelope;

use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Row, Spread, Unit};
use crate::idle::resident_bytes;
use crate::world;

const NODES: u64 = 1_000;
const REPLICAS: u64 = 20_000;

pub(crate) fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    let mut history = world::waiting(NODES, REPLICAS);
    world::place(&mut history);
    world::start(&mut history);
    let events = u64::try_from(history.entries.len())?;
    let (mut folded, mut decoded, mut unchecked) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.repeat {
        let since = Since::now();
        let mut fold = Fold::new();
        for entry in &history.entries {
            fold.push(entry)?;
        }
        folded.push(per_second(events, since.us()));
        if fold.state().hash() != history.fold.state().hash() {
            return Err("a history folded again has another state".into());
        }
        let since = Since::now();
        for entry in &history.entries {
            std::hint::black_box(Envelope::decode(entry)?);
        }
        decoded.push(per_second(events, since.us()));
        let since = Since::now();
        let mut replay = Fold::new().replay();
        for entry in &history.entries {
            let Envelope { header, event } = Envelope::decode(entry)?;
            replay.apply(&At::from(&header), &event);
        }
        let fold = replay.at(history.fold.place());
        unchecked.push(per_second(events, since.us()));
        if fold.state().hash() != history.fold.state().hash() {
            return Err("a history folded without its chain has another state".into());
        }
    }
    Ok(vec![
        memory(&history.fold, args.repeat)?,
        Row {
            what: format!("replay of {events} events: chain, decode, fold"),
            unit: Unit::PerSecond,
            ours: Spread::of(folded),
            beside: Some(("decoding them only".to_owned(), Spread::of(decoded.clone()))),
            goal: None,
        },
        Row {
            what: format!("replay of {events} events: decode, fold"),
            unit: Unit::PerSecond,
            ours: Spread::of(unchecked),
            beside: Some(("decoding them only".to_owned(), Spread::of(decoded))),
            goal: None,
        },
    ])
}

/// Copies are kept until the end, so that each needs memory that nothing had before.
fn memory(fold: &Fold, repeat: u32) -> Result<Row, Failure> {
    let replicas = world::replicas(fold.state()).max(1);
    let json = u64::try_from(fold.snapshot().len())? / replicas;
    let mut copies = vec![fold.clone(), fold.clone()];
    let mut each = Vec::new();
    for _ in 0..repeat {
        let before = resident_bytes(std::process::id())?;
        copies.push(fold.clone());
        each.push(resident_bytes(std::process::id())?.saturating_sub(before) / replicas);
    }
    Ok(Row {
        what: format!("memory of a replica in the fold, {REPLICAS} on {NODES} nodes"),
        unit: Unit::Bytes,
        ours: Spread::of(each),
        beside: Some(("as JSON in a snapshot".to_owned(), Spread::of([json]))),
        goal: None,
    })
}
