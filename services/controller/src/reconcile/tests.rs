//! Reconciling, against a world that does what it is told: replicas are placed, start, become ready
//! and end, one step at a time.

use cluster::history::{History, app, node, workload};
use cluster::state::State;
use schemas::event::{
    AppDeleteStarted, AppDeployed, Endpoint, Evidence, NodeCordoned, NodeLost, NodeRemoved,
    NodeReturned, Outcome, ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasPlaced,
    ReplicasReleased, ReplicasUnplaced, RunEnded, RunFailed, RunStarted, Unfit, WorkloadRestarted,
    WorkloadScaled,
};
use schemas::id::Writer;
use schemas::spec::{AppSpec, Condition, Overlap, Port};

use super::*;

mod floors;
mod moves;
mod rollouts;
mod tasks;
mod waiting;

struct World {
    history: History,
    /// Images whose replicas fail.
    broken: Vec<&'static str>,
    /// Images whose runs end and are followed by others, again and again.
    looping: Vec<&'static str>,
    /// Images whose replicas run and never are ready.
    ill: Vec<&'static str>,
    /// What gateways told.
    traffic: Traffic,
    /// Nodes that cannot get any image.
    imageless: Vec<NodeName>,
    /// What was decided, in short.
    said: Vec<String>,
    /// The most replicas of `shop/web` that ever ran at once.
    ceiling: usize,
    /// The fewest ready replicas ever seen of `shop/web`, while that is watched.
    floor: Option<usize>,
}

fn web(image: &str, replicas: u32) -> (WorkloadName, WorkloadSpec) {
    (workload("web"), WorkloadSpec { replicas, ..WorkloadSpec::of_image(image) })
}

impl World {
    fn new() -> Self {
        let mut history = History::default();
        history.node("n1", 4, 4).node("n2", 4, 4);
        Self {
            history,
            broken: Vec::new(),
            looping: Vec::new(),
            ill: Vec::new(),
            traffic: Traffic::default(),
            imageless: Vec::new(),
            said: Vec::new(),
            ceiling: 0,
            floor: None,
        }
    }

    fn state(&self) -> &State {
        self.history.fold.state()
    }

    fn deploy(&mut self, workloads: &[(WorkloadName, WorkloadSpec)]) {
        let spec =
            AppSpec { name: app("shop").name, workloads: workloads.iter().cloned().collect() };
        let revision = self.state().apps.get(&app("shop")).map_or(1, |app| app.revision + 1);
        let event = AppDeployed { app: app("shop"), revision, spec };
        self.history.add(&Writer::Controller, event);
    }

    fn scale(&mut self, to: u32) {
        let (app, workload) = (app("shop"), workload("web"));
        let event = WorkloadScaled { app, workload, from: 0, to, reason: None };
        self.history.add(&Writer::Controller, event);
    }

    /// One step of everybody: controller, scheduler, agents. Says whether anything happened.
    fn step(&mut self) -> bool {
        let before = self.history.entries.len();
        self.release();
        let plan = super::app(self.state(), &self.traffic, &app("shop"), self.history.now_ms);
        for (event, _) in plan.events {
            self.said.push(short(&event));
            self.history.add(&Writer::Controller, event);
        }
        let pending: Vec<ReplicaId> = self.state().index.pending.iter().cloned().collect();
        for id in pending {
            let replica = self.state().replicas.get(&id);
            let rebalance = &self.state().cluster.rebalance;
            let moving = replica.and_then(|r| rebalance.moving(r.replaces.as_ref()?));
            let only = replica.and_then(|replica| replica.only_node.clone());
            let only = moving.map(|moving| moving.to.clone()).or(only);
            let lacking = |name: &NodeName| {
                let app = self.state().apps.get(&app("shop"));
                app.is_some_and(|a| a.workloads.values().any(|w| w.lacking.contains_key(name)))
            };
            let open = |name: &NodeName| {
                let node = self.state().nodes.get(name);
                node.is_some_and(cluster::state::Node::takes_replicas) && !lacking(name)
            };
            let free = [node("n1"), node("n2")].into_iter().find(open);
            let Some(node) = only.or(free) else { continue };
            let event = ReplicasPlaced {
                node,
                replicas: vec![id],
                chosen: String::new(),
                passed_over: Vec::new(),
            };
            self.history.add(&Writer::Scheduler, event);
        }
        self.run_agents();
        let ready = self.ready();
        let replicas = self.state().replicas_of(&app("shop"), &workload("web"));
        let runs = |phase| matches!(phase, Phase::Running | Phase::Ready);
        let running = replicas.filter(|(_, r)| runs(r.phase)).count();
        self.ceiling = self.ceiling.max(running);
        if let Some(floor) = &mut self.floor {
            *floor = ready.min(*floor);
        }
        self.history.now_ms += 1_000;
        self.history.entries.len() > before
    }

