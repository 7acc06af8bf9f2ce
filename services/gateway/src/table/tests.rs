//! Which replicas a published port leads to.

use cluster::Fold;
use cluster::history::{History, app, node, replica, workload};
use proptest::prelude::*;
use schemas::event::{
    AppDeleteStarted, AppDeployed, Endpoint as Reached, Event, Evidence, NodeLost, NodeReturned,
    NodeSuspected, Outcome, ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasPlaced,
    ReplicasRequested, ReplicasRetired, RequestedReplica, RetireReason, RunEnded, RunStarted,
};
use schemas::id::{NodeName, Writer};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::*;

const WEB: Published = Published { protocol: Protocol::Tcp, port: 80 };

fn spec(container: u16) -> WorkloadSpec {
    let mut spec = WorkloadSpec::of_image("web:1");
    let port = |container, published, protocol| Port {
        container,
        published,
        host: None,
        protocol,
        app: Default::default(),
    };
    spec.ports = vec![
        port(container, Some(80), Protocol::Tcp),
        port(53, Some(80), Protocol::Udp),
        port(9090, None, Protocol::Tcp),
    ];
    spec
}

fn deployed(revision: u64, container: u16) -> AppDeployed {
    let workloads = [(workload("web"), spec(container))].into();
    let spec = AppSpec { name: app("shop").name, workloads };
    AppDeployed { app: app("shop"), revision, spec }
}

fn id(name: &str) -> String {
    format!("shop-web-{name}")
}

fn agent(on: &str) -> Writer {
    Writer::Agent(node(on))
}

fn requested(name: &str, revision: u64, container: u16) -> ReplicasRequested {
    ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision,
        generation: 0,
        spec: spec(container).digest(),
        replicas: vec![RequestedReplica { id: replica(&id(name)), replaces: None, node: None }],
    }
}

/// The engine gives every run of every replica a port of its own.
fn started(name: &str, run: u32, container: u16, on: u16) -> RunStarted {
    let at = |container, protocol, port| Reached {
        container,
        protocol,
        address: "127.0.0.1".to_owned(),
        port,
    };
    let endpoints = vec![
        at(53, Protocol::Udp, on + 1),
        at(container, Protocol::Tcp, on),
        at(9090, Protocol::Tcp, on + 2),
    ];
    RunStarted { replica: replica(&id(name)), run, container: "c".into(), endpoints, inside: None }
}

fn placed(on: &str, name: &str) -> ReplicasPlaced {
    let replicas = vec![replica(&id(name))];
    ReplicasPlaced { node: node(on), replicas, chosen: String::new(), passed_over: Vec::new() }
}

fn retired(name: &str, leaving: bool) -> ReplicasRetired {
    ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: vec![replica(&id(name))],
        reason: RetireReason::ScaledDown,
        leaving,
    }
}

/// Two nodes, and replicas as `node, name, port`, all ready.
fn running(replicas: &[(&str, &str, u16)]) -> History {
    let mut history = History::default();
    history.node("n1", 4, 4).node("n2", 4, 4);
    history.add(&Writer::Controller, deployed(1, 8080));
    for (on, name, port) in replicas {
        run(&mut history, on, name, *port, (1, 8080));
    }
    history
}

fn run(history: &mut History, on: &str, name: &str, port: u16, of: (u64, u16)) {
    history
        .add(&Writer::Controller, requested(name, of.0, of.1))
        .add(&Writer::Scheduler, placed(on, name))
        .add(&agent(on), started(name, 1, of.1, port))
        .add(&agent(on), ReplicaReady { replica: replica(&id(name)), run: 1 });
}

fn table(history: &History) -> Table {
    Table::of(history.fold.state(), history.fold.place())
}

fn ports(history: &History) -> Vec<u16> {
    table(history).routes[&WEB].endpoints.iter().map(|endpoint| endpoint.port).collect()
}

#[test]
fn each_protocol_leads_to_its_own_port_of_every_ready_replica() {
    let history = running(&[("n1", "a", 100), ("n2", "b", 200)]);
    let table = table(&history);
    let udp = Published { protocol: Protocol::Udp, port: 80 };
    assert_eq!(table.routes.keys().copied().collect::<Vec<_>>(), [WEB, udp]);
    assert_eq!(ports(&history), [100, 200]);
    assert_eq!(table.routes[&udp].endpoints[1].port, 201);
    assert_eq!(udp.to_string(), "80/udp");
}

