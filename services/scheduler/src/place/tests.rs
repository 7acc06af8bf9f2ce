//! Rounds of placement, as data: nodes, what is wanted, where it goes.

use cluster::history::{History, app, node, workload};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};
use proptest::strategy::Strategy as _;
use schemas::event::{
    AppDeployed, NodeCordoned, NodeLabelled, ReplicasPlaced, ReplicasRequested, ReplicasRetired,
    RequestedReplica, RetireReason,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Constraint, Mount, MountSource, Port};

use super::*;

fn spec(cpu_millis: u64) -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("web:1");
    spec.resources.cpu_millis = Some(cpu_millis);
    spec
}

fn want(history: &mut History, spec: &WorkloadSpec, count: u64) {
    let workloads = [(workload("web"), spec.clone())].into();
    let app_spec = AppSpec { name: app("shop").name, workloads };
    let known = history.fold.state().apps.get(&app("shop"));
    let revision = known.map_or(1, |app| app.revision + 1);
    let serial = known.map_or(0, |app| app.workloads[&workload("web")].requested);
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision, spec: app_spec });
    let replicas = (serial..serial + count).map(|serial| RequestedReplica {
        id: ReplicaId::derive(&app("shop"), &workload("web"), serial),
        replaces: None,
        node: None,
    });
    let event = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision,
        generation: 0,
        spec: spec.digest(),
        replicas: replicas.collect(),
    };
    history.add(&Writer::Controller, event);
}

/// Places a round, records it, and says how many went where and what keeps the rest.
fn go(history: &mut History) -> (Vec<(String, usize)>, Vec<String>) {
    let round = round(history.fold.state(), 1_000, history.now_ms);
    let mut went = Vec::new();
    for ((_, node), placed) in round.placed {
        went.push((node.to_string(), placed.len()));
        let replicas = placed.into_iter().map(|placed| placed.id).collect();
        let event =
            ReplicasPlaced { node, replicas, chosen: String::new(), passed_over: Vec::new() };
        history.add(&Writer::Scheduler, event);
    }
    assert_eq!(history.fold.state().anomalies(), 0);
    let reasons = round.unplaced.into_values().flat_map(|unplaced| unplaced.reasons);
    (went, reasons.map(|unfit| format!("{} ({})", unfit.reason, unfit.nodes)).collect())
}

fn cluster(nodes: &[(&str, u64)]) -> History {
    let mut history = History::default();
    for (name, cores) in nodes {
        history.node(name, *cores, 8);
    }
    history
}

#[track_caller]
fn check(history: &mut History, went: &[(&str, usize)], reasons: &[&str]) {
    let expected: Vec<(String, usize)> =
        went.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    let (actual, told) = go(history);
    assert_eq!(actual, expected);
    assert_eq!(told, reasons);
}

