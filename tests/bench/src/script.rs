//! A long life of a cluster, as append requests: apps come, are scaled, deployed again and go, their
//! replicas are placed, start, fail, start again and end, nodes fall silent and come back.
//!
//! It always tells the same, and nothing that the fold finds impossible. What is alive at one time
//! is bounded, however long it goes on.

use std::collections::{BTreeMap, VecDeque};

use schemas::append::{Draft, Request};
use schemas::event::{
    AppConverged, AppDeleteStarted, AppDeleted, AppDeployed, CommandAccepted, Endpoint, Event,
    Evidence, LeadershipTaken, NodeDescribed, NodeDescription, NodeReturned, NodeSuspected,
    Outcome, ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasPlaced, ReplicasRequested,
    ReplicasRetired, RequestedReplica, RetireReason, RunEnded, RunStarted, WorkloadScaled,
};
use schemas::id::{
    AppKey, CommandId, Digest, NodeName, ReplicaId, Series, Tenant, WorkloadName, Writer,
};
use schemas::place::Basis;
use schemas::spec::{AppSpec, Protocol, WorkloadSpec};
use serde_json::value::RawValue;

const NODES: u64 = 50;

/// How many apps there are at one time, and how many replicas an app has at first.
const APPS: usize = 100;
const REPLICAS: u64 = 10;

/// Milliseconds between two requests, as the history tells it.
const PACE_MS: u64 = 250;

/// When the history begins.
const BEGAN_MS: u64 = 1_700_000_000_000;

struct App {
    key: AppKey,
    revision: u64,
    spec: WorkloadSpec,
    serial: u64,
    command: CommandId,
    live: Vec<Replica>,
}

#[derive(Clone)]
struct Replica {
    id: ReplicaId,
    node: usize,
    run: u32,
}

/// Tells the requests of a history, one after another.
pub(crate) struct Script {
    nodes: Vec<NodeName>,
    workload: WorkloadName,
    apps: VecDeque<App>,
    /// Requests by writer.
    counts: BTreeMap<Writer, u64>,
    told: VecDeque<(Request, u64)>,
    /// Where the last event that was told will stand.
    position: u64,
    now_ms: u64,
    random: u64,
    apps_ever: u64,
    commands: u64,
}

impl Script {
    /// A history that begins behind the first `SequencerTaken`.
    pub(crate) fn new() -> Self {
        let mut script = Self {
            nodes: (1..=NODES)
                .map(|n| NodeName::new(&format!("node-{n:02}")).expect("a name"))
                .collect(),
            workload: WorkloadName::new("web").expect("a name"),
            apps: VecDeque::new(),
            counts: BTreeMap::new(),
            told: VecDeque::new(),
            position: 1,
            now_ms: BEGAN_MS,
            random: 0x9e37_79b9_7f4a_7c15,
            apps_ever: 0,
            commands: 0,
        };
        for writer in Writer::DECIDERS {
            script.lead(&writer);
        }
        for number in 0..script.nodes.len() {
            script.join(number);
        }
        script
    }