#[test]
fn a_replica_gets_nothing_before_it_is_ready_and_after_it_is_not() {
    let mut history = running(&[("n1", "a", 100)]);
    history
        .add(&Writer::Controller, requested("b", 1, 8080))
        .add(&Writer::Scheduler, placed("n2", "b"))
        .add(&agent("n2"), started("b", 1, 8080, 200));
    assert_eq!(ports(&history), [100]);
    let unready = ReplicaUnready { replica: replica(&id("a")), run: 1, output: "503".into() };
    history.add(&agent("n1"), unready);
    assert!(ports(&history).is_empty(), "the port stays, and leads nowhere");
    history.add(&agent("n2"), ReplicaReady { replica: replica(&id("b")), run: 1 });
    assert_eq!(ports(&history), [200]);
    let evidence = Evidence::default();
    let ended = RunEnded { replica: replica(&id("b")), run: 1, evidence, retry_ms: Some(1) };
    history.add(&agent("n2"), ended);
    assert!(ports(&history).is_empty());
}

#[test]
fn one_that_is_to_end_gets_nothing_though_it_be_the_last() {
    for leaving in [true, false] {
        let mut history = running(&[("n1", "a", 100), ("n2", "b", 200)]);
        history.add(&Writer::Controller, retired("a", leaving));
        assert_eq!(ports(&history), [200]);
        let unready = ReplicaUnready { replica: replica(&id("b")), run: 1, output: "503".into() };
        history.add(&agent("n2"), unready);
        assert!(ports(&history).is_empty(), "leaving: {leaving}");
        let ready = ReplicaReady { replica: replica(&id("b")), run: 1 };
        history.add(&agent("n2"), ready);
        let silent = NodeSuspected { node: node("n2"), silent_ms: 3_000 };
        history.add(&Writer::Health, silent);
        assert_eq!(ports(&history), [200], "it stays on a node that may be gone");
    }
}

#[test]
fn a_suspected_node_serves_as_the_last_and_a_lost_one_never() {
    let mut history = running(&[("n1", "a", 100), ("n2", "b", 200)]);
    let silent = |on: &str| NodeSuspected { node: node(on), silent_ms: 3_000 };
    history.add(&Writer::Health, silent("n1"));
    assert_eq!(ports(&history), [200]);
    history.add(&Writer::Health, silent("n2"));
    assert_eq!(ports(&history), [100, 200]);
    history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    assert_eq!(ports(&history), [200]);
    history.add(&Writer::Health, NodeLost { node: node("n2"), silent_ms: 6_000 });
    assert!(ports(&history).is_empty());
    history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 7_000 });
    assert_eq!(ports(&history), [100]);
}

#[test]
fn an_update_that_moves_the_container_s_port_is_served_throughout() {
    let mut history = running(&[("n1", "a", 100)]);
    history.add(&Writer::Controller, deployed(2, 8081));
    assert_eq!(ports(&history), [100], "the old replica, on the old port");
    run(&mut history, "n2", "b", 200, (2, 8081));
    assert_eq!(ports(&history), [100, 200]);
    history.add(&Writer::Controller, retired("a", true));
    assert_eq!(ports(&history), [200]);
}

#[test]
fn what_is_not_declared_any_more_is_not_served() {
    let mut history = running(&[("n1", "a", 100)]);
    history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    assert_eq!(table(&history).routes, [].into());
}

fn route_of(table: &Table) -> Route {
    table.routes[&WEB].clone()
}

#[test]
fn differences_name_what_changed_and_close_before_they_open() {
    let history = running(&[("n1", "a", 100)]);
    let empty = Table::default();
    let one = table(&history);
    assert_eq!(one.changes(&one), []);
    assert_eq!(empty.changes(&one).len(), 2);
    let mut led = one.clone();
    let route = led.routes.get_mut(&WEB).expect("it is there");
    route.endpoints.clear();
    assert_eq!(one.changes(&led), [Change::Lead(WEB, route_of(&led))]);
    led.routes.get_mut(&WEB).expect("it is there").balance = Balance::RoundRobin;
    assert_eq!(one.changes(&led), [Change::Lead(WEB, route_of(&led))]);
    route_to(&mut led, "other");
    let changes = one.changes(&led);
    assert_eq!(changes[0], Change::Close(WEB));
    assert!(matches!(&changes[1], Change::Open(WEB, route) if route.app == app("other")));
    assert_eq!(changes.len(), 2);
}

