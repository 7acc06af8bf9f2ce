//! What is moved, what is not, and that moving ends.

use cluster::history::{History, app, node, workload};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
use schemas::event::{
    AppConverged, AppDeployed, Caller, CallsMeasured, NodeCordoned, NodeLabelled, Outcome,
    RebalanceEnded, RebalanceStarted, ReplicaEnded, ReplicaReady, ReplicasPlaced,
    ReplicasRequested, ReplicasRetired, RequestedReplica, RetireReason, RunStarted, Way,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Mode, Mount, MountSource, Overlap, Port, Strategy, WorkloadSpec};

use super::super::round;
use super::*;

fn of_cpu(cpu_millis: u64, replicas: u32) -> WorkloadSpec {
    let mut spec = WorkloadSpec { replicas, ..WorkloadSpec::of_image("web:1") };
    spec.resources.cpu_millis = Some(cpu_millis);
    spec
}

/// Declares an app of one workload, and lets it run as the scheduler places it.
fn run(history: &mut History, name: &str, spec: WorkloadSpec) {
    let (key, digest, count) = (app(name), spec.digest(), u64::from(spec.replicas));
    let workloads = [(workload("web"), spec)].into();
    let spec = AppSpec { name: key.name.clone(), workloads };
    history.add(&Writer::Controller, AppDeployed { app: key.clone(), revision: 1, spec });
    request(history, name, &digest, (0..count).map(|serial| (serial, None)).collect());
    place(history);
    let (revision, failed) = (1, Vec::new());
    history.add(&Writer::Controller, AppConverged { app: key, revision, failed });
}

fn request(
    history: &mut History,
    name: &str,
    spec: &schemas::id::Digest,
    serials: Vec<(u64, Option<ReplicaId>)>,
) {
    let (app, workload) = (app(name), workload("web"));
    let replicas = serials.into_iter().map(|(serial, replaces)| RequestedReplica {
        id: ReplicaId::derive(&app, &workload, serial),
        replaces,
        node: None,
    });
    let replicas = replicas.collect();
    let (revision, generation, spec) = (1, 0, spec.clone());
    let event = ReplicasRequested { app, workload, revision, generation, spec, replicas };
    history.add(&Writer::Controller, event);
}

/// A round of the scheduler, and what it placed becomes ready.
fn place(history: &mut History) {
    let round = round(history.fold.state(), 1_000, history.now_ms);
    for ((_, node), placed) in round.placed {
        let replicas: Vec<ReplicaId> = placed.into_iter().map(|placed| placed.id).collect();
        let (chosen, passed_over) = (String::new(), Vec::new());
        let event = ReplicasPlaced { node: node.clone(), replicas, chosen, passed_over };
        let ids = event.replicas.clone();
        history.add(&Writer::Scheduler, event);
        for replica in ids {
            let (container, endpoints) = ("c".to_owned(), Vec::new());
            let agent = Writer::Agent(node.clone());
            let started =
                RunStarted { replica: replica.clone(), run: 1, container, endpoints, inside: None };
            history.add(&agent, started).add(&agent, ReplicaReady { replica, run: 1 });
        }
    }
}

fn begin(history: &mut History) {
    let event = RebalanceStarted { app: None, nodes: Vec::new(), calls: Vec::new() };
    history.add(&Writer::Controller, event);
}

fn plan(history: &History) -> Vec<MovesPlanned> {
    let state = history.fold.state();
    let of = state.cluster.rebalance.now.as_ref().expect("it began");
    moves(state, of, history.now_ms)
}

/// Carries a plan out: each replacement goes where the scheduler says, which is where the plan says.
fn carry_out(history: &mut History, plan: Vec<MovesPlanned>) {
    for event in &plan {
        history.add(&Writer::Scheduler, event.clone());
    }
    for event in &plan {
        let known = history.fold.state().apps.get(&event.app).expect("it is there");
        let known = &known.workloads[&event.workload];
        let (serial, spec) = (known.requested, known.spec.clone());
        let old = event.moves[0].replica.clone();
        request(history, event.app.name.as_str(), &spec, vec![(serial, Some(old))]);
    }
    place(history);
    for MovesPlanned { app, workload, moves } in plan {
        let one = &moves[0];
        let new = history.fold.state().replicas.iter();
        let new = new.filter(|(_, r)| r.replaces.as_ref() == Some(&one.replica));
        let to: Vec<&NodeName> = new.filter_map(|(_, r)| r.node.as_ref()).collect();
        assert_eq!(to, [&one.to], "{}: {}", one.replica, one.gain);
        let (replicas, leaving) = (vec![one.replica.clone()], false);
        let reason = RetireReason::Rebalanced;
        let retired = ReplicasRetired { app, workload, replicas, reason, leaving };
        let ended = ReplicaEnded { replica: one.replica.clone(), outcome: Outcome::Stopped };
        history.add(&Writer::Controller, retired).add(&Writer::Agent(one.from.clone()), ended);
    }
    let state = history.fold.state();
    assert_eq!(state.anomalies(), 0);
    let of = state.cluster.rebalance.now.as_ref().expect("it began");
    assert_eq!((on_the_way(state, of), of.stayed.len()), (None, 0));
}