    /// Gateways let go of what is leaving.
    fn release(&mut self) {
        let leaving = self.state().replicas.iter().filter(|(_, replica)| replica.leaving);
        let events: Vec<_> = leaving
            .map(|(id, replica)| ReplicasReleased {
                app: replica.app.clone(),
                workload: replica.workload.clone(),
                replicas: vec![id.clone()],
                gateways: 1,
                silent: Vec::new(),
                open: 0,
            })
            .collect();
        for event in events {
            self.history.add(&Writer::Controller, event);
        }
    }

    fn run_agents(&mut self) {
        let replicas: Vec<_> =
            self.state().replicas.iter().map(|(id, r)| (id.clone(), r.clone())).collect();
        for (id, replica) in replicas {
            let Some(name) = replica.node.clone() else { continue };
            if self.state().is_unknown(&replica) {
                continue;
            }
            let imageless = self.imageless.contains(&name);
            let agent = Writer::Agent(name);
            let image = self.state().spec_of(&replica).map(|spec| spec.image.clone());
            let among =
                |images: &[&str]| images.iter().any(|known| image.as_deref() == Some(known));
            let (broken, ill) = (among(&self.broken), among(&self.ill));
            let looping = among(&self.looping);
            let job = self.state().spec_of(&replica).is_some_and(|spec| spec.mode == Mode::Job);
            let endpoint = |port: &Port| Endpoint {
                container: port.container,
                protocol: port.protocol,
                address: "127.0.0.1".to_owned(),
                port: 1,
            };
            let ports = self.state().spec_of(&replica).map(|spec| spec.ports.clone());
            let endpoints = ports.unwrap_or_default().iter().map(endpoint).collect();
            let ends = replica.retired.is_some() && !replica.leaving;
            let event: Event = match (ends, replica.phase) {
                (true, _) => ReplicaEnded { replica: id, outcome: Outcome::Stopped }.into(),
                (_, Phase::Placed) if imageless => RunFailed {
                    replica: id,
                    run: 1,
                    step: "find the image".into(),
                    error: "no such image".into(),
                    retry_ms: 500,
                }
                .into(),
                (_, Phase::Placed) => RunStarted {
                    replica: id,
                    run: 1,
                    container: "c".into(),
                    endpoints,
                    inside: None,
                }
                .into(),
                (_, Phase::Running) if ill => continue,
                (_, Phase::Waiting) if looping => {
                    let (run, container) = (replica.run + 1, "c".into());
                    let endpoints = Vec::new();
                    RunStarted { replica: id, run, container, endpoints, inside: None }.into()
                }
                (_, Phase::Running) if looping => {
                    let evidence = Evidence {
                        exit_code: Some(3),
                        cause: "exited with 3".into(),
                        last_lines: vec!["cannot open the shop".into()],
                        ..Evidence::default()
                    };
                    let (run, retry_ms) = (replica.run, Some(0));
                    RunEnded { replica: id, run, evidence, retry_ms }.into()
                }
                (_, Phase::Running) if broken => {
                    let outcome = Outcome::Failed { reason: "exited with 1".into() };
                    ReplicaEnded { replica: id, outcome }.into()
                }
                (_, Phase::Running) if job => {
                    ReplicaEnded { replica: id, outcome: Outcome::Completed }.into()
                }
                (_, Phase::Running) => ReplicaReady { replica: id, run: 1 }.into(),
                _ => continue,
            };
            self.history.add(&agent, event);
        }
    }

    /// Steps until nothing happens for longer than any wait of the rules.
    fn settle(&mut self) -> Vec<String> {
        let mut quiet = 0;
        for _ in 0..2_000 {
            quiet = if self.step() { 0 } else { quiet + 1 };
            if quiet > 70 {
                break;
            }
        }
        assert!(quiet > 70, "it never came to rest: {:?}", self.said);
        assert_eq!(self.state().anomalies(), 0, "{:?}", self.state().cluster.anomalous);
        std::mem::take(&mut self.said)
    }

    fn ready(&self) -> usize {
        let replicas = self.state().replicas_of(&app("shop"), &workload("web"));
        replicas.filter(|(_, r)| r.phase == Phase::Ready && !self.state().is_unknown(r)).count()
    }

    fn count(&self) -> usize {
        self.state().replicas.len()
    }
}

