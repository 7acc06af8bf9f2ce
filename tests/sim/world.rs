//! The simulated world: a log that appends, a network that loses, an engine that runs and forgets.

use std::collections::{BTreeMap, BTreeSet};

use cluster::state::Phase;
use controller::Controller;
use controller::commands::CommandMessage;
use decider::{Decider, Input, Now, Output, Rules};
use health::Health;
use node_agent::agent::{Agent, Input as AgentInput, Kept, Output as AgentOutput};
use node_agent::engine::{Done, Listed, Op, container_name};
use scheduler::Scheduler;
use schemas::append::{Answer, Request};
use schemas::document::{NodeDocument, SpecDocument};
use schemas::envelope::Envelope;
use schemas::event::{Evidence, NodeDescription, SequencerTaken};
use schemas::id::{Digest, NodeName, ReplicaId, Series, Writer};

use crate::ledger::Ledger;

const STEP_MS: u64 = 50;
const NODES: usize = 3;

/// A generator of which a seed says everything: splitmix64.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Once in so many times.
    fn once_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }
}

/// A deciding service, which may be down.
struct Service<R: Rules> {
    machine: Option<Decider<R>>,
    name: &'static str,
    /// Up to where it was handed entries.
    read: usize,
    answers: Vec<Answer>,
    lives: u64,
    down_until_ms: u64,
}

impl<R: Rules + Default> Service<R> {
    fn new(name: &'static str) -> Self {
        Self { machine: None, name, read: 0, answers: Vec::new(), lives: 0, down_until_ms: 0 }
    }

    fn crash(&mut self, until_ms: u64) {
        self.machine = None;
        self.answers.clear();
        self.down_until_ms = until_ms;
    }

    fn step(
        &mut self,
        ledger: &mut Ledger,
        inputs: Vec<R::Input>,
        now: Now,
        dice: &mut Dice,
        faults: bool,
    ) -> Vec<R::Output> {
        if now.mono_ms < self.down_until_ms {
            return Vec::new();
        }
        let mut arrived = Vec::new();
        let machine = self.machine.get_or_insert_with(|| {
            self.lives += 1;
            self.read = 0;
            arrived.push(Input::Connected);
            Decider::new(
                R::default(),
                self.name.to_owned(),
                format!("{}/{}", self.name, self.lives),
            )
        });
        // The stream may be late, and then hands on only a part.
        let upto = if faults && dice.once_in(3) {
            self.read + (ledger.entries.len() - self.read) / 2
        } else {
            ledger.entries.len()
        };
        arrived.extend(ledger.entries[self.read..upto].iter().cloned().map(Input::Entry));
        self.read = upto;
        if upto == ledger.entries.len() {
            arrived.push(Input::CaughtUp);
        }
        arrived.extend(self.answers.drain(..).map(Input::Answer));
        arrived.extend(inputs.into_iter().map(Input::Rules));
        arrived.push(Input::Tick);
        let mut sent = Vec::new();
        for output in machine.on(arrived, now) {
            match output {
                Output::Append(request) => {
                    for _ in 0..deliveries(dice, faults) {
                        let answer = ledger.append(&request, now.utc_ms);
                        if !(faults && dice.once_in(6)) {
                            self.answers.push(answer);
                        }
                    }
                }
                Output::Rules(output) => sent.push(output),
                Output::Rebuild { why } => panic!("{}: {why}", self.name),
                Output::Complain(what) => panic!("{}: {what}", self.name),
                Output::Beat(_) | Output::Fetch { .. } => {}
            }
        }
        sent
    }
}

/// How often a message arrives: mostly once.
fn deliveries(dice: &mut Dice, faults: bool) -> usize {
    match dice.roll() % 10 {
        0 if faults => 0,
        1 if faults => 2,
        _ => 1,
    }
}

/// A node: its agent, which may be down, and its engine, which goes on.
struct Machine {
    name: NodeName,
    agent: Option<Agent>,
    kept: Kept,
    /// Containers, and whether each runs.
    containers: BTreeMap<String, (ReplicaId, u32, bool)>,
    ops: Vec<(u64, Op)>,
    inbox: Vec<AgentInput>,
    lives: u64,
    down_until_ms: u64,
    document: Option<NodeDocument>,
    specs: BTreeMap<Digest, SpecDocument>,
}

