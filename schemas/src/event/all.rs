//! Every event there is: who states it, and what it says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{By, parts::*};
use crate::command::Problem;
use crate::id::{AppKey, CommandId, Digest, NodeName, ReplicaId, WorkloadName, Writer};
use crate::{place::Place, spec::AppSpec};

events! {
    /// An instance of event-log became the sequencer. Voids a batch that was left unfinished.
    SequencerTaken by By::EventLog => {
        /// The instance that took.
        instance: String,
        /// The last position before it.
        after: u64,
        /// The id of this history; only in the first entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        genesis: Option<String>,
        /// Where the log of that instance ended, when an operator let it go on without what had been
        /// published behind that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        accept_loss: Option<Place>,
    }
    /// Nothing of this history is at this position: something stood there in the stream that the log
    /// never wrote, or a bundle leaves out what stood there.
    PositionVoided by By::EventLog => {
        /// SHA-256 of what stood there. In a bundle, SHA-256 of the original history's id, a slash and
        /// that digest, so that nothing can be guessed by it.
        sha256: Digest,
    }
    /// From here on this is a copy of another history, which goes its own way.
    HistoryForked by By::EventLog => {
        /// The last place that both have.
        from: Place,
    }
    /// A service's state is not the one that event-log has of the same place.
    StateDiverged by By::EventLog => {
        /// The service.
        writer: Writer,
        /// Its instance.
        instance: String,
        /// The place.
        place: Place,
        /// The version of the fold that both have.
        fold_version: u32,
        /// The hash of the service's state.
        theirs: String,
        /// The hash of event-log's.
        ours: String,
    }
    /// The state of a node's gateway is not the one that event-log has of the same place.
    GatewayDiverged by By::EventLog => {
        /// The node.
        node: NodeName,
        /// The gateway's instance.
        instance: String,
        /// The place.
        place: Place,
        /// The version of the fold that both have.
        fold_version: u32,
        /// The hash of the gateway's state.
        theirs: String,
        /// The hash of event-log's.
        ours: String,
    }
    /// A disk has little room left: commands that ask for more are refused until there is more.
    IntakeClosed by By::EventLog => {
        /// Which disk: that of the `log`, or of `nats`.
        disk: String,
        /// How much was free.
        free_bytes: u64,
        /// How much must be free for the intake to open again.
        needed_bytes: u64,
    }
    /// The disks have room again.
    IntakeOpened by By::EventLog => {
        /// The disk with the least room.
        disk: String,
        /// How much was free.
        free_bytes: u64,
    }
    /// An instance became the one that decides for its service (or its node).
    LeadershipTaken by By::Leader => {
        /// For what.
        writer: Writer,
        /// The number of this leadership: one more than the last.
        term: u64,
        /// The instance.
        instance: String,
    }
    /// A leader stopped cleanly.
    LeadershipReleased by By::Leader => {
        /// For what.
        writer: Writer,
        /// The leadership that ended.
        term: u64,
    }
    /// A command will be carried out.
    CommandAccepted by By::Controller => {
        /// Its id.
        command: CommandId,
        /// Its `noun.verb`.
        verb: String,
        /// Its sequence in the commands stream.
        sequence: u64,
        /// Whether the broker proved who sent it.
        proved: bool,
        /// Why, in the sender's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    /// A command will not be carried out.
    CommandRejected by By::Controller => {
        /// Its id.
        command: CommandId,
        /// Its `noun.verb`.
        verb: String,
        /// Its sequence in the commands stream.
        sequence: u64,
        /// What is wrong with it.
        problem: Problem,
    }
    /// An app was declared anew.
    AppDeployed by By::Controller => {
        /// The app.
        app: AppKey,
        /// The number of this declaration, from 1.
        revision: u64,
        /// The whole of it.
        spec: AppSpec,
    }
    /// Everything that was declared runs as declared.
    AppConverged by By::Controller => {
        /// The app.
        app: AppKey,
        /// The revision that runs.
        revision: u64,
        /// Jobs of its rollout that failed after all else was as declared, and let it be.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failed: Vec<TaskFailed>,
    }
    /// An app does not get to what was declared.
    AppStalled by By::Controller => {
        /// The app.
        app: AppKey,
        /// The revision that does not come to run.
        revision: u64,
        /// The workload that holds it up.
        workload: WorkloadName,
        /// Why.
        reason: String,
    }
    /// An app is being ended.
    AppDeleteStarted by By::Controller => {
        /// The app.
        app: AppKey,
    }
    /// Nothing of an app is left but its volumes.
    AppDeleted by By::Controller => {
        /// The app.
        app: AppKey,
    }
    /// The number of a workload's replicas was set.
    WorkloadScaled by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// How many there were.
        from: u32,
        /// How many there should be.
        to: u32,
        /// Why, in the sender's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
    /// Every replica of a workload is to be replaced by one of the same spec.
    WorkloadRestarted by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// How often it was restarted; replicas of a lower generation are replaced.
        generation: u64,
    }
    /// A revision failed. The declaration that takes it back comes right behind it, as the next revision.
    RolloutFailed by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload that failed.
        workload: WorkloadName,
        /// The revision that failed.
        revision: u64,
        /// The good revision whose declaration comes back.
        back_to: u64,
        /// Why.
        reason: String,
        /// The replica that showed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        replica: Option<ReplicaId>,
        /// What was last found wrong with a replica of the failed revision.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence: Option<Evidence>,
        /// The position of the event that says it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        evidence_at: Option<u64>,
        /// What gateways measured, when that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measured: Option<Measured>,
    }
    /// A canary went on to its next step.
    RolloutStepped by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The revision that is rolled out.
        revision: u64,
        /// The step that begins, from 0.
        step: u32,
        /// How much of the traffic the new spec gets in it, in percent.
        weight_percent: u32,
        /// What gateways measured since the rollout began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measured: Option<Measured>,
    }
    /// A rollout is not held back any more: the new spec gets all of the traffic, and takes over.
    RolloutPromoted by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The revision that is rolled out.
        revision: u64,
        /// What gateways measured since the rollout began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        measured: Option<Measured>,
    }
    /// A rollout stays where it is until it is resumed.
    RolloutPaused by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The revision that is rolled out.
        revision: u64,
    }
    /// A paused rollout goes on.
    RolloutResumed by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The revision that is rolled out.
        revision: u64,
    }
    /// Replicas must exist, and await a node.
    ReplicasRequested by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The revision they belong to.
        revision: u64,
        /// The generation they belong to.
        generation: u64,
        /// The digest of the workload's spec.
        spec: Digest,
        /// The replicas.
        replicas: Vec<RequestedReplica>,
    }
    /// Replicas must end. One that has no node yet has thereby ended.
    ReplicasRetired by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The replicas.
        replicas: Vec<ReplicaId>,
        /// Why.
        reason: RetireReason,
        /// Whether they finish what is under way first: they are asked to stop when
        /// `ReplicasReleased` says so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leaving: bool,
    }
    /// Replicas that are leaving get no traffic any more, and are asked to stop.
    ReplicasReleased by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The replicas.
        replicas: Vec<ReplicaId>,
        /// How many gateways have said that they send nothing there.
        gateways: u64,
        /// Gateways that had not said so when the wait for them ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        silent: Vec<NodeName>,
        /// What was still under way when the time for it had passed: connections and requests.
        #[serde(default, skip_serializing_if = "is_zero")]
        open: u64,
    }
    /// Replicas are to be moved to nodes that are better for them.
    RebalanceStarted by By::Controller => {
        /// Only those of this app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        app: Option<AppKey>,
        /// The nodes that joined or came back, when it began by itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        nodes: Vec<NodeName>,
        /// The workloads that were measured to be far from those who call them, when it began by itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        calls: Vec<Called>,
    }
    /// It was measured who calls a workload, and how far that is: otherwise than before, for a while now.
    CallsMeasured by By::Controller => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// How long it takes to connect from its callers to it, on average, in microseconds.
        connect_us: u64,
        /// Over how long calls were counted, in ms.
        over_ms: u64,
        /// Who calls it; nobody does when none is there.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        callers: Vec<Caller>,
        /// How far it is from the nodes of its callers to others.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ways: Vec<Way>,
    }
    /// It was said whether that begins by itself when a node has joined or come back, or calls are far.
    RebalanceSet by By::Controller => {
        /// Whether it does.
        on: bool,
    }
    /// A file was stored.
    ConfigStored by By::Controller => {
        /// SHA-256 of its content.
        digest: Digest,
        /// Its content in base64.
        content_base64: String,
    }
    /// Somebody left a note.
    NoteAdded by By::Controller => {
        /// What it is about.
        object: String,
        /// The note.
        text: String,
        /// Anything more, by key.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        fields: BTreeMap<String, String>,
    }
    /// Nothing new is placed on a node.
    NodeCordoned by By::Controller => {
        /// The node.
        node: NodeName,
        /// Whether its replicas move elsewhere as well.
        drain: bool,
    }
    /// A node may have replicas again.
    NodeUncordoned by By::Controller => {
        /// The node.
        node: NodeName,
    }
    /// The labels of a node were set.
    NodeLabelled by By::Controller => {
        /// The node.
        node: NodeName,
        /// All labels that a command gave it.
        labels: BTreeMap<String, String>,
    }
    /// A node was forgotten, and what was on it has ended.
    NodeRemoved by By::Controller => {
        /// The node.
        node: NodeName,
    }
    /// A person said that a silent node is gone.
    NodeDeclaredLost by By::Controller => {
        /// The node.
        node: NodeName,
    }
    /// Replicas were bound to a node, for good: a replica never moves.
    ReplicasPlaced by By::Scheduler => {
        /// The node.
        node: NodeName,
        /// The replicas, all of one tenant.
        replicas: Vec<ReplicaId>,
        /// How many nodes fitted, and why this one.
        chosen: String,
        /// What kept them from the nodes that did not fit, as the round began.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        passed_over: Vec<PassedOver>,
    }
    /// Replicas of a workload fit nowhere.
    ReplicasUnplaced by By::Scheduler => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// How many wait.
        waiting: u64,
        /// Everything that fails, on how many nodes, and what would make it fit.
        reasons: Vec<Unfit>,
    }
    /// Replicas are to be replaced by others on nodes that are better for them.
    MovesPlanned by By::Scheduler => {
        /// The app.
        app: AppKey,
        /// The workload.
        workload: WorkloadName,
        /// The moves.
        moves: Vec<Move>,
    }
    /// Nothing is gained by any other move.
    RebalanceEnded by By::Scheduler => {
        /// How many moves were planned.
        planned: u64,
        /// Replicas that stayed all the same: the other one did not come up in time.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stayed: Vec<ReplicaId>,
    }
    /// A gateway orders a certificate of a host, for which there is none, or one that is to be renewed.
    CertificateOrdered by By::Controller => {
        /// The host.
        host: String,
        /// The node of the gateway.
        node: NodeName,
        /// When it began, by that gateway's clock, in ms since 1970 UTC.
        since_ms: u64,
    }
    /// A host has a new certificate, which every gateway serves from now on.
    CertificateIssued by By::Controller => {
        /// The host.
        host: String,
        /// The node of the gateway that ordered it.
        node: NodeName,
        /// When that was done, by its clock, in ms since 1970 UTC.
        since_ms: u64,
        /// From when on it is valid, in ms since 1970 UTC.
        not_before_ms: u64,
        /// Until when.
        not_after_ms: u64,
    }
    /// The order of a host's certificate failed. The one before it, if there is one, serves on.
    CertificateFailed by By::Controller => {
        /// The host.
        host: String,
        /// The node of the gateway that ordered it.
        node: NodeName,
        /// When it failed, by its clock, in ms since 1970 UTC.
        since_ms: u64,
        /// How often in a row.
        failures: u32,
        /// Why: what the CA said, mostly.
        error: String,
        /// Not tried again before this, in ms since 1970 UTC.
        next_ms: u64,
    }
    /// A node was not heard for a while: nothing new is placed there.
    NodeSuspected by By::Health => {
        /// The node.
        node: NodeName,
        /// How long it had been silent.
        silent_ms: u64,
    }
    /// A node was not heard for so long that its replicas are replaced.
    NodeLost by By::Health => {
        /// The node.
        node: NodeName,
        /// How long it had been silent.
        silent_ms: u64,
    }
    /// A suspected or lost node is heard again.
    NodeReturned by By::Health => {
        /// The node.
        node: NodeName,
        /// How long it had been silent.
        silent_ms: u64,
    }
    /// So many nodes are silent that none is declared lost.
    EvictionPaused by By::Health => {
        /// How many are silent.
        silent: u64,
        /// Of how many.
        nodes: u64,
    }
    /// Few enough nodes are silent again.
    EvictionResumed by By::Health => {
        /// How many are silent.
        silent: u64,
        /// Of how many.
        nodes: u64,
    }
    /// What a node is and has, stated when its agent starts and when it changes.
    NodeDescribed by By::Agent => {
        /// The node.
        node: NodeName,
        /// What it is and has.
        description: NodeDescription,
    }
    /// What an image reference of a spec means for all its replicas. The first statement wins.
    ImageResolved by By::Agent => {
        /// The app.
        app: AppKey,
        /// The spec that names the image.
        spec: Digest,
        /// The reference, as declared.
        reference: String,
        /// The image: `<repository>@sha256:…`, or an engine's image id where there is no registry.
        image: String,
    }
    /// A run of a replica could not be started. The agent tries again.
    RunFailed by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// What the agent was doing: `resolve`, `pull`, `find the image`, `create`, `start`.
        step: String,
        /// What the engine said.
        error: String,
        /// When it tries again, from now.
        retry_ms: u64,
    }
    /// A run of a replica began.
    RunStarted by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// The engine's id of the container.
        container: String,
        /// Where its ports can be reached.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        endpoints: Vec<Endpoint>,
        /// The container's own address and the length of its network's prefix: `172.18.0.3/16`. What
        /// comes from that network on its node is of the replica's app.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inside: Option<String>,
    }
    /// A run of a replica ended.
    RunEnded by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// What was found.
        evidence: Evidence,
        /// When the next run starts, from now; none when the replica ends with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_ms: Option<u64>,
    }
    /// A replica is healthy, and may be given work.
    ReplicaReady by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
    }
    /// A replica that was ready is not healthy any more.
    ReplicaUnready by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// What the probe said.
        output: String,
    }
    /// Nothing of a replica runs any more, nor ever will.
    ReplicaEnded by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// How.
        outcome: Outcome,
    }
    /// Somebody runs a command in a replica.
    ExecStarted by By::Agent => {
        /// The replica.
        replica: ReplicaId,
        /// The run.
        run: u32,
        /// The command and its arguments, cut short when they are long.
        command: Vec<String>,
        /// Who: the user whose inbox the output goes to.
        actor: String,
    }
    /// A container of ours was not in the node's document, and was removed.
    StrayRemoved by By::Agent => {
        /// The node.
        node: NodeName,
        /// The container's name.
        container: String,
    }
}