/// Moves until nothing is gained any more. Says in how many rounds.
fn to_the_end(history: &mut History) -> usize {
    begin(history);
    for rounds in 0..1_000 {
        // What waits for room gets it before anything moves.
        place(history);
        let next = plan(history);
        if next.is_empty() {
            let planned =
                history.fold.state().cluster.rebalance.now.as_ref().map_or(0, |n| n.planned);
            history.add(&Writer::Scheduler, RebalanceEnded { planned, stayed: Vec::new() });
            return rounds;
        }
        carry_out(history, next);
    }
    panic!("it never ends")
}

fn counts(history: &History, name: &str) -> Vec<usize> {
    let nodes = history.fold.state().nodes.iter();
    let of = |on: &NodeName| {
        let replicas = history.fold.state().replicas_on(on);
        replicas.filter(|(_, replica)| replica.app == app(name)).count()
    };
    nodes.map(|(name, _)| of(name)).collect()
}

fn two_nodes() -> History {
    let mut history = History::default();
    history.node("n1", 8, 8).node("n2", 8, 8);
    history
}

#[test]
fn a_third_node_gets_its_share_and_then_nothing_more_moves() {
    let mut history = two_nodes();
    run(&mut history, "shop", of_cpu(100, 6));
    assert_eq!(counts(&history, "shop"), [3, 3]);
    history.node("n3", 8, 8);
    begin(&mut history);
    let next = plan(&history);
    assert_eq!(next.len(), 1);
    let one = &next[0].moves[0];
    assert_eq!((one.from.as_str(), one.to.as_str(), one.pulls), ("n1", "n3", true));
    assert_eq!(one.gain, "of the workload on n1 and n3: 3 and 0, then 2 and 1");
    history.add(&Writer::Scheduler, RebalanceEnded { planned: 0, stayed: Vec::new() });
    assert_eq!(to_the_end(&mut history), 2);
    assert_eq!(counts(&history, "shop"), [2, 2, 2]);
    assert_eq!(to_the_end(&mut history), 0);
}

#[test]
fn many_workloads_of_one_replica_each_are_spread_by_how_full_nodes_are_or_how_many_they_have() {
    for cpu in [500, 0] {
        let mut history = two_nodes();
        for i in 0..6 {
            run(&mut history, &format!("app-{i}"), of_cpu(cpu, 1));
        }
        history.node("n3", 8, 8);
        to_the_end(&mut history);
        let state = history.fold.state();
        let loads: Vec<u64> = state.index.loads.values().map(|load| load.replicas).collect();
        assert_eq!(loads, [2, 2, 2], "{cpu}");
    }
}

#[test]
fn what_gains_too_little_stays() {
    let mut history = two_nodes();
    // 25 of 1000 each: the difference of one is not worth a move.
    for i in 0..3 {
        run(&mut history, &format!("app-{i}"), of_cpu(200, 1));
    }
    assert_eq!(to_the_end(&mut history), 0);
}

