//! What concerns one app: what was said of it, of its replicas and files, and of the commands behind
//! these. Nodes, leaderships and the log itself concern every app.

use std::collections::BTreeSet;

use schemas::envelope::Header;
use schemas::event::{
    AppConverged, AppDeleteStarted, AppDeleted, AppDeployed, AppStalled, CallsMeasured,
    CommandAccepted, CommandRejected, Event, ExecStarted, ImageResolved, MovesPlanned,
    ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasReleased, ReplicasRequested,
    ReplicasRetired, ReplicasUnplaced, RolloutFailed, RolloutPaused, RolloutPromoted,
    RolloutResumed, RolloutStepped, RunEnded, RunFailed, RunStarted, WorkloadRestarted,
    WorkloadScaled, app_entity,
};
use schemas::id::{AppKey, CommandId, Digest, ReplicaId};

/// What is to stay of a history.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    app: Option<AppKey>,
    known: bool,
    replicas: BTreeSet<ReplicaId>,
    files: BTreeSet<Digest>,
    commands: BTreeSet<CommandId>,
    /// Commands whose events concern the app if what they are about does.
    about: Vec<(CommandId, String)>,
}

impl Scope {
    pub(crate) fn new(app: Option<AppKey>) -> Self {
        Self {
            app,
            known: false,
            replicas: BTreeSet::new(),
            files: BTreeSet::new(),
            commands: BTreeSet::new(),
            about: Vec::new(),
        }
    }

    /// Takes in the next event.
    pub(crate) fn read(&mut self, header: &Header, event: &Event) {
        let Some(wanted) = &self.app else { return };
        let command = header.correlation.as_ref();
        let about = match event {
            Event::ConfigStored(e) => Some(format!("config/{}", e.digest)),
            Event::NoteAdded(e) => Some(e.object.clone()),
            _ => None,
        };
        self.about.extend(command.cloned().zip(about));
        if concerns(event) != Concerns::App(wanted) {
            return;
        }
        self.known = true;
        self.commands.extend(command.cloned());
        match event {
            Event::AppDeployed(e) => {
                let files = e.spec.workloads.values().flat_map(|spec| spec.configs.values());
                self.files.extend(files.map(|file| file.digest.clone()));
            }
            Event::ReplicasRequested(e) => {
                self.replicas.extend(e.replicas.iter().map(|replica| replica.id.clone()));
            }
            _ => {}
        }
    }

    /// Whether anything was said of the app.
    pub(crate) fn is_known(&self) -> bool {
        self.app.is_none() || self.known
    }

    /// Everything was taken in.
    pub(crate) fn settle(&mut self) {
        let about = std::mem::take(&mut self.about);
        let of_app: Vec<CommandId> = about
            .into_iter()
            .filter(|(_, object)| self.is_about(object))
            .map(|(id, _)| id)
            .collect();
        self.commands.extend(of_app);
    }

    fn is_about(&self, object: &str) -> bool {
        let Some(app) = &self.app else { return true };
        let replica = |id: &str| ReplicaId::new(id).is_ok_and(|id| self.replicas.contains(&id));
        match object.split_once('/') {
            Some(("node", _)) => true,
            Some(("app", _)) => object == app_entity(app),
            Some(("workload", rest)) => {
                rest.rsplit_once('/').is_some_and(|(of, _)| of == app.to_string())
            }
            Some(("replica", id)) => replica(id),
            Some(("config", digest)) => {
                Digest::new(digest).is_ok_and(|digest| self.files.contains(&digest))
            }
            Some(("command", id)) => CommandId::new(id).is_ok_and(|id| self.commands.contains(&id)),
            Some(_) | None => false,
        }
    }

