//! What must hold at every moment. Each check has a name, by which a test of the tests expects it.

use std::collections::BTreeMap;

use cluster::Fold;
use event_log::sequencer::Message;
use event_log::store::Store as _;
use event_log::testing::FakeStore;
use node_agent::engine::{Done, Op, container_name};
use schemas::document::NodeDocument;
use schemas::envelope::Envelope;
use schemas::id::{Digest, NodeName, ReplicaId};
use schemas::place::{Basis, Place};
use schemas::report::Mark;

use crate::engine::{Container, Effect, Status};
use crate::model::{Model, Replica};
use crate::node::Node;
use crate::rollouts::Ran;
use crate::service::Host;

/// What does not hold.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) check: &'static str,
    pub(crate) what: String,
}

pub(crate) fn failure<T>(check: &'static str, what: impl Into<String>) -> Result<T, Failure> {
    Err(Failure { check, what: what.into() })
}

/// Everything that was seen.
pub(crate) struct Checks {
    pub(crate) model: Model,
    /// The state as it follows from the bytes on disk, entry by entry.
    pub(crate) replayed: Fold,
    /// The place and the hash of that state at every end of a batch.
    hashes: BTreeMap<u64, (Place, String)>,
    documents: BTreeMap<(NodeName, Basis), Digest>,
}

/// A container that runs just before a request gets to its engine.
pub(crate) struct Before {
    name: String,
    container: Container,
}

impl Checks {
    pub(crate) fn new() -> Self {
        Self {
            model: Model::new(),
            replayed: Fold::new(),
            hashes: BTreeMap::new(),
            documents: BTreeMap::new(),
        }
    }

    /// What anyone sees in the stream is on disk, at its position, and survives a power cut.
    pub(crate) fn visible(
        &self,
        store: &FakeStore,
        at: u64,
        message: &Message,
    ) -> Result<(), Failure> {
        let synced = store.synced_row(at).map(|row| row.bytes);
        if synced.as_ref() != Some(&message.bytes) {
            let place = message.place;
            return failure("visible-is-synced", format!("{place} is at {at} in the stream"));
        }
        Ok(())
    }

    /// Takes in what is history up to a position.
    pub(crate) fn observe(&mut self, store: &FakeStore, up_to: u64) -> Result<(), Failure> {
        while self.model.next <= up_to {
            let at = self.model.next;
            let row = store.row(at).or_else(|error| failure("readable", error.to_string()))?;
            let Some(row) = row else { return failure("gapless", format!("nothing is at {at}")) };
            let judged = self.model.read(&row.bytes);
            judged.or_else(|(check, what)| failure(check, what))?;
            let folded = self.replayed.push(&row.bytes);
            folded.or_else(|error| failure("chain", format!("position {at}: {error}")))?;
            let state = self.replayed.state();
            if state.anomalies() > 0 {
                return failure("impossible", format!("{:?}", state.cluster.anomalous));
            }
            let place = self.replayed.place();
            if place == self.replayed.cursor() {
                self.hashes.insert(at, (place, self.replayed.state().hash()));
            }
        }
        Ok(())
    }

    /// What an instance says was published is what was published.
    pub(crate) fn same(&self, place: Place) -> Result<(), Failure> {
        match self.hashes.get(&place.position) {
            Some((seen, _)) if *seen != place => {
                failure("one-history", format!("{place} was published where {seen} had been"))
            }
            _ => Ok(()),
        }
    }

    /// The state of an instance is the one that is replayed.
    pub(crate) fn state(&self, host: &Host) -> Result<(), Failure> {
        let Some((place, hash)) = host.process.state() else { return Ok(()) };
        let Some(expected) = self.hashes.get(&place.position) else { return Ok(()) };
        if *expected != (place, hash) {
            let name = host.process.name();
            return failure("live-is-replayed", format!("{name} at {place} differs"));
        }
        Ok(())
    }