fn short(event: &Event) -> String {
    match event {
        Event::ReplicasRequested(e) => format!("+{} {}", e.replicas.len(), e.workload),
        Event::ReplicasRetired(e) => {
            let leaving = if e.leaving { ", leaving" } else { "" };
            format!("-{} {} {:?}{leaving}", e.replicas.len(), e.workload, e.reason)
        }
        other => other.kind().to_owned(),
    }
}

#[test]
fn what_is_declared_comes_to_be_and_then_nothing_more_is_said() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 3)]);
    assert_eq!(world.settle(), ["+3 web", "AppConverged"]);
    assert_eq!((world.ready(), world.count()), (3, 3));
}

#[test]
fn what_may_have_traffic_leaves_before_it_ends_and_nothing_else_does() {
    let mut world = World::new();
    let (name, mut spec) = web("web:1", 3);
    let port = Port {
        container: 80,
        published: None,
        host: None,
        protocol: Default::default(),
        app: Default::default(),
    };
    spec.ports = vec![port];
    world.deploy(&[(name.clone(), spec.clone())]);
    world.settle();
    let ids: Vec<ReplicaId> = world.state().replicas.iter().map(|(id, _)| id.clone()).collect();
    let sick = world.state().replicas.get(&ids[0]).and_then(|replica| replica.node.clone());
    let unready = ReplicaUnready { replica: ids[0].clone(), run: 1, output: "503".into() };
    world.history.add(&Writer::Agent(sick.expect("it is placed")), unready);
    world.scale(1);
    let said = world.step();
    assert!(said);
    assert_eq!(world.said[..2], ["-1 web ScaledDown", "-1 web ScaledDown, leaving"]);
    world.settle();
    assert_eq!((world.ready(), world.count()), (1, 1));
    // Nobody knows what a replica does whose node is lost.
    let on = world.state().replicas.iter().find_map(|(_, replica)| replica.node.clone());
    world
        .history
        .add(&Writer::Health, NodeLost { node: on.expect("it is placed"), silent_ms: 6_000 });
    assert_eq!(world.settle()[..2], ["+1 web", "-1 web NodeLost"]);
    // A change of how long it may take replaces nothing.
    spec.drain_ms = 5;
    spec.replicas = 1;
    world.deploy(&[(name, spec)]);
    assert_eq!(world.settle(), ["AppConverged"]);
}

#[test]
fn scaling_requests_and_retires_the_difference() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 2)]);
    world.settle();
    world.scale(5);
    assert_eq!(world.settle(), ["+3 web", "AppConverged"]);
    world.scale(1);
    assert_eq!(world.settle(), ["-4 web ScaledDown", "AppConverged"]);
    assert_eq!(world.count(), 1);
    world.scale(0);
    world.settle();
    assert_eq!(world.count(), 0);
}

#[test]
fn a_changed_image_replaces_one_by_one_and_never_goes_below_what_is_declared() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 3)]);
    world.settle();
    world.floor = Some(3);
    world.deploy(&[web("web:2", 3)]);
    let said = world.settle();
    let one = ["+1 web", "-1 web Replaced"];
    let expected: Vec<&str> = one.repeat(3).into_iter().chain(["AppConverged"]).collect();
    assert_eq!(said, expected);
    assert_eq!((world.floor, world.count()), (Some(3), 3));
}

#[test]
fn a_bad_revision_takes_one_replica_and_is_told_as_stalled() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 3)]);
    world.settle();
    world.broken = vec!["web:2"];
    let (name, mut bad) = web("web:2", 3);
    bad.update.rollback = false;
    world.deploy(&[(name, bad)]);
    world.floor = Some(3);
    for _ in 0..400 {
        world.step();
    }
    assert!(world.said.iter().any(|said| said == "AppStalled"), "{:?}", world.said);
    assert!(world.said.len() < 40, "it backs off: {:?}", world.said);
    assert_eq!(world.floor, Some(3), "the old revision serves on");
    world.deploy(&[web("web:1", 3)]);
    assert_eq!(world.settle().last().map(String::as_str), Some("AppConverged"));
    assert_eq!((world.ready(), world.count()), (3, 3));
}

#[test]
fn a_restart_replaces_every_replica_by_one_of_the_same_spec() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 2)]);
    world.settle();
    let event = WorkloadRestarted { app: app("shop"), workload: workload("web"), generation: 1 };
    world.history.add(&Writer::Controller, event);
    let expected = ["+1 web", "-1 web Replaced", "+1 web", "-1 web Replaced", "AppConverged"];
    assert_eq!(world.settle(), expected);
}

