//! What an app lacks, or has too much of, compared with what it declares.
//!
//! Level-triggered: it looks at the state and never at what changed, so a lost wake-up costs time
//! and nothing else. When declared and actual agree it says nothing.

mod dependencies;
mod floor;
mod global;
mod held;
mod replacement;
mod roster;
mod task;
mod verdict;
mod waiting;
mod workload;

use cluster::State;
use cluster::state::{App, AppStatus, Cause, Phase, Replica, Workload};
use schemas::event::{
    AppConverged, AppDeleted, AppStalled, ENTRIES_MAX, Event, ReplicasRequested, ReplicasRetired,
    RequestedReplica, RetireReason,
};
use schemas::id::{AppKey, Digest, NodeName, ReplicaId, WorkloadName};
use schemas::spec::{Mode, WorkloadSpec};

use crate::rollout::{self, Traffic};
use roster::Roster;

/// The longest wait before another replica is requested after failed ones, in ms.
const BACKOFF_MS_MAX: u64 = 60_000;

/// What should follow for one app.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The events, and what each follows from.
    pub events: Vec<(Event, Cause)>,
    /// When to look again if nothing happens before, in ms since 1970.
    pub again_at_ms: Option<u64>,
}

impl Plan {
    fn say(&mut self, event: impl Into<Event>, cause: &Cause) {
        self.events.push((event.into(), cause.clone()));
    }

    /// The last event, when it is about this workload: one decision is one event, not one a replica.
    fn last_of(&mut self, name: &WorkloadName) -> Option<&mut Event> {
        self.events.last_mut().map(|(event, _)| event).filter(|event| match event {
            Event::ReplicasRequested(e) => e.workload == *name,
            Event::ReplicasRetired(e) => e.workload == *name,
            _ => false,
        })
    }

    fn again_at(&mut self, at_ms: u64) {
        self.again_at_ms = Some(self.again_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }
}

/// Which replicas of a workload are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// All of them.
    Whole,
    /// While a rollout is held: those that are not of the declared spec.
    Old,
    /// While a rollout is held: those that are.
    New,
}

/// One workload, and all that is needed to judge it.
#[derive(Clone, Copy)]
struct Subject<'a> {
    state: &'a State,
    key: &'a AppKey,
    app: &'a App,
    name: &'a WorkloadName,
    workload: &'a Workload,
    part: Part,
    /// The spec that the replicas of this part should have.
    spec: &'a WorkloadSpec,
    digest: &'a Digest,
    now_ms: u64,
}

/// Judges one app.
#[must_use]
pub fn app(state: &State, traffic: &Traffic, key: &AppKey, now_ms: u64) -> Plan {
    let mut plan = Plan::default();
    let Some(app) = state.apps.get(key) else { return plan };
    let subjects = || {
        app.workloads
            .iter()
            .filter_map(|(name, workload)| Subject::of(state, key, app, name, workload, now_ms))
    };
    for subject in subjects() {
        if let Some(failure) = subject.failed(traffic, &mut plan) {
            let back = rollout::back(key, app, failure);
            plan.events.extend(back.into_iter().flatten());
            return plan;
        }
    }
    for subject in subjects() {
        if !subject.workload.declared {
            dependencies::end(&subject, &mut plan);
        } else if subject.spec.mode == Mode::Global {
            global::reconcile(&subject, &mut plan);
        } else {
            workload::reconcile(&subject, &mut plan);
        }
    }
    if plan.events.is_empty() {
        for subject in subjects() {
            held::go_on(&subject, traffic, &mut plan);
        }
    }
    if plan.events.is_empty() {
        judge(state, key, app, now_ms, &mut plan);
    }
    plan
}

