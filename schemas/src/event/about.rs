//! What each event is about: its subject, and the entities under which history finds it again.

use super::*;
use crate::id::{
    AppKey, CLUSTER_TENANT, CommandId, DEFAULT_TENANT, Digest, NodeName, ReplicaId, WorkloadName,
    Writer,
};

/// What an event is about: the tokens of its subject, and the entities that history finds it under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The noun: `app`, `node`, `replica`.
    pub noun: &'static str,
    /// The id of that noun, as one subject token.
    pub id: String,
    /// The verb, past tense.
    pub verb: &'static str,
    /// Every entity it concerns, as `<noun>/<id>`.
    pub entities: Vec<String>,
}

/// The entity of an app.
#[must_use]
pub fn app_entity(app: &AppKey) -> String {
    ["app/", app.tenant.as_str(), "/", app.name.as_str()].concat()
}

/// The entity of a workload.
#[must_use]
pub fn workload_entity(app: &AppKey, workload: &WorkloadName) -> String {
    let (tenant, app, workload) = (app.tenant.as_str(), app.name.as_str(), workload.as_str());
    ["workload/", tenant, "/", app, "/", workload].concat()
}

/// The entity of a command's receipt.
#[must_use]
pub fn command_entity(command: &CommandId) -> String {
    ["command/", command.as_str()].concat()
}

/// The entity of an image's resolution.
#[must_use]
pub fn image_entity(app: &AppKey, spec: &Digest) -> String {
    format!("image/{app}/{spec}")
}

/// The entity of a host's certificate.
#[must_use]
pub fn certificate_entity(host: &str) -> String {
    ["certificate/", host].concat()
}

/// The entity of a replica.
#[must_use]
pub fn replica_entity(replica: &ReplicaId) -> String {
    ["replica/", replica.as_str()].concat()
}

/// The entity of a node.
#[must_use]
pub fn node_entity(node: &NodeName) -> String {
    ["node/", node.as_str()].concat()
}

impl Event {
    /// Whether a reader that does not know this type may skip it: it changes nothing of the state.
    /// Only types that were so from their first release are.
    #[must_use]
    pub fn is_ignorable(kind: &str) -> bool {
        matches!(kind, "ExecStarted" | "StateDiverged" | "GatewayDiverged")
    }