impl Machine {
    fn new(name: NodeName) -> Self {
        Self {
            name,
            agent: None,
            kept: Kept::default(),
            containers: BTreeMap::new(),
            ops: Vec::new(),
            inbox: Vec::new(),
            lives: 0,
            down_until_ms: 0,
            document: None,
            specs: BTreeMap::new(),
        }
    }

    fn description() -> NodeDescription {
        NodeDescription {
            address: "10.0.0.1".to_owned(),
            arch: "amd64".to_owned(),
            os: String::new(),
            engine: String::new(),
            agent: String::new(),
            cpu_millis: 2_000,
            memory_bytes: 1 << 30,
            disk_bytes: 0,
            pids: 0,
            labels: BTreeMap::new(),
        }
    }

    fn carry_out(&mut self, op: &Op) -> Done {
        match op {
            Op::Resolve { .. } => Done::Resolved("sha256:1".to_owned()),
            Op::Start { replica, run, .. } => {
                let name = container_name(replica, *run);
                self.containers.insert(name, (replica.clone(), *run, true));
                Done::Started {
                    container: "c".to_owned(),
                    endpoints: Vec::new(),
                    image_checks: false,
                }
            }
            Op::Examine { replica, run } => {
                let name = container_name(replica, *run);
                if self.containers.get(&name).is_some_and(|(.., runs)| *runs) {
                    return Done::StillRuns;
                }
                self.containers.remove(&name);
                Done::Examined(Evidence {
                    exit_code: Some(1),
                    cause: "died".to_owned(),
                    ..Evidence::default()
                })
            }
            Op::Stop { replica, run, .. } => {
                self.containers.remove(&container_name(replica, *run));
                Done::Stopped
            }
            Op::Probe { .. } => Done::Probed(Ok(())),
            Op::RemoveStray { container } => {
                self.containers.remove(container);
                Done::StrayRemoved
            }
            Op::RemoveImage { .. } => Done::ImageInUse,
            Op::List { .. } => Done::Listed(
                self.containers
                    .iter()
                    .map(|(name, (replica, run, running))| {
                        let listed = Listed {
                            id: "c".to_owned(),
                            replica: replica.clone(),
                            run: *run,
                            running: *running,
                            health: None,
                            endpoints: Vec::new(),
                        };
                        (name.clone(), listed)
                    })
                    .collect(),
            ),
        }
    }

    /// What was kept is what was on disk: everything after is lost with the process.
    fn crash(&mut self, until_ms: u64) {
        self.agent = None;
        self.inbox.clear();
        self.ops.clear();
        self.down_until_ms = until_ms;
    }

    fn step(
        &mut self,
        ledger: &mut Ledger,
        now: Now,
        dice: &mut Dice,
        faults: bool,
    ) -> Option<schemas::report::Heartbeat> {
        if now.mono_ms < self.down_until_ms {
            return None;
        }
        if self.agent.is_none() {
            self.lives += 1;
            let text = serde_json::to_vec(&self.kept).expect("it encodes");
            let kept = serde_json::from_slice(&text).expect("it decodes");
            let seed = format!("{}/{}", self.name, self.lives);
            self.agent = Some(Agent::new(self.name.clone(), self.name.to_string(), kept, &seed));
            self.inbox.push(AgentInput::Connected);
            self.inbox.push(AgentInput::Described(Self::description()));
            self.inbox.extend(self.document.clone().map(AgentInput::Document));
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ops).into_iter().partition(|(at, _)| *at <= now.mono_ms);
        self.ops = later;
        for (_, op) in due {
            let done = self.carry_out(&op);
            self.inbox.push(AgentInput::Done(op, done));
        }
        self.inbox.push(AgentInput::Tick);
        let inputs = std::mem::take(&mut self.inbox);
        let agent = self.agent.as_mut().expect("it was made");
        let mut heartbeat = None;
        for output in agent.on(inputs, now) {
            match output {
                AgentOutput::Keep => self.kept = agent.kept().clone(),
                AgentOutput::Engine(op) => {
                    self.ops.push((now.mono_ms + 50 * (dice.roll() % 6), op))
                }
                AgentOutput::Append(request) => {
                    for _ in 0..deliveries(dice, faults) {
                        let answer = ledger.append(&request, now.utc_ms);
                        if !(faults && dice.once_in(6)) {
                            self.inbox.push(AgentInput::Answer(answer));
                        }
                    }
                }
                AgentOutput::Heartbeat(beat) => heartbeat = Some(beat),
                AgentOutput::Open { .. } | AgentOutput::Refuse { .. } => {}
                AgentOutput::FetchSpec(digest) => {
                    self.inbox.extend(self.specs.get(&digest).cloned().map(AgentInput::Spec));
                }
            }
        }
        heartbeat
    }
}