    /// What stays of an event; none when it concerns others only.
    pub(crate) fn within(&self, event: Event) -> Option<Event> {
        let Some(app) = &self.app else { return Some(event) };
        let command =
            |id: &CommandId, verb: &str| self.commands.contains(id) || verb.starts_with("node.");
        let stays = match &event {
            Event::CommandAccepted(CommandAccepted { command: id, verb, .. })
            | Event::CommandRejected(CommandRejected { command: id, verb, .. }) => {
                command(id, verb)
            }
            Event::ConfigStored(e) => self.files.contains(&e.digest),
            Event::NoteAdded(e) => self.is_about(&e.object),
            Event::ReplicasPlaced(e) => {
                let mut e = e.clone();
                e.replicas.retain(|replica| self.replicas.contains(replica));
                return (!e.replicas.is_empty()).then(|| e.into());
            }
            // Who else calls it, or is far from whom, concerns others.
            Event::CallsMeasured(e) if e.app == *app => {
                let mut e = e.clone();
                e.callers.retain(|caller| caller.app == *app);
                return Some(e.into());
            }
            Event::RebalanceStarted(e) => {
                let mut e = e.clone();
                e.calls.retain(|called| called.app == *app);
                return Some(e.into());
            }
            Event::StrayRemoved(e) => {
                let replica = e.container.rsplit_once('-').map_or("", |(replica, _)| replica);
                self.is_about(&format!("replica/{replica}"))
            }
            _ => match concerns(&event) {
                Concerns::App(of) => of == app,
                Concerns::Replica(replica) => self.replicas.contains(replica),
                Concerns::All => true,
            },
        };
        stays.then_some(event)
    }
}

/// Whom an event concerns.
#[derive(Debug, PartialEq, Eq)]
enum Concerns<'a> {
    /// The app that it names.
    App(&'a AppKey),
    /// The replica that it is about.
    Replica(&'a ReplicaId),
    /// Every app, or those that follow from what it says: `within` looks closer.
    All,
}

/// Whom an event concerns. Without a rule for the rest: of a new fact it is to be decided.
fn concerns(event: &Event) -> Concerns<'_> {
    match event {
        Event::AppDeployed(AppDeployed { app, .. })
        | Event::AppConverged(AppConverged { app, .. })
        | Event::AppStalled(AppStalled { app, .. })
        | Event::AppDeleteStarted(AppDeleteStarted { app })
        | Event::AppDeleted(AppDeleted { app })
        | Event::RolloutFailed(RolloutFailed { app, .. })
        | Event::RolloutStepped(RolloutStepped { app, .. })
        | Event::RolloutPromoted(RolloutPromoted { app, .. })
        | Event::RolloutPaused(RolloutPaused { app, .. })
        | Event::RolloutResumed(RolloutResumed { app, .. })
        | Event::WorkloadScaled(WorkloadScaled { app, .. })
        | Event::WorkloadRestarted(WorkloadRestarted { app, .. })
        | Event::ReplicasRequested(ReplicasRequested { app, .. })
        | Event::ReplicasRetired(ReplicasRetired { app, .. })
        | Event::ReplicasReleased(ReplicasReleased { app, .. })
        | Event::ReplicasUnplaced(ReplicasUnplaced { app, .. })
        | Event::MovesPlanned(MovesPlanned { app, .. })
        | Event::CallsMeasured(CallsMeasured { app, .. })
        | Event::ImageResolved(ImageResolved { app, .. }) => Concerns::App(app),
        Event::RunFailed(RunFailed { replica, .. })
        | Event::RunStarted(RunStarted { replica, .. })
        | Event::RunEnded(RunEnded { replica, .. })
        | Event::ReplicaReady(ReplicaReady { replica, .. })
        | Event::ReplicaUnready(ReplicaUnready { replica, .. })
        | Event::ReplicaEnded(ReplicaEnded { replica, .. })
        | Event::ExecStarted(ExecStarted { replica, .. }) => Concerns::Replica(replica),
        Event::CommandAccepted(_)
        | Event::CommandRejected(_)
        | Event::ConfigStored(_)
        | Event::NoteAdded(_)
        | Event::RebalanceStarted(_)
        | Event::RebalanceSet(_)
        | Event::RebalanceEnded(_)
        | Event::ReplicasPlaced(_)
        | Event::StrayRemoved(_)
        | Event::SequencerTaken(_)
        | Event::PositionVoided(_)
        | Event::HistoryForked(_)
        | Event::StateDiverged(_)
        | Event::GatewayDiverged(_)
        | Event::CertificateOrdered(_)
        | Event::CertificateIssued(_)
        | Event::CertificateFailed(_)
        | Event::IntakeClosed(_)
        | Event::IntakeOpened(_)
        | Event::LeadershipTaken(_)
        | Event::LeadershipReleased(_)
        | Event::NodeCordoned(_)
        | Event::NodeUncordoned(_)
        | Event::NodeLabelled(_)
        | Event::NodeRemoved(_)
        | Event::NodeDeclaredLost(_)
        | Event::NodeDescribed(_)
        | Event::NodeSuspected(_)
        | Event::NodeLost(_)
        | Event::NodeReturned(_)
        | Event::EvictionPaused(_)
        | Event::EvictionResumed(_) => Concerns::All,
    }
}
