//! One replica on this node, from its assignment to its end.

use decider::Now;
use schemas::document::{Assignment, SpecDocument};
use schemas::event::{
    Endpoint, Event, Evidence, ImageResolved, Outcome, ReplicaEnded, ReplicaReady, ReplicaUnready,
    RunEnded, RunFailed, RunStarted,
};
use schemas::id::{Digest, ReplicaId};
use schemas::spec::{Probe, RestartPolicy, WorkloadSpec};
use serde::{Deserialize, Serialize};

use crate::engine::{Done, ImageHealth, Listed, Op};

/// How often the outcome of an image's own health check is looked for, in ms.
const IMAGE_CHECK_EVERY_MS: u64 = 1_000;

/// How often what is not ready yet is tried, in ms: it may be ready long before the interval.
const STARTING_PROBE_EVERY_MS: u64 = 500;

/// What a replica is judged by at one moment, and what is to be said of it.
pub(super) struct World {
    pub(super) id: ReplicaId,
    pub(super) assignment: Option<Assignment>,
    pub(super) spec: Option<SpecDocument>,
    pub(super) cluster: Option<String>,
    pub(super) now: Now,
    /// Facts to state.
    pub(super) stated: Vec<Event>,
    /// A spec that must be fetched.
    pub(super) missing_spec: Option<Digest>,
    /// Nothing is left to remember.
    pub(super) forget: bool,
}

impl World {
    pub(super) fn new(
        id: ReplicaId,
        assignment: Option<Assignment>,
        spec: Option<SpecDocument>,
        now: Now,
    ) -> Self {
        let (cluster, stated) = (None, Vec::new());
        Self { id, assignment, spec, cluster, now, stated, missing_spec: None, forget: false }
    }

    fn say(&mut self, event: impl Into<Event>) {
        self.stated.push(event.into());
    }

    fn workload(&self) -> Option<&WorkloadSpec> {
        self.spec.as_ref().map(|document| &document.spec)
    }

    /// Whether the replica must end: it is told to, or is not in the document any more.
    fn must_end(&self) -> bool {
        self.assignment.as_ref().is_none_or(|assignment| assignment.end)
    }
}

/// What this node knows of a replica. Kept on disk, so that what was stated is not stated again.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Runner {
    stage: Stage,
    /// The run that is on, or that comes next.
    run: u32,
    /// How many runs in a row were short.
    short_runs: u32,
    /// How many runs followed the first.
    restarts: u32,
    endpoints: Vec<Endpoint>,
    image_checks: bool,
    /// Whether the image's reference was resolved and stated by this agent.
    resolved: bool,
    /// Whether the engine may still be about to start this run again: its answer to an earlier try
    /// was not heard, or not by this process.
    #[serde(default)]
    doubtful: bool,
    #[serde(skip)]
    timing: Timing,
}

/// Times of this process's forward-going clock.
#[derive(Clone, Debug, Default)]
struct Timing {
    /// When the stage began.
    since_ms: u64,
    /// When the next run may start, or the next probe is due.
    due_ms: u64,
    /// When the last try of the probe began.
    tried_ms: u64,
    /// Tries that failed in a row, of those that count.
    failed: u32,
    /// When the last of them began.
    counted_ms: u64,
    /// Why the run is being stopped, when that is for being unhealthy.
    unhealthy: Option<String>,
    /// The engine said that the run died, before it said that it was on.
    died: bool,
    /// The stage was read back from disk: the engine must say what became of it.
    unsure: bool,
}

/// Where a replica is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Stage {
    /// Nothing was begun.
    #[default]
    New,
    /// A run is being made.
    Starting,
    /// A run is on, and was stated to be.
    Running,
    /// A run is on, and was stated to be ready.
    Ready,
    /// A run seems to have ended.
    Examining,
    /// The next run comes.
    Waiting,
    /// It is being stopped for good.
    Ending,
    /// It has ended, and that was stated.
    Over,
}

impl Runner {
    /// One amid a run that was stated to be on, or ready.
    #[must_use]
    pub fn amid(run: u32, ready: bool, endpoints: Vec<Endpoint>) -> Self {
        let stage = if ready { Stage::Ready } else { Stage::Running };
        Self { stage, run, endpoints, ..Self::default() }
    }

    /// One whose next run is this one.
    #[must_use]
    pub fn before(run: u32) -> Self {
        Self { stage: Stage::Waiting, run, ..Self::default() }
    }

