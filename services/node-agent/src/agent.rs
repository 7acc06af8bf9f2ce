//! The agent as a synchronous machine: a document in, operations and facts out.
//!
//! No clock, no entropy, no engine, no bus: the pump hands in what happened, the simulator too. It
//! makes the node match the newest document it has, whether or not anybody can be reached.

mod facts;
mod images;
mod replica;
mod sessions;

use std::collections::{BTreeMap, BTreeSet};

use decider::Now;
use schemas::append::{Answer, Request};
use schemas::document::{NodeDocument, SpecDocument};
use schemas::event::{Event, NodeDescribed, NodeDescription, StrayRemoved};
use schemas::id::{Digest, NodeName, ReplicaId};
use schemas::place::Place;
use schemas::report::{HEARTBEAT_MS, Heartbeat};
use serde::{Deserialize, Serialize};

use crate::engine::{Done, Listed, Op};
use facts::Facts;
use images::Images;
pub use replica::Runner;
use replica::World;

pub use sessions::{Asking, Wanted};

/// How many operations may be under way.
const OPS_MAX: usize = 24;

/// How often our containers are listed when the engine says nothing.
const LIST_EVERY_MS: u64 = 5_000;

/// How long it is left alone after that, whatever it says.
const LIST_REST_MS: u64 = 50;

/// What the agent keeps on disk, whole: what it must run, what it has stated, what it must still tell.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// The newest document.
    pub document: Option<NodeDocument>,
    /// The specs it refers to.
    pub specs: BTreeMap<Digest, SpecDocument>,
    /// What was stated of replicas, so that it is stated once.
    pub runners: BTreeMap<ReplicaId, Runner>,
    /// What was last stated of the node.
    pub described: Option<NodeDescription>,
    /// Facts that event-log has not answered.
    pub facts: Facts,
    /// The images that this agent pulled.
    #[serde(default)]
    pub images: Images,
}

/// What arrives.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub enum Input {
    /// A document, from the bus, read in this connection.
    Document(NodeDocument),
    /// A spec that a document refers to.
    Spec(SpecDocument),
    /// An operation ended.
    Done(Op, Done),
    /// Something happened to one of our containers.
    EngineHint,
    /// One of our containers, by name, seems to have ended.
    Died(String),
    /// An answer to an append request.
    Answer(Answer),
    /// The connection is there (again).
    Connected,
    /// The node is and has this.
    Described(NodeDescription),
    /// How much disk is free.
    DiskFree(u64),
    /// An image was pulled for what runs here: its reference, and the engine's id of it.
    Pulled(String, String),
    /// Somebody asks for a replica's output, or for a command to be run in it.
    Asked(Asking),
    /// Such a session is over.
    SessionOver(String),
    /// Time has passed.
    Tick,
    /// A clean stop is wanted.
    Stop,
}

/// What is sent or done.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, moved once")]
pub enum Output {
    /// Do something with the engine.
    Engine(Op),
    /// An append request.
    Append(Request),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// A spec is missing.
    FetchSpec(Digest),
    /// Begin a session.
    Open {
        /// What was asked.
        asking: Asking,
        /// The run it is about.
        run: u32,
    },
    /// Refuse one.
    Refuse {
        /// The session.
        session: String,
        /// Where that is said.
        reply: String,
        /// As of HTTP.
        code: u16,
        /// Why, and what to do.
        text: String,
    },
    /// Something was refused that should not have been said.
    Complain(String),
    /// What is kept has changed: write it down before anything else that is said here.
    Keep,
}

/// The agent of one node.
#[derive(Debug)]
pub struct Agent {
    node: NodeName,
    instance: String,
    kept: Kept,
    /// Whether the document was read from the bus since the process began. Only then are containers
    /// that it does not name strays.
    fresh: bool,
    under_way: BTreeMap<Option<ReplicaId>, u64>,
    listing: bool,
    listed_ms: Option<u64>,
    list_wanted: bool,
    beaten_ms: Option<u64>,
    /// When it was last called.
    called_ms: u64,
    asked_specs: BTreeMap<Digest, u64>,
    removing: BTreeSet<String>,
    /// Those being removed that are what an ended run left behind.
    remains: BTreeSet<String>,
    disk_free_bytes: u64,
    image_mark: u64,
    sessions: BTreeSet<String>,
    /// What is said about sessions, in order.
    said: Vec<Output>,
    stopping: bool,
    changed: bool,
}