    /// What it is about.
    #[must_use]
    pub fn about(&self) -> About {
        match self {
            Self::SequencerTaken(_) => about("log", "sequencer", "taken", []),
            Self::PositionVoided(_) => about("log", "position", "voided", []),
            Self::HistoryForked(_) => about("log", "history", "forked", []),
            Self::StateDiverged(e) => {
                about("log", "state", "diverged", [format!("leader/{}", e.writer)])
            }
            Self::GatewayDiverged(e) => of_node(&e.node, "gateway-diverged"),
            Self::IntakeClosed(_) => about("log", "intake", "closed", []),
            Self::IntakeOpened(_) => about("log", "intake", "opened", []),
            Self::LeadershipTaken(e) => of_leader(&e.writer, "taken"),
            Self::LeadershipReleased(e) => of_leader(&e.writer, "released"),
            Self::CommandAccepted(e) => of_command(&e.command, "accepted"),
            Self::CommandRejected(e) => of_command(&e.command, "rejected"),
            Self::AppDeployed(e) => of_app(&e.app, "deployed"),
            Self::AppConverged(e) => of_app(&e.app, "converged"),
            Self::AppStalled(e) => of_app(&e.app, "stalled"),
            Self::AppDeleteStarted(e) => of_app(&e.app, "delete-started"),
            Self::AppDeleted(e) => of_app(&e.app, "deleted"),
            Self::WorkloadScaled(e) => of_workload(&e.app, &e.workload, "scaled"),
            Self::WorkloadRestarted(e) => of_workload(&e.app, &e.workload, "restarted"),
            Self::RolloutFailed(e) => {
                of_workload(&e.app, &e.workload, "rollout-failed").and(&e.replica)
            }
            Self::RolloutStepped(e) => of_workload(&e.app, &e.workload, "rollout-stepped"),
            Self::RolloutPromoted(e) => of_workload(&e.app, &e.workload, "rollout-promoted"),
            Self::RolloutPaused(e) => of_workload(&e.app, &e.workload, "rollout-paused"),
            Self::RolloutResumed(e) => of_workload(&e.app, &e.workload, "rollout-resumed"),
            Self::ReplicasRequested(e) => of_workload(&e.app, &e.workload, "requested").and(
                e.replicas.iter().flat_map(|r| std::iter::once(&r.id).chain(r.replaces.as_ref())),
            ),
            Self::ReplicasRetired(e) => {
                of_workload(&e.app, &e.workload, "retired").and(&e.replicas)
            }
            Self::ReplicasReleased(e) => {
                of_workload(&e.app, &e.workload, "released").and(&e.replicas)
            }
            Self::ReplicasUnplaced(e) => of_workload(&e.app, &e.workload, "unplaced"),
            Self::ConfigStored(e) => {
                about("config", e.digest.as_str(), "stored", [format!("config/{}", e.digest)])
            }
            Self::NoteAdded(e) => about("note", "all", "added", [e.object.clone()]),
            Self::RebalanceStarted(e) => {
                let mut about = about("log", "rebalance", "started", []);
                about.entities.extend(e.app.iter().map(app_entity));
                about.entities.extend(e.nodes.iter().map(node_entity));
                about.entities.extend(e.calls.iter().map(|c| workload_entity(&c.app, &c.workload)));
                about
            }
            Self::CallsMeasured(e) => of_workload(&e.app, &e.workload, "calls-measured"),
            Self::RebalanceSet(_) => about("log", "rebalance", "set", []),
            Self::RebalanceEnded(_) => about("log", "rebalance", "ended", []),
            Self::MovesPlanned(e) => of_workload(&e.app, &e.workload, "moves-planned")
                .and(e.moves.iter().map(|one| &one.replica)),
            Self::CertificateOrdered(e) => of_certificate(&e.host, "ordered"),
            Self::CertificateIssued(e) => of_certificate(&e.host, "issued"),
            Self::CertificateFailed(e) => of_certificate(&e.host, "failed"),
            Self::NodeCordoned(e) => of_node(&e.node, "cordoned"),
            Self::NodeUncordoned(e) => of_node(&e.node, "uncordoned"),
            Self::NodeLabelled(e) => of_node(&e.node, "labelled"),
            Self::NodeRemoved(e) => of_node(&e.node, "removed"),
            Self::NodeDeclaredLost(e) => of_node(&e.node, "declared-lost"),
            Self::ReplicasPlaced(e) => of_node(&e.node, "placed").and(&e.replicas),
            Self::NodeSuspected(e) => of_node(&e.node, "suspected"),
            Self::NodeLost(e) => of_node(&e.node, "lost"),
            Self::NodeReturned(e) => of_node(&e.node, "returned"),
            Self::EvictionPaused(_) => about("log", "eviction", "paused", []),
            Self::EvictionResumed(_) => about("log", "eviction", "resumed", []),
            Self::NodeDescribed(e) => of_node(&e.node, "described"),
            Self::StrayRemoved(e) => of_node(&e.node, "stray-removed"),
            Self::ImageResolved(e) => {
                let mut about = of_app(&e.app, "image-resolved");
                about.entities.push(image_entity(&e.app, &e.spec));
                about
            }
            Self::RunFailed(e) => of_replica(&e.replica, "run-failed"),
            Self::RunStarted(e) => of_replica(&e.replica, "run-started"),
            Self::RunEnded(e) => of_replica(&e.replica, "run-ended"),
            Self::ReplicaReady(e) => of_replica(&e.replica, "ready"),
            Self::ReplicaUnready(e) => of_replica(&e.replica, "unready"),
            Self::ReplicaEnded(e) => of_replica(&e.replica, "ended"),
            Self::ExecStarted(e) => of_replica(&e.replica, "exec-started"),
        }
    }