#[test]
fn a_lost_node_s_replicas_are_replaced_and_end_when_it_comes_back() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 3)]);
    world.settle();
    world.history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    let said = world.settle();
    assert_eq!(said, ["+3 web", "-3 web NodeLost"]);
    assert_eq!((world.ready(), world.count()), (3, 6), "the lost ones may still run");
    world.history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 0 });
    world.settle();
    assert_eq!((world.ready(), world.count()), (3, 3));
}

#[test]
fn a_node_that_returns_in_time_keeps_its_replicas() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 1)]);
    world.settle();
    let kept: Vec<ReplicaId> = world.state().replicas.iter().map(|(id, _)| id.clone()).collect();
    world.history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    world.step();
    world.history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 0 });
    let said = world.settle();
    assert_eq!(said, ["+1 web", "-1 web NotNeeded"]);
    let now: Vec<ReplicaId> = world.state().replicas.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(now, kept);
}

#[test]
fn a_drained_node_is_left_one_by_one_after_replacements_are_ready() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 2)]);
    world.settle();
    world.floor = Some(2);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    assert_eq!(world.settle(), ["+1 web", "-1 web Drained", "+1 web", "-1 web Drained"]);
    assert_eq!(world.floor, Some(2));
    assert_eq!(world.state().replicas_on(&node("n1")).count(), 0);
}

#[test]
fn a_fixed_port_is_given_up_before_it_is_taken_again() {
    let mut world = World::new();
    let fixed = |image: &str| {
        let port = Port {
            container: 80,
            published: None,
            host: Some(80),
            protocol: Default::default(),
            app: Default::default(),
        };
        let (name, spec) = web(image, 1);
        (name, WorkloadSpec { ports: vec![port], ..spec })
    };
    world.deploy(&[fixed("web:1")]);
    world.settle();
    world.deploy(&[fixed("web:2")]);
    assert_eq!(world.settle(), ["-1 web Replaced, leaving", "+1 web", "AppConverged"]);
}

#[test]
fn dependencies_come_first_and_end_last() {
    let mut world = World::new();
    let job = WorkloadSpec { mode: Mode::Job, ..WorkloadSpec::of_image("migrate:1") };
    let db = WorkloadSpec::of_image("db:1");
    let (name, mut front) = web("web:1", 1);
    front.depends_on =
        [(workload("db"), Condition::Healthy), (workload("migrate"), Condition::Completed)].into();
    world.deploy(&[(name, front), (workload("db"), db), (workload("migrate"), job)]);
    assert_eq!(world.settle(), ["+1 db", "+1 migrate", "+1 web", "AppConverged"]);
    world.history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    assert_eq!(world.settle(), ["-1 web Deleted", "-1 db Deleted", "AppDeleted"]);
    assert!(world.state().apps.is_empty() && world.state().replicas.is_empty());
}

#[test]
fn a_global_workload_is_on_every_node_that_takes_it() {
    let mut world = World::new();
    let global = |image: &str| {
        let (name, spec) = web(image, 1);
        (name, WorkloadSpec { mode: Mode::Global, ..spec })
    };
    world.deploy(&[global("web:1")]);
    assert_eq!(world.settle(), ["+2 web", "AppConverged"]);
    world.history.node("n3", 1, 1);
    assert_eq!(world.settle(), ["+1 web"]);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n3"), drain: true });
    assert_eq!(world.settle(), ["-1 web Drained"]);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n3"), drain: false });
    assert_eq!(world.settle(), ["+1 web"], "it is a part of a node that other work is kept from");
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n3"), drain: true });
    assert_eq!(world.settle(), ["-1 web Drained"]);
    world.history.add(&Writer::Health, NodeLost { node: node("n1"), silent_ms: 6_000 });
    assert_eq!(world.settle(), [""; 0], "there is no other node for it");
    world.history.add(&Writer::Health, NodeReturned { node: node("n1"), silent_ms: 0 });
    world.deploy(&[global("web:2")]);
    world.settle();
    assert_eq!((world.ready(), world.count()), (2, 2));
}

#[test]
fn a_node_without_the_image_is_left_for_one_that_may_have_it() {
    let mut world = World::new();
    world.imageless = vec![node("n1")];
    world.deploy(&[web("web:1", 1)]);
    assert_eq!(world.settle(), ["+1 web", "+1 web", "-1 web NoImage", "AppConverged"]);
    assert_eq!((world.ready(), world.state().replicas_on(&node("n2")).count()), (1, 1));
}