impl Agent {
    /// An agent with what it kept, and a random seed for the series of this process's claims.
    #[must_use]
    pub fn new(node: NodeName, instance: String, mut kept: Kept, seed: &str) -> Self {
        kept.facts.begin(&node, &instance, seed);
        for runner in kept.runners.values_mut() {
            runner.woke_up();
        }
        Self {
            node,
            instance,
            kept,
            fresh: false,
            under_way: BTreeMap::new(),
            listing: false,
            listed_ms: None,
            list_wanted: true,
            beaten_ms: None,
            called_ms: 0,
            asked_specs: BTreeMap::new(),
            removing: BTreeSet::new(),
            remains: BTreeSet::new(),
            disk_free_bytes: 0,
            image_mark: 100,
            sessions: BTreeSet::new(),
            said: Vec::new(),
            stopping: false,
            changed: false,
        }
    }

    /// What must be on disk.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// How many facts were never recorded: dropped because too many waited, and refused.
    #[must_use]
    pub fn untold(&self) -> (u64, u64) {
        (self.kept.facts.dropped, self.kept.facts.refused)
    }

    /// Why this agent does not do all of its work; none when it does.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.listed_ms.is_none() {
            return Some("the engine to list its containers".to_owned());
        }
        self.kept.facts.waits_for()
    }

    /// Whether nothing has to be told any more, and nobody listens.
    #[must_use]
    pub fn at_rest(&self) -> bool {
        self.kept.facts.is_empty() && self.sessions.is_empty()
    }

    /// The containers that run, for usage sampling.
    #[must_use]
    pub fn running(&self) -> BTreeMap<String, ReplicaId> {
        let runners = self.kept.runners.iter();
        let running = runners.filter(|(_, runner)| runner.is_running());
        running
            .map(|(id, runner)| (crate::engine::container_name(id, runner.run()), id.clone()))
            .collect()
    }

    /// Takes in everything that arrived, then does what follows.
    pub fn on(&mut self, inputs: impl IntoIterator<Item = Input>, now: Now) -> Vec<Output> {
        self.called_ms = now.mono_ms;
        for input in inputs {
            self.take(input, now);
        }
        let mut out = Vec::new();
        self.match_document(now, &mut out);
        self.make_room(now, &mut out);
        out.append(&mut self.said);
        out.extend(self.kept.facts.complaints().into_iter().map(Output::Complain));
        if let Some(request) = self.kept.facts.offer(now) {
            out.push(Output::Append(request));
            self.changed = true;
        }
        self.beat(now, &mut out);
        if std::mem::take(&mut self.changed) {
            out.insert(0, Output::Keep);
        }
        out
    }

    fn take(&mut self, input: Input, now: Now) {
        match input {
            Input::Document(document) => self.take_document(document, now),
            Input::Spec(spec) => {
                self.asked_specs.remove(&spec.digest);
                self.kept.specs.insert(spec.digest.clone(), spec);
                self.changed = true;
            }
            Input::Done(op, done) => self.take_done(&op, done, now),
            Input::EngineHint => self.list_wanted = true,
            Input::Died(container) => self.died(&container, now),
            Input::Answer(answer) => {
                self.kept.facts.answered(&answer);
                self.changed = true;
            }
            Input::Connected => self.kept.facts.connected(),
            Input::Described(description) => {
                if self.kept.described.as_ref() != Some(&description) {
                    self.describe(description, now);
                }
            }
            Input::DiskFree(bytes) => self.disk_free_bytes = bytes,
            Input::Pulled(image, id) => self.pulled(image, id, now),
            Input::Asked(asking) => self.asked(asking, now),
            Input::SessionOver(session) => self.session_over(&session),
            Input::Tick => {}
            Input::Stop => {
                self.stopping = true;
                self.kept.facts.release();
            }
        }
    }

    /// The engine lists a container as running for a while after it has said that it died, so the run
    /// is examined without that.
    fn died(&mut self, container: &str, now: Now) {
        let of = |(id, runner): &(&ReplicaId, &mut Runner)| {
            crate::engine::container_name(id, runner.run()) == container
        };
        match self.kept.runners.iter_mut().find(of) {
            Some((_, runner)) => runner.died(now),
            None => self.list_wanted = true,
        }
    }

    fn take_document(&mut self, document: NodeDocument, now: Now) {
        if document.node != self.node {
            return;
        }
        let known = self.kept.document.as_ref();
        if known.is_some_and(|known| known.place.after(&document.place)) {
            return;
        }
        self.fresh = true;
        let stands = known == Some(&document);
        if document.removed && self.kept.facts.undescribed(document.place) && !self.stopping {
            // Nobody may have told this node that it was removed. It joins as it did at first.
            self.kept.described.take().into_iter().for_each(|it| self.describe(it, now));
        }
        if stands {
            return;
        }
        self.used(now);
        let used: BTreeSet<&Digest> = document.replicas.values().map(|a| &a.spec).collect();
        self.kept.specs.retain(|digest, _| used.contains(digest));
        self.kept
            .runners
            .retain(|id, runner| document.replicas.contains_key(id) || !runner.is_over());
        self.kept.document = Some(document);
        self.changed = true;
    }

    /// States what the node is and has.
    fn describe(&mut self, description: NodeDescription, now: Now) {
        let event = NodeDescribed { node: self.node.clone(), description: description.clone() };
        self.kept.facts.state(event, None, None, now);
        self.kept.described = Some(description);
        self.changed = true;
    }

    fn take_done(&mut self, op: &Op, done: Done, now: Now) {
        match (op, done) {
            (Op::List { asked_ms }, Done::Listed(listed)) => {
                self.listing = false;
                self.listed_ms = Some(now.mono_ms);
                self.take_listing(listed, *asked_ms, now);
            }
            (Op::List { .. }, _) => {
                self.listing = false;
                self.list_wanted = true;
            }
            (Op::RemoveStray { container }, done) => {
                self.under_way.remove(&None);
                let remains = self.remains.remove(container);
                if done == Done::StrayRemoved && !remains {
                    let (node, container) = (self.node.clone(), container.clone());
                    self.kept.facts.state(StrayRemoved { node, container }, None, None, now);
                    self.changed = true;
                }
            }
            (Op::RemoveImage { image, .. }, done) => self.image_removed(image, &done, now),
            (op, done) => {
                let Some(id) = op.replica() else { return };
                // A replica that does not answer may have ended: the engine knows before retries do.
                self.list_wanted |= matches!(done, Done::Probed(Err(_)));
                self.under_way.remove(&Some(id.clone()));
                let Some(mut runner) = self.kept.runners.remove(id) else { return };
                let mut world = self.world(id, now);
                runner.done(op, done, &mut world);
                // The container of the run before is there still: it goes when nobody waits for that.
                self.list_wanted |= match op {
                    Op::Start { run, .. } => *run > 1,
                    Op::Examine { .. } => runner.is_over(),
                    _ => false,
                };
                let stated = std::mem::take(&mut world.stated);
                self.state_all(id, stated, now);
                self.kept.runners.insert(id.clone(), runner);
            }
        }
    }

    /// The cluster that this node is of, once a document has said so.
    fn cluster(&self) -> Option<&str> {
        self.kept.document.as_ref()?.cluster.as_deref()
    }

    fn take_listing(&mut self, mut listed: BTreeMap<String, Listed>, asked_ms: u64, now: Now) {
        // What is another cluster's is neither adopted nor stopped, whatever its node is called.
        let ours = self.cluster();
        listed.retain(|_, container| match (ours, container.cluster.as_deref()) {
            (Some(ours), Some(its)) => ours == its,
            _ => true,
        });
        let ids: Vec<ReplicaId> = self.kept.runners.keys().cloned().collect();
        for id in ids {
            let Some(mut runner) = self.kept.runners.remove(&id) else { continue };
            let name = crate::engine::container_name(&id, runner.run());
            if self.under_way.contains_key(&Some(id.clone())) {
                // What is under way may change it: looked at again when that is over.
                let runs = listed.get(&name).is_some_and(|container| container.running);
                self.list_wanted |= runner.is_running() && !runs;
                self.kept.runners.insert(id, runner);
                continue;
            }
            let mut world = self.world(&id, now);
            runner.seen(listed.get(&name), asked_ms, &mut world);
            let stated = std::mem::take(&mut world.stated);
            self.state_all(&id, stated, now);
            self.kept.runners.insert(id, runner);
        }
        self.find_strays(&listed);
    }

    /// Containers of ours that neither the document nor a run under way accounts for.
    fn find_strays(&mut self, listed: &BTreeMap<String, Listed>) {
        let document = self.kept.document.as_ref().filter(|_| self.fresh);
        for (name, container) in listed {
            let runner = self.kept.runners.get(&container.replica);
            if runner.is_some_and(|runner| runner.left_behind(container)) {
                // No stray: that it goes is a part of its run's end. The next run comes first.
                let busy = self.under_way.contains_key(&Some(container.replica.clone()));
                if !busy && self.remains.insert(name.clone()) {
                    self.removing.insert(name.clone());
                }
                continue;
            }
            let Some(document) = document else { continue };
            let ours = match runner {
                Some(runner) => !runner.is_over() && container.run >= runner.run(),
                None => document.replicas.contains_key(&container.replica),
            };
            if !ours {
                self.removing.insert(name.clone());
            }
        }
    }

    fn world(&self, id: &ReplicaId, now: Now) -> World {
        let assignment =
            self.kept.document.as_ref().and_then(|document| document.replicas.get(id)).cloned();
        let spec = assignment.as_ref().and_then(|a| self.kept.specs.get(&a.spec)).cloned();
        let cluster = self.cluster().map(str::to_owned);
        World { cluster, ..World::new(id.clone(), assignment, spec, now) }
    }

    fn state_all(&mut self, id: &ReplicaId, stated: Vec<Event>, now: Now) {
        let assignment = self.kept.document.as_ref().and_then(|d| d.replicas.get(id)).cloned();
        for event in stated {
            self.changed = true;
            self.kept.facts.state_of(assignment.as_ref(), event, now);
        }
    }

    /// Goes through the document, and starts what must be done next for each replica.
    fn match_document(&mut self, now: Now, out: &mut Vec<Output>) {
        let since = self.listed_ms.map_or(u64::MAX, |at| now.mono_ms.saturating_sub(at));
        let due = since >= LIST_EVERY_MS || (self.list_wanted && since >= LIST_REST_MS);
        if !self.listing && due {
            self.listing = true;
            self.list_wanted = false;
            out.push(Output::Engine(Op::List { asked_ms: now.mono_ms }));
        }
        // Until the engine has said what runs, nothing is started: it may be running already.
        if self.listed_ms.is_none() {
            return;
        }
        for container in std::mem::take(&mut self.removing) {
            out.push(Output::Engine(Op::RemoveStray { container }));
        }
        let Some(document) = &self.kept.document else { return };
        let ids: BTreeSet<ReplicaId> =
            document.replicas.keys().chain(self.kept.runners.keys()).cloned().collect();
        for id in ids {
            if self.under_way.contains_key(&Some(id.clone())) {
                continue;
            }
            let mut runner = self.kept.runners.remove(&id).unwrap_or_default();
            let mut world = self.world(&id, now);
            let op = runner.next(&mut world);
            let stated = std::mem::take(&mut world.stated);
            let missing = world.missing_spec.take();
            self.state_all(&id, stated, now);
            if world.forget {
                self.changed = true;
                continue;
            }
            self.kept.runners.insert(id.clone(), runner);
            if let Some(digest) = missing {
                self.ask_spec(digest, now, out);
            }
            if let Some(op) = op.filter(|_| self.under_way.len() < OPS_MAX && !self.stopping) {
                self.under_way.insert(Some(id.clone()), now.mono_ms);
                if let Some(runner) = self.kept.runners.get_mut(&id) {
                    runner.began(&op, now);
                }
                self.changed |= !matches!(op, Op::Probe { .. });
                out.push(Output::Engine(op));
            }
        }
    }

    fn ask_spec(&mut self, digest: Digest, now: Now, out: &mut Vec<Output>) {
        let asked = self.asked_specs.get(&digest);
        if asked.is_none_or(|at| now.mono_ms >= at + HEARTBEAT_MS) {
            self.asked_specs.insert(digest.clone(), now.mono_ms);
            out.push(Output::FetchSpec(digest));
        }
    }

    fn beat(&mut self, now: Now, out: &mut Vec<Output>) {
        let Some(term) = self.kept.facts.term() else { return };
        if self.beaten_ms.is_some_and(|at| now.mono_ms < at + HEARTBEAT_MS) || self.stopping {
            return;
        }
        self.beaten_ms = Some(now.mono_ms);
        let document = self.kept.document.as_ref();
        out.push(Output::Heartbeat(Heartbeat {
            node: self.node.clone(),
            instance: self.instance.clone(),
            term,
            time_ms: now.utc_ms,
            place: document.map_or(Place::START, |document| document.place),
            // Held is what can be carried out: on a difference it is written again, specs included.
            document: document
                .filter(|document| self.has_specs(document))
                .map(NodeDocument::digest),
            spooled: self.kept.facts.len(),
            disk_free_bytes: self.disk_free_bytes,
        }));
    }

    fn has_specs(&self, document: &NodeDocument) -> bool {
        document.replicas.values().all(|assignment| self.kept.specs.contains_key(&assignment.spec))
    }

    /// When to call again if nothing arrives, by the forward-going clock.
    #[must_use]
    pub fn next_ms(&self, now: Now) -> u64 {
        let beat = self.beaten_ms.map_or(now.mono_ms + 100, |at| at + HEARTBEAT_MS);
        let idle = self
            .kept
            .runners
            .iter()
            .filter(|(id, _)| !self.under_way.contains_key(&Some((*id).clone())));
        let wake = idle.filter_map(|(_, runner)| runner.wake_ms());
        // What was due when it was last called waits for something else than time.
        let wake = wake.filter(|at| *at > self.called_ms).min().unwrap_or(u64::MAX);
        let list = self.listed_ms.filter(|_| self.list_wanted && !self.listing);
        let wake = wake.min(list.map_or(u64::MAX, |at| at + LIST_REST_MS));
        beat.min(wake).clamp(now.mono_ms + 1, now.mono_ms + HEARTBEAT_MS)
    }
}

#[cfg(test)]
mod tests;