/// Everything.
pub(crate) struct World {
    dice: Dice,
    now_ms: u64,
    ledger: Ledger,
    controller: Service<Controller>,
    scheduler: Service<Scheduler>,
    health: Service<Health>,
    machines: Vec<Machine>,
    commands: Vec<CommandMessage>,
    heartbeats: Vec<schemas::report::Heartbeat>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut ledger = Ledger::default();
        let genesis = Some("0".repeat(32));
        let taken = SequencerTaken { instance: "log".to_owned(), after: 0, genesis };
        let genesis = Request {
            writer: Writer::EventLog,
            term: 1,
            instance: "log".to_owned(),
            series: Series::derive("log", 0),
            n: 1,
            basis: None,
            absent: Vec::new(),
            events: Vec::new(),
        };
        ledger.push(&genesis, &[taken.into()], 0);
        let machines = (0..NODES)
            .map(|i| Machine::new(NodeName::new(&format!("n{i}")).expect("a name")))
            .collect();
        Self {
            dice: Dice(seed),
            now_ms: 1_000,
            ledger,
            controller: Service::new("controller"),
            scheduler: Service::new("scheduler"),
            health: Service::new("health"),
            machines,
            commands: Vec::new(),
            heartbeats: Vec::new(),
        }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    pub(crate) fn head(&self) -> u64 {
        self.ledger.fold.place().position
    }

    pub(crate) fn hash(&self) -> String {
        self.ledger.fold.state().hash()
    }

    pub(crate) fn last_events(&self, count: usize) -> Vec<String> {
        let from = self.ledger.entries.len().saturating_sub(count);
        let decode = |bytes: &Vec<u8>| Envelope::decode(bytes).expect("it decodes");
        self.ledger.entries[from..]
            .iter()
            .map(|bytes| format!("{:?}", decode(bytes).event))
            .collect()
    }

    /// Faults stop: what is down comes back.
    pub(crate) fn heal(&mut self) {
        let now = self.now_ms;
        self.controller.down_until_ms = now;
        self.scheduler.down_until_ms = now;
        self.health.down_until_ms = now;
        for machine in &mut self.machines {
            machine.down_until_ms = now;
        }
    }

    pub(crate) fn step(&mut self, faults: bool) {
        self.now_ms += STEP_MS;
        let now = Now { utc_ms: self.now_ms, mono_ms: self.now_ms };
        if faults {
            self.something_happens();
        }
        let heartbeats = std::mem::take(&mut self.heartbeats);
        let commands = self.commands.clone();
        let (ledger, dice) = (&mut self.ledger, &mut self.dice);
        // Commands stay in their stream: they are read again by whoever comes back.
        self.controller.step(ledger, commands, now, dice, faults);
        self.health.step(ledger, heartbeats.clone(), now, dice, faults);
        for write in self.scheduler.step(ledger, heartbeats, now, dice, faults) {
            let Some(machine) = self.machines.iter_mut().find(|m| m.name == write.document.node)
            else {
                continue;
            };
            machine.specs.extend(write.specs.into_iter().map(|spec| (spec.digest.clone(), spec)));
            if machine
                .document
                .as_ref()
                .is_none_or(|known| !known.place.after(&write.document.place))
            {
                machine.document = Some(write.document.clone());
            }
            // Its publishing may be missed; the heartbeat then shows that the agent lacks it.
            if machine.agent.is_some() && !(faults && dice.once_in(5)) {
                machine.inbox.push(AgentInput::Document(write.document));
            }
        }
        for machine in &mut self.machines {
            let heartbeat = machine.step(ledger, now, dice, faults);
            self.heartbeats.extend(heartbeat.filter(|_| !(faults && dice.once_in(8))));
        }
    }

