//! What calls cost, that it follows from who is where alone, and what is not known.

use proptest::prelude::{ProptestConfig, prop, prop_assert_eq, proptest};
use schemas::event::{
    AppDeployed, Caller, CallsMeasured, NodeRemoved, ReplicasPlaced, ReplicasRequested,
    RequestedReplica, Way,
};
use schemas::id::{ReplicaId, Writer};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;
use crate::history::{History, app, node, workload};

/// Apps of one workload each, with a replica on each of these nodes.
fn placed(apps: &[(&str, &[&str])], nodes: usize) -> History {
    let mut history = History::default();
    for i in 1..=nodes {
        history.node(&format!("n{i}"), 8, 8);
    }
    for (name, on) in apps {
        let (key, spec) = (app(name), WorkloadSpec::of_image("web:1"));
        let digest = spec.digest();
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: key.name.clone(), workloads };
        history.add(&Writer::Controller, AppDeployed { app: key.clone(), revision: 1, spec });
        for (serial, on) in (0..).zip(*on) {
            let id = ReplicaId::derive(&key, &workload("web"), serial);
            let replicas = vec![RequestedReplica { id: id.clone(), replaces: None, node: None }];
            let (app, workload, spec) = (key.clone(), workload("web"), digest.clone());
            let (revision, generation) = (1, 0);
            let asked = ReplicasRequested { app, workload, revision, generation, spec, replicas };
            history.add(&Writer::Controller, asked);
            let (chosen, passed_over) = (String::new(), Vec::new());
            let placed = ReplicasPlaced { node: node(on), replicas: vec![id], chosen, passed_over };
            history.add(&Writer::Scheduler, placed);
        }
    }
    history
}

fn measured(
    history: &mut History,
    of: &str,
    connect_us: u64,
    callers: &[(&str, u64)],
    ways: &[(&str, &str, u64)],
) {
    let caller = |(name, rate_milli): &(&str, u64)| Caller {
        app: app(name),
        workload: workload("web"),
        rate_milli: *rate_milli,
    };
    let way = |(from, to, connect_us): &(&str, &str, u64)| Way {
        from: node(from),
        to: node(to),
        connect_us: *connect_us,
        connects: 9,
    };
    let event = CallsMeasured {
        app: app(of),
        workload: workload("web"),
        connect_us,
        over_ms: 30_000,
        callers: callers.iter().map(caller).collect(),
        ways: ways.iter().map(way).collect(),
    };
    history.add(&Writer::Controller, event);
}

fn change<'a>(history: &'a History, of: &str, from: &str, to: &str) -> Option<Change<'a>> {
    let state = history.fold.state();
    let near = Near::of(state);
    let name = |name: &str| state.nodes.iter().find(|(n, _)| n.as_str() == name).map(|(n, _)| n);
    let (from, to) = (name(from)?, name(to)?);
    Some(near.around((&app(of), &workload("web")))?.moved(from, to))
}

#[test]
fn a_workload_that_is_far_from_its_only_caller_is_nearer_on_its_node() {
    let mut history = placed(&[("api", &["n2"]), ("web", &["n1"])], 3);
    assert_eq!(change(&history, "api", "n2", "n1"), None, "nobody measured anything");
    measured(&mut history, "api", 2_100, &[("web", 50_000)], &[("n1", "n2", 2_100)]);
    let nearer = change(&history, "api", "n2", "n1").expect("it is called");
    assert_eq!((nearer.before_us, nearer.then_us, nearer.is_worth()), (2_100, WITHIN_US, true));
    assert_eq!(nearer.callers, [&node("n1")]);
    assert!(nearer.called.is_empty() && nearer.at > 0);
    let caller = change(&history, "web", "n1", "n2").expect("it calls");
    assert_eq!((caller.gained, caller.is_worth()), (nearer.gained, true), "it is the same way");
    assert_eq!(caller.called, [&node("n2")]);
    let nowhere = change(&history, "api", "n2", "n3").expect("it is called");
    assert!(!nowhere.is_worth(), "nobody knows how far that is: {nowhere:?}");
    let near = Near::of(history.fold.state());
    assert_eq!(near.mean_us((&app("api"), &workload("web"))), Some(2_100));
    assert_eq!(near.mean_us((&app("web"), &workload("web"))), None, "nobody calls it");
}

#[test]
fn what_gains_too_little_or_is_a_step_of_the_clock_is_worth_nothing() {
    let mut history = placed(&[("api", &["n2"]), ("web", &["n1"])], 2);
    measured(&mut history, "api", 600, &[("web", 50_000)], &[("n1", "n2", 600)]);
    let little = change(&history, "api", "n2", "n1").expect("it is called");
    assert!(little.gained > 0 && !little.is_worth(), "{little:?}");
    // In percent: of 20 ms, 3 are not much.
    let ways = [("n1", "n2", 20_000), ("n1", "n1", 17_000)];
    measured(&mut history, "api", 20_000, &[("web", 50_000)], &ways);
    let little = change(&history, "api", "n2", "n1").expect("it is called");
    assert!(little.gained > 0 && !little.is_worth(), "{little:?}");
    measured(&mut history, "api", 240, &[("web", 50_000)], &[("n1", "n2", 240), ("n1", "n1", 90)]);
    assert_eq!(change(&history, "api", "n2", "n1").expect("it is called").gained, 0);
}

