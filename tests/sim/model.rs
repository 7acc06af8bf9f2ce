//! A second, small reading of the history, written apart from the fold that it judges.
//!
//! It is fed with every entry once nobody can take it back, keeps just what the checks compare, and
//! judges each batch as it comes.

mod node;

use std::collections::{BTreeMap, BTreeSet};

use schemas::envelope::{Envelope, Header};
use schemas::event::{Event, Outcome, RequestedReplica, Unfit};
use schemas::id::{AppKey, CommandId, Digest, NodeName, ReplicaId, Series, WorkloadName, Writer};
use schemas::spec::{AppSpec, MountSource, Protocol, RestartPolicy, WorkloadSpec};

pub(crate) use node::Node;

use crate::rollouts::{Held, Way};
use crate::tasks::Turn;

/// Everything the checks know.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The next position.
    pub(crate) next: u64,
    open: Vec<(Header, Event)>,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) apps: BTreeMap<AppKey, App>,
    pub(crate) replicas: BTreeMap<ReplicaId, Replica>,
    /// Replicas that are no more.
    pub(crate) gone: BTreeSet<ReplicaId>,
    /// Where the last replica of a workload ended.
    pub(crate) ended_at: BTreeMap<(AppKey, WorkloadName), u64>,
    /// Every node that a replica was ever placed on.
    pub(crate) places: BTreeMap<ReplicaId, NodeName>,
    pub(crate) receipts: BTreeMap<CommandId, u64>,
    /// What the images of a spec were stated to be.
    pub(crate) images: BTreeMap<(AppKey, Digest), BTreeSet<String>>,
    /// The positions of everything that something may follow from.
    known: BTreeSet<u64>,
    /// The last event that was a decision, or more than another failure of what is hopeless.
    pub(crate) moved: u64,
    /// Releases that came too early, by the batch they are in.
    pub(crate) too_early: BTreeMap<(Series, u64), String>,
    /// The time.
    pub(crate) now_ms: u64,
    /// How many there were of each type of event.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
}

/// An app.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) deleting: bool,
    pub(crate) workloads: BTreeMap<WorkloadName, Workload>,
    specs: BTreeMap<Digest, WorkloadSpec>,
    pub(crate) stalled: Option<WorkloadName>,
    pub(crate) volumes: BTreeMap<String, NodeName>,
    pub(crate) way: Way,
}

/// A workload that is declared.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) spec: WorkloadSpec,
    pub(crate) digest: Digest,
    pub(crate) replicas: u64,
    pub(crate) generation: u64,
    pub(crate) completed: u64,
    pub(crate) unplaced: Vec<Unfit>,
    pub(crate) held: Held,
    pub(crate) turn: Turn,
}

/// A replica that has not ended.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) app: AppKey,
    pub(crate) workload: WorkloadName,
    pub(crate) spec: WorkloadSpec,
    pub(crate) digest: Digest,
    pub(crate) generation: u64,
    pub(crate) node: Option<NodeName>,
    pub(crate) only: Option<NodeName>,
    pub(crate) replaces: Option<ReplicaId>,
    /// Whether it takes the place of one on a lost node, or of one whose image is not to be had there:
    /// such are replaced without waiting for each other.
    pub(crate) at_once: bool,
    /// Whether its node could not get its image.
    imageless: bool,
    pub(crate) retired: bool,
    /// Where and when it was retired, while it finishes what is under way.
    pub(crate) left: Option<(u64, u64)>,
    /// Where something was last heard of it.
    pub(crate) heard_at: u64,
    pub(crate) run: u32,
    pub(crate) running: bool,
    pub(crate) ready: bool,
}

fn cpu(spec: &WorkloadSpec) -> u64 {
    spec.resources.cpu_millis.or(spec.resources.cpu_limit_millis).unwrap_or(0)
}

fn memory(spec: &WorkloadSpec) -> u64 {
    spec.resources.memory_bytes.or(spec.resources.memory_limit_bytes).unwrap_or(0)
}

fn host_ports(spec: &WorkloadSpec) -> impl Iterator<Item = (Protocol, u16)> {
    spec.ports.iter().filter_map(|port| Some((port.protocol, port.host?)))
}

pub(crate) fn volumes(spec: &WorkloadSpec) -> impl Iterator<Item = String> {
    spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume(name) => Some(name.to_string()),
        MountSource::Path(_) => None,
    })
}

