//! The rules of target tracking: measure, keep what was wanted, ask for what was wanted all the time.

mod request;
mod samples;
mod target;
mod window;

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Touched, Workload};
use decider::{Decision, Now, Rules};
use schemas::id::{AppKey, Digest, ReplicaId, WorkloadName, Writer};
use schemas::place::Place;
use schemas::report::UsageReport;
use schemas::spec::Autoscale;

pub use request::Request;
use request::Step;
use samples::{Samples, is_ready};
use target::{Measured, Resource};
use window::Window;

/// How often workloads are looked at, in ms.
const LOOK_MS: u64 = 500;

/// How long a replica must have been ready before a sample of it is taken as what it will use, in ms.
/// A sample covers the 5 s before it, so that one of then is of its work, and not of its start.
const WARM_MS: u64 = 10_000;

/// A time without a look after which nothing is known of what was wanted in it, in ms.
const ABSENT_MS: u64 = 5_000;

/// How long a command may be without a receipt before it is sent again, in ms. The wait doubles.
const AGAIN_MS: u64 = 2_000;

/// The longest such wait, in ms.
const AGAIN_MS_MAX: u64 = 60_000;

/// The most that a step up multiplies the number by: new replicas take load before more are asked for.
const STEP_UP: u32 = 2;

/// The autoscaler's rules.
#[derive(Debug, Default)]
pub struct Autoscaler {
    samples: Samples,
    /// Since when the replicas of autoscaled workloads are ready, as this leader saw it.
    ready_since_ms: BTreeMap<ReplicaId, u64>,
    /// What this leader has seen wanted, by workload.
    watched: BTreeMap<AppKey, BTreeMap<WorkloadName, Watched>>,
    /// Commands without an outcome: one an app, because the first that is carried out changes the
    /// position that the others expect.
    sent: BTreeMap<AppKey, Sent>,
    looked_ms: Option<u64>,
    term: u64,
}

/// What was wanted of a workload since it is what it is.
#[derive(Debug)]
struct Watched {
    subject: Subject,
    window: Window,
}

/// What a recommendation is about. When it changes, by whomever, the windows begin anew: so a number
/// that a person chose stands for a whole window, and a step up is no sooner followed by a step down.
#[derive(Debug, PartialEq, Eq)]
struct Subject {
    spec: Digest,
    autoscale: Autoscale,
    replicas: u32,
    /// Where it was last declared, scaled or restarted: a number may be left and come back to between
    /// two looks.
    changed_at: u64,
}

/// A command that was sent.
#[derive(Debug)]
struct Sent {
    request: Request,
    at_ms: u64,
    wait_ms: u64,
}

impl Autoscaler {
    /// Drops commands that have an outcome, and sends others again.
    fn follow_up(&mut self, state: &State, now_ms: u64) -> Vec<Request> {
        self.sent.retain(|key, sent| {
            let changed_at = state.apps.get(key).map(|app| app.changed_at);
            changed_at == sent.request.common.expect_position
                && !state.receipts.contains(&sent.request.id)
        });
        let due = self.sent.values_mut().filter(|sent| now_ms >= sent.at_ms + sent.wait_ms);
        due.map(|sent| {
            sent.at_ms = now_ms;
            sent.wait_ms = (sent.wait_ms * 2).min(AGAIN_MS_MAX);
            sent.request.clone()
        })
        .collect()
    }

    /// Looks at every autoscaled workload, and asks for what it should have.
    fn look(&mut self, state: &State, now_ms: u64) -> Vec<Request> {
        let mut before = std::mem::take(&mut self.watched);
        self.ready_since_ms = self.ready(state, now_ms);
        let mut requests = Vec::new();
        for (key, app) in state.apps.iter() {
            let mut known = before.remove(key).unwrap_or_default();
            let mut watched = BTreeMap::new();
            for (name, workload) in &app.workloads {
                let Some(autoscale) = workload.autoscale.filter(|_| workload.declared) else {
                    continue;
                };
                let (spec, replicas) = (workload.spec.clone(), workload.replicas);
                let changed_at = workload.cause.position;
                let subject = Subject { spec, autoscale, replicas, changed_at };
                let mut watch = known
                    .remove(name)
                    .filter(|watch| watch.subject == subject)
                    .unwrap_or_else(|| Watched { subject, window: Window::new(now_ms) });
                let measured = self.measure(state, key, name, &autoscale, now_ms);
                let step = watch.step(workload, &measured, now_ms);
                watched.insert(name.clone(), watch);
                // While commands are refused for lack of room, a receipt would only keep this very
                // step from being asked for later.
                let may_ask = state.cluster.intake_closed.is_none() && !self.sent.contains_key(key);
                let Some(step) = step.filter(|_| may_ask) else { continue };
                let request = Request::new(key, name, app.changed_at, self.term, step);
                if !state.receipts.contains(&request.id) {
                    let (at_ms, wait_ms) = (now_ms, AGAIN_MS);
                    let sent = Sent { request: request.clone(), at_ms, wait_ms };
                    self.sent.insert(key.clone(), sent);
                    requests.push(request);
                }
            }
            if !watched.is_empty() {
                self.watched.insert(key.clone(), watched);
            }
        }
        requests
    }