#[test]
fn those_who_call_more_often_count_more() {
    let mut history = placed(&[("api", &["n3"]), ("few", &["n1"]), ("many", &["n2"])], 3);
    let ways = [("n1", "n3", 4_000), ("n2", "n3", 4_000), ("n1", "n2", 4_000)];
    measured(&mut history, "api", 4_000, &[("few", 1_000), ("many", 9_000)], &ways);
    let few = change(&history, "api", "n3", "n1").expect("it is called");
    let many = change(&history, "api", "n3", "n2").expect("it is called");
    assert!(few.gained > 0 && !few.is_worth() && many.is_worth(), "{few:?} {many:?}");
    assert_eq!(many.then_us, (4_000 + 9 * WITHIN_US) / 10);
}

#[test]
fn what_is_gone_is_far_from_nothing() {
    let mut history = placed(&[("api", &["n2"]), ("web", &["n1"])], 2);
    measured(&mut history, "api", 2_100, &[("web", 50_000)], &[("n1", "n2", 2_100)]);
    history.add(&Writer::Controller, NodeRemoved { node: node("n2") });
    assert!(history.fold.state().nodes.iter().all(|(_, node)| node.ways.is_empty()));
    assert_eq!(Near::of(history.fold.state()).mean_us((&app("api"), &workload("web"))), None);
    measured(&mut history, "nobody", 2_100, &[("web", 1_000)], &[("n2", "n1", 2_100)]);
    assert_eq!(history.fold.state().anomalies(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// What a move is said to gain is by how much the sum of everything becomes smaller, and what was carried
    /// is where it would be after the move.
    #[test]
    fn gains_are_differences_of_one_sum(
        on in prop::collection::vec(prop::collection::vec(1_usize..5, 1..4), 3),
        rates in prop::collection::vec((0_usize..3, 0_usize..3, 1_u64..90_000), 1..6),
        ways in prop::collection::vec((1_usize..5, 1_usize..5, 0_u64..9_000), 0..12),
        moves in prop::collection::vec((0_usize..3, 0_usize..3, 1_usize..5), 1..8),
    ) {
        let names = ["a", "b", "c"];
        let nodes: Vec<String> = (0..5).map(|i| format!("n{i}")).collect();
        let on: Vec<Vec<&str>> =
            on.iter().map(|on| on.iter().map(|i| nodes[*i].as_str()).collect()).collect();
        let apps: Vec<(&str, &[&str])> = names.iter().copied().zip(on.iter().map(Vec::as_slice)).collect();
        let mut history = placed(&apps, 4);
        for (i, of) in names.iter().enumerate() {
            let callers: Vec<(&str, u64)> = rates
                .iter()
                .filter(|(_, to, _)| *to == i)
                .map(|(from, _, rate)| (names[*from], *rate))
                .collect();
            let ways: Vec<(&str, &str, u64)> = ways
                .iter()
                .map(|(from, to, us)| (nodes[*from].as_str(), nodes[*to].as_str(), *us))
                .collect();
            measured(&mut history, of, 0, &callers, &ways);
        }
        let state = history.fold.state();
        let mut near = Near::of(state);
        let all = |near: &Near<'_>| -> i128 {
            let calls = near.calls.iter().map(|call| {
                let (from, to) = (&near.on[&call.from], &near.on[&call.to]);
                let pairs = from.values().sum::<u64>() * to.values().sum::<u64>();
                let rows = from.iter().map(|(node, count)| near.row(node, to).times(*count));
                cost(call.rate_milli, rows.fold(Row::default(), Row::plus), pairs)
            });
            calls.sum()
        };
        for (of, from, to) in moves {
            let key = app(names[of]);
            let key = state.apps.iter().map(|(key, _)| key).find(|k| **k == key).expect("there");
            let name = workload("web");
            let name = state.apps.get(key).expect("there").workloads.keys().find(|n| **n == name);
            let is = (key, name.expect("it is there"));
            let Some(spread) = near.on.get(&is) else { continue };
            let from = *spread.keys().nth(from % spread.len()).expect("one of them");
            let to = state.nodes.iter().map(|(name, _)| name).nth(to - 1).expect("there");
            let before = all(&near);
            let gained = near.around(is).map_or(0, |mut around| around.moved(from, to).gained);
            near.carry(is, from, to);
            prop_assert_eq!(before - all(&near), gained);
        }
    }
}