pub(crate) type Judged = Result<(), (&'static str, String)>;

pub(crate) fn wrong<T>(
    check: &'static str,
    what: impl Into<String>,
) -> Result<T, (&'static str, String)> {
    Err((check, what.into()))
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }

    /// Reads the next entry; a batch counts when it is whole.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Judged {
        let Envelope { header, event } = Envelope::decode(bytes)
            .or_else(|error| wrong("readable", format!("position {}: {error}", self.next)))?;
        if header.position != self.next {
            return wrong("gapless", format!("{} instead of {}", header.position, self.next));
        }
        self.next += 1;
        *self.kinds.entry(event.kind()).or_default() += 1;
        if matches!(event, Event::PositionVoided(_)) {
            return Ok(());
        }
        if matches!(event, Event::SequencerTaken(_)) {
            self.open.clear();
        }
        let ends = header.batch.i + 1 == header.batch.of;
        self.open.push((header, event));
        if !ends {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.open);
        for (header, event) in &batch {
            self.check_cause(header, event)?;
            if header.writer != Writer::EventLog && !matches!(event, Event::RunFailed(_)) {
                self.moved = header.position;
            }
            self.apply(header, event)?;
        }
        Ok(())
    }

    /// Every chain of causes leads to a command, or to what a service stated of its own.
    fn check_cause(&mut self, at: &Header, event: &Event) -> Judged {
        let rooted = match (&at.correlation, event) {
            (Some(command), Event::CommandAccepted(e)) => e.command == *command,
            (Some(command), Event::CommandRejected(e)) => e.command == *command,
            (Some(command), _) => self.receipts.contains_key(command),
            (
                None,
                Event::ReplicasRequested(_) | Event::ReplicasPlaced(_) | Event::AppDeployed(_),
            ) => false,
            (None, _) => true,
        };
        if !rooted {
            let (kind, root) = (event.kind(), &at.correlation);
            return wrong("causes", format!("{kind} at {} goes back to {root:?}", at.position));
        }
        if let Some(before) = at.causation
            && !self.known.contains(&before)
        {
            let what = format!("{} at {} follows from {before}", event.kind(), at.position);
            return wrong("causes", what);
        }
        self.known.insert(at.position);
        Ok(())
    }

    fn apply(&mut self, at: &Header, event: &Event) -> Judged {
        match event {
            Event::StateDiverged(e) => {
                return wrong("states-agree", format!("{} at {}", e.writer, e.place));
            }
            Event::CommandAccepted(e) => {
                return self.receipt(at, &e.command);
            }
            Event::CommandRejected(e) => return self.receipt(at, &e.command),
            Event::AppDeployed(e) => {
                self.app(&e.app).way.check(&e.spec)?;
                self.deployed(&e.app, &e.spec);
            }
            Event::AppStalled(e) => {
                self.app(&e.app).stalled = Some(e.workload.clone());
            }
            Event::AppConverged(e) => {
                self.check_turns(e)?;
                self.converged(&e.app);
            }
            Event::RolloutFailed(e) => self.app(&e.app).way.failed = true,
            Event::RolloutStepped(e) => return self.held(&e.app, &e.workload, Held::step(e.step)),
            Event::RolloutPromoted(e) => {
                return self.held(&e.app, &e.workload, |held| held.promoted = true);
            }
            Event::RolloutPaused(e) => {
                return self.held(&e.app, &e.workload, |held| held.paused = true);
            }
            Event::RolloutResumed(e) => {
                return self.held(&e.app, &e.workload, |held| held.paused = false);
            }
            Event::AppDeleteStarted(e) => {
                let app = self.app(&e.app);
                app.deleting = true;
                app.way = Way::default();
                app.workloads.clear();
            }
            Event::AppDeleted(e) => {
                self.apps.remove(&e.app);
            }
            Event::WorkloadScaled(e) => {
                let app = self.app(&e.app);
                app.stalled = None;
                if let Some(workload) = app.workloads.get_mut(&e.workload) {
                    workload.replicas = u64::from(e.to);
                }
            }
            Event::WorkloadRestarted(e) => {
                let app = self.app(&e.app);
                app.stalled = None;
                if let Some(workload) = app.workloads.get_mut(&e.workload) {
                    workload.generation = e.generation;
                    workload.completed = 0;
                    workload.turn.again(workload.spec.task.is_some());
                }
            }
            Event::ReplicasUnplaced(e) => {
                if let Some(workload) = self.app(&e.app).workloads.get_mut(&e.workload) {
                    workload.unplaced.clone_from(&e.reasons);
                }
            }
            Event::ImageResolved(e) => {
                let key = (e.app.clone(), e.spec.clone());
                self.images.entry(key).or_default().insert(e.image.clone());
            }
            Event::ReplicasRequested(e) => return self.requested(at, e),
            Event::ReplicasRetired(e) => {
                self.check_floor(at, e)?;
                self.retired(at, &e.replicas, e.leaving);
            }
            Event::ReplicasReleased(e) => return self.released(at, &e.replicas),
            Event::ReplicasPlaced(e) => return self.placed(&e.node, &e.replicas),
            Event::RunFailed(e) => {
                if let Some(replica) = self.told(at, &e.replica)? {
                    replica.imageless |= e.lacks_image();
                }
            }
            Event::RunStarted(e) => return self.started(at, &e.replica, e.run),
            Event::RunEnded(e) => {
                let told = self.told(at, &e.replica)?;
                if let Some(replica) = told {
                    (replica.running, replica.ready) = (false, false);
                }
            }
            Event::ReplicaReady(e) => return self.ready(at, &e.replica, e.run),
            Event::ReplicaUnready(e) => {
                if let Some(replica) = self.told(at, &e.replica)? {
                    replica.ready = false;
                }
            }
            Event::ReplicaEnded(e) => return self.ended(at, &e.replica, &e.outcome),
            _ => self.of_nodes(event, at.position),
        }
        Ok(())
    }

    fn app(&mut self, key: &AppKey) -> &mut App {
        self.apps.entry(key.clone()).or_default()
    }

    fn receipt(&mut self, at: &Header, command: &CommandId) -> Judged {
        match self.receipts.insert(command.clone(), at.position) {
            Some(before) => {
                let what = format!("{command} was answered at {before} and at {}", at.position);
                wrong("one-receipt", what)
            }
            None => Ok(()),
        }
    }

    fn deployed(&mut self, key: &AppKey, spec: &AppSpec) {
        let serving = self.serving(key);
        let app = self.app(key);
        app.deleting = false;
        app.stalled = None;
        app.workloads.retain(|name, _| spec.workloads.contains_key(name));
        for (name, spec) in &spec.workloads {
            let digest = spec.digest();
            app.specs.insert(digest.clone(), spec.clone());
            let changed = app.workloads.get(name).is_none_or(|before| before.digest != digest);
            let workload = app.workloads.entry(name.clone()).or_insert_with(|| Workload {
                spec: spec.clone(),
                digest: digest.clone(),
                replicas: 0,
                generation: 0,
                completed: 0,
                unplaced: Vec::new(),
                held: Held::default(),
                turn: Turn::default(),
            });
            if workload.digest != digest {
                workload.completed = 0;
            }
            let before = app.way.good.as_ref().and_then(|good| good.get(name));
            let rolls = before.is_some_and(|before| *before != digest);
            if !rolls || changed {
                let promoted = !serving.contains(name);
                workload.held = Held { rolls, promoted, ..Held::default() };
            }
            workload.turn.declared(changed);
            workload.spec = spec.clone();
            workload.digest = digest;
            workload.replicas = u64::from(spec.replicas);
        }
        app.begin_turns();
    }

    fn requested(&mut self, at: &Header, e: &schemas::event::ReplicasRequested) -> Judged {
        let spec = self.apps.get(&e.app).and_then(|app| app.specs.get(&e.spec)).cloned();
        let Some(spec) = spec else {
            return wrong("declared-first", format!("{}/{} at {}", e.app, e.workload, at.position));
        };
        self.check_jobs(at, e)?;
        let basis = at.basis.map_or(0, |basis| basis.position);
        let workload = self.apps.get_mut(&e.app).and_then(|app| app.workloads.get_mut(&e.workload));
        if let Some(workload) = workload {
            // One that was declared again before its replicas had ended counts on.
            workload.generation = workload.generation.max(e.generation);
        }
        for one in &e.replicas {
            let old = one.replaces.as_ref().and_then(|old| self.replicas.get(old));
            let node = old.and_then(|old| self.nodes.get(old.node.as_ref()?));
            let replica = Replica {
                app: e.app.clone(),
                workload: e.workload.clone(),
                spec: spec.clone(),
                digest: e.spec.clone(),
                generation: e.generation,
                node: None,
                only: one.node.clone(),
                replaces: one.replaces.clone(),
                // The node may have come back since the controller looked.
                at_once: node.is_some_and(|node| node.lost || node.since > basis)
                    || old.is_some_and(|old| old.imageless),
                imageless: false,
                retired: false,
                left: None,
                heard_at: 0,
                run: 0,
                running: false,
                ready: false,
            };
            if self.replicas.insert(one.id.clone(), replica).is_some() {
                return wrong("fresh-ids", format!("{} was requested twice", one.id));
            }
        }
        let begins = |one: &RequestedReplica| {
            one.replaces.is_some() && self.replicas.get(&one.id).is_some_and(|r| !r.at_once)
        };
        let replaces = e.replicas.iter().any(begins);
        self.check_surge(&e.app, &e.workload, replaces)
    }

    fn retired(&mut self, at: &Header, ids: &[ReplicaId], leaving: bool) {
        let left = leaving.then_some((at.position, self.now_ms));
        for id in ids {
            match self.replicas.get_mut(id) {
                Some(replica) if replica.node.is_some() => {
                    (replica.retired, replica.left) = (true, left);
                }
                _ => self.forget(id),
            }
        }
    }

    /// What is released was leaving, and nothing was sent to it any more or there was time enough.
    fn released(&mut self, at: &Header, ids: &[ReplicaId]) -> Judged {
        let key = (at.batch.series.clone(), at.batch.n);
        if let Some(what) = self.too_early.get(&key) {
            return wrong("lets-go-first", format!("released at {}: {what}", at.position));
        }
        for id in ids {
            let Some(replica) = self.replicas.get_mut(id) else { continue };
            if replica.left.take().is_none() {
                return wrong("released-once", format!("{id} at {}", at.position));
            }
        }
        Ok(())
    }

    fn forget(&mut self, id: &ReplicaId) {
        self.replicas.remove(id);
        self.gone.insert(id.clone());
    }

    fn placed(&mut self, node: &NodeName, ids: &[ReplicaId]) -> Judged {
        if !self.nodes.contains_key(node) {
            return Ok(());
        }
        for id in ids {
            let Some(replica) = self.replicas.get_mut(id) else { continue };
            if let Some(before) = self.places.insert(id.clone(), node.clone()) {
                return wrong(
                    "placed-once",
                    format!("{id} is on {before} and was placed on {node}"),
                );
            }
            replica.node = Some(node.clone());
            let key = replica.app.clone();
            let names: Vec<String> = volumes(&replica.spec).collect();
            if let Some(app) = self.apps.get_mut(&key) {
                for volume in names {
                    let home = app.volumes.entry(volume.clone()).or_insert_with(|| node.clone());
                    if home != node {
                        return wrong(
                            "volume-home",
                            format!("{id} is on {node}, {volume} on {home}"),
                        );
                    }
                }
            }
        }
        self.check_room(node)
    }

    /// No node is given more than it has, and no port of it twice.
    fn check_room(&self, name: &NodeName) -> Judged {
        let Some(node) = self.nodes.get(name) else { return Ok(()) };
        let (mut cpus, mut bytes, mut ports) = (0, 0, BTreeSet::new());
        for (id, replica) in self.replicas.iter().filter(|(_, r)| r.node.as_ref() == Some(name)) {
            cpus += cpu(&replica.spec);
            bytes += memory(&replica.spec);
            if let Some(port) = host_ports(&replica.spec).find(|port| !ports.insert(*port)) {
                return wrong("room", format!("{id} wants {port:?} of {name}, which is taken"));
            }
        }
        if cpus > node.has.cpu_millis || bytes > node.has.memory_bytes {
            return wrong("room", format!("{name} was given {cpus} millis and {bytes} bytes"));
        }
        Ok(())
    }

    /// Whether a replica would fit a node, by this model alone.
    pub(crate) fn fits(&self, replica: &Replica, name: &NodeName) -> bool {
        let Some(node) = self.nodes.get(name) else { return false };
        let there = || self.replicas.values().filter(|r| r.node.as_ref() == Some(name));
        let spec = &replica.spec;
        // One that is replaced by another there, or by this one, counts with it as one.
        let goes = |r: &Replica| {
            let old = r.replaces.as_ref().and_then(|old| self.replicas.get(old));
            old.is_some_and(|old| old.node.as_ref() == Some(name) && !old.retired)
        };
        let same = there()
            .filter(|r| r.app == replica.app && r.workload == replica.workload && !r.retired)
            .filter(|r| !goes(r))
            .count()
            .saturating_sub(usize::from(goes(replica)));
        let max =
            spec.placement.max_per_node.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(0));
        let taken: BTreeSet<_> = there().flat_map(|r| host_ports(&r.spec)).collect();
        let homes = self.apps.get(&replica.app).map(|app| &app.volumes);
        let home =
            |volume: String| homes.and_then(|homes| homes.get(&volume)).is_none_or(|h| h == name);
        node.heard
            && node.takes(spec.mode)
            && replica.only.as_ref().is_none_or(|only| only == name)
            && spec.placement.constraints.iter().all(|c| node.meets(name, c))
            && there().map(|r| cpu(&r.spec)).sum::<u64>() + cpu(spec) <= node.has.cpu_millis
            && there().map(|r| memory(&r.spec)).sum::<u64>() + memory(spec) <= node.has.memory_bytes
            && same < max
            && host_ports(spec).all(|port| !taken.contains(&port))
            && volumes(spec).all(home)
    }

    /// A replica that an agent speaks of: none when it is no more.
    fn told(
        &mut self,
        at: &Header,
        id: &ReplicaId,
    ) -> Result<Option<&mut Replica>, (&'static str, String)> {
        let Some(replica) = self.replicas.get_mut(id) else { return Ok(None) };
        replica.heard_at = at.position;
        let speaks = replica.node.clone().map(Writer::Agent);
        if speaks.as_ref() != Some(&at.writer) {
            return wrong("own-node", format!("{} told of {id} on {speaks:?}", at.writer));
        }
        Ok(Some(replica))
    }

    fn started(&mut self, at: &Header, id: &ReplicaId, run: u32) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        if run < replica.run {
            return wrong("run-order", format!("{id} began run {run} after {}", replica.run));
        }
        (replica.run, replica.running, replica.ready) = (run, true, false);
        Ok(())
    }

    fn ready(&mut self, at: &Header, id: &ReplicaId, run: u32) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        if replica.run != run || !replica.running {
            return wrong("run-order", format!("run {run} of {id} is ready and never began"));
        }
        replica.ready = true;
        Ok(())
    }

    fn ended(&mut self, at: &Header, id: &ReplicaId, outcome: &Outcome) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        let (app, name, digest) =
            (replica.app.clone(), replica.workload.clone(), replica.digest.clone());
        let of = (app.clone(), name.clone());
        let (generation, retired) = (replica.generation, replica.retired);
        let always = replica.spec.restart.policy == RestartPolicy::Always;
        if *outcome == Outcome::Stopped && !retired {
            return wrong("ended-for-a-reason", format!("{id} was stopped at {}", at.position));
        }
        if *outcome == Outcome::Completed && always {
            return wrong("ended-for-a-reason", format!("{id} completed, and should run for ever"));
        }
        let workload = self.apps.get_mut(&app).and_then(|app| app.workloads.get_mut(&name));
        if let Some(workload) = workload
            && (&workload.digest, workload.generation) == (&digest, generation)
        {
            workload.completed += u64::from(*outcome == Outcome::Completed);
        }
        self.ended_turn(&app, &name, id, outcome)?;
        self.ended_at.insert(of, at.position);
        self.forget(id);
        Ok(())
    }

    fn of_nodes(&mut self, event: &Event, at: u64) {
        match event {
            Event::NodeDescribed(e) => {
                let node = self.nodes.entry(e.node.clone()).or_insert_with(|| Node {
                    has: e.description.clone(),
                    given: BTreeMap::new(),
                    heard: true,
                    lost: false,
                    since: 0,
                    open: true,
                    drains: false,
                });
                node.has.clone_from(&e.description);
            }
            Event::NodeCordoned(e) => {
                self.node(&e.node, |node| (node.open, node.drains) = (false, e.drain));
            }
            Event::NodeUncordoned(e) => {
                self.node(&e.node, |node| (node.open, node.drains) = (true, false));
            }
            Event::NodeLabelled(e) => self.node(&e.node, |node| node.given.clone_from(&e.labels)),
            Event::NodeSuspected(e) => {
                self.node(&e.node, |node| (node.heard, node.since) = (false, at));
            }
            Event::NodeLost(e) => self.node(&e.node, |node| node.turn(false, at)),
            Event::NodeDeclaredLost(e) => self.node(&e.node, |node| node.turn(false, at)),
            Event::NodeReturned(e) => self.node(&e.node, |node| node.turn(true, at)),
            Event::NodeRemoved(e) => {
                self.nodes.remove(&e.node);
                let on = self.replicas.iter().filter(|(_, r)| r.node.as_ref() == Some(&e.node));
                let ids: Vec<ReplicaId> = on.map(|(id, _)| id.clone()).collect();
                ids.iter().for_each(|id| self.forget(id));
                for app in self.apps.values_mut() {
                    app.volumes.retain(|_, home| *home != e.node);
                }
            }
            _ => {}
        }
    }

    fn node(&mut self, name: &NodeName, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(name) {
            change(node);
        }
    }
}
