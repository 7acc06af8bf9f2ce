//! What the fold makes of histories: lawful ones, overtaken ones, impossible ones.

use schemas::event::{
    AppDeployed, Event, Evidence, LeadershipTaken, NodeLost, NodeRemoved, Outcome, PositionVoided,
    ReplicaEnded, ReplicaReady, ReplicasPlaced, ReplicasRequested, ReplicasRetired,
    RequestedReplica, RetireReason, RunEnded, RunStarted, SequencerTaken, WorkloadScaled,
};
use schemas::id::{Digest, Writer};
use schemas::spec::{AppSpec, Autoscale, Mode, Overlap, WorkloadSpec};

use crate::fold::{Fold, FoldError};
use crate::history::{History, app, node, replica, workload};
use crate::state::Phase;

fn spec() -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("web:1");
    spec.resources.cpu_millis = Some(500);
    spec
}

fn deployed(history: &mut History) -> &mut History {
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec())].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec })
}

fn requested(ids: &[&str]) -> ReplicasRequested {
    ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: spec().digest(),
        replicas: ids
            .iter()
            .map(|id| RequestedReplica { id: replica(id), replaces: None, node: None })
            .collect(),
    }
}

fn placed(on: &str, ids: &[&str]) -> ReplicasPlaced {
    let replicas = ids.iter().map(|id| replica(id)).collect();
    ReplicasPlaced { node: node(on), replicas, chosen: String::new(), passed_over: Vec::new() }
}

fn retired(ids: &[&str]) -> ReplicasRetired {
    ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: ids.iter().map(|id| replica(id)).collect(),
        reason: RetireReason::ScaledDown,
        leaving: false,
    }
}

fn agent(name: &str) -> Writer {
    Writer::Agent(node(name))
}

fn running() -> History {
    let mut history = History::default();
    history.node("n1", 1, 1);
    deployed(&mut history)
        .add(&Writer::Controller, requested(&["shop-web-a", "shop-web-b"]))
        .add(&Writer::Scheduler, placed("n1", &["shop-web-a", "shop-web-b"]));
    history
}

#[test]
fn a_replica_goes_forward_from_requested_to_ended() {
    let mut history = running();
    let id = replica("shop-web-a");
    let phase = |history: &History| history.fold.state().replicas.get(&id).map(|r| r.phase);
    assert_eq!(phase(&history), Some(Phase::Placed));
    let started = RunStarted {
        replica: id.clone(),
        run: 1,
        container: "c1".into(),
        endpoints: Vec::new(),
        inside: None,
    };
    history.add(&agent("n1"), started);
    assert_eq!(phase(&history), Some(Phase::Running));
    history.add(&agent("n1"), ReplicaReady { replica: id.clone(), run: 1 });
    assert_eq!(phase(&history), Some(Phase::Ready));
    let evidence = Evidence { cause: "exited with 1".into(), ..Evidence::default() };
    history
        .add(&agent("n1"), RunEnded { replica: id.clone(), run: 1, evidence, retry_ms: Some(500) });
    assert_eq!(phase(&history), Some(Phase::Waiting));
    let load = &history.fold.state().index.loads[&node("n1")];
    assert_eq!((load.cpu_millis, load.replicas), (1_000, 2));
    let outcome = Outcome::Failed { reason: "gave up".into() };
    history.add(&agent("n1"), ReplicaEnded { replica: id.clone(), outcome });
    assert_eq!(phase(&history), None);
    let load = &history.fold.state().index.loads[&node("n1")];
    assert_eq!((load.cpu_millis, load.replicas), (500, 1));
    let failed = &history.fold.state().apps.get(&app("shop")).expect("it is there").workloads
        [&workload("web")];
    assert_eq!((failed.failures, failed.failure.as_str()), (1, "gave up"));
    assert_eq!(history.fold.state().anomalies(), 0);
}

#[test]
fn a_placement_that_a_retirement_overtook_means_nothing() {
    let mut history = History::default();
    history.node("n1", 1, 1);
    deployed(&mut history)
        .add(&Writer::Controller, requested(&["shop-web-a"]))
        .add(&Writer::Controller, retired(&["shop-web-a"]))
        .add(&Writer::Scheduler, placed("n1", &["shop-web-a"]));
    let state = history.fold.state();
    assert!(state.replicas.is_empty() && state.index.pending.is_empty());
    assert_eq!(state.index.loads[&node("n1")].replicas, 0);
    assert_eq!(state.anomalies(), 0);
}