/// Says how far the app got, when that is news.
fn judge(state: &State, key: &AppKey, app: &App, now_ms: u64, plan: &mut Plan) {
    let has_replicas =
        app.workloads.keys().any(|name| state.replicas_of(key, name).next().is_some());
    if app.status == AppStatus::Deleting {
        if !has_replicas {
            plan.say(AppDeleted { app: key.clone() }, &app.cause);
        }
        return;
    }
    if let AppStatus::Stalled { workload: name, .. } = &app.status
        && let Some(workload) = app.workloads.get(name)
        && let Some(subject) = Subject::of(state, key, app, name, workload, now_ms)
        && !subject.is_done(plan)
    {
        // Told already. That another one is held up as well would not help anybody.
        return;
    }
    let mut all_done = true;
    for (name, workload) in &app.workloads {
        let Some(subject) = Subject::of(state, key, app, name, workload, now_ms) else { continue };
        if subject.is_done(plan) {
            continue;
        }
        all_done = false;
        if let Some(reason) = subject.stalled(plan) {
            let stalled = AppStalled {
                app: key.clone(),
                revision: app.revision,
                workload: name.clone(),
                reason,
            };
            plan.say(stalled, &app.cause);
            return;
        }
    }
    if all_done && app.status != AppStatus::Converged {
        let failed = task::failed(app);
        let converged = AppConverged { app: key.clone(), revision: app.revision, failed };
        plan.say(converged, &app.cause);
    }
}

impl<'a> Subject<'a> {
    /// A workload as a whole; none when its spec is not known.
    fn of(
        state: &'a State,
        key: &'a AppKey,
        app: &'a App,
        name: &'a WorkloadName,
        workload: &'a Workload,
        now_ms: u64,
    ) -> Option<Self> {
        let (digest, part) = (&workload.spec, Part::Whole);
        let spec = app.specs.get(digest)?;
        Some(Self { state, key, app, name, workload, part, spec, digest, now_ms })
    }

    /// Whether a replica has the spec and the generation that it should have.
    fn is_current(&self, replica: &Replica) -> bool {
        replica.spec == *self.digest && replica.generation == self.workload.generation
    }

    /// Whether it is of what is judged here.
    fn owns(&self, replica: &Replica) -> bool {
        match self.part {
            Part::Whole => true,
            Part::Old => replica.spec != self.workload.spec,
            Part::New => replica.spec == self.workload.spec,
        }
    }

    /// Whether the spec is the declared one, of which failures and missing images are noted.
    fn is_declared(&self) -> bool {
        *self.digest == self.workload.spec
    }

    /// Whether actual is as declared, and shown to be where that is a change that may yet be taken
    /// back.
    fn is_done(&self, plan: &mut Plan) -> bool {
        if !self.workload.declared {
            return self.state.replicas_of(self.key, self.name).next().is_none();
        }
        if self.workload.held().is_some() {
            return false;
        }
        let roster = Roster::of(self);
        let settled = roster.members.iter().all(|member| {
            self.is_current(member.replica)
                && member.replacement.is_none()
                && member.replica.phase == Phase::Ready
                && !self.state.is_unknown(member.replica)
        });
        let declared = u64::from(self.workload.replicas);
        let changed = self.app.is_changed(self.name, self.workload);
        let mut proven =
            || !changed || roster.members.iter().all(|m| workload::proven(self, m, plan));
        match self.spec.mode {
            Mode::Job if self.workload.conduct.task.is_some() => {
                task::is_over(self) && roster.members.is_empty()
            }
            Mode::Job => self.workload.completed >= declared && roster.members.is_empty(),
            Mode::Global => settled && proven(),
            Mode::Replicated => settled && roster.len() == declared && proven(),
        }
    }

    /// When another replica may be requested: at once, or a while after others failed.
    fn may_request_at(&self) -> u64 {
        let rollout = self.workload.rollout.as_ref().filter(|_| !self.is_declared());
        let (failures, failed_ms) = rollout
            .map_or((self.workload.failures, self.workload.failed_ms), |rollout| {
                (rollout.failures, rollout.failed_ms)
            });
        match failures {
            0 => 0,
            n => {
                let wait = 1_000_u64.saturating_mul(1 << n.min(10).saturating_sub(1));
                failed_ms + wait.min(BACKOFF_MS_MAX)
            }
        }
    }