#[test]
fn what_must_not_overlap_leaves_a_node_without_the_image_before_another_one_begins() {
    let mut world = World::new();
    world.imageless = vec![node("n1")];
    let (name, spec) = web("web:1", 1);
    world.deploy(&[(name, WorkloadSpec { overlap: Overlap::Never, ..spec })]);
    assert_eq!(world.settle(), ["+1 web", "-1 web NoImage", "+1 web", "AppConverged"]);
    assert_eq!((world.ready(), world.ceiling), (1, 1));
}

#[test]
fn where_no_node_has_the_image_replicas_stay_and_wait_for_it() {
    let mut world = World::new();
    world.imageless = vec![node("n1"), node("n2")];
    world.deploy(&[web("web:1", 1)]);
    assert_eq!(world.settle(), ["+1 web", "+1 web"]);
    let stalled = |world: &World| world.said.iter().any(|said| said == "AppStalled");
    for _ in 0..400 {
        world.step();
    }
    assert!(stalled(&world), "{:?}", world.said);
    assert_eq!(world.said.len(), 1, "nothing else follows: {:?}", world.said);
}

#[test]
fn what_must_not_overlap_begins_when_the_old_one_has_ended() {
    let mut world = World::new();
    let alone = |image: &str| {
        let (name, spec) = web(image, 1);
        (name, WorkloadSpec { overlap: Overlap::Never, ..spec })
    };
    world.deploy(&[alone("web:1")]);
    world.settle();
    world.deploy(&[alone("web:2")]);
    assert_eq!(world.settle(), ["-1 web Replaced", "+1 web", "AppConverged"]);
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: true });
    assert_eq!(world.settle(), ["-1 web Drained", "+1 web"]);
    assert_eq!(world.ceiling, 1);
    world.history.add(&Writer::Health, NodeLost { node: node("n2"), silent_ms: 6_000 });
    assert_eq!(world.settle(), [""; 0], "it may run there still");
    world.history.add(&Writer::Controller, schemas::event::NodeUncordoned { node: node("n1") });
    world.history.add(&Writer::Controller, NodeRemoved { node: node("n2") });
    assert_eq!(world.settle(), ["+1 web"]);
    assert_eq!(world.ready(), 1);
}

#[test]
fn an_app_that_fits_nowhere_is_told_as_stalled_soon_with_every_reason() {
    let mut world = World::new();
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n1"), drain: false });
    world.history.add(&Writer::Controller, NodeCordoned { node: node("n2"), drain: false });
    world.deploy(&[web("web:1", 1)]);
    world.step();
    let unfit = |reason: &str| Unfit { reason: reason.into(), nodes: 2, remedy: String::new() };
    let event = ReplicasUnplaced {
        app: app("shop"),
        workload: workload("web"),
        waiting: 1,
        reasons: vec![unfit("admission"), unfit("cpu")],
    };
    world.history.add(&Writer::Scheduler, event);
    let began_ms = world.history.now_ms;
    while !world.said.iter().any(|said| said == "AppStalled") {
        assert!(world.history.now_ms < began_ms + 20_000, "{:?}", world.said);
        world.step();
    }
    let status = world.state().apps.get(&app("shop")).map(|app| app.status.clone());
    let told = matches!(&status, Some(AppStatus::Stalled { reason, .. }) if reason.contains("admission; cpu"));
    assert!(told, "{status:?}");
}

#[test]
fn an_app_that_is_deployed_again_after_its_end_gets_ids_that_were_never_used() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 2)]);
    world.settle();
    let ids = |world: &World| -> Vec<ReplicaId> {
        world.state().replicas.iter().map(|(id, _)| id.clone()).collect()
    };
    let first = ids(&world);
    world.history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    world.settle();
    assert!(world.state().apps.is_empty(), "it is gone");
    world.deploy(&[web("web:1", 2)]);
    world.settle();
    assert!(ids(&world).iter().all(|id| !first.contains(id)), "{:?} after {first:?}", ids(&world));
}

#[test]
fn an_app_that_is_deleted_before_its_new_revision_had_a_replica_goes_all_the_same() {
    let mut world = World::new();
    world.deploy(&[web("web:1", 3)]);
    world.settle();
    world.deploy(&[web("web:2", 3)]);
    world.history.add(&Writer::Controller, AppDeleteStarted { app: app("shop") });
    let (id, replica) = world.state().replicas.iter().next().expect("three run");
    let agent = Writer::Agent(replica.node.clone().expect("it runs"));
    let ended = ReplicaEnded { replica: id.clone(), outcome: Outcome::Stopped };
    world.history.add(&agent, ended);
    world.settle();
    assert!(world.state().apps.is_empty(), "{:?}", world.said);
}
