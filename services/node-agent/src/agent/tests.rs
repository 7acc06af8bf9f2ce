//! Tests of the agent: what it does with an engine and a log that are played by hand.

mod images;
mod life;
mod runs;
mod sessions;

use std::collections::BTreeMap;

use decider::Now;
use schemas::append::{Answer, Request, Verdict};
use schemas::document::{Assignment, NodeDocument, SpecDocument};
use schemas::event::{Event, Evidence, NodeDescription};
use schemas::id::{AppKey, Digest, NodeName, ReplicaId, WorkloadName};
use schemas::place::{Hash, Place};
use schemas::spec::WorkloadSpec;

use super::{Agent, Input, Kept, Output};
use crate::engine::{Done, Listed, Op, container_name};

const IMAGE: &str = "web@sha256:1";

/// An agent, with an engine that does what the test says and a log that takes everything.
struct World {
    agent: Agent,
    now_ms: u64,
    /// What the engine was asked for and has not answered, listings apart.
    ops: Vec<Op>,
    listing: Option<u64>,
    /// What was said about sessions.
    sessions: Vec<Output>,
    /// What is in the log.
    log: Vec<Event>,
    /// Who holds the node, when it is not this agent.
    held: bool,
}

fn node() -> NodeName {
    NodeName::new("n1").expect("a name")
}

fn id() -> ReplicaId {
    ReplicaId::new("shop-web-abcde").expect("an id")
}

fn place(position: u64) -> Place {
    Place { epoch: 1, position, hash: Hash::ZERO }
}

fn spec(json: &str) -> SpecDocument {
    let spec: WorkloadSpec = serde_json::from_str(json).expect("a spec");
    let digest = Digest::of(json.as_bytes());
    SpecDocument { digest, spec, configs: BTreeMap::new() }
}

fn assignment(spec: &SpecDocument) -> Assignment {
    Assignment {
        app: AppKey::parse("shop").expect("a name"),
        workload: WorkloadName::new("web").expect("a name"),
        revision: 1,
        spec: spec.digest.clone(),
        image: Some(IMAGE.to_owned()),
        end: false,
        correlation: None,
        cause: 1,
    }
}

fn document(position: u64, assigned: Option<Assignment>) -> NodeDocument {
    let replicas = assigned.map(|assigned| (id(), assigned)).into_iter().collect();
    NodeDocument { node: node(), place: place(position), replicas, removed: false, cluster: None }
}

fn listed(run: u32, running: bool) -> (String, Listed) {
    let listed = Listed {
        id: format!("c{run}"),
        replica: id(),
        run,
        cluster: None,
        running,
        health: None,
        endpoints: Vec::new(),
        inside: None,
    };
    (container_name(&id(), run), listed)
}

fn started() -> Done {
    Done::Started {
        container: "c".to_owned(),
        endpoints: Vec::new(),
        inside: None,
        image_checks: false,
    }
}

fn exited(code: i64) -> Done {
    let cause = format!("exited with {code}");
    Done::Examined(Evidence { exit_code: Some(code), cause, ..Evidence::default() })
}

impl World {
    /// An agent that has listed an empty engine.
    fn new() -> Self {
        let mut world = Self::from(Kept::default());
        world.list([]);
        world
    }

    /// A process that begins with what another one kept.
    fn from(kept: Kept) -> Self {
        Self::begin(kept, false)
    }

    /// One that begins while another instance holds its node.
    fn held() -> Self {
        Self::begin(Kept::default(), true)
    }

    fn begin(kept: Kept, held: bool) -> Self {
        let mut world = Self {
            agent: Agent::new(node(), "instance".to_owned(), kept, "seed"),
            now_ms: 1_000,
            ops: Vec::new(),
            listing: None,
            sessions: Vec::new(),
            log: Vec::new(),
            held,
        };
        world.on([Input::Connected]);
        world
    }

    /// What this one has on disk, as the next process reads it.
    fn kept(&self) -> Kept {
        let text = serde_json::to_vec(self.agent.kept()).expect("it encodes");
        serde_json::from_slice(&text).expect("it decodes")
    }

    fn on(&mut self, inputs: impl IntoIterator<Item = Input>) {
        let now = Now { utc_ms: 1_700_000_000_000 + self.now_ms, mono_ms: self.now_ms };
        let mut answers = Vec::new();
        for output in self.agent.on(inputs, now) {
            match output {
                Output::Engine(Op::List { asked_ms }) => self.listing = Some(asked_ms),
                Output::Engine(op) => self.ops.push(op),
                Output::Append(request) => answers.push(Input::Answer(self.answer(&request))),
                said @ (Output::Open { .. } | Output::Refuse { .. }) => self.sessions.push(said),
                Output::Complain(what) => panic!("{what}"),
                Output::Heartbeat(_) | Output::FetchSpec(_) | Output::Keep => {}
            }
        }
        if !answers.is_empty() {
            self.on(answers);
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        let (series, n) = (request.series.clone(), request.n);
        if self.held {
            let detail = "held by the agent on another machine".to_owned();
            let code = schemas::append::Code::Held;
            let verdict = Verdict::Refused { code, term: 1, detail, entity: None };
            return Answer { series, n, verdict };
        }
        for draft in &request.events {
            let event = Event::decode(&draft.kind, draft.data.get()).expect("a known type");
            self.log.push(event.expect("it decodes"));
        }
        Answer { series, n, verdict: Verdict::Published(place(1)) }
    }

    /// Time passes, one tick at its end.
    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        self.on([Input::Tick]);
    }

    /// Answers a listing, waiting until one is asked for.
    fn list(&mut self, containers: impl IntoIterator<Item = (String, Listed)>) {
        while self.listing.is_none() {
            self.pass(100);
        }
        let op = Op::List { asked_ms: self.listing.take().expect("it was asked for") };
        let listed = containers.into_iter().collect();
        self.on([Input::Done(op, Done::Listed(listed))]);
    }

    /// The only thing that the engine was asked for.
    fn op(&mut self) -> Op {
        assert_eq!(self.ops.len(), 1, "{:?}", self.ops);
        self.ops.remove(0)
    }

    /// Answers the only thing that the engine was asked for.
    fn done(&mut self, done: Done) -> Op {
        let op = self.op();
        self.on([Input::Done(op.clone(), done)]);
        op
    }

    /// Puts a workload into the document.
    fn assign(&mut self, spec: &SpecDocument) {
        let document = document(1, Some(assignment(spec)));
        self.on([Input::Spec(spec.clone()), Input::Document(document)]);
        // A spec that no document refers to is not kept.
        self.on([Input::Spec(spec.clone())]);
    }

    /// The types of what was told since the last time this was asked, claims apart.
    fn told(&mut self) -> Vec<&'static str> {
        let told = std::mem::take(&mut self.log);
        told.iter().map(Event::kind).filter(|kind| *kind != "LeadershipTaken").collect()
    }

    fn described(&mut self, disk_bytes: u64) {
        self.on([Input::Described(NodeDescription {
            address: String::new(),
            arch: String::new(),
            os: String::new(),
            engine: String::new(),
            agent: String::new(),
            cpu_millis: 1_000,
            memory_bytes: 1,
            disk_bytes,
            pids: 0,
            labels: BTreeMap::new(),
        })]);
    }
}
