//! Who is reached inside, from where, and how.

use cluster::history::{History, app, node, replica, workload};
use schemas::event::NodeDescribed;
use schemas::event::{
    AppDeployed, Endpoint as Said, ReplicaReady, ReplicasPlaced, ReplicasRequested,
    RequestedReplica, RunEnded, RunStarted,
};
use schemas::id::{AppName, Writer};
use schemas::spec::{AppSpec, Port, WorkloadSpec};

use super::*;

/// An app of one workload, which is open to some.
pub(crate) fn deploy(history: &mut History, name: &str, open: Open) {
    let mut spec = WorkloadSpec { open, ..WorkloadSpec::of_image("web:1") };
    let port = |container, host| Port {
        container,
        published: None,
        host,
        protocol: Protocol::Tcp,
        app: Default::default(),
    };
    spec.ports = vec![port(80, None), port(81, Some(8081))];
    let key = app(name);
    let spec = AppSpec { name: key.name.clone(), workloads: [(workload("web"), spec)].into() };
    let revision = history.fold.state().apps.get(&key).map_or(1, |app| app.revision + 1);
    history.add(&Writer::Controller, AppDeployed { app: key, revision, spec });
}

/// A replica of it runs on a node, and is ready.
pub(crate) fn run(history: &mut History, name: &str, tail: &str, on: &str, own: &str) {
    let id = replica(&format!("{name}-web-{tail}"));
    let state = history.fold.state();
    let (revision, spec) = {
        let app = state.apps.get(&app(name)).expect("it is declared");
        (app.revision, app.workloads[&workload("web")].spec.clone())
    };
    let replicas = vec![RequestedReplica { id: id.clone(), replaces: None, node: None }];
    history.add(
        &Writer::Controller,
        ReplicasRequested {
            app: app(name),
            workload: workload("web"),
            revision,
            generation: 0,
            spec,
            replicas,
        },
    );
    let placed = ReplicasPlaced {
        node: node(on),
        replicas: vec![id.clone()],
        chosen: String::new(),
        passed_over: Vec::new(),
    };
    history.add(&Writer::Scheduler, placed);
    started(history, &id, on, own, 1);
}

fn started(history: &mut History, id: &ReplicaId, on: &str, own: &str, run: u32) {
    let address = history.fold.state().nodes.get(&node(on)).expect("it is there");
    let address = address.description.address.clone();
    let said =
        |container, port, protocol| Said { container, protocol, address: address.clone(), port };
    // The last is a port that its image names and its spec does not.
    let endpoints = vec![
        said(80, 32_000, Protocol::Tcp),
        said(81, 8081, Protocol::Tcp),
        said(53, 32_001, Protocol::Udp),
    ];
    let agent = Writer::Agent(node(on));
    let (container, inside) = ("c".to_owned(), Some(own.to_owned()));
    let event = RunStarted { replica: id.clone(), run, container, endpoints, inside };
    history.add(&agent, event);
    history.add(&agent, ReplicaReady { replica: id.clone(), run });
}

/// Three nodes: two on one machine, and one elsewhere.
pub(crate) fn three() -> History {
    let mut history = History::default();
    for (name, address) in [("n1", "10.0.0.1"), ("n2", "10.0.0.1"), ("n3", "10.0.0.3")] {
        history.node(name, 4, 8);
        let known = history.fold.state().nodes.get(&node(name)).expect("it is there");
        let mut description = known.description.clone();
        description.address = address.to_owned();
        let described = NodeDescribed { node: node(name), description };
        history.add(&Writer::Agent(node(name)), described);
    }
    history
}

fn web(name: &str) -> (AppKey, WorkloadName) {
    (app(name), workload("web"))
}

fn reached(map: &Map, name: &str, protocol: Protocol, port: u16) -> Vec<String> {
    let served = &map.workloads[&web(name)];
    let route = served.ports.get(&Published { protocol, port });
    let endpoints = route.into_iter().flat_map(|route| &route.endpoints);
    endpoints.map(|e| format!("{}:{}", e.address, e.port)).collect()
}