    /// The mark of an instance is of the state that is replayed.
    pub(crate) fn mark(&self, instance: &str, mark: &Mark) -> Result<(), Failure> {
        match self.hashes.get(&mark.place.position) {
            Some((place, hash)) if *place != mark.place || *hash != mark.state_hash => {
                failure("marks-agree", format!("{instance} at {} differs", mark.place))
            }
            _ => Ok(()),
        }
    }

    /// A document is a function of the log up to the place it names.
    pub(crate) fn document(&mut self, document: &NodeDocument) -> Result<(), Failure> {
        let key = (document.node.clone(), document.place.basis());
        let digest = document.digest();
        match self.documents.insert(key, digest.clone()) {
            Some(before) if before != digest => {
                let what = format!("two documents of {} at {}", document.node, document.place);
                failure("documents", what)
            }
            _ => Ok(()),
        }
    }

    /// The container that a request may end.
    pub(crate) fn before(&self, op: &Op, step: u8, node: &Node) -> Option<Before> {
        let name = match op {
            Op::Stop { replica, run, .. } if step == 0 => container_name(replica, *run),
            Op::Examine { replica, run, .. } => container_name(replica, *run),
            Op::RemoveStray { container } => container.clone(),
            _ => return None,
        };
        let container = node.engine.containers.get(&name)?.clone();
        let runs = container.status == Status::Running && !container.by_hand;
        runs.then_some(Before { name, container })
    }

    /// What a request may have done wrong.
    pub(crate) fn after(
        &mut self,
        op: &Op,
        effect: &Effect,
        before: Option<Before>,
        node: usize,
        nodes: &[Node],
    ) -> Result<(), Failure> {
        if let (Op::Start { replica, assignment, spec, .. }, Effect::Done(Done::Started { .. })) =
            (op, effect)
        {
            let judged = self.model.runs(replica, Ran::of(assignment, spec));
            judged.or_else(|(check, what)| failure(check, what))?;
            let key = (assignment.app.clone(), assignment.spec.clone());
            let stated = self.model.images.get(&key);
            let image = assignment.image.clone().unwrap_or_default();
            if !stated.is_some_and(|images| images.contains(&image)) {
                return failure("image-of-record", format!("{replica} runs {image}"));
            }
            return runs_once(replica, nodes);
        }
        let Some(Before { name, container }) = before else { return Ok(()) };
        let now = nodes[node].engine.containers.get(&name);
        if now.is_some_and(|now| now.status == Status::Running) {
            return Ok(());
        }
        let id = &container.replica;
        let may_end = |replica: &Replica| replica.retired && replica.left.is_none();
        let must_end =
            self.model.gone.contains(id) || self.model.replicas.get(id).is_some_and(may_end);
        let unhealthy = matches!(op, Op::Stop { remove: false, .. }) && container.was_sick;
        if must_end || unhealthy {
            return Ok(());
        }
        failure("stopped-for-a-reason", format!("{name} was stopped by {op:?}"))
    }

    /// An entry for whoever reads the trace.
    pub(crate) fn line(&self, store: &FakeStore, at: u64) -> String {
        let row = store.row(at).ok().flatten();
        match row.map(|row| Envelope::decode(&row.bytes)) {
            Some(Ok(Envelope { header, event })) => {
                let (writer, basis) = (&header.writer, header.basis.map(|basis| basis.position));
                format!("{at} {writer} on {basis:?}: {} {}", event.kind(), event.data())
            }
            _ => format!("{at} does not decode"),
        }
    }

    /// The hash at a place, for who compares with it.
    pub(crate) fn hash_at(&self, position: u64) -> Option<&(Place, String)> {
        self.hashes.get(&position)
    }
}

/// No replica runs twice, here or on two nodes.
fn runs_once(replica: &ReplicaId, nodes: &[Node]) -> Result<(), Failure> {
    let running: Vec<String> = nodes
        .iter()
        .flat_map(|node| {
            let mine = node.engine.running().filter(|(_, c)| c.replica == *replica && !c.by_hand);
            mine.map(|(name, _)| format!("{name} on {}", node.name))
        })
        .collect();
    if running.len() > 1 {
        return failure("runs-once", running.join(", "));
    }
    Ok(())
}