#[test]
fn what_must_stay_stays_and_says_why() {
    let volume = |spec: &mut WorkloadSpec| {
        let name = schemas::id::VolumeName::new("data").expect("a name");
        let (source, target) = (MountSource::Volume(name), "/data".to_owned());
        spec.mounts = vec![Mount { source, target, read_only: false }];
    };
    let port = |spec: &mut WorkloadSpec| {
        let (published, host, container) = (None, Some(80), 80);
        let (protocol, app) = Default::default();
        spec.ports = vec![Port { container, published, host, protocol, app }];
    };
    let pinned = |spec: &mut WorkloadSpec| {
        let (attribute, value) = ("node".to_owned(), "n1".to_owned());
        spec.placement.constraints =
            vec![schemas::spec::Constraint { attribute, equal: true, value }];
    };
    type Changed<'a> = (&'a dyn Fn(&mut WorkloadSpec), &'a str);
    let changes: [Changed<'_>; 7] = [
        (&volume, "its volume data lives on n1"),
        (&port, "it has port 80 of its node"),
        (&pinned, "it is for n1 only"),
        (&|spec| spec.mode = Mode::Job, "it is a job"),
        (&|spec| spec.overlap = Overlap::Never, "no other may run beside"),
        (&|spec| spec.placement.strategy = Strategy::BinPack, "it is to fill nodes"),
        (&|spec| spec.update.max_surge = Some(0), "max_surge says"),
    ];
    for (change, why) in changes {
        let mut history = History::default();
        history.node("n1", 8, 8);
        let mut spec = of_cpu(100, 6);
        change(&mut spec);
        run(&mut history, "shop", spec);
        history.node("n2", 8, 8);
        assert_eq!(to_the_end(&mut history), 0, "{why}");
        let told = stays(history.fold.state(), Some(&app("shop")));
        assert!(told.len() == 1 && told[0].reason.starts_with(why), "{told:?}");
        assert_eq!(stays(history.fold.state(), Some(&app("other"))), []);
    }
}

#[test]
fn what_is_rolled_out_or_not_whole_is_left_alone() {
    let mut history = two_nodes();
    run(&mut history, "shop", of_cpu(100, 6));
    history.node("n3", 8, 8);
    let workloads = [(workload("web"), of_cpu(200, 6))].into();
    let spec = AppSpec { name: app("shop").name, workloads };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 2, spec });
    assert_eq!(to_the_end(&mut history), 0);
    assert!(stays(history.fold.state(), None)[0].reason.contains("converging"));
    let mut history = two_nodes();
    run(&mut history, "shop", of_cpu(100, 6));
    history.node("n3", 8, 8);
    assert_eq!(stays(history.fold.state(), None), []);
    let ready = history.fold.state().replicas.iter().next().map(|(id, r)| (id.clone(), r.clone()));
    let (replica, known) = ready.expect("it runs");
    let agent = Writer::Agent(known.node.expect("it has one"));
    let output = "the probe was answered with 503".to_owned();
    history.add(&agent, schemas::event::ReplicaUnready { replica, run: 1, output });
    assert_eq!(to_the_end(&mut history), 0);
    assert!(stays(history.fold.state(), None)[0].reason.contains("not all"));
}

#[test]
fn a_workload_of_which_a_move_came_to_nothing_is_not_moved_again() {
    let mut history = two_nodes();
    run(&mut history, "shop", of_cpu(100, 6));
    history.node("n3", 8, 8);
    begin(&mut history);
    let event = plan(&history).remove(0);
    history.add(&Writer::Scheduler, event.clone());
    let old = event.moves[0].replica.clone();
    let spec = of_cpu(100, 6).digest();
    request(&mut history, "shop", &spec, vec![(6, Some(old.clone()))]);
    place(&mut history);
    let of = || history.fold.state().cluster.rebalance.now.clone().expect("it began");
    let until = on_the_way(history.fold.state(), &of()).expect("it is on its way");
    assert!(until > history.now_ms);
    let new = history.fold.state().replicas.iter().find(|(_, r)| r.replaces.as_ref() == Some(&old));
    let replicas = vec![new.expect("it was requested").0.clone()];
    let (reason, leaving) = (RetireReason::NotNeeded, false);
    let (app, workload) = (event.app, event.workload);
    let called_off = ReplicasRetired { app, workload, replicas, reason, leaving };
    history.add(&Writer::Controller, called_off);
    let now = history.fold.state().cluster.rebalance.now.clone().expect("it goes on");
    assert_eq!(on_the_way(history.fold.state(), &now), None);
    assert_eq!(now.stayed.iter().collect::<Vec<_>>(), [&old]);
    assert!(plan(&history).is_empty());
}