#[test]
fn spreading_fills_nodes_evenly_by_count() {
    let mut history = cluster(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    want(&mut history, &spec(100), 7);
    check(&mut history, &[("n1", 3), ("n2", 2), ("n3", 2)], &[]);
}

#[test]
fn bin_packing_fills_one_node_first() {
    let mut history = cluster(&[("n1", 1), ("n2", 1)]);
    let mut packed = spec(250);
    packed.placement.strategy = Strategy::BinPack;
    want(&mut history, &packed, 5);
    check(&mut history, &[("n1", 4), ("n2", 1)], &[]);
}

#[test]
fn no_node_gets_more_than_it_has_and_the_rest_says_why() {
    let mut history = cluster(&[("n1", 1), ("n2", 1)]);
    want(&mut history, &spec(600), 3);
    check(&mut history, &[("n1", 1), ("n2", 1)], &["cpu: 600 millis needed, at most 400 free (2)"]);
    history.node("n3", 1, 8);
    check(&mut history, &[("n3", 1)], &[]);
}

#[test]
fn everything_that_fails_is_told_and_not_only_the_first() {
    let mut history = cluster(&[("n1", 1), ("n2", 8)]);
    history.add(&Writer::Controller, NodeCordoned { node: node("n2"), drain: false });
    let mut picky = spec(2_000);
    picky.placement.constraints = vec![Constraint {
        attribute: "label.disk".to_owned(),
        equal: true,
        value: "ssd".to_owned(),
    }];
    want(&mut history, &picky, 1);
    check(
        &mut history,
        &[],
        &[
            "admission: the node is cordoned (1)",
            "constraint: label.disk == ssd (2)",
            "cpu: 2000 millis needed, at most 1000 free (1)",
        ],
    );
}

#[test]
fn of_several_kinds_of_one_workload_the_reasons_of_each_are_told_once() {
    let mut history = cluster(&[("n1", 1), ("n2", 1)]);
    want(&mut history, &spec(2_000), 1);
    let mut picky = spec(2_000);
    picky.placement.constraints = vec![Constraint {
        attribute: "label.disk".to_owned(),
        equal: true,
        value: "ssd".to_owned(),
    }];
    want(&mut history, &picky, 2);
    let unplaced = round(history.fold.state(), 1_000, 0).unplaced;
    assert_eq!(unplaced.values().map(|unplaced| unplaced.waiting).collect::<Vec<_>>(), [3]);
    let mut told = go(&mut history).1;
    told.sort_unstable();
    let cpu = "cpu: 2000 millis needed, at most 1000 free (2)";
    assert_eq!(told, ["constraint: label.disk == ssd (2)", cpu]);
}

#[test]
fn of_those_that_are_for_a_node_each_a_reason_is_of_as_many_nodes() {
    let mut history = cluster(&[("n1", 1), ("n2", 1), ("n3", 1)]);
    let big = spec(2_000);
    want(&mut history, &big, 0);
    let replicas = ["n1", "n2"].iter().zip(0..).map(|(name, serial)| RequestedReplica {
        id: ReplicaId::derive(&app("shop"), &workload("web"), serial),
        replaces: None,
        node: Some(node(name)),
    });
    let event = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: big.digest(),
        replicas: replicas.collect(),
    };
    history.add(&Writer::Controller, event);
    let mut told = go(&mut history).1;
    told.sort_unstable();
    let cpu = "cpu: 2000 millis needed, at most 1000 free (2)";
    assert_eq!(told, [cpu, "node: it is for n1 (2)", "node: it is for n2 (2)"]);
}

#[test]
fn what_is_for_every_node_is_for_a_cordoned_one_too_and_for_none_that_drains() {
    let mut history = cluster(&[("n1", 4)]);
    history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: false });
    let global = WorkloadSpec { mode: schemas::spec::Mode::Global, ..spec(100) };
    want(&mut history, &global, 1);
    check(&mut history, &[("n1", 1)], &[]);
    history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    want(&mut history, &global, 1);
    check(&mut history, &[], &["admission: the node is draining (1)"]);
}

#[test]
fn a_fixed_port_is_had_once_a_node() {
    let mut history = cluster(&[("n1", 4), ("n2", 4)]);
    let mut fixed = spec(100);
    fixed.ports = vec![Port {
        container: 80,
        published: None,
        host: Some(80),
        protocol: Default::default(),
        app: Default::default(),
    }];
    want(&mut history, &fixed, 3);
    check(&mut history, &[("n1", 1), ("n2", 1)], &["host port: 80/tcp is taken (2)"]);
}

/// Asks for one more of `shop/web`, instead of another.
fn replace(history: &mut History, spec: &WorkloadSpec, old: &ReplicaId) -> ReplicaId {
    let known = history.fold.state().apps.get(&app("shop")).expect("it is there");
    let serial = known.workloads[&workload("web")].requested;
    let id = ReplicaId::derive(&app("shop"), &workload("web"), serial);
    let replaces = Some(old.clone());
    let event = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: known.revision,
        generation: 0,
        spec: spec.digest(),
        replicas: vec![RequestedReplica { id: id.clone(), replaces, node: None }],
    };
    history.add(&Writer::Controller, event);
    id
}