    pub(super) fn run(&self) -> u32 {
        self.run
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running | Stage::Ready)
    }

    /// Whether a container is what is left of a run that has ended and was told of.
    pub(super) fn left_behind(&self, container: &Listed) -> bool {
        let before = if self.is_over() { self.run + 1 } else { self.run };
        !container.running && container.run < before
    }

    /// The process began anew: what the engine says comes before what is remembered.
    pub(super) fn woke_up(&mut self) {
        self.timing.unsure = true;
        self.doubtful = true;
    }

    /// When something is due.
    pub(super) fn wake_ms(&self) -> Option<u64> {
        match self.stage {
            Stage::Starting | Stage::Over => None,
            _ => Some(self.timing.due_ms),
        }
    }

    fn enter(&mut self, stage: Stage, now: Now) {
        self.stage = stage;
        self.timing.since_ms = now.mono_ms;
        self.timing.due_ms = now.mono_ms;
        self.timing.unsure = false;
        self.timing.died = false;
    }

    /// The run's container seems to have ended.
    pub(super) fn died(&mut self, now: Now) {
        match self.stage {
            Stage::Running | Stage::Ready => self.enter_examining(now),
            Stage::Starting => self.timing.died = true,
            _ => {}
        }
    }

    /// An operation for this replica was sent to the engine.
    pub(super) fn began(&mut self, op: &Op, now: Now) {
        match op {
            Op::Start { run, .. } => {
                self.run = *run;
                self.enter(Stage::Starting, now);
            }
            Op::Stop { remove: true, .. } => self.enter(Stage::Ending, now),
            Op::Probe { .. } => self.timing.tried_ms = now.mono_ms,
            _ => {}
        }
    }

    /// What to do next.
    pub(super) fn next(&mut self, world: &mut World) -> Option<Op> {
        if self.timing.unsure {
            return None;
        }
        if self.stage == Stage::Over {
            world.forget = world.assignment.is_none();
            return None;
        }
        if world.must_end() {
            return self.end(world);
        }
        let due = world.now.mono_ms >= self.timing.due_ms;
        if self.timing.unhealthy.is_some() && self.is_running() && due {
            return Some(self.stop(world, false));
        }
        match self.stage {
            Stage::New | Stage::Waiting if due => self.begin(world),
            Stage::Examining if due => {
                // What may be followed by no other run leaves nothing behind.
                let restart = world.workload().map(|spec| spec.restart.policy);
                let remove = self.doubtful || restart != Some(RestartPolicy::Always);
                let (replica, run) = (world.id.clone(), self.run);
                Some(Op::Examine { replica, run, remove })
            }
            Stage::Running | Stage::Ready => self.check(world).filter(|_| due),
            _ => None,
        }
    }

    /// Ends it, from wherever it is.
    fn end(&mut self, world: &mut World) -> Option<Op> {
        if self.run == 0 {
            world.say(ReplicaEnded { replica: world.id.clone(), outcome: Outcome::Stopped });
            self.enter(Stage::Over, world.now);
            return None;
        }
        if self.stage == Stage::Ending && world.now.mono_ms < self.timing.due_ms {
            return None;
        }
        Some(self.stop(world, true))
    }

    fn stop(&self, world: &World, remove: bool) -> Op {
        let spec = world.workload();
        Op::Stop {
            replica: world.id.clone(),
            run: self.run,
            signal: spec.and_then(|spec| spec.stop_signal.clone()),
            grace_ms: spec.map_or(10_000, |spec| spec.stop_grace_ms),
            remove,
            app: world.assignment.as_ref().map(|assignment| assignment.app.clone()),
        }
    }

    fn begin(&mut self, world: &mut World) -> Option<Op> {
        let assignment = world.assignment.clone()?;
        let Some(spec) = world.spec.clone() else {
            world.missing_spec = Some(assignment.spec.clone());
            return None;
        };
        if assignment.image.is_none() {
            // Once stated, the document will carry the image: this one's, or that of a faster agent.
            let resolve = Op::Resolve { replica: world.id.clone(), spec };
            return (!self.resolved).then_some(resolve);
        }
        let run = if self.stage == Stage::New { self.run.max(1) } else { self.run };
        let cluster = world.cluster.clone();
        Some(Op::Start { replica: world.id.clone(), run, assignment, spec, cluster })
    }

    fn check(&mut self, world: &mut World) -> Option<Op> {
        let spec = world.workload()?;
        match (spec.tried(), self.stage) {
            (Some(probe), _) => Some(Op::Probe {
                replica: world.id.clone(),
                run: self.run,
                check: probe.check.clone(),
                endpoints: self.endpoints.clone(),
                timeout_ms: probe.timeout_ms,
            }),
            (None, Stage::Running) if !self.image_checks => {
                self.ready(world);
                None
            }
            (None, _) => {
                self.timing.due_ms = world.now.mono_ms + IMAGE_CHECK_EVERY_MS;
                None
            }
        }
    }

    fn ready(&mut self, world: &mut World) {
        if self.stage == Stage::Running {
            world.say(ReplicaReady { replica: world.id.clone(), run: self.run });
            self.stage = Stage::Ready;
        }
        self.timing.failed = 0;
    }

    /// What came of an operation.
    pub(super) fn done(&mut self, op: &Op, done: Done, world: &mut World) {
        match (op, done) {
            (Op::Resolve { spec, .. }, Done::Resolved(image)) => self.resolved(spec, image, world),
            (Op::Start { .. }, Done::Started { container, endpoints, inside, image_checks }) => {
                let (replica, run) = (world.id.clone(), self.run);
                let started = RunStarted { replica, run, container, endpoints, inside };
                self.started(started, image_checks, world);
            }
            (Op::Resolve { .. } | Op::Start { .. }, Done::Failed { step, error }) => {
                self.failed_to_begin(step, error, world);
            }
            (Op::Examine { .. }, Done::Examined(evidence)) => self.run_ended(evidence, world),
            (Op::Examine { .. }, Done::StillRuns) => {
                // The run that began then goes on.
                let since_ms = self.timing.since_ms;
                self.enter(Stage::Running, world.now);
                self.timing.since_ms = since_ms;
            }
            (Op::Stop { .. }, Done::Stopped) => self.stopped(world),
            (Op::Probe { .. }, Done::Probed(outcome)) if self.is_running() => {
                self.probed(outcome, world);
            }
            (Op::Stop { .. } | Op::Examine { .. }, Done::Failed { .. }) => {
                self.timing.due_ms = world.now.mono_ms + 1_000;
            }
            _ => {}
        }
    }

    fn resolved(&mut self, spec: &SpecDocument, image: String, world: &mut World) {
        let Some(assignment) = world.assignment.clone() else { return };
        self.resolved = true;
        self.timing.due_ms = world.now.mono_ms;
        world.say(ImageResolved {
            app: assignment.app,
            spec: assignment.spec,
            reference: spec.spec.image.clone(),
            image,
        });
    }

    fn started(&mut self, started: RunStarted, image_checks: bool, world: &mut World) {
        self.endpoints.clone_from(&started.endpoints);
        world.say(started);
        self.image_checks = image_checks;
        let died = self.timing.died;
        self.enter(Stage::Running, world.now);
        self.timing.failed = 0;
        self.timing.unhealthy = None;
        if died {
            self.enter_examining(world.now);
            return;
        }
        let checked = world.workload().is_some_and(|spec| spec.tried().is_some());
        if !checked && !image_checks {
            self.ready(world);
        }
    }

    fn failed_to_begin(&mut self, step: String, error: String, world: &mut World) {
        self.doubtful = true;
        self.short_runs = self.short_runs.saturating_add(1);
        let retry_ms = self.back_off_ms(self.short_runs, world);
        world.say(RunFailed {
            replica: world.id.clone(),
            run: self.run.max(1),
            step,
            error: schemas::command::printable(&error, 400),
            retry_ms,
        });
        self.enter(Stage::Waiting, world.now);
        self.run = self.run.max(1);
        self.timing.due_ms = world.now.mono_ms + retry_ms;
    }

    /// The wait after so many short runs in a row: doubling from the shortest to the longest.
    fn back_off_ms(&self, short_runs: u32, world: &World) -> u64 {
        let restart = world.workload().map(|spec| spec.restart).unwrap_or_default();
        let doublings = short_runs.saturating_sub(1).min(20);
        restart.delay_ms.saturating_mul(1 << doublings).min(restart.delay_max_ms)
    }

    fn run_ended(&mut self, mut evidence: Evidence, world: &mut World) {
        if let Some(output) = self.timing.unhealthy.take() {
            evidence.cause = format!("unhealthy: {output}");
        }
        if self.stage == Stage::Ending || world.must_end() {
            self.over(Outcome::Stopped, world);
            return;
        }
        let restart = world.workload().map(|spec| spec.restart).unwrap_or_default();
        let lasted = world.now.mono_ms.saturating_sub(self.timing.since_ms);
        self.short_runs = if lasted >= restart.reset_ms { 1 } else { self.short_runs + 1 };
        let failed = evidence.exit_code != Some(0);
        let wants_another = match restart.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => failed,
            RestartPolicy::No => false,
        };
        let may = restart.attempts.is_none_or(|attempts| self.restarts < attempts);
        let retry_ms = (wants_another && may).then(|| match self.short_runs {
            // Whatever ends once is tried again at once: it may have been bad luck.
            ..=1 => restart.first_delay_ms,
            more => self.back_off_ms(more - 1, world),
        });
        let cause = evidence.cause.clone();
        world.say(RunEnded { replica: world.id.clone(), run: self.run, evidence, retry_ms });
        match retry_ms {
            Some(retry_ms) => {
                self.restarts += 1;
                self.run += 1;
                self.doubtful = false;
                self.enter(Stage::Waiting, world.now);
                self.timing.due_ms = world.now.mono_ms + retry_ms;
            }
            // A policy that wants another and has no attempt left has given up, whatever the exit code.
            None if failed || wants_another => self.over(Outcome::Failed { reason: cause }, world),
            None => self.over(Outcome::Completed, world),
        }
    }

    fn over(&mut self, outcome: Outcome, world: &mut World) {
        world.say(ReplicaEnded { replica: world.id.clone(), outcome });
        self.enter(Stage::Over, world.now);
    }

    /// Stopped for good, or for being unhealthy: either way its container is examined and removed.
    fn stopped(&mut self, world: &mut World) {
        let ending = self.stage == Stage::Ending;
        self.timing.due_ms = world.now.mono_ms;
        if ending {
            self.over(Outcome::Stopped, world);
        } else {
            self.stage = Stage::Examining;
        }
    }

    fn probed(&mut self, outcome: Result<(), String>, world: &mut World) {
        let Some(probe) = world.workload().and_then(|spec| spec.tried().cloned()) else { return };
        self.timing.due_ms = world.now.mono_ms + probe.interval_ms;
        match outcome {
            Ok(()) => self.ready(world),
            Err(output) => {
                if self.stage == Stage::Running {
                    let often = probe.interval_ms.min(STARTING_PROBE_EVERY_MS);
                    self.timing.due_ms = world.now.mono_ms + often;
                    if !self.counts_while_starting(&probe) {
                        return;
                    }
                }
                self.timing.failed += 1;
                self.timing.counted_ms = self.timing.tried_ms;
                if self.timing.failed >= probe.retries {
                    self.unhealthy(&output, world);
                }
            }
        }
    }

    /// Whether a failed try of what is not ready yet counts: one that began behind the start period,
    /// once an interval. It is tried more often than that only to be ready soon.
    fn counts_while_starting(&self, probe: &Probe) -> bool {
        let Timing { since_ms, tried_ms, counted_ms, failed, .. } = self.timing;
        let rested = failed == 0 || tried_ms >= counted_ms.saturating_add(probe.interval_ms);
        rested && tried_ms >= since_ms.saturating_add(probe.start_period_ms)
    }

    /// It failed as often as it may: no more work for it, and a stop, after which its policy decides.
    fn unhealthy(&mut self, output: &str, world: &mut World) {
        let output = schemas::command::printable(output, 400);
        if self.stage == Stage::Ready {
            let (replica, run) = (world.id.clone(), self.run);
            world.say(ReplicaUnready { replica, run, output: output.clone() });
            self.stage = Stage::Running;
        }
        self.timing.unhealthy = Some(output);
        self.timing.due_ms = world.now.mono_ms;
    }

    /// What the engine says of the run's container.
    pub(super) fn seen(&mut self, listed: Option<&Listed>, asked_ms: u64, world: &mut World) {
        // What was asked before the stage began says nothing of it.
        if !self.timing.unsure && asked_ms < self.timing.since_ms {
            return;
        }
        let runs = listed.is_some_and(|container| container.running);
        let was_unsure = std::mem::take(&mut self.timing.unsure);
        match self.stage {
            Stage::Starting if was_unsure => match listed {
                // A crash between starting and telling: what runs is told of, what does not is made.
                Some(container) if runs => {
                    let Listed { id, endpoints, inside, .. } = container.clone();
                    let (replica, run) = (world.id.clone(), self.run);
                    let started = RunStarted { replica, run, container: id, endpoints, inside };
                    self.started(started, container.health.is_some(), world);
                }
                _ => self.enter(Stage::Waiting, world.now),
            },
            Stage::Running | Stage::Ready if !runs => self.enter_examining(world.now),
            Stage::Running | Stage::Ready => {
                if was_unsure {
                    self.timing.since_ms = world.now.mono_ms;
                }
                self.image_health(listed.and_then(|container| container.health.clone()), world);
            }
            Stage::Ending => self.timing.due_ms = world.now.mono_ms,
            _ => {}
        }
    }

    /// The run's beginning is kept, so that how long it lasted is known when it has been examined.
    fn enter_examining(&mut self, now: Now) {
        self.stage = Stage::Examining;
        self.timing.due_ms = now.mono_ms;
    }

    /// The engine has counted the tries already: its verdict is as good as that of a probe.
    fn image_health(&mut self, health: Option<ImageHealth>, world: &mut World) {
        let own_probe = world.workload().is_some_and(|spec| spec.tried().is_some());
        match health.filter(|_| !own_probe && self.image_checks) {
            Some(ImageHealth::Healthy) => self.ready(world),
            Some(ImageHealth::Unhealthy(said)) if self.timing.unhealthy.is_none() => {
                self.unhealthy(&format!("the image's own health check: {said}"), world);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