#[test]
fn replicas_of_this_machine_are_reached_on_their_own_address_and_others_through_their_node() {
    let mut history = three();
    deploy(&mut history, "shop", Open::No);
    run(&mut history, "shop", "aaaaa", "n1", "172.18.0.2/16");
    run(&mut history, "shop", "bbbbb", "n2", "172.19.0.2/16");
    run(&mut history, "shop", "ccccc", "n3", "172.18.0.2/16");
    let map = Map::of(history.fold.state(), &node("n1"));
    let expected = ["172.18.0.2:80", "172.19.0.2:80", "10.0.0.3:32000"];
    assert_eq!(reached(&map, "shop", Protocol::Tcp, 80), expected);
    let expected = ["172.18.0.2:53", "172.19.0.2:53", "10.0.0.3:32001"];
    assert_eq!(
        reached(&map, "shop", Protocol::Udp, 53),
        expected,
        "what the image names is served"
    );
    assert_eq!(map, Map::of(history.fold.state(), &node("n2")), "a machine has one map");

    let there = Map::of(history.fold.state(), &node("n3"));
    let expected = ["10.0.0.1:32000", "10.0.0.1:32000", "172.18.0.2:80"];
    assert_eq!(reached(&there, "shop", Protocol::Tcp, 80), expected);
    let far = [(Protocol::Tcp, 32_000), (Protocol::Udp, 32_001)];
    let far = |address: [u8; 4]| far.map(|(p, port)| (p, address.into(), port)).into();
    assert_eq!(
        map.far,
        far([10, 0, 0, 3]),
        "a port that is declared for others stays open to them"
    );
    assert_eq!(there.far, far([10, 0, 0, 1]));
    let near = [(Protocol::Tcp, 32_000), (Protocol::Udp, 32_001)].into();
    assert_eq!((&map.near, &there.near), (&near, &near), "nor is it a way on one machine");
}

#[test]
fn what_comes_from_a_network_is_of_the_app_whose_container_is_on_there() {
    let mut history = three();
    for name in ["back", "shop"] {
        deploy(&mut history, name, Open::No);
    }
    run(&mut history, "back", "aaaaa", "n1", "172.18.0.2/16");
    run(&mut history, "shop", "aaaaa", "n2", "172.19.0.9/16");
    run(&mut history, "shop", "bbbbb", "n3", "172.20.0.9/16");
    let source = |history: &History, address: [u8; 4]| {
        let map = Map::of(history.fold.state(), &node("n1"));
        map.source(address.into()).cloned()
    };
    assert_eq!(source(&history, [172, 18, 0, 77]), Some(app("back")));
    assert_eq!(source(&history, [172, 19, 255, 1]), Some(app("shop")));
    for stranger in [[172, 17, 0, 2], [172, 20, 0, 9], [10, 0, 0, 1], [127, 0, 0, 1]] {
        assert_eq!(source(&history, stranger), None, "{stranger:?}");
    }
    // Its run ends, and it keeps its network until the engine gives that to another.
    let ended = RunEnded {
        replica: replica("back-web-aaaaa"),
        run: 1,
        evidence: Default::default(),
        retry_ms: Some(1_000),
    };
    history.now_ms += 10;
    history.add(&Writer::Agent(node("n1")), ended);
    assert_eq!(source(&history, [172, 18, 0, 77]), Some(app("back")));
    run(&mut history, "shop", "ccccc", "n1", "172.18.0.2/16");
    assert_eq!(source(&history, [172, 18, 0, 77]), Some(app("shop")));
    history.now_ms += 10;
    started(&mut history, &replica("back-web-aaaaa"), "n1", "172.21.0.2/16", 2);
    assert_eq!(source(&history, [172, 18, 0, 77]), Some(app("shop")));
    assert_eq!(source(&history, [172, 21, 0, 2]), Some(app("back")));
}

