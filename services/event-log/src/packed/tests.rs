//! A history that is folded from packed segments is the history.

use bytes::Bytes;
use cluster::history::{History, app, node, workload};
use proptest::prelude::*;
use schemas::event::{
    AppConverged, AppDeployed, CommandAccepted, Evidence, NodeCordoned, NodeLost, NodeReturned,
    Outcome, PositionVoided, ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasPlaced,
    ReplicasRequested, ReplicasRetired, RequestedReplica, RetireReason, RunEnded, RunStarted,
    SequencerTaken, WorkloadScaled,
};
use schemas::id::{CommandId, ReplicaId, Writer};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;
use crate::store::Commit;
use crate::testing::{FakeStore, Folder};

fn packed(folder: &Folder, segment_events: u64) -> Packed {
    Packed { segment_events, ..Packed::of(folder.path()) }
}

/// A store that holds a history.
fn stored(history: &History) -> FakeStore {
    let (store, mut fold) = (FakeStore::new(), Fold::new());
    let row = |entry: &Vec<u8>| {
        fold.push(entry).expect("it is the next entry");
        let (place, ends) = (fold.cursor(), fold.cursor() == fold.place());
        Row { place, ends, subject: String::new(), bytes: Bytes::from(entry.clone()) }
    };
    let rows = history.entries.iter().map(row).collect();
    store.append(&Commit { rows, ..Commit::default() }).expect("it is stored");
    store
}

/// Folds what is packed, and the rest as it is stored.
fn folded(packed: &Packed, store: &FakeStore) -> (u64, Fold) {
    let mut fold = packed.fold(store).expect("readable");
    let from = fold.place().position;
    for row in crate::store::rows(store, from + 1, u64::MAX).expect("readable") {
        fold.push(&row.bytes).expect("it is the next entry");
    }
    (from, fold)
}

fn same(one: &Fold, other: &Fold) -> bool {
    one.place() == other.place()
        && one.state() == other.state()
        && one.state().hash() == other.state().hash()
}

fn web(number: u8) -> ReplicaId {
    ReplicaId::derive(&app("shop"), &workload("web"), number.into())
}

/// One more thing that happens. What the fold finds impossible is as good a test as what it does not.
fn happen(history: &mut History, what: u8, number: u8) {
    let (id, run) = (web(number), u32::from(number));
    let agent = Writer::Agent(node(if number.is_multiple_of(3) { "n1" } else { "n2" }));
    history.now_ms += u64::from(number);
    let mut spec = WorkloadSpec::of_image(&format!("web:{}", number % 2));
    spec.resources.cpu_millis = Some(100);
    match what {
        0 => {
            let known = history.fold.state().apps.get(&app("shop"));
            let revision = known.map_or(1, |app| app.revision + 1);
            let workloads = [(workload("web"), spec)].into();
            let spec = AppSpec { name: app("shop").name, workloads };
            let event = AppDeployed { app: app("shop"), revision, spec };
            let command = CommandId::new(&format!("c-{}", history.entries.len())).expect("an id");
            let accepted = CommandAccepted {
                command: command.clone(),
                verb: "app.deploy".to_owned(),
                sequence: 1,
                proved: true,
                reason: None,
            };
            let events = vec![accepted.into(), event.into()];
            history.caused(&Writer::Controller, events, Some(command));
        }
        1 | 2 => {
            let replicas = vec![RequestedReplica { id, replaces: None, node: None }];
            let (app, workload) = (app("shop"), workload("web"));
            let (revision, generation, spec) = (1, 0, spec.digest());
            let event = ReplicasRequested { app, workload, revision, generation, spec, replicas };
            history.add(&Writer::Controller, event);
        }
        3 | 4 => {
            let Writer::Agent(node) = agent else { return };
            let (chosen, passed_over) = ("the best".to_owned(), Vec::new());
            let event = ReplicasPlaced { node, replicas: vec![id], chosen, passed_over };
            history.add(&Writer::Scheduler, event);
        }
        5 => {
            let container = number.to_string();
            let event =
                RunStarted { replica: id, run, container, endpoints: Vec::new(), inside: None };
            history.add(&agent, event);
        }
        6 => _ = history.add(&agent, ReplicaReady { replica: id, run }),
        7 => {
            let output = "no answer".to_owned();
            history.add(&agent, ReplicaUnready { replica: id, run, output });
        }
        8 => {
            let evidence = Evidence { exit_code: Some(-1), ..Evidence::default() };
            history.add(&agent, RunEnded { replica: id, run, evidence, retry_ms: Some(5) });
        }
        9 => _ = history.add(&agent, ReplicaEnded { replica: id, outcome: Outcome::Stopped }),
        10 => {
            let (app, workload, reason) = (app("shop"), workload("web"), RetireReason::ScaledDown);
            let event =
                ReplicasRetired { app, workload, replicas: vec![id], reason, leaving: false };
            history.add(&Writer::Controller, event);
        }
        11 => {
            let (app, workload, reason) = (app("shop"), workload("web"), None);
            let event = WorkloadScaled { app, workload, from: 0, to: run, reason };
            history.add(&Writer::Controller, event);
        }
        12 => {
            let drain = number.is_multiple_of(2);
            history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain });
        }
        13 => _ = history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 9 }),
        14 => _ = history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 9 }),
        15 => {
            let sha256 = Digest::of(&[number]);
            history.add(&Writer::EventLog, PositionVoided { sha256 });
        }
        _ => torn(history),
    }
}