    /// Since when each replica of an autoscaled workload is ready.
    fn ready(&self, state: &State, now_ms: u64) -> BTreeMap<ReplicaId, u64> {
        let autoscaled = state.apps.iter().flat_map(|(key, app)| {
            let workloads = app.workloads.iter().filter(|(_, w)| w.autoscale.is_some());
            workloads.map(move |(name, _)| (key, name))
        });
        autoscaled
            .flat_map(|(key, name)| state.replicas_of(key, name))
            .filter(|(_, replica)| is_ready(state, replica))
            .map(|(id, _)| (id.clone(), self.ready_since_ms.get(id).copied().unwrap_or(now_ms)))
            .collect()
    }

    /// What the ready replicas use of each resource that has a target. Nothing when too few were
    /// heard of: half a picture is none.
    fn measure(
        &self,
        state: &State,
        key: &AppKey,
        name: &WorkloadName,
        autoscale: &Autoscale,
        now_ms: u64,
    ) -> Vec<Measured> {
        let targets =
            [(Resource::Cpu, autoscale.cpu_percent), (Resource::Memory, autoscale.memory_percent)];
        let targets =
            targets.into_iter().filter_map(|(resource, percent)| Some((resource, percent?)));
        let mut measured: Vec<Measured> =
            targets.map(|(resource, percent)| Measured::new(resource, percent)).collect();
        let (mut ready, mut heard) = (0_u32, 0_u32);
        for (id, replica) in state.replicas_of(key, name).filter(|(_, r)| is_ready(state, r)) {
            ready += 1;
            let Some(sample) = self.samples.of(id, replica, now_ms) else { continue };
            heard += 1;
            let since = self.ready_since_ms.get(id).copied().unwrap_or(now_ms);
            if sample.heard_ms < since.saturating_add(WARM_MS) {
                continue;
            }
            for one in &mut measured {
                match one.resource {
                    Resource::Cpu => one.add(sample.cpu_millis, replica.need.cpu_millis),
                    Resource::Memory => one.add(sample.memory_bytes, replica.need.memory_bytes),
                }
            }
        }
        if heard * 2 < ready {
            measured.clear();
        }
        measured
    }
}

impl Watched {
    /// Takes in what is measured now, and says what follows, if anything does.
    fn step(&mut self, workload: &Workload, measured: &[Measured], now_ms: u64) -> Option<Step> {
        let (from, autoscale) = (workload.replicas, self.subject.autoscale);
        let asks = measured.iter().filter_map(|one| Some((one.wanted(from)?, one)));
        let most = asks.reduce(|most, one| if one.0 > most.0 { one } else { most });
        // Nothing measured wants what is there.
        let nearest = most.map_or(from, |(wanted, _)| autoscale.nearest(wanted));
        let keep_ms = autoscale.up_window_ms.max(autoscale.down_window_ms);
        self.window.note(now_ms, nearest, keep_ms);
        let up = self.window.least(now_ms, autoscale.up_window_ms).filter(|least| *least > from);
        let down = self.window.most(now_ms, autoscale.down_window_ms).filter(|most| *most < from);
        let (to, window_ms) = match (up, down) {
            (Some(least), _) => {
                (least.min(from.max(1).saturating_mul(STEP_UP)), autoscale.up_window_ms)
            }
            (None, Some(most)) => (most, autoscale.down_window_ms),
            (None, None) => return None,
        };
        let (wanted, by) = most?;
        let Autoscale { min, max, .. } = autoscale;
        Some(Step { from, to, wanted, min, max, window_ms, by: *by })
    }
}

impl Rules for Autoscaler {
    type Input = UsageReport;
    type Output = Request;

    fn writer(&self) -> Writer {
        Writer::Autoscaler
    }

    fn input(&mut self, report: UsageReport, _: &State, now: Now) {
        self.samples.take(report, now.mono_ms);
    }

    /// Nothing is recorded under its own name: what it decides it asks the controller for.
    fn decide(&mut self, state: &mut State, _: Now) -> Decision {
        // All workloads are looked at, whatever changed.
        state.touched = Touched::default();
        Decision::default()
    }

    /// Called for the leader only, on every event and several times a second.
    fn reflect(&mut self, state: &mut State, _: Place, now: Now) -> Vec<Request> {
        let absent = self.looked_ms.map(|at| now.mono_ms.saturating_sub(at));
        if absent.is_some_and(|ms| ms < LOOK_MS) {
            return Vec::new();
        }
        if absent.is_some_and(|ms| ms > ABSENT_MS) {
            self.watched.clear();
        }
        self.looked_ms = Some(now.mono_ms);
        self.samples.forget(state);
        let mut requests = self.follow_up(state, now.mono_ms);
        requests.extend(self.look(state, now.mono_ms));
        requests
    }

    fn exists(&mut self, _: &str) {}

    /// A new leader has not seen what was wanted before, and waits for whole windows.
    fn lead(&mut self, state: &State, _: Now) {
        self.watched.clear();
        self.sent.clear();
        self.ready_since_ms.clear();
        self.term = state.term(&Writer::Autoscaler);
    }
}

#[cfg(test)]
mod tests;