fn route_to(table: &mut Table, owner: &str) {
    table.routes.get_mut(&WEB).expect("it is there").app = app(owner);
}

/// Something that may happen to one of six replicas on one of three nodes.
#[derive(Clone, Debug)]
enum Step {
    Request(u8, u8),
    Start(u8),
    Ready(u8),
    Unready(u8),
    RunEnd(u8),
    Retire(u8, bool),
    End(u8),
    Suspect(u8),
    Lose(u8),
    Return(u8),
    Deploy(bool),
    Delete,
}

fn step() -> impl Strategy<Value = Step> {
    let (r, n) = (0_u8..6, 0_u8..3);
    prop_oneof![
        4 => (r.clone(), n.clone()).prop_map(|(r, n)| Step::Request(r, n)),
        4 => r.clone().prop_map(Step::Start),
        6 => r.clone().prop_map(Step::Ready),
        1 => r.clone().prop_map(Step::Unready),
        1 => r.clone().prop_map(Step::RunEnd),
        2 => (r.clone(), any::<bool>()).prop_map(|(r, leaving)| Step::Retire(r, leaving)),
        1 => r.prop_map(Step::End),
        1 => n.clone().prop_map(Step::Suspect),
        1 => n.clone().prop_map(Step::Lose),
        2 => n.prop_map(Step::Return),
        2 => any::<bool>().prop_map(Step::Deploy),
        1 => Just(Step::Delete),
    ]
}

/// The event of a step, if its writer could write it now.
fn event(history: &History, step: &Step) -> Option<(Writer, Event)> {
    let state = history.fold.state();
    let name = |r: &u8| format!("r{r}");
    let on = |n: &u8| node(&format!("n{n}"));
    let known = |r: &u8| state.replicas.get(&replica(&id(&name(r))));
    let own = |r: &u8| Some(Writer::Agent(known(r)?.node.clone()?));
    let app_now = state.apps.get(&app("shop"));
    let declared = app_now.and_then(|app| {
        let workload = app.workloads.get(&workload("web")).filter(|w| w.declared)?;
        Some((app.revision, app.specs.get(&workload.spec)?.ports[0].container))
    });
    let one = replica;
    Some(match step {
        Step::Request(r, _) if known(r).is_none() => {
            let (revision, container) = declared?;
            (Writer::Controller, requested(&name(r), revision, container).into())
        }
        Step::Request(r, n) if known(r)?.node.is_none() => {
            let on: NodeName = on(n);
            (Writer::Scheduler, placed(on.as_str(), &name(r)).into())
        }
        Step::Request(..) => return None,
        Step::Start(r) => {
            let known = known(r)?;
            let container = state.spec_of(known)?.ports[0].container;
            let port = 1_000 + 100 * u16::from(*r) + 3 * u16::try_from(known.run % 30).ok()?;
            (own(r)?, started(&name(r), known.run + 1, container, port).into())
        }
        Step::Ready(r) => {
            let run = known(r).filter(|known| known.phase == Phase::Running)?.run;
            (own(r)?, ReplicaReady { replica: one(&id(&name(r))), run }.into())
        }
        Step::Unready(r) => {
            let run = known(r).filter(|known| known.phase == Phase::Ready)?.run;
            let replica = one(&id(&name(r)));
            (own(r)?, ReplicaUnready { replica, run, output: String::new() }.into())
        }
        Step::RunEnd(r) => {
            let (replica, run) = (one(&id(&name(r))), known(r)?.run);
            let evidence = Evidence::default();
            (own(r)?, RunEnded { replica, run, evidence, retry_ms: None }.into())
        }
        Step::Retire(r, leaving) => {
            known(r).map(|_| (Writer::Controller, retired(&name(r), *leaving).into()))?
        }
        Step::End(r) => {
            let replica = one(&id(&name(r)));
            (own(r)?, ReplicaEnded { replica, outcome: Outcome::Stopped }.into())
        }
        Step::Suspect(n) => {
            (Writer::Health, NodeSuspected { node: on(n), silent_ms: 3_000 }.into())
        }
        Step::Lose(n) => (Writer::Health, NodeLost { node: on(n), silent_ms: 6_000 }.into()),
        Step::Return(n) => (Writer::Health, NodeReturned { node: on(n), silent_ms: 7_000 }.into()),
        Step::Deploy(other) => {
            let revision = app_now.map_or(0, |app| app.revision) + 1;
            let container = if *other { 8081 } else { 8080 };
            (Writer::Controller, deployed(revision, container).into())
        }
        Step::Delete => {
            let app = app_now.map(|_| app("shop"))?;
            (Writer::Controller, AppDeleteStarted { app }.into())
        }
    })
}