#[test]
fn what_no_writer_could_have_written_is_counted() {
    let anomalies = |change: &dyn Fn(&mut History)| {
        let mut history = running();
        change(&mut history);
        let state = history.fold.state();
        (state.anomalies(), state.cluster.anomalous.first().map(|a| a.what.clone()))
    };
    let (count, what) = anomalies(&|h| {
        h.node("n2", 1, 1).add(&Writer::Scheduler, placed("n2", &["shop-web-a"]));
    });
    assert_eq!((count, what.is_some_and(|w| w.contains("n2 too"))), (1, true));
    let (count, _) = anomalies(&|h| {
        h.node("n2", 1, 1);
        h.add(&agent("n2"), ReplicaReady { replica: replica("shop-web-a"), run: 1 });
    });
    assert_eq!(count, 1);
    let (count, _) = anomalies(&|h| {
        h.add(&Writer::Controller, requested(&["shop-web-c"]));
        h.add(&Writer::Scheduler, placed("n1", &["shop-web-c"]));
    });
    assert_eq!(count, 1, "three halves of a core on a node of one");
    let (count, _) = anomalies(&|h| {
        let taken = LeadershipTaken { writer: Writer::Health, term: 7, instance: "h".into() };
        h.add(&Writer::Health, taken);
    });
    assert_eq!(count, 1);
}

#[test]
fn a_lost_node_ends_nothing_and_a_removed_one_all() {
    let mut history = running();
    history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    let state = history.fold.state();
    let lost = state.replicas.get(&replica("shop-web-a")).expect("it is still there");
    assert!(state.is_unknown(lost) && lost.retired.is_none());
    history.add(&Writer::Controller, NodeRemoved { node: node("n1") });
    assert!(history.fold.state().replicas.is_empty());
    assert!(history.fold.state().nodes.is_empty());
    assert_eq!(history.fold.state().anomalies(), 0);
}

/// What a declaration makes of the number of replicas that `shop/web` has.
#[track_caller]
fn declared_anew(history: &mut History, spec: WorkloadSpec, replicas: u32) {
    let revision = history.fold.state().apps.get(&app("shop")).map_or(1, |app| app.revision + 1);
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision, spec });
    let known = history.fold.state().apps.get(&app("shop")).expect("it is there");
    assert_eq!(known.workloads[&workload("web")].replicas, replicas);
}

fn between(min: u32, max: u32) -> Option<Autoscale> {
    Some(Autoscale { cpu_percent: Some(50), ..Autoscale::of_bounds(min, max) })
}

#[test]
fn an_autoscaled_workload_that_is_declared_again_keeps_its_number_within_bounds() {
    let mut history = History::default();
    let spec = |replicas, autoscale| WorkloadSpec { replicas, autoscale, ..spec() };
    declared_anew(&mut history, spec(2, between(1, 9)), 2);
    let (app, workload) = (app("shop"), workload("web"));
    let scaled = WorkloadScaled { app, workload, from: 2, to: 7, reason: None };
    history.add(&Writer::Controller, scaled);
    declared_anew(&mut history, spec(2, between(1, 9)), 7);
    let other = WorkloadSpec { image: "web:2".into(), ..spec(2, between(1, 9)) };
    declared_anew(&mut history, other, 7);
    declared_anew(&mut history, spec(2, between(1, 5)), 5);
    declared_anew(&mut history, spec(2, between(6, 9)), 6);
    // Without it, the declaration says; with it again, what is there is the beginning.
    declared_anew(&mut history, spec(3, None), 3);
    declared_anew(&mut history, spec(1, between(1, 9)), 3);
    // What was not counted in replicas before has no number to keep.
    declared_anew(&mut history, WorkloadSpec { mode: Mode::Job, ..spec(8, None) }, 8);
    declared_anew(&mut history, spec(2, between(1, 9)), 2);
    assert_eq!(history.fold.state().anomalies(), 0);
}

