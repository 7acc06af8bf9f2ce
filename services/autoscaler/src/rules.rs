//! The rules of target tracking: measure, keep what was wanted, ask for what was wanted all the time.

mod gateways;
mod request;
mod samples;
mod target;
mod window;

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::{Replica, Touched, Workload};
use decider::{Decision, Now, Rules};
use schemas::id::{AppKey, Digest, ReplicaId, WorkloadName, Writer};
use schemas::place::Place;
use schemas::report::{TrafficReport, UsageReport};
use schemas::spec::Autoscale;

use gateways::Gateways;
pub use request::Request;
use request::Step;
use samples::{Samples, is_ready};
use target::{Measured, Signal};
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

/// What was heard on the bus.
#[derive(Debug)]
pub enum Heard {
    /// What replicas of a node use.
    Usage(UsageReport),
    /// What went through a gateway.
    Traffic(TrafficReport),
}

/// The autoscaler's rules.
#[derive(Debug, Default)]
pub struct Autoscaler {
    samples: Samples,
    gateways: Gateways,
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

    /// What each target asks to track, measured of the ready replicas.
    fn measure(
        &self,
        state: &State,
        key: &AppKey,
        name: &WorkloadName,
        autoscale: &Autoscale,
        now_ms: u64,
    ) -> Vec<Measured> {
        let targets = [
            (Signal::Cpu, autoscale.cpu_percent),
            (Signal::Memory, autoscale.memory_percent),
            (Signal::Requests, autoscale.requests_per_second),
            (Signal::P95, autoscale.p95_ms),
            (Signal::InFlight, autoscale.in_flight),
        ];
        let targets = targets.into_iter().filter_map(|(signal, target)| Some((signal, target?)));
        let mut measured: Vec<Measured> =
            targets.map(|(signal, target)| Measured::new(signal, target)).collect();
        let ready: Vec<_> =
            state.replicas_of(key, name).filter(|(_, replica)| is_ready(state, replica)).collect();
        for one in &mut measured {
            match one.signal {
                Signal::Cpu | Signal::Memory => self.measure_use(one, &ready, now_ms),
                Signal::P95 => self.measure_answers(one, &ready, now_ms),
                Signal::Requests | Signal::InFlight => {
                    let load = self.gateways.load(key, name, now_ms);
                    let Some(load) = load else { continue };
                    let requests = one.signal == Signal::Requests;
                    let milli = if requests { load.requests_milli } else { load.in_flight_milli };
                    one.set(milli, u32::try_from(ready.len()).unwrap_or(u32::MAX));
                }
            }
            if autoscale.needs_traffic() && !self.gateways.all_heard(now_ms) {
                one.is_in_part();
            }
        }
        measured
    }

    /// What ready replicas use of what they reserve. Nothing when too few were heard of: half a
    /// picture is none.
    fn measure_use(&self, one: &mut Measured, ready: &[(&ReplicaId, &Replica)], now_ms: u64) {
        let mut heard = 0;
        for (id, replica) in ready {
            let Some(sample) = self.samples.of(id, replica, now_ms) else { continue };
            heard += 1;
            if !self.is_warm(id, sample.heard_ms, now_ms) {
                continue;
            }
            match one.signal {
                Signal::Memory => one.add_share(sample.memory_bytes, replica.need.memory_bytes),
                _ => one.add_share(sample.cpu_millis, replica.need.cpu_millis),
            }
        }
        if heard * 2 < ready.len() {
            one.forget();
        }
    }

    /// How long answers of ready replicas take.
    fn measure_answers(&self, one: &mut Measured, ready: &[(&ReplicaId, &Replica)], now_ms: u64) {
        for (id, _) in ready.iter().filter(|(id, _)| self.is_warm(id, now_ms, now_ms)) {
            if let Some(us) = self.gateways.p95_us(id, now_ms) {
                one.add(us);
            }
        }
    }

    /// Whether what was heard of a replica then is of its work, and not of its start.
    fn is_warm(&self, id: &ReplicaId, heard_ms: u64, now_ms: u64) -> bool {
        let since = self.ready_since_ms.get(id).copied().unwrap_or(now_ms);
        heard_ms >= since.saturating_add(WARM_MS)
    }
}

impl Watched {
    /// Takes in what is measured now, and says what follows, if anything does.
    fn step(&mut self, workload: &Workload, measured: &[Measured], now_ms: u64) -> Option<Step> {
        let (from, autoscale) = (workload.replicas, self.subject.autoscale);
        let asks = measured.iter().filter_map(|one| Some((one.wanted(from)?, one)));
        let most = asks.reduce(|most, one| if one.0 > most.0 { one } else { most });
        let nearest = most.map_or(from, |(wanted, _)| autoscale.nearest(wanted));
        // What is not measured wants what is there: that nothing is heard of a load says nothing of it.
        let heard = measured.iter().all(|one| one.counted > 0);
        let nearest = if heard { nearest } else { nearest.max(from) };
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
    type Input = Heard;
    type Output = Request;

    fn writer(&self) -> Writer {
        Writer::Autoscaler
    }

    fn input(&mut self, heard: Heard, state: &State, now: Now) {
        match heard {
            Heard::Usage(report) => self.samples.take(report, now.mono_ms),
            Heard::Traffic(report) => self.gateways.take(report, state, now.mono_ms),
        }
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
        self.gateways.forget(now.mono_ms);
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