#[test]
fn a_replacement_does_not_count_what_it_replaces() {
    let mut history = cluster(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    let alone = |image: &str| {
        let mut spec = WorkloadSpec { image: image.to_owned(), ..spec(100) };
        spec.placement.max_per_node = Some(1);
        spec
    };
    want(&mut history, &alone("web:1"), 4);
    let full = "max per node: the node has 1 of the workload (3)";
    check(&mut history, &[("n1", 1), ("n2", 1), ("n3", 1)], &[full]);
    let waiting: Vec<ReplicaId> = history.fold.state().index.pending.iter().cloned().collect();
    let (app, workload) = (app("shop"), workload("web"));
    let reason = RetireReason::ScaledDown;
    let retired = ReplicasRetired { app, workload, replicas: waiting, reason, leaving: false };
    history.add(&Writer::Controller, retired);
    // Every node is full. One by one each is replaced where it is, and by no more than one.
    want(&mut history, &alone("web:2"), 0);
    let old: Vec<(ReplicaId, NodeName)> = {
        let replicas = history.fold.state().replicas.iter();
        replicas.map(|(id, r)| (id.clone(), r.node.clone().expect("it is placed"))).collect()
    };
    for (id, node) in &old[..2] {
        replace(&mut history, &alone("web:2"), id);
        check(&mut history, &[(node.as_str(), 1)], &[]);
    }
    // The last one's place is its replacement's and nobody else's, though one more is asked for.
    want(&mut history, &alone("web:2"), 1);
    let (kept, node) = old[2].clone();
    let last = replace(&mut history, &alone("web:2"), &kept);
    check(&mut history, &[(node.as_str(), 1)], &[full]);
    let placed = history.fold.state().replicas.get(&last).and_then(|r| r.node.clone());
    assert_eq!(placed, Some(node));
}

#[test]
fn replicas_go_where_their_volume_is() {
    let mut history = cluster(&[("n1", 4), ("n2", 4)]);
    let mut stateful = spec(100);
    let source = MountSource::Volume(schemas::id::VolumeName::new("data").expect("a name"));
    stateful.mounts = vec![Mount { source, target: "/data".to_owned(), read_only: false }];
    want(&mut history, &stateful, 2);
    check(&mut history, &[("n1", 1)], &[]);
    check(&mut history, &[("n1", 1)], &[]);
}

#[test]
fn a_label_is_spread_over_before_nodes_are() {
    let mut history = cluster(&[("n1", 4), ("n2", 4), ("n3", 4)]);
    for (name, zone) in [("n1", "a"), ("n2", "a"), ("n3", "b")] {
        let labels = [("zone".to_owned(), zone.to_owned())].into();
        let event = schemas::event::NodeLabelled { node: node(name), labels };
        history.add(&Writer::Controller, event);
    }
    let mut zoned = spec(100);
    zoned.placement.spread_over = Some("zone".to_owned());
    want(&mut history, &zoned, 4);
    check(&mut history, &[("n1", 1), ("n2", 1), ("n3", 2)], &[]);
}

#[test]
fn reserved_disk_and_processes_are_counted_like_cpu_and_memory() {
    let mut history = cluster(&[("n1", 4)]);
    let mut large = spec(100);
    large.resources.disk_bytes = Some(60 << 30);
    large.resources.pids_limit = Some(6_000);
    want(&mut history, &large, 2);
    let reasons = [
        "disk: 64424509440 bytes needed, at most 42949672960 free (1)",
        "pids: 6000 processes needed, at most 4000 free (1)",
    ];
    check(&mut history, &[("n1", 1)], &reasons);
}

#[test]
fn a_node_that_could_not_get_the_image_is_passed_over_for_a_while() {
    let mut history = cluster(&[("n1", 4)]);
    want(&mut history, &spec(100), 1);
    check(&mut history, &[("n1", 1)], &[]);
    let failed = schemas::event::RunFailed {
        replica: ReplicaId::derive(&app("shop"), &workload("web"), 0),
        run: 1,
        step: "pull".to_owned(),
        error: "not found".to_owned(),
        retry_ms: 500,
    };
    history.add(&Writer::Agent(node("n1")), failed);
    history.node("n2", 1, 8);
    history.add(&Writer::Controller, NodeCordoned { node: node("n2"), drain: false });
    let replicas = vec![RequestedReplica {
        id: ReplicaId::derive(&app("shop"), &workload("web"), 1),
        replaces: None,
        node: None,
    }];
    let event = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: spec(100).digest(),
        replicas,
    };
    history.add(&Writer::Controller, event);
    let reasons = [
        "admission: the node is cordoned (1)",
        "image: web:1 is not to be had there: not found (1)",
    ];
    check(&mut history, &[], &reasons);
    let again = round(history.fold.state(), 10, history.now_ms).again_at_ms;
    assert_eq!(again, Some(history.now_ms + 60_000));
    history.now_ms += 60_000;
    check(&mut history, &[("n1", 1)], &[]);
}