#[test]
fn an_app_reaches_its_own_workloads_and_those_that_are_open_to_it() {
    let mut history = three();
    let to = |name: &str| Open::To([AppName::new(name).expect("a name")].into());
    deploy(&mut history, "closed", Open::No);
    deploy(&mut history, "open", Open::All);
    deploy(&mut history, "some", to("friend"));
    let reaches = |history: &History, from: &str, to: &str| {
        let map = Map::of(history.fold.state(), &node("n1"));
        map.reached(&app(from), &web(to)).is_some()
    };
    for own in ["closed", "open", "some"] {
        assert!(reaches(&history, own, own));
    }
    assert!(!reaches(&history, "friend", "closed"));
    assert!(reaches(&history, "friend", "open") && reaches(&history, "friend", "some"));
    assert!(!reaches(&history, "stranger", "some"));
    for elsewhere in ["other/friend", "other/open"] {
        assert!(!reaches(&history, elsewhere, "open"), "another tenant's app is another's");
    }
    deploy(&mut history, "closed", to("friend"));
    assert!(reaches(&history, "friend", "closed"), "it may open at any time");
}

#[test]
fn a_port_is_served_while_somebody_is_ready_and_a_number_leads_to_its_workload() {
    let mut history = three();
    deploy(&mut history, "shop", Open::No);
    let map = Map::of(history.fold.state(), &node("n1"));
    let served = &map.workloads[&web("shop")];
    assert!(served.ports.is_empty());
    assert_eq!(map.numbered(served.number).map(|(of, _)| of), Some(&web("shop")));
    assert_eq!(map.numbered(served.number.wrapping_add(1)), None);
    run(&mut history, "shop", "aaaaa", "n1", "172.18.0.2/16");
    let map = Map::of(history.fold.state(), &node("n1"));
    assert_eq!(map.workloads[&web("shop")].ports.len(), 3);
}

#[test]
fn a_replica_has_an_address_where_somebody_may_reach_it_and_as_long_as_it_is_ready() {
    let mut history = three();
    deploy(&mut history, "shop", Open::No);
    run(&mut history, "shop", "aaaaa", "n1", "172.18.0.2/16");
    run(&mut history, "shop", "ccccc", "n3", "172.18.0.2/16");
    deploy(&mut history, "other", Open::No);
    run(&mut history, "other", "aaaaa", "n3", "172.19.0.2/16");
    let map = Map::of(history.fold.state(), &node("n1"));
    let at = |map: &Map, id: &str| {
        let single = map.workloads[&web("shop")].replicas.get(&replica(id))?;
        let route = &single.ports[&Published { protocol: Protocol::Tcp, port: 80 }];
        let [one] = route.endpoints.as_slice() else { panic!("{route:?}") };
        let (of, found, _) = map.single(single.number).expect("it is its number");
        assert_eq!((of, found), (&web("shop"), &replica(id)));
        assert_eq!(map.numbered(single.number), None);
        Some((single.number, format!("{}:{}", one.address, one.port), single.ports.len()))
    };
    let near = at(&map, "shop-web-aaaaa").expect("it is there");
    let far = at(&map, "shop-web-ccccc").expect("it is there");
    assert_eq!((near.1.as_str(), far.1.as_str()), ("172.18.0.2:80", "10.0.0.3:32000"));
    assert_eq!((near.2, far.2), (2, 2), "its TCP ports");
    assert!(map.workloads[&web("other")].replicas.is_empty(), "nobody here reaches it");
    let there = Map::of(history.fold.state(), &node("n3"));
    assert_eq!(at(&there, "shop-web-aaaaa").expect("it is there").0, near.0, "it is one number");
    assert_eq!(there.workloads[&web("other")].replicas.len(), 1);

    let ended = RunEnded {
        replica: replica("shop-web-ccccc"),
        run: 1,
        evidence: Default::default(),
        retry_ms: Some(1_000),
    };
    history.add(&Writer::Agent(node("n3")), ended);
    let map = Map::of(history.fold.state(), &node("n1"));
    assert_eq!(at(&map, "shop-web-ccccc"), None);
    started(&mut history, &replica("shop-web-ccccc"), "n3", "172.18.0.2/16", 2);
    let map = Map::of(history.fold.state(), &node("n1"));
    assert_eq!(at(&map, "shop-web-ccccc").map(|at| at.0), Some(far.0), "it keeps its number");
}