    /// The tenant of the event's subject, when the event itself says it.
    #[must_use]
    pub fn tenant(&self) -> &str {
        match self {
            Self::AppDeployed(AppDeployed { app, .. })
            | Self::AppConverged(AppConverged { app, .. })
            | Self::AppStalled(AppStalled { app, .. })
            | Self::AppDeleteStarted(AppDeleteStarted { app })
            | Self::AppDeleted(AppDeleted { app })
            | Self::WorkloadScaled(WorkloadScaled { app, .. })
            | Self::WorkloadRestarted(WorkloadRestarted { app, .. })
            | Self::RolloutFailed(RolloutFailed { app, .. })
            | Self::RolloutStepped(RolloutStepped { app, .. })
            | Self::RolloutPromoted(RolloutPromoted { app, .. })
            | Self::RolloutPaused(RolloutPaused { app, .. })
            | Self::RolloutResumed(RolloutResumed { app, .. })
            | Self::ReplicasRequested(ReplicasRequested { app, .. })
            | Self::ReplicasRetired(ReplicasRetired { app, .. })
            | Self::ReplicasReleased(ReplicasReleased { app, .. })
            | Self::ReplicasUnplaced(ReplicasUnplaced { app, .. })
            | Self::MovesPlanned(MovesPlanned { app, .. })
            | Self::CallsMeasured(CallsMeasured { app, .. })
            | Self::ImageResolved(ImageResolved { app, .. }) => app.tenant.as_str(),
            Self::CommandAccepted(_)
            | Self::CommandRejected(_)
            | Self::ConfigStored(_)
            | Self::NoteAdded(_)
            | Self::RunFailed(_)
            | Self::RunStarted(_)
            | Self::RunEnded(_)
            | Self::ReplicaReady(_)
            | Self::ReplicaUnready(_)
            | Self::ReplicaEnded(_)
            | Self::ExecStarted(_) => DEFAULT_TENANT,
            _ => CLUSTER_TENANT,
        }
    }
}

fn about<const N: usize>(
    noun: &'static str,
    id: &str,
    verb: &'static str,
    entities: [String; N],
) -> About {
    About { noun, id: id.to_owned(), verb, entities: entities.into() }
}

fn of_leader(writer: &Writer, verb: &'static str) -> About {
    match writer {
        Writer::Agent(node) => About {
            noun: "agent",
            id: node.to_string(),
            verb,
            entities: vec![format!("leader/{writer}"), node_entity(node)],
        },
        service => about("leader", &service.to_string(), verb, [format!("leader/{service}")]),
    }
}

fn of_command(command: &CommandId, verb: &'static str) -> About {
    about("command", command.as_str(), verb, [command_entity(command)])
}

fn of_app(app: &AppKey, verb: &'static str) -> About {
    about("app", app.name.as_str(), verb, [app_entity(app)])
}

fn of_workload(app: &AppKey, workload: &WorkloadName, verb: &'static str) -> About {
    let id = format!("{}:{workload}", app.name);
    about("workload", &id, verb, [app_entity(app), workload_entity(app, workload)])
}

fn of_node(node: &NodeName, verb: &'static str) -> About {
    about("node", node.as_str(), verb, [node_entity(node)])
}

fn of_certificate(host: &str, verb: &'static str) -> About {
    // A dot would begin another token.
    about("certificate", &host.replace('.', ":"), verb, [certificate_entity(host)])
}

fn of_replica(replica: &ReplicaId, verb: &'static str) -> About {
    about("replica", replica.as_str(), verb, [replica_entity(replica)])
}

impl About {
    fn and<'a>(mut self, replicas: impl IntoIterator<Item = &'a ReplicaId>) -> Self {
        self.entities.extend(replicas.into_iter().map(replica_entity));
        self
    }
}