    /// Requests replicas: each of no particular place, or instead of another, or for one node.
    fn request(&self, wanted: Vec<Wanted>, cause: &Cause, plan: &mut Plan) {
        if wanted.is_empty() {
            return;
        }
        let at = self.may_request_at();
        if self.now_ms < at {
            plan.again_at(at);
            return;
        }
        let already: usize = plan.events.iter().map(|(event, _)| requested(event, self.name)).sum();
        let first = self.workload.requested + u64::try_from(already).unwrap_or(0);
        let replicas: Vec<RequestedReplica> = (first..)
            .zip(wanted)
            .map(|(serial, wanted)| RequestedReplica {
                id: self.fresh_id(serial),
                replaces: wanted.replaces,
                node: wanted.node,
            })
            .collect();
        if let Some(Event::ReplicasRequested(last)) = plan.last_of(self.name)
            && last.spec == *self.digest
            && last.replicas.len() + replicas.len() <= ENTRIES_MAX
        {
            last.replicas.extend(replicas);
            return;
        }
        for part in replicas.chunks(ENTRIES_MAX) {
            let event = ReplicasRequested {
                app: self.key.clone(),
                workload: self.name.clone(),
                revision: self.app.revision,
                generation: self.workload.generation,
                spec: self.digest.clone(),
                replicas: part.to_vec(),
            };
            plan.say(event, cause);
        }
    }

    /// The id that follows from a serial number and from where the app last changed: an app that was
    /// deleted counts from 0 again, and an id is never used again. Two in 33 million are alike; the
    /// next is taken then.
    fn fresh_id(&self, serial: u64) -> ReplicaId {
        let serial = (self.app.changed_at << 20).wrapping_add(serial);
        let tries = (0_u64..).map(|i| serial.wrapping_add(i << 52));
        let mut ids = tries.map(|serial| ReplicaId::derive(self.key, self.name, serial));
        ids.find(|id| !self.state.replicas.contains(id)).expect("there are more ids than replicas")
    }

    /// Retires replicas: those that may have traffic finish it first.
    fn retire(
        &self,
        replicas: Vec<ReplicaId>,
        reason: RetireReason,
        cause: &Cause,
        plan: &mut Plan,
    ) {
        let (leaving, others): (Vec<_>, Vec<_>) =
            replicas.into_iter().partition(|id| self.may_have_traffic(id));
        self.say_retired(others, &reason, false, cause, plan);
        self.say_retired(leaving, &reason, true, cause, plan);
    }

    fn say_retired(
        &self,
        replicas: Vec<ReplicaId>,
        reason: &RetireReason,
        leaving: bool,
        cause: &Cause,
        plan: &mut Plan,
    ) {
        if replicas.is_empty() {
            return;
        }
        if let Some(Event::ReplicasRetired(last)) = plan.last_of(self.name)
            && (&last.reason, last.leaving) == (reason, leaving)
            && last.replicas.len() + replicas.len() <= ENTRIES_MAX
        {
            last.replicas.extend(replicas);
            return;
        }
        for part in replicas.chunks(ENTRIES_MAX) {
            let event = ReplicasRetired {
                app: self.key.clone(),
                workload: self.name.clone(),
                replicas: part.to_vec(),
                reason: reason.clone(),
                leaving,
            };
            plan.say(event, cause);
        }
    }

    /// Whether a gateway may send something to a replica. One whose node is lost is past knowing.
    fn may_have_traffic(&self, id: &ReplicaId) -> bool {
        self.state.replicas.get(id).is_some_and(|replica| {
            replica.phase == Phase::Ready
                && !replica.endpoints.is_empty()
                && !self.state.is_unknown(replica)
        })
    }
}

fn requested(event: &Event, name: &WorkloadName) -> usize {
    match event {
        Event::ReplicasRequested(e) if e.workload == *name => e.replicas.len(),
        _ => 0,
    }
}

/// A replica that should be requested.
#[derive(Clone, Default)]
struct Wanted {
    replaces: Option<ReplicaId>,
    node: Option<NodeName>,
}

#[cfg(test)]
mod tests;