#[test]
fn a_higher_priority_is_placed_first() {
    let mut history = cluster(&[("n1", 1)]);
    let mut spec_of = |name: &str, priority: i32| {
        let workloads = [(workload("web"), WorkloadSpec { priority, ..spec(800) })].into();
        let key = app(name);
        let app_spec = AppSpec { name: key.name.clone(), workloads };
        let deployed = AppDeployed { app: key.clone(), revision: 1, spec: app_spec };
        let requested = ReplicasRequested {
            app: key.clone(),
            workload: workload("web"),
            revision: 1,
            generation: 0,
            spec: spec(800).digest(),
            replicas: vec![RequestedReplica {
                id: ReplicaId::derive(&key, &workload("web"), 0),
                replaces: None,
                node: None,
            }],
        };
        history.batch(&Writer::Controller, vec![deployed.into(), requested.into()]);
    };
    spec_of("first", 0);
    spec_of("urgent", 5);
    let placed = round(history.fold.state(), 10, history.now_ms).placed;
    let ids: Vec<&str> = placed.values().flatten().map(|placed| placed.id.as_str()).collect();
    assert!(ids.len() == 1 && ids[0].starts_with("urgent-"), "{ids:?}");
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let mut history = cluster(&[]);
    want(&mut history, &spec(100), 1);
    check(&mut history, &[], &["nodes: there is none (0)"]);
}

#[test]
fn a_placement_says_what_kept_it_from_the_other_nodes() {
    let mut history = History::default();
    history.node("n1", 4, 4).node("n2", 1, 4).node("n3", 4, 4);
    history.add(&Writer::Controller, NodeCordoned { node: node("n3"), drain: false });
    want(&mut history, &spec(2_000), 1);
    let round = round(history.fold.state(), 1_000, history.now_ms);
    let placed = round.placed.values().flatten().next().expect("it fits on one");
    let told: Vec<(&str, u64)> =
        placed.passed_over.iter().map(|over| (over.reason.as_str(), over.nodes)).collect();
    let cpu = ("cpu: 2000 millis needed, at most 1000 free", 1);
    assert_eq!(told, [("admission: the node is cordoned", 1), cpu]);
}