    /// The next request, and where its last event will stand.
    pub(crate) fn next(&mut self) -> (Request, u64) {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            self.happen();
        }
    }

    /// A number below `bound`, by xorshift.
    fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn pick(&mut self, bound: usize) -> usize {
        usize::try_from(self.random(bound as u64)).unwrap_or(0)
    }

    fn tell(&mut self, writer: &Writer, events: Vec<Event>, correlation: Option<&CommandId>) {
        self.now_ms += PACE_MS;
        let n = self.counts.entry(writer.clone()).or_default();
        *n += 1;
        let agent = matches!(writer, Writer::Agent(_));
        let basis = (!agent).then_some(Basis { epoch: 1, position: self.position });
        let causation = correlation.map(|_| self.position);
        self.position += events.len() as u64;
        let draft = |event: Event| Draft {
            time_ms: self.now_ms,
            tenant: Tenant::new(event.tenant()).expect("a name"),
            actor: if correlation.is_some() { "ana".to_owned() } else { writer.to_string() },
            correlation: correlation.cloned(),
            causation,
            kind: event.kind().to_owned(),
            data: RawValue::from_string(event.data()).expect("an event's data is JSON"),
        };
        let request = Request {
            writer: writer.clone(),
            term: 1,
            instance: format!("{writer}-1"),
            series: Series::derive(&writer.to_string(), 0),
            n: *n,
            basis,
            absent: Vec::new(),
            events: events.into_iter().map(draft).collect(),
        };
        self.told.push_back((request, self.position));
    }

    fn lead(&mut self, writer: &Writer) {
        let instance = format!("{writer}-1");
        let taken = LeadershipTaken { writer: writer.clone(), term: 1, instance };
        self.tell(writer, vec![taken.into()], None);
    }

    fn agent(&self, node: usize) -> Writer {
        Writer::Agent(self.nodes[node].clone())
    }

    fn join(&mut self, number: usize) {
        let writer = self.agent(number);
        self.lead(&writer);
        let description = NodeDescription {
            address: format!("10.0.1.{number}"),
            arch: "amd64".to_owned(),
            os: "Debian GNU/Linux 12".to_owned(),
            engine: "27.3.1".to_owned(),
            agent: "0.1.0".to_owned(),
            cpu_millis: 64_000,
            memory_bytes: 256 << 30,
            disk_bytes: 1 << 40,
            pids: 0,
            labels: [("zone".to_owned(), format!("z{}", number % 3))].into(),
        };
        let node = self.nodes[number].clone();
        self.tell(&writer, vec![NodeDescribed { node, description }.into()], None);
    }

    /// Something happens.
    fn happen(&mut self) {
        if self.apps.len() < APPS {
            return self.deploy_new();
        }
        match self.random(100) {
            0..5 => {
                self.delete_oldest();
                self.deploy_new();
            }
            5..15 => self.deploy_again(),
            15..30 => self.scale(),
            30..65 => self.crash(),
            65..98 => self.flap(),
            _ => self.silence(),
        }
    }

    fn accepted(&mut self, verb: &str) -> (CommandId, Event) {
        self.commands += 1;
        let command = Series::derive("command", self.commands);
        let command = CommandId::new(command.as_str()).expect("an id");
        let accepted = CommandAccepted {
            command: command.clone(),
            verb: verb.to_owned(),
            sequence: self.commands,
            proved: true,
            reason: None,
        };
        (command, accepted.into())
    }

    fn spec(&mut self) -> WorkloadSpec {
        let version = self.random(1_000);
        let mut spec =
            WorkloadSpec::of_image(&format!("registry.example.org/shop/web:1.{version}"));
        spec.resources.cpu_millis = Some(250);
        spec.resources.memory_bytes = Some(256 << 20);
        spec.env.insert("DATABASE_URL".to_owned(), "postgres://db.internal/shop".to_owned());
        spec.env.insert("RELEASE".to_owned(), format!("1.{version}"));
        spec
    }

    fn deploy_new(&mut self) {
        self.apps_ever += 1;
        let key = AppKey::parse(&format!("app-{}", self.apps_ever)).expect("a name");
        let (command, accepted) = self.accepted("app.deploy");
        let spec = self.spec();
        let live = Vec::new();
        let mut app = App { key, revision: 1, spec, serial: 0, command, live };
        let deployed = self.deployed(&app);
        self.tell(&Writer::Controller, vec![accepted, deployed], Some(&app.command));
        self.grow(&mut app, REPLICAS, &[]);
        self.converged(&app);
        self.apps.push_back(app);
    }

    fn deployed(&self, app: &App) -> Event {
        let spec = WorkloadSpec { replicas: 10, ..app.spec.clone() };
        let workloads = [(self.workload.clone(), spec)].into();
        let spec = AppSpec { name: app.key.name.clone(), workloads };
        AppDeployed { app: app.key.clone(), revision: app.revision, spec }.into()
    }

    fn digest(app: &App) -> Digest {
        WorkloadSpec { replicas: 10, ..app.spec.clone() }.digest()
    }

    fn converged(&mut self, app: &App) {
        let converged =
            AppConverged { app: app.key.clone(), revision: app.revision, failed: Vec::new() };
        self.tell(&Writer::Controller, vec![converged.into()], Some(&app.command));
    }

    /// So many replicas more: requested, placed, started, ready.
    fn grow(&mut self, app: &mut App, count: u64, replaces: &[ReplicaId]) {
        let mut new: Vec<Replica> = Vec::new();
        while (new.len() as u64) < count {
            let id = ReplicaId::derive(&app.key, &self.workload, app.serial);
            app.serial += 1;
            // Two serial numbers may give one id.
            if app.live.iter().chain(&new).all(|known| known.id != id) {
                let node = self.pick(self.nodes.len());
                new.push(Replica { id, node, run: 1 });
            }
        }
        let requested = new.iter().enumerate().map(|(i, replica)| RequestedReplica {
            id: replica.id.clone(),
            replaces: replaces.get(i).cloned(),
            node: None,
        });
        let requested = ReplicasRequested {
            app: app.key.clone(),
            workload: self.workload.clone(),
            revision: app.revision,
            generation: 0,
            spec: Self::digest(app),
            replicas: requested.collect(),
        };
        self.tell(&Writer::Controller, vec![requested.into()], Some(&app.command));
        let mut placed: BTreeMap<usize, Vec<ReplicaId>> = BTreeMap::new();
        for replica in &new {
            placed.entry(replica.node).or_default().push(replica.id.clone());
        }
        let placed = placed.into_iter().map(|(node, replicas)| {
            let chosen = "50 of 50 nodes fit; 0 of the workload here before".to_owned();
            ReplicasPlaced {
                node: self.nodes[node].clone(),
                replicas,
                chosen,
                passed_over: Vec::new(),
            }
            .into()
        });
        let placed = placed.collect();
        self.tell(&Writer::Scheduler, placed, Some(&app.command));
        for replica in &new {
            self.start(replica);
        }
        app.live.extend(new);
    }

    fn start(&mut self, replica: &Replica) {
        let writer = self.agent(replica.node);
        let seed = format!("{}-{}", replica.id, replica.run);
        let port = 32_768 + u16::try_from(self.random(20_000)).unwrap_or(0);
        let started = RunStarted {
            replica: replica.id.clone(),
            run: replica.run,
            container: Digest::of(seed.as_bytes()).to_string(),
            endpoints: vec![Endpoint {
                container: 8_080,
                protocol: Protocol::Tcp,
                address: format!("10.0.1.{}", replica.node),
                port,
            }],
            inside: None,
        };
        self.tell(&writer, vec![started.into()], None);
        let ready = ReplicaReady { replica: replica.id.clone(), run: replica.run };
        self.tell(&writer, vec![ready.into()], None);
    }

    /// So many of the oldest replicas less: retired, ended.
    fn shrink(&mut self, app: &mut App, count: usize, reason: RetireReason) {
        let gone: Vec<Replica> = app.live.drain(..count).collect();
        let retired = ReplicasRetired {
            app: app.key.clone(),
            workload: self.workload.clone(),
            replicas: gone.iter().map(|replica| replica.id.clone()).collect(),
            reason,
            leaving: false,
        };
        self.tell(&Writer::Controller, vec![retired.into()], Some(&app.command));
        for replica in gone {
            let writer = self.agent(replica.node);
            let evidence = Evidence {
                exit_code: Some(143),
                cause: "stopped: exited with 143".to_owned(),
                ..Evidence::default()
            };
            let (id, run) = (replica.id.clone(), replica.run);
            let ended = RunEnded { replica: id, run, evidence, retry_ms: None };
            let over = ReplicaEnded { replica: replica.id, outcome: Outcome::Stopped };
            self.tell(&writer, vec![ended.into(), over.into()], None);
        }
    }

    fn any_app(&mut self) -> App {
        let at = self.pick(self.apps.len());
        self.apps.remove(at).expect("there are apps")
    }

    fn deploy_again(&mut self) {
        let mut app = self.any_app();
        let (command, accepted) = self.accepted("app.deploy");
        app.command = command;
        app.revision += 1;
        app.spec = self.spec();
        let deployed = self.deployed(&app);
        self.tell(&Writer::Controller, vec![accepted, deployed], Some(&app.command));
        let old: Vec<ReplicaId> = app.live.iter().map(|replica| replica.id.clone()).collect();
        for replaced in old.chunks(2) {
            let count = replaced.len();
            self.grow(&mut app, count as u64, replaced);
            self.shrink(&mut app, count, RetireReason::Replaced);
        }
        self.converged(&app);
        self.apps.push_back(app);
    }

    fn scale(&mut self) {
        let mut app = self.any_app();
        let from = app.live.len();
        let to = 5 + self.pick(11);
        let (command, accepted) = self.accepted("workload.scale");
        app.command = command;
        let count = |n: usize| u32::try_from(n).unwrap_or(0);
        let scaled = WorkloadScaled {
            app: app.key.clone(),
            workload: self.workload.clone(),
            from: count(from),
            to: count(to),
            reason: Some("cpu at 71 % of 50 %".to_owned()),
        };
        self.tell(&Writer::Controller, vec![accepted, scaled.into()], Some(&app.command));
        if to > from {
            self.grow(&mut app, (to - from) as u64, &[]);
        } else if to < from {
            self.shrink(&mut app, from - to, RetireReason::ScaledDown);
        }
        self.converged(&app);
        self.apps.push_back(app);
    }

    fn delete_oldest(&mut self) {
        let Some(mut app) = self.apps.pop_front() else { return };
        let (command, accepted) = self.accepted("app.delete");
        app.command = command;
        let started = AppDeleteStarted { app: app.key.clone() };
        self.tell(&Writer::Controller, vec![accepted, started.into()], Some(&app.command));
        let all = app.live.len();
        self.shrink(&mut app, all, RetireReason::Deleted);
        let deleted = AppDeleted { app: app.key.clone() };
        self.tell(&Writer::Controller, vec![deleted.into()], Some(&app.command));
    }

    /// A replica of an app, which goes on in its next run when it is to.
    fn any_replica(&mut self, next_run: bool) -> Option<Replica> {
        let app = self.pick(self.apps.len());
        let at = self.pick(self.apps[app].live.len().max(1));
        let replica = self.apps[app].live.get_mut(at)?;
        let found = replica.clone();
        replica.run += u32::from(next_run);
        Some(found)
    }

    fn crash(&mut self) {
        let Some(replica) = self.any_replica(true) else { return };
        let writer = self.agent(replica.node);
        let evidence = Evidence {
            exit_code: Some(1),
            cause: "exited with 1".to_owned(),
            last_lines: vec!["thread 'main' panicked: connection reset by peer".to_owned()],
            ..Evidence::default()
        };
        let (id, run) = (replica.id.clone(), replica.run);
        let ended = RunEnded { replica: id, run, evidence, retry_ms: Some(500) };
        self.tell(&writer, vec![ended.into()], None);
        self.start(&Replica { run: replica.run + 1, ..replica });
    }

    fn flap(&mut self) {
        let Some(replica) = self.any_replica(false) else { return };
        let writer = self.agent(replica.node);
        let (id, run) = (replica.id.clone(), replica.run);
        let output = "GET /healthz: no answer in 2 s".to_owned();
        self.tell(&writer, vec![ReplicaUnready { replica: id, run, output }.into()], None);
        self.tell(&writer, vec![ReplicaReady { replica: replica.id, run }.into()], None);
    }

    fn silence(&mut self) {
        let node = self.pick(self.nodes.len());
        let node = self.nodes[node].clone();
        let suspected = NodeSuspected { node: node.clone(), silent_ms: 6_000 };
        self.tell(&Writer::Health, vec![suspected.into()], None);
        let returned = NodeReturned { node, silent_ms: 7_500 };
        self.tell(&Writer::Health, vec![returned.into()], None);
    }
}
