//! Only what joined or came back, and stayed, makes it begin; once.

use cluster::history::{History, app, node, workload};
use schemas::event::{
    AppDeployed, CallsMeasured, NodeCordoned, NodeLost, NodeReturned, NodeSuspected,
    NodeUncordoned, RebalanceEnded, RebalanceSet,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

fn on() -> History {
    let mut history = History::default();
    history.node("n1", 4, 4).node("n2", 4, 4);
    history.add(&Writer::Controller, RebalanceSet { on: true });
    history
}

fn look(history: &History, later_ms: u64) -> Turn {
    turn(history.fold.state(), history.now_ms + later_ms)
}

/// It waits until then, and begins because of these nodes; once.
#[track_caller]
fn begins(history: &mut History, nodes: &[&str]) {
    assert_eq!(look(history, 0), Turn::At(history.now_ms + STEADY_MS));
    history.now_ms += STEADY_MS;
    let Turn::Begin(event, cause) = look(history, 0) else { panic!("it does not begin") };
    assert_eq!(event.nodes, nodes.iter().map(|name| node(name)).collect::<Vec<_>>());
    assert!(cause.position > 0);
    history.add(&Writer::Controller, event);
    assert_eq!(look(history, 0), Turn::Rest, "one at a time");
    history.add(&Writer::Scheduler, RebalanceEnded { planned: 0, stayed: Vec::new() });
    assert_eq!(look(history, 10 * STEADY_MS), Turn::Rest, "it begins once");
    history.now_ms += 1_000;
}

#[test]
fn a_node_that_joins_comes_back_or_is_opened_makes_it_begin_once() {
    let mut history = on();
    assert_eq!(look(&history, 10 * STEADY_MS), Turn::Rest, "what is there is no news");
    history.now_ms += 1_000;
    history.node("n3", 4, 4);
    begins(&mut history, &["n3"]);
    history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    assert_eq!(look(&history, STEADY_MS), Turn::Rest);
    history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 9_000 });
    begins(&mut history, &["n1"]);
    history.add(&Writer::Controller, NodeCordoned { node: node("n2"), drain: true });
    assert_eq!(look(&history, STEADY_MS), Turn::Rest);
    history.add(&Writer::Controller, NodeUncordoned { node: node("n2") });
    begins(&mut history, &["n2"]);
}

#[test]
fn what_was_not_heard_for_a_moment_moves_nothing() {
    let mut history = on();
    history.now_ms += 1_000;
    history.add(&Writer::Health, NodeSuspected { node: node("n1"), silent_ms: 3_000 });
    history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 4_000 });
    assert_eq!(look(&history, 10 * STEADY_MS), Turn::Rest);
}

#[test]
fn one_that_comes_and_goes_moves_nothing_and_neither_does_any_where_it_is_off() {
    let mut history = on();
    history.now_ms += 1_000;
    history.node("n3", 4, 4);
    for _ in 0..10 {
        history.now_ms += STEADY_MS - 1;
        history.add(&Writer::Health, NodeSuspected { node: node("n3"), silent_ms: 3_000 });
        assert_eq!(look(&history, STEADY_MS), Turn::Rest);
        history.add(&Writer::Health, NodeReturned { node: node("n3"), silent_ms: 4_000 });
        assert_eq!(look(&history, 0), Turn::At(history.now_ms + STEADY_MS));
    }
    history.add(&Writer::Controller, RebalanceSet { on: false });
    assert_eq!(look(&history, STEADY_MS), Turn::Rest);
}

/// An app that was measured to be so far from its callers.
fn measured(history: &mut History, connect_us: u64) {
    let (app, workload) = (app("shop"), workload("web"));
    let (over_ms, callers, ways) = (30_000, Vec::new(), Vec::new());
    let event = CallsMeasured { app, workload, connect_us, over_ms, callers, ways };
    history.add(&Writer::Controller, event);
}

fn deployed(history: &mut History) {
    let workloads = [(workload("web"), WorkloadSpec::of_image("web:1"))].into();
    let spec = AppSpec { name: app("shop").name, workloads };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
}

#[test]
fn what_is_measured_to_be_far_makes_it_begin_once_and_the_measurement_comes_right_before() {
    let mut history = on();
    deployed(&mut history);
    history.now_ms += 1_000;
    measured(&mut history, 400);
    assert_eq!(look(&history, 0), Turn::Rest, "that is near");
    measured(&mut history, 2_100);
    let at = history.fold.place().position;
    let Turn::Begin(event, cause) = look(&history, 0) else { panic!("it does not begin") };
    let called = Called { app: app("shop"), workload: workload("web") };
    assert_eq!((event.nodes.len(), &event.calls, cause.position), (0, &vec![called], at));
    history.add(&Writer::Controller, event);
    assert_eq!(look(&history, 0), Turn::Rest, "one at a time");
    history.add(&Writer::Scheduler, RebalanceEnded { planned: 0, stayed: Vec::new() });
    assert_eq!(look(&history, 10 * STEADY_MS), Turn::Rest, "it begins once");
    measured(&mut history, 2_100);
    measured(&mut history, 300);
    assert_eq!(look(&history, 0), Turn::Rest, "it is near again");
}

#[test]
fn what_is_far_waits_for_a_node_that_has_just_come_and_moves_nothing_where_it_is_off() {
    let mut history = on();
    deployed(&mut history);
    history.now_ms += 1_000;
    measured(&mut history, 2_100);
    history.node("n3", 4, 4);
    assert_eq!(look(&history, 0), Turn::At(history.now_ms + STEADY_MS));
    let Turn::Begin(event, _) = look(&history, STEADY_MS) else { panic!("it does not begin") };
    assert_eq!((event.nodes.len(), event.calls.len()), (1, 1));
    let mut history = History::default();
    history.node("n1", 4, 4);
    deployed(&mut history);
    measured(&mut history, 2_100);
    assert_eq!(look(&history, STEADY_MS), Turn::Rest);
    history.add(&Writer::Controller, RebalanceSet { on: true });
    assert_eq!(look(&history, STEADY_MS), Turn::Rest, "what was measured before is no news");
}
