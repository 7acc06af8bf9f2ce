//! A second, small reading of the history, written apart from the fold that it judges.
//!
//! It is fed with every entry once nobody can take it back, keeps just what the checks compare, and
//! judges each batch as it comes.

mod app;
mod node;
mod replica;
mod room;

use std::collections::{BTreeMap, BTreeSet};

use schemas::envelope::{Envelope, Header};
use schemas::event::Event;
use schemas::id::{AppKey, CommandId, Digest, NodeName, ReplicaId, Series, WorkloadName, Writer};

pub(crate) use app::{App, Workload};
pub(crate) use node::Node;
pub(crate) use replica::Replica;

use crate::moves::Moves;
use crate::rollouts::{Held, Ran, Way};

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
    /// What each replica ran last.
    pub(crate) ran: BTreeMap<ReplicaId, Ran>,
    /// What the images of a spec were stated to be.
    pub(crate) images: BTreeMap<(AppKey, Digest), BTreeSet<String>>,
    /// The nodes that a run said lack the image of a spec, and where one began there all the same.
    lacking: BTreeMap<(Digest, NodeName), Option<u64>>,
    /// The positions of everything that something may follow from.
    known: BTreeSet<u64>,
    /// The last event that was a decision, or more than another failure of what is hopeless.
    pub(crate) moved: u64,
    pub(crate) moves: Moves,
    /// How many revisions were taken back.
    pub(crate) ways_back: u64,
    /// Releases that came too early, by the batch they are in.
    pub(crate) too_early: BTreeMap<(Series, u64), String>,
    /// The time.
    pub(crate) now_ms: u64,
    /// How many there were of each type of event.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
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
            self.judge(header, event)?;
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

    pub(crate) fn apply(&mut self, at: &Header, event: &Event) -> Judged {
        match event {
            Event::StateDiverged(_) | Event::GatewayDiverged(_) => {
                return wrong("states-agree", format!("{event:?}"));
            }
            Event::CommandAccepted(e) => {
                return self.receipt(at, &e.command);
            }
            Event::CommandRejected(e) => return self.receipt(at, &e.command),
            Event::AppDeployed(e) => {
                self.app(&e.app).check_way(&e.spec)?;
                self.deployed(&e.app, &e.spec);
            }
            Event::AppStalled(e) => {
                self.app(&e.app).stalled = Some(e.workload.clone());
            }
            Event::AppConverged(e) => {
                self.check_turns(e)?;
                return self.converged(&e.app);
            }
            Event::RolloutFailed(e) => self.went_back(e),
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
                self.told(at, &e.replica)?;
                if e.lacks_image() {
                    self.note_image(&e.replica, None);
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

    pub(crate) fn app(&mut self, key: &AppKey) -> &mut App {
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
}