#[test]
fn two_workloads_of_one_spec_have_each_its_own_bounds() {
    let mut history = History::default();
    let of = |autoscale| WorkloadSpec { autoscale, ..spec() };
    let names = ["a", "b", "c"].map(workload);
    let specs = [of(between(1, 3)), of(between(2, 9)), of(None)];
    let workloads = names.clone().into_iter().zip(specs.clone()).collect();
    let spec = AppSpec { name: app("shop").name, workloads };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
    let known = history.fold.state().apps.get(&app("shop")).expect("it is there");
    assert_eq!(known.specs.len(), 1);
    for (name, spec) in names.iter().zip(specs) {
        assert_eq!(known.workloads[name].autoscale, spec.autoscale);
    }
}

#[test]
fn two_workloads_of_one_spec_have_each_its_own_order_and_exclusiveness() {
    let mut history = History::default();
    let exclusive = WorkloadSpec { overlap: Overlap::Never, priority: 7, ..spec() };
    let workloads = [(workload("a"), exclusive.clone()), (workload("b"), spec())].into();
    let declared = AppSpec { name: app("shop").name, workloads };
    let event = AppDeployed { app: app("shop"), revision: 1, spec: declared.clone() };
    history.add(&Writer::Controller, event);
    let known = history.fold.state().apps.get(&app("shop")).expect("it is there");
    assert_eq!(known.specs.len(), 1);
    let conduct = |name| &known.workloads[&workload(name)].conduct;
    assert_eq!((conduct("a").overlap, conduct("a").priority), (Overlap::Never, 7));
    assert_eq!((conduct("b").overlap, conduct("b").priority), (Overlap::Allow, 0));
    assert_eq!(history.fold.state().declared(&app("shop")), Some(declared));
}

#[test]
fn live_replayed_and_restored_states_have_one_hash() {
    let history = running();
    let mut replayed = Fold::new();
    for (i, entry) in history.entries.iter().enumerate() {
        replayed.push(entry).expect("it is the next entry");
        let restored = Fold::restore(&replayed.snapshot()).expect("it is usable");
        assert_eq!(restored.state().hash(), replayed.state().hash());
        assert_eq!(restored.state().index, replayed.state().index, "after entry {i}");
        let mut tail = restored;
        for entry in &history.entries[i + 1..] {
            tail.push(entry).expect("it is the next entry");
        }
        assert_eq!(tail.state().hash(), history.fold.state().hash());
        assert_eq!(tail.place(), history.fold.place());
    }
}

#[test]
fn a_history_is_followed_and_no_other() {
    let history = running();
    let mut fold = Fold::new();
    assert!(matches!(fold.push(&history.entries[1]), Err(FoldError::Gap { expected: 1, got: 2 })));
    fold.push(&history.entries[0]).expect("the first");
    let other = String::from_utf8(history.entries[1].clone()).expect("JSON is UTF-8");
    let forged = other.replace("\"prev_hash\":\"", "\"prev_hash\":\"00").replace("00\"}", "\"}");
    assert!(fold.push(forged.as_bytes()).is_err());
    let stale = other.replace("\"epoch\":1,\"position\":2", "\"epoch\":2,\"position\":2");
    assert!(matches!(fold.push(stale.as_bytes()), Err(FoldError::Epoch { .. })));
    fold.push(&history.entries[1]).expect("the true one still fits");
}

#[test]
fn an_unfinished_batch_is_void_once_a_sequencer_took() {
    let mut history = running();
    let whole = history.fold.clone();
    history.batch(
        &Writer::Controller,
        vec![retired(&["shop-web-a"]).into(), retired(&["shop-web-b"]).into()],
    );
    let first_half = history.entries[history.entries.len() - 2].clone();
    let mut torn = whole.clone();
    assert_eq!(torn.push(&first_half).expect("it is the next entry"), None);
    assert_eq!(torn.place(), whole.place(), "a place is the end of a batch");
    assert_eq!(torn.state().hash(), whole.state().hash());

    let mut after = History::default();
    after.fold = torn;
    let voided = PositionVoided { sha256: Digest::of(b"junk") };
    after.add(&Writer::EventLog, voided);
    let taken =
        SequencerTaken { instance: "log-1".into(), after: 0, genesis: None, accept_loss: None };
    after.add(&Writer::EventLog, Event::from(taken));
    assert_eq!(after.fold.place().epoch, 2);
    assert_eq!(after.fold.state().replicas.len(), 2, "nobody was retired");
    assert_eq!(after.fold.state().anomalies(), 0);
}