#[test]
fn constraints_bounds_and_nodes_that_take_nothing_hold_for_moves_as_well() {
    let mut history = two_nodes();
    let mut spec = of_cpu(100, 6);
    spec.placement.constraints = vec![schemas::spec::Constraint {
        attribute: "node".into(),
        equal: false,
        value: "n3".into(),
    }];
    run(&mut history, "shop", spec);
    history.node("n3", 8, 8);
    assert_eq!(to_the_end(&mut history), 0);
    let mut history = two_nodes();
    run(&mut history, "shop", of_cpu(100, 6));
    history.node("n3", 8, 8);
    history.add(&Writer::Controller, NodeCordoned { node: node("n3"), drain: false });
    assert_eq!(to_the_end(&mut history), 0);
}

/// It was measured who calls an app, and how far nodes are apart.
fn calls(history: &mut History, of: &str, callers: &[(&str, u64)], ways: &[(&str, &str, u64)]) {
    let caller = |(name, rate): &(&str, u64)| Caller {
        app: app(name),
        workload: workload("web"),
        rate_milli: rate * 1_000,
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
        connect_us: 0,
        over_ms: 30_000,
        callers: callers.iter().map(caller).collect(),
        ways: ways.iter().map(way).collect(),
    };
    history.add(&Writer::Controller, event);
}

/// `web` on the first of two nodes and `api` on the second, which it calls.
fn apart() -> History {
    let mut history = two_nodes();
    run(&mut history, "web", of_cpu(500, 1));
    run(&mut history, "api", of_cpu(500, 1));
    assert_eq!((counts(&history, "web"), counts(&history, "api")), (vec![1, 0], vec![0, 1]));
    history
}

#[test]
fn a_workload_goes_to_its_callers_though_nodes_become_less_even_and_stays_there() {
    let mut history = apart();
    assert_eq!(to_the_end(&mut history), 0, "nobody measured anything");
    calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", 2_140)]);
    let measured_at = history.fold.place().position;
    begin(&mut history);
    let next = plan(&history);
    let [one] = next.as_slice() else { panic!("one move and not each past the other: {next:?}") };
    let one = &one.moves[0];
    assert_eq!((one.from.as_str(), one.to.as_str()), ("n2", "n1"));
    assert_eq!(one.gain, "callers on n1: 2.1 ms to connect, then 0.2 ms");
    assert_eq!(one.measured_at, Some(measured_at));
    history.add(&Writer::Scheduler, RebalanceEnded { planned: 0, stayed: Vec::new() });
    assert_eq!(to_the_end(&mut history), 1);
    assert_eq!(counts(&history, "api"), [1, 0]);
    assert_eq!(to_the_end(&mut history), 0, "evenness does not bring it back");
    // Nobody calls it any more: then nodes are to be even.
    calls(&mut history, "api", &[], &[]);
    assert_eq!(to_the_end(&mut history), 1);
}

#[test]
fn two_that_call_each_other_come_together_and_not_past_each_other() {
    let mut history = apart();
    let ways = [("n1", "n2", 3_000), ("n2", "n1", 3_100)];
    calls(&mut history, "api", &[("web", 50)], &ways);
    calls(&mut history, "web", &[("api", 50)], &ways);
    assert_eq!(to_the_end(&mut history), 1);
    assert_eq!(counts(&history, "web"), counts(&history, "api"));
    assert_eq!(to_the_end(&mut history), 0);
}

#[test]
fn a_caller_goes_to_what_it_calls_where_that_has_to_stay() {
    let mut history = two_nodes();
    run(&mut history, "web", of_cpu(500, 1));
    let mut api = of_cpu(500, 1);
    api.overlap = Overlap::Never;
    run(&mut history, "api", api);
    calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", 2_140)]);
    begin(&mut history);
    let next = plan(&history);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].moves[0].gain, "what it calls on n2: 2.1 ms to connect, then 0.2 ms");
    history.add(&Writer::Scheduler, RebalanceEnded { planned: 0, stayed: Vec::new() });
    assert_eq!(to_the_end(&mut history), 1);
    assert_eq!(counts(&history, "web"), [0, 1]);
}