/// The first half of a batch, which the next sequencer voids.
fn torn(history: &mut History) {
    let mut other = history.clone();
    let event = AppConverged { app: app("shop"), revision: 1, failed: Vec::new() };
    other.batch(&Writer::Controller, vec![event.clone().into(), event.into()]);
    let half = other.entries[history.entries.len()].clone();
    history.fold.push(&half).expect("it is the next entry");
    history.entries.push(half);
    let taken =
        SequencerTaken { instance: "log-2".to_owned(), after: 0, genesis: None, accept_loss: None };
    history.add(&Writer::EventLog, taken);
}

fn history(steps: &[(u8, u8)]) -> History {
    let mut history = History::default();
    history.node("n1", 4, 1).node("n2", 4, 1);
    for (what, number) in steps {
        happen(&mut history, *what, *number);
    }
    history
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_folded_from_segments_is_the_history(
        steps in prop::collection::vec((0_u8..17, 0_u8..8), 0..120),
        segment_events in 1_u64..40,
    ) {
        let folder = Folder::new();
        let (history, packed) = (history(&steps), packed(&folder, segment_events));
        let store = stored(&history);
        let head = store.head().expect("readable").position;
        // In two goes, as the log grows.
        packed.catch_up(&store, head / 2).expect("it packs");
        packed.catch_up(&store, head).expect("it packs");
        let (from, fold) = folded(&packed, &store);
        prop_assert!(from + segment_events + 2 > head, "{from} of {head} is packed");
        prop_assert!(same(&fold, &history.fold));
    }
}

fn long() -> History {
    let steps: Vec<(u8, u8)> = (0..200_u8).map(|i| (i % 17, i % 7)).collect();
    history(&steps)
}

#[test]
fn a_damaged_segment_is_never_believed() {
    let folder = Folder::new();
    let (history, packed) = (long(), packed(&folder, 50));
    let store = stored(&history);
    packed.catch_up(&store, u64::MAX).expect("it packs");
    let second = {
        let first = packed.head_behind(&store, Place::START).expect("readable").expect("there");
        packed.path(first.to)
    };
    let good = fs::read(&second).expect("it is there");
    let (all, _) = folded(&packed, &store);
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&second, &bad).expect("written");
        let (from, fold) = folded(&packed, &store);
        assert!(from < all, "byte {at} was changed");
        assert!(same(&fold, &history.fold), "byte {at} was changed");
    }
    // It is packed again once somebody packs.
    fs::write(&second, &good[..good.len() / 2]).expect("written");
    assert!(folded(&packed, &store).0 < all);
    packed.catch_up(&store, u64::MAX).expect("it packs");
    assert_eq!(folded(&packed, &store).0, all);
    assert_eq!(fs::read(&second).expect("it is there"), good);
}

#[test]
fn the_segments_of_another_history_are_not_used() {
    let folder = Folder::new();
    let packed = packed(&folder, 50);
    packed.catch_up(&stored(&long()), u64::MAX).expect("it packs");
    let mut steps: Vec<(u8, u8)> = (0..200_u8).map(|i| (i % 17, i % 7)).collect();
    steps[3] = (1, 5);
    let other = history(&steps);
    let store = stored(&other);
    let (from, fold) = folded(&packed, &store);
    assert_eq!(from, 0);
    assert!(same(&fold, &other.fold));
}