/// What must be so of any table, said in other words than those that make it.
fn check(state: &State) -> Result<(), TestCaseError> {
    let table = Table::of(state, Place::START);
    let declared = state
        .apps
        .get(&app("shop"))
        .is_some_and(|app| app.workloads.values().any(|workload| workload.declared));
    prop_assert_eq!(table.routes.len(), if declared { 2 } else { 0 });
    let Some(route) = table.routes.get(&WEB) else { return Ok(()) };
    let status = |replica: &Replica| {
        replica.node.as_ref().and_then(|on| state.nodes.get(on)).map(|on| on.status)
    };
    let ready = |replica: &Replica| {
        replica.phase == Phase::Ready && status(replica).is_some_and(|on| on != NodeStatus::Lost)
    };
    let perfect = |replica: &Replica| {
        let heard = status(replica) == Some(NodeStatus::Ready);
        ready(replica) && replica.retired.is_none() && heard
    };
    for endpoint in &route.endpoints {
        let replica = state.replicas.get(&endpoint.replica);
        let replica = replica.expect("a route leads to a replica that is there");
        prop_assert!(ready(replica) && replica.retired.is_none());
        prop_assert_eq!(endpoint.run, replica.run);
        // The first port that a started replica has is the one it publishes.
        let tcp = replica.endpoints.iter().find(|e| matches!(e.container, 8080 | 8081));
        prop_assert_eq!(Some(endpoint.port), tcp.map(|e| e.port));
    }
    let led: Vec<_> = route.endpoints.iter().map(|endpoint| &endpoint.replica).collect();
    let all: Vec<_> = state.replicas.iter().filter(|(_, r)| perfect(r)).map(|(id, _)| id).collect();
    if all.is_empty() {
        let any = state.replicas.iter().any(|(_, r)| ready(r) && r.retired.is_none());
        prop_assert_eq!(any, !led.is_empty(), "those of suspected nodes serve as the last");
    } else {
        prop_assert_eq!(led, all, "all that are as they should be, and no other");
    }
    Ok(())
}

/// Makes one table another, as a listener would.
fn follow(mut table: Table, changes: Vec<Change>) -> Table {
    for change in changes {
        match change {
            Change::Close(published) => {
                table.routes.remove(&published).expect("only what is open is closed");
            }
            Change::Open(published, route) => {
                assert!(table.routes.insert(published, route).is_none(), "opened twice");
            }
            Change::Lead(published, route) => {
                *table.routes.get_mut(&published).expect("it is open") = route;
            }
        }
    }
    table
}

proptest! {
    #[test]
    fn over_any_history_traffic_goes_where_it_may(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut history = History::default();
        history.node("n0", 64, 64).node("n1", 64, 64).node("n2", 64, 64);
        let mut served = Table::default();
        for step in &steps {
            let Some((writer, event)) = event(&history, step) else { continue };
            history.add(&writer, event);
            check(history.fold.state())?;
            let now = table(&history);
            served = follow(served.clone(), served.changes(&now));
            prop_assert_eq!(&served.routes, &now.routes);
        }
        prop_assert_eq!(history.fold.state().anomalies(), 0);
        let again = Fold::restore(&history.fold.snapshot()).expect("it is whole");
        prop_assert_eq!(Table::of(again.state(), again.place()).routes, served.routes);
    }
}
