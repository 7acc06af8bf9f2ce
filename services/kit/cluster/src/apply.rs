//! What each event means for the state. Total and pure: one function per event.
//!
//! An event that another writer overtook between its basis and its position is lawful, and its
//! function says what it then means: mostly nothing. One that its writer could not have written at
//! its basis is an anomaly, and is counted.

mod app;
mod calls;
mod certificate;
mod command;
mod node;
mod rebalance;
mod replica;
mod rollout;

use schemas::envelope::Header;
use schemas::event::Event;
use schemas::id::{CommandId, Writer};
use schemas::place::Basis;

use crate::state::{ANOMALIES_MAX, Anomaly, Cause, Leader, State};

/// What the fold looks at of an event's frame. It is what packed segments hold: one field more is
/// another form of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At<'a> {
    /// Where it stands.
    pub position: u64,
    /// When it was recorded.
    pub recorded_ms: u64,
    /// Who wrote it.
    pub writer: &'a Writer,
    /// What its writer had folded.
    pub basis: Option<Basis>,
    /// The command at its root.
    pub correlation: Option<&'a CommandId>,
}

impl<'a> From<&'a Header> for At<'a> {
    fn from(header: &'a Header) -> Self {
        Self {
            position: header.position,
            recorded_ms: header.recorded_ms,
            writer: &header.writer,
            basis: header.basis,
            correlation: header.correlation.as_ref(),
        }
    }
}

/// Applies one event.
pub(crate) fn apply(state: &mut State, at: &At<'_>, event: &Event) {
    match event {
        Event::SequencerTaken(e) => {
            if let Some(genesis) = &e.genesis {
                state.cluster.genesis.clone_from(genesis);
            }
        }
        Event::IntakeClosed(e) => state.cluster.intake_closed = Some(e.clone()),
        Event::IntakeOpened(_) => state.cluster.intake_closed = None,
        Event::LeadershipTaken(e) => {
            if e.term != state.term(&e.writer) + 1 {
                state.anomaly(at, format!("{} took term {} out of turn", e.writer, e.term));
            }
            let leader = Leader {
                term: e.term,
                instance: e.instance.clone(),
                released: false,
                since_ms: at.recorded_ms,
            };
            state.leaders.insert(e.writer.clone(), leader);
        }
        Event::LeadershipReleased(e) => {
            let released = state.leaders.update(&e.writer, |leader| {
                leader.released = leader.term == e.term;
                leader.released
            });
            if released != Some(true) {
                state.anomaly(at, format!("{} released term {}", e.writer, e.term));
            }
        }

        Event::CommandAccepted(e) => state.receipt(at, &e.command, e.sequence, None),
        Event::CommandRejected(e) => {
            state.receipt(at, &e.command, e.sequence, Some(e.problem.clone()));
        }
        Event::CallsMeasured(e) => state.calls_measured(at, e),
        Event::RebalanceSet(e) => state.rebalance_set(at, e),
        Event::RebalanceStarted(e) => state.rebalance_started(at, e),
        Event::MovesPlanned(e) => state.moves_planned(at, e),
        Event::RebalanceEnded(_) => state.rebalance_ended(at),
        Event::ConfigStored(e) => {
            state.configs.insert(e.digest.clone(), e.content_base64.clone());
        }

        Event::CertificateOrdered(e) => state.certificate_ordered(e),
        Event::CertificateIssued(e) => state.certificate_issued(e),
        Event::CertificateFailed(e) => state.certificate_failed(e),

        Event::AppDeployed(e) => state.app_deployed(at, e),
        Event::AppConverged(e) => state.app_converged(at, e),
        Event::AppStalled(e) => state.app_stalled(at, e),
        Event::AppDeleteStarted(e) => state.app_delete_started(at, e),
        Event::AppDeleted(e) => state.app_deleted(at, e),
        Event::WorkloadScaled(e) => state.workload_scaled(at, e),
        Event::WorkloadRestarted(e) => state.workload_restarted(at, e),
        Event::ReplicasUnplaced(e) => state.replicas_unplaced(e),
        Event::ImageResolved(e) => state.image_resolved(e),

        Event::RolloutFailed(e) => state.rollout_failed(at, e),
        Event::RolloutStepped(e) => state.rollout_stepped(at, e),
        Event::RolloutPromoted(e) => state.rollout_promoted(at, e),
        Event::RolloutPaused(e) => state.rollout_paused(at, e),
        Event::RolloutResumed(e) => state.rollout_resumed(at, e),

        Event::ReplicasRequested(e) => state.replicas_requested(at, e),
        Event::ReplicasRetired(e) => state.replicas_retired(at, e),
        Event::ReplicasReleased(e) => state.replicas_released(at, e),
        Event::ReplicasPlaced(e) => state.replicas_placed(at, e),
        Event::RunFailed(e) => state.run_failed(at, e),
        Event::RunStarted(e) => state.run_started(at, e),
        Event::RunEnded(e) => state.run_ended(at, e),
        Event::ReplicaReady(e) => state.replica_ready(at, e),
        Event::ReplicaUnready(e) => state.replica_unready(at, e),
        Event::ReplicaEnded(e) => state.replica_ended(at, e),

        Event::NodeDescribed(e) => state.node_described(at, e),
        Event::NodeCordoned(e) => state.node_cordoned(at, e),
        Event::NodeUncordoned(e) => state.node_uncordoned(at, e),
        Event::NodeLabelled(e) => state.node_labelled(at, e),
        Event::NodeRemoved(e) => state.node_removed(e),
        Event::NodeDeclaredLost(e) => state.node_lost(at, &e.node),
        Event::NodeSuspected(e) => state.node_suspected(at, &e.node),
        Event::NodeLost(e) => state.node_lost(at, &e.node),
        Event::NodeReturned(e) => state.node_returned(at, &e.node),
        Event::EvictionPaused(_) => state.cluster.eviction_paused = true,
        Event::EvictionResumed(_) => state.cluster.eviction_paused = false,

        // Of record, and of no consequence for what is.
        Event::PositionVoided(_)
        | Event::HistoryForked(_)
        | Event::StateDiverged(_)
        | Event::GatewayDiverged(_)
        | Event::NoteAdded(_)
        | Event::StrayRemoved(_)
        | Event::ExecStarted(_) => {}
    }
}

impl State {
    /// Counts an impossible event.
    pub(crate) fn anomaly(&mut self, at: &At<'_>, what: String) {
        self.cluster.anomalies += 1;
        if self.cluster.anomalous.len() < ANOMALIES_MAX {
            self.cluster.anomalous.push(Anomaly { position: at.position, what });
        }
    }
}

/// The cause that an event is for what follows from it.
pub(crate) fn cause(at: &At<'_>) -> Cause {
    Cause { correlation: at.correlation.cloned(), position: at.position }
}

#[cfg(test)]
mod tests;