    fn something_happens(&mut self) {
        let until = self.now_ms + 500 + self.dice.roll() % 9_000;
        let which = usize::try_from(self.dice.roll() % 3).unwrap_or(0);
        match self.dice.roll() % 400 {
            0 => self.controller.crash(until),
            1 => self.scheduler.crash(until),
            2 => self.health.crash(until),
            3 | 4 => self.machines[which].crash(until),
            5..=7 => {
                if let Some((.., runs)) = self.machines[which].containers.values_mut().next() {
                    *runs = false;
                    self.machines[which].inbox.push(AgentInput::EngineHint);
                }
            }
            8..=13 => self.command(),
            _ => {}
        }
    }

    fn command(&mut self) {
        let n = self.commands.len() + 1;
        let image = self.dice.roll() % 3;
        let replicas = self.dice.roll() % 5;
        let name = ["red", "blue"][usize::try_from(self.dice.roll() % 2).unwrap_or(0)];
        let node = self.dice.roll() % 3;
        let deploy = format!(
            r#"{{"app":{{"name":"{name}","workloads":{{"web":{{"image":"web:{image}","replicas":{replicas},
            "resources":{{"cpu_millis":300}},"update":{{"healthy_for_ms":500}}}}}}}}}}"#
        );
        let (verb, payload) = match self.dice.roll() % 8 {
            0..=3 => ("app.deploy", deploy),
            4 => (
                "workload.scale",
                format!(r#"{{"app":"{name}","workload":"web","replicas":{replicas}}}"#),
            ),
            5 => ("app.delete", format!(r#"{{"app":"{name}"}}"#)),
            6 => ("node.drain", format!(r#"{{"node":"n{node}"}}"#)),
            _ => ("node.uncordon", format!(r#"{{"node":"n{node}"}}"#)),
        };
        let sequence = u64::try_from(n).unwrap_or(0);
        let subject = format!("muster.v1.cmd.{verb}");
        let id = format!("c{n}");
        let message = CommandMessage::new(
            sequence,
            &subject,
            Some(&id),
            None,
            self.now_ms,
            payload.into_bytes(),
        );
        self.commands.push(message);
    }

    /// What holds at every moment.
    pub(crate) fn check(&self) -> Result<(), String> {
        let state = self.ledger.fold.state();
        if state.anomalies() > 0 {
            return Err(format!("impossible: {:?}", state.cluster.anomalous));
        }
        for (node, load) in &state.index.loads {
            let has = state.nodes.get(node).map_or(0, |node| node.description.cpu_millis);
            if load.cpu_millis > has {
                return Err(format!("{node} was given {} of {has}", load.cpu_millis));
            }
        }
        Ok(())
    }

    /// What holds once the faults have stopped and nothing more is decided.
    pub(crate) fn check_settled(&self) -> Result<(), String> {
        let state = self.ledger.fold.state();
        for command in &self.commands {
            if !state.receipts.contains(command.id()) {
                return Err(format!("{} was never answered", command.id()));
            }
        }
        for (key, app) in state.apps.iter() {
            for (name, workload) in &app.workloads {
                let ready = state.replicas_of(key, name).filter(|(_, r)| {
                    r.phase == Phase::Ready && r.spec == workload.spec && r.retired.is_none()
                });
                let (ready, wanted) =
                    (ready.count(), usize::try_from(workload.replicas).unwrap_or(0));
                // What fits nowhere says why, and is all that may be missing.
                if ready != wanted && workload.unplaced.is_empty() {
                    return Err(format!(
                        "{key}/{name} has {ready} of {wanted}: {:?}",
                        self.last_events(8)
                    ));
                }
            }
        }
        let recorded: BTreeSet<String> = state
            .replicas
            .iter()
            .filter(|(_, replica)| replica.phase == Phase::Ready)
            .map(|(id, replica)| container_name(id, replica.run))
            .collect();
        let running: BTreeSet<String> = self
            .machines
            .iter()
            .flat_map(|m| {
                m.containers.iter().filter(|(_, (.., runs))| *runs).map(|(name, _)| name.clone())
            })
            .collect();
        if recorded != running {
            return Err(format!("the log says {recorded:?}, engines run {running:?}"));
        }
        Ok(())
    }
}