#[test]
fn spreading_goes_before_and_room_is_needed_and_what_is_little_or_unknown_moves_nothing() {
    // As many replicas as nodes: they stay spread, wherever they are called from.
    let mut history = two_nodes();
    run(&mut history, "web", of_cpu(500, 1));
    run(&mut history, "api", of_cpu(500, 2));
    calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", 9_000), ("n1", "n1", 100)]);
    assert_eq!(to_the_end(&mut history), 0);
    // No room for it there.
    let mut history = two_nodes();
    run(&mut history, "web", of_cpu(7_900, 1));
    run(&mut history, "api", of_cpu(500, 1));
    calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", 9_000)]);
    assert_eq!(to_the_end(&mut history), 0);
    for us in [0, 400, 650] {
        let mut history = apart();
        calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", us)]);
        assert_eq!(to_the_end(&mut history), 0, "{us}");
    }
    // Somebody who calls it is somewhere from where nobody knows how far it is.
    let mut history = apart();
    history.node("n3", 8, 8);
    run(&mut history, "job", of_cpu(500, 1));
    assert_eq!(counts(&history, "job"), [0, 0, 1]);
    calls(&mut history, "api", &[("job", 1)], &[("n1", "n2", 9_000)]);
    assert_eq!(to_the_end(&mut history), 0);
    calls(&mut history, "api", &[("web", 50), ("job", 1)], &[]);
    assert_eq!(to_the_end(&mut history), 1);
    assert_eq!(counts(&history, "api"), [0, 1, 0], "the one that is known to be far comes instead");
}

#[test]
fn evenness_does_not_carry_a_workload_away_from_those_who_call_it() {
    let mut history = History::default();
    history.node("n1", 8, 8);
    run(&mut history, "web", of_cpu(1_000, 1));
    run(&mut history, "api", of_cpu(1_000, 1));
    run(&mut history, "else", of_cpu(1_000, 1));
    calls(&mut history, "api", &[("web", 50)], &[]);
    history.node("n2", 8, 8);
    calls(&mut history, "api", &[("web", 50)], &[("n1", "n2", 2_000)]);
    assert_eq!(to_the_end(&mut history), 1);
    assert_eq!(counts(&history, "else"), [0, 1], "nobody calls that one");
    assert_eq!((counts(&history, "web"), counts(&history, "api")), (vec![1, 0], vec![1, 0]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn moving_ends_where_nothing_is_gained_and_every_replica_goes_where_it_was_to(
        nodes in prop::collection::vec((1_u64..6, 0_u8..3), 2..7),
        late in 1_usize..3,
        wants in prop::collection::vec((0_u64..9, 1_u32..7, any::<bool>(), any::<bool>()), 1..7),
        asks in prop::collection::vec((0_usize..7, 0_usize..7, 1_u64..100), 0..8),
        ways in prop::collection::vec((0_usize..7, 0_usize..7, 0_u64..9_000), 0..20),
    ) {
        let mut history = History::default();
        let join = |history: &mut History, i: usize, cores: u64, zone: u8| {
            let name = format!("n{i}");
            history.node(&name, cores, 8);
            let labels = [("zone".to_owned(), format!("z{zone}"))].into();
            history.add(&Writer::Controller, NodeLabelled { node: node(&name), labels });
        };
        let early = nodes.len().saturating_sub(late).max(1);
        for (i, (cores, zone)) in nodes.iter().take(early).enumerate() {
            join(&mut history, i, *cores, *zone);
        }
        for (i, (cpu, replicas, over, bounded)) in wants.iter().enumerate() {
            let mut spec = of_cpu(cpu * 100, *replicas);
            spec.placement.spread_over = over.then(|| "zone".to_owned());
            spec.placement.max_per_node = bounded.then_some(2);
            run(&mut history, &format!("app-{i}"), spec);
        }
        for (i, (cores, zone)) in nodes.iter().enumerate().skip(early) {
            join(&mut history, i, *cores, *zone);
        }
        let apps: Vec<String> = (0..wants.len()).map(|i| format!("app-{i}")).collect();
        let names: Vec<String> = (0..nodes.len()).map(|i| format!("n{i}")).collect();
        let ways: Vec<(&str, &str, u64)> = ways
            .iter()
            .filter_map(|(from, to, us)| Some((names.get(*from)?.as_str(), names.get(*to)?.as_str(), *us)))
            .collect();
        for (i, of) in apps.iter().enumerate() {
            let callers = asks.iter().filter(|(_, to, _)| *to == i);
            let callers: Vec<(&str, u64)> = callers
                .filter_map(|(from, _, rate)| Some((apps.get(*from)?.as_str(), *rate)))
                .collect();
            calls(&mut history, of, &callers, &ways);
        }
        let replicas = history.fold.state().replicas.len();
        let rounds = to_the_end(&mut history);
        prop_assert!(rounds <= 20 * replicas.max(1));
        prop_assert_eq!(to_the_end(&mut history), 0);
    }
}