/// The rule as it reads: every replica looks at every node, and takes the best that fits.
fn plainly(state: &State, max: usize) -> BTreeMap<ReplicaId, NodeName> {
    let mut went = BTreeMap::new();
    let mut loads = state.index.loads.clone();
    for group in groups(state, max) {
        let (_, first) = group.replicas[0];
        let known = state.apps.get(group.app).expect("it is there");
        let spec = state.spec_of(first).expect("it is there");
        let (need, only_node) = (&first.need, first.only_node.as_ref());
        let wanted = Wanted { app: known, spec, need, only_node, lacking: None, now_ms: 0 };
        for (id, _) in &group.replicas {
            let replaces = |id: &ReplicaId, at: &NodeName| {
                let replica = state.replicas.get(id).expect("it is there");
                replaced_on(state, replica) == Some(at)
            };
            let (mut of, mut replacing) = (Vec::new(), Vec::new());
            for (id, replica) in state.replicas_of(group.app, group.workload) {
                let there = replica.node.as_ref().filter(|_| replica.retired.is_none());
                let Some(at) = there.or_else(|| went.get(id)) else { continue };
                of.push(at);
                replacing.extend(replaces(id, at).then_some(at));
            }
            let value = |node: &NodeName| {
                let label = spec.placement.spread_over.as_deref();
                label.map(|label| state.nodes.get(node).and_then(|node| node.label(label)))
            };
            let fitting = state.nodes.iter().filter_map(|(name, node)| {
                let load = &loads[name];
                let of_workload = of.iter().filter(|other| **other == name).count() as u64;
                let there = replacing.iter().filter(|other| **other == name).count() as u64;
                let replaced = there + u64::from(replaces(id, name));
                let at = Candidate { name, node, load, of_workload, replaced };
                let alike = of.iter().filter(|other| value(other) == value(name)).count();
                let alike = if spec.placement.spread_over.is_some() { alike } else { 0 };
                let full = fullness_permille(node, load);
                let score = match spec.placement.strategy {
                    Strategy::Spread => (alike, of_workload, full, load.replicas),
                    Strategy::BinPack => (alike, 1_000 - full, u64::MAX - load.replicas, 0),
                };
                obstacles(&wanted, &at).is_empty().then_some((score, name))
            });
            if let Some((_, node)) = fitting.min() {
                loads.get_mut(node).expect("it is there").add(need);
                went.insert((*id).clone(), node.clone());
            }
        }
    }
    went
}

/// The replicas with a node that no other replaces yet.
fn not_replaced(state: &State) -> Vec<ReplicaId> {
    let all = || state.replicas.iter();
    let taken = |id: &ReplicaId| all().any(|(_, other)| other.replaces.as_ref() == Some(id));
    let free = all().filter(|(id, replica)| replica.node.is_some() && !taken(id));
    free.map(|(id, _)| id.clone()).collect()
}

fn any_spec() -> impl proptest::strategy::Strategy<Value = WorkloadSpec> {
    let flag = any::<bool>;
    let of = (1_u64..20, flag(), flag(), flag(), 0_i32..3, flag());
    of.prop_map(|(cpu, packs, over, port, priority, only)| {
        let mut spec = spec(cpu * 100);
        let placement = &mut spec.placement;
        placement.strategy = if packs { Strategy::BinPack } else { Strategy::Spread };
        placement.spread_over = over.then(|| "zone".to_owned());
        placement.max_per_node = port.then_some(if packs { 2 } else { 1 });
        if only {
            let attribute = "label.zone".to_owned();
            placement.constraints.push(Constraint { attribute, value: "z1".into(), equal: over });
        }
        spec.priority = priority;
        spec
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_round_is_what_the_plain_rule_gives(
        nodes in prop::collection::vec((1_u64..5, 0_u8..3), 1..8),
        wants in prop::collection::vec((any_spec(), 0_u64..12, 0_usize..6), 1..6),
        max in 1_usize..40,
    ) {
        let mut history = History::default();
        for (i, (cores, zone)) in nodes.iter().enumerate() {
            let name = format!("n{i}");
            history.node(&name, *cores, 8);
            let labels = [("zone".to_owned(), format!("z{zone}"))].into();
            history.add(&Writer::Controller, NodeLabelled { node: node(&name), labels });
        }
        for (spec, count, replaced) in wants {
            want(&mut history, &spec, count);
            for old in not_replaced(history.fold.state()).iter().take(replaced) {
                replace(&mut history, &spec, old);
            }
            let expected = plainly(history.fold.state(), max);
            let round = round(history.fold.state(), max, history.now_ms);
            let mut went = BTreeMap::new();
            for ((_, node), placed) in &round.placed {
                went.extend(placed.iter().map(|placed| (placed.id.clone(), node.clone())));
            }
            prop_assert_eq!(went, expected);
            for ((_, node), placed) in round.placed {
                let replicas = placed.into_iter().map(|placed| placed.id).collect();
                let (chosen, passed_over) = (String::new(), Vec::new());
                let event = ReplicasPlaced { node, replicas, chosen, passed_over };
                history.add(&Writer::Scheduler, event);
            }
            prop_assert_eq!(history.fold.state().anomalies(), 0);
        }
    }
}
