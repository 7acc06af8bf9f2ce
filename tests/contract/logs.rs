//! Logs of every release, each replayed to the state that it had: history is read for ever.
//!
//! `tests/logs/VERSION/log.jsonl` holds one entry a line, of every type that the release knows. The
//! log of the release that is being made is written anew as types come; those of past releases stay
//! as they are. What they replay to is written anew only with another version of the fold.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cluster::{FOLD_VERSION, Fold};
use schemas::envelope::{Batch, Envelope};
use schemas::event::Event;
use schemas::id::Series;
use schemas::place::{Basis, Place};
use serde_json::json;
use tests::root;

use super::{is, samples};

/// The types in an order in which they may happen, as far as it matters to the state.
const LIFE: [&str; 14] = [
    "SequencerTaken",
    "LeadershipTaken",
    "NodeDescribed",
    "NodeLabelled",
    "ConfigStored",
    "CommandAccepted",
    "AppDeployed",
    "ReplicasRequested",
    "ImageResolved",
    "ReplicasPlaced",
    "RunStarted",
    "ReplicaReady",
    "AppConverged",
    "RunEnded",
];

/// The samples of all types as one history: the same bytes, whoever writes them.
fn written() -> Vec<Vec<u8>> {
    let samples = samples("event");
    let rest = samples.keys().map(String::as_str).filter(|kind| !LIFE.contains(kind));
    let mut place = Place { epoch: 1, ..Place::START };
    let mut entries = Vec::new();
    let mut deployed = None;
    for kind in LIFE.into_iter().chain(rest) {
        let sample = samples.get(kind).unwrap_or_else(|| panic!("there is no sample of {kind}"));
        let mut envelope = Envelope::decode(sample.trim().as_bytes()).expect("it decodes");
        match &mut envelope.event {
            Event::AppDeployed(e) => deployed = e.spec.workloads.values().next().cloned(),
            // Replicas are requested of what was deployed, which the samples do not know of each other.
            Event::ReplicasRequested(e) => {
                e.spec = deployed.as_ref().expect("an app comes before its replicas").digest();
            }
            // Whoever takes behind others begins an epoch, and gives up what is lost behind the last.
            Event::SequencerTaken(e) if place.position > 0 => {
                (e.after, e.accept_loss) = (place.position, Some(place));
                place.epoch += 1;
            }
            _ => {}
        }
        let position = place.position + 1;
        let series = Series::derive("golden", position);
        let header = &mut envelope.header;
        header.id = format!("{series}-1-0");
        (header.epoch, header.position, header.prev_hash) = (place.epoch, position, place.hash);
        header.time_ms = 1_700_000_000_000 + position;
        header.recorded_ms = header.time_ms;
        let basis = Basis { epoch: place.epoch, position: place.position };
        header.basis = header.basis.map(|_| basis);
        header.causation = header.causation.map(|_| place.position);
        header.batch = Batch { series, n: 1, i: 0, of: 1 };
        let bytes = envelope.encode();
        place = Place { position, hash: place.hash.extend(&bytes), ..place };
        entries.push(bytes);
    }
    entries
}

/// What comes of a log: the end of its chain, and the hash of the state behind each entry.
fn replayed(entries: &[Vec<u8>]) -> (Fold, Vec<String>) {
    let mut fold = Fold::new();
    let mut hashes = Vec::new();
    for entry in entries {
        fold.push(entry).unwrap_or_else(|error| panic!("{error}"));
        hashes.push(fold.state().hash());
    }
    (fold, hashes)
}

/// Replays a log to what is on file. States are those of this version of the fold: another one's are
/// for nobody to compare.
fn replays(log: &Path) {
    let text = fs::read_to_string(log).expect("it is text");
    let entries: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
    let (fold, hashes) = replayed(&entries);
    let wanted = json!({ "head": fold.cursor(), "fold_version": FOLD_VERSION, "states": hashes });
    is(
        &log.with_file_name("expected.json"),
        &(serde_json::to_string_pretty(&wanted).expect("it is JSON") + "\n"),
    );
}

#[test]
fn every_log_of_a_release_replays_to_the_states_that_it_had() {
    let entries = written();
    let lines: Vec<&str> =
        entries.iter().map(|entry| std::str::from_utf8(entry).expect("JSON is UTF-8")).collect();
    let logs = root().join("tests/logs");
    let current = logs.join(env!("CARGO_PKG_VERSION")).join("log.jsonl");
    is(&current, &(lines.join("\n") + "\n"));
    for log in tests::files(&logs, &["log.jsonl"]) {
        replays(&log);
    }
}

#[test]
fn the_log_of_this_release_has_every_type_and_means_something() {
    let entries = written();
    let kind = |entry: &Vec<u8>| Envelope::decode(entry).expect("it decodes").event.kind();
    let kinds: BTreeSet<&str> = entries.iter().map(kind).collect();
    assert_eq!(kinds, Event::TYPES.iter().map(|(kind, _)| *kind).collect());
    let given_up = |entry: &Vec<u8>| match Envelope::decode(entry).expect("it decodes").event {
        Event::SequencerTaken(taken) => taken.accept_loss,
        _ => None,
    };
    let given_up: Vec<Place> = entries.iter().filter_map(given_up).collect();
    assert_eq!(given_up.iter().map(|place| place.epoch).collect::<Vec<_>>(), [1], "once");
    let (fold, hashes) = replayed(&entries[..LIFE.len()]);
    let state = fold.state();
    assert!(!state.apps.is_empty() && !state.nodes.is_empty() && !state.replicas.is_empty());
    let different: BTreeSet<&String> = hashes.iter().collect();
    assert!(different.len() > LIFE.len() / 2, "most of them change the state: {different:?}");
}

#[test]
fn a_changed_byte_in_a_log_is_noticed() {
    let mut entries = written();
    let changed =
        String::from_utf8(entries[6].clone()).expect("JSON is UTF-8").replace("ana", "eve");
    assert_ne!(changed.as_bytes(), entries[6], "there is an ana in it");
    entries[6] = changed.into_bytes();
    let mut fold = Fold::new();
    let refused = entries.iter().find_map(|entry| fold.push(entry).err());
    let refused = refused.expect("the next entry names another hash").to_string();
    assert!(refused.contains("position 8"), "{refused}");
}
