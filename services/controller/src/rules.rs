//! The controller as one set of rules: commands first, then replicas that may end, then the apps that
//! something touched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cluster::State;
use cluster::state::Cause;
use decider::{Decision, Level, Now, Rules, draft};
use schemas::append::{Draft, EVENTS_MAX};
use schemas::id::{AppKey, CommandId, Writer};
use schemas::place::Place;
use schemas::report::{GatewayReport, TrafficReport};

use crate::calls::{Calls, Pace};
use crate::certificates::Certificates;
use crate::commands::{self, CommandMessage};
use crate::leaving::Leaving;
use crate::rebalance::{self, Turn};
use crate::reconcile;
use crate::rollout::Traffic;

/// How many commands are answered at once.
const COMMANDS_AT_ONCE: usize = 64;

/// Up to how many bytes of event data go into one batch; a request may hold twice that.
const BATCH_BYTES: usize = 256 * 1024;

/// What the controller hears beside events.
#[derive(Clone, Debug)]
pub enum Heard {
    /// A command.
    Command(CommandMessage),
    /// What a gateway goes by.
    Gateway(GatewayReport),
    /// What gateways said before was handed in, and nothing they say is missed from now on.
    Gateways,
    /// What went through a gateway.
    Traffic(TrafficReport),
}

/// The controller's rules.
#[derive(Debug, Default)]
pub struct Controller {
    /// Commands without a receipt in the state, in the order of the stream.
    inbox: VecDeque<CommandMessage>,
    /// What gateways tell of what is rolled out.
    traffic: Traffic,
    /// Apps of which gateways told something since they were last judged.
    measured: BTreeSet<AppKey>,
    /// When apps that wait for time to pass are looked at again, in ms since 1970.
    alarms: BTreeMap<AppKey, u64>,
    /// Replicas that finish what is under way, and what gateways say of that.
    leaving: Leaving,
    /// What gateways say of certificates.
    certificates: Certificates,
    /// Who calls whom.
    calls: Calls,
}

impl Controller {
    /// Measures calls at another pace.
    #[must_use]
    pub fn measuring(self, pace: Pace) -> Self {
        Self { calls: Calls::at(pace), ..self }
    }

    /// How many commands wait for an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inbox.len()
    }

    fn answer_commands(&mut self, state: &State, now: Now, batch: &mut Batch) {
        self.inbox.retain(|message| !state.receipts.contains(message.id()));
        let mut objects = Vec::new();
        for message in self.inbox.iter().take(COMMANDS_AT_ONCE) {
            let answer = commands::answer(state, message, now);
            // One command an object at a time: the next one is judged by what this one changed.
            if objects.contains(&answer.object) || !batch.fits(&answer.events) {
                break;
            }
            batch.absent.push(schemas::event::command_entity(message.id()));
            batch.add(answer.events);
            batch.touched.extend(answer.app);
            objects.push(answer.object);
        }
    }

    /// Lets replicas end that gateways have let go of. Says when to look again.
    fn release_replicas(&mut self, state: &State, now: Now, batch: &mut Batch) -> Option<u64> {
        for key in &state.touched.apps {
            self.leaving.look(state, key, now.mono_ms);
        }
        let plan = self.leaving.release(state, now.mono_ms);
        let actor = Writer::Controller.to_string();
        for (event, cause) in plan.events {
            let tenant = event.app.tenant.clone();
            let events = vec![draft(event, Some(&tenant), &actor, &cause, now)];
            if !batch.fits(&events) {
                return Some(now.mono_ms);
            }
            batch.add(events);
        }
        plan.again_at_ms
    }

    /// Has history say what gateways tell of certificates. What does not fit is stated with the next batch.
    fn state_certificates(&mut self, state: &State, now: Now, batch: &mut Batch) {
        let actor = Writer::Controller.to_string();
        for (event, cause) in self.certificates.news(state) {
            let events = vec![draft(event, None, &actor, &cause, now)];
            if !batch.fits(&events) {
                return;
            }
            batch.add(events);
        }
    }

    fn take_command(&mut self, message: CommandMessage, state: &State) {
        let known = state.receipts.contains(message.id())
            || self.inbox.iter().any(|waiting| waiting.id() == message.id());
        if !known {
            self.inbox.push_back(message);
        }
        // On standby nobody answers from this inbox; what the leader answered leaves it here.
        if self.inbox.len().is_multiple_of(COMMANDS_AT_ONCE) {
            self.inbox.retain(|message| !state.receipts.contains(message.id()));
        }
    }

    fn reconcile_apps(&mut self, state: &mut State, now: Now, batch: &mut Batch) {
        let due: Vec<AppKey> = self
            .alarms
            .iter()
            .filter(|(_, at)| **at <= now.utc_ms)
            .map(|(key, _)| key.clone())
            .collect();
        for key in due {
            self.alarms.remove(&key);
            state.touched.apps.insert(key);
        }
        state.touched.apps.append(&mut self.measured);
        let touched: Vec<AppKey> = state.touched.apps.iter().cloned().collect();
        for key in touched {
            // What a command of this batch changes is not in the state yet.
            if batch.touched.contains(&key) {
                continue;
            }
            let plan = reconcile::app(state, &self.traffic, &key, now.utc_ms);
            let events: Vec<Draft> = plan
                .events
                .into_iter()
                .map(|(event, cause)| {
                    draft(event, Some(&key.tenant), &Writer::Controller.to_string(), &cause, now)
                })
                .collect();
            if !batch.fits(&events) {
                break;
            }
            batch.add(events);
            state.touched.apps.remove(&key);
            match plan.again_at_ms {
                Some(at) => self.alarms.insert(key, at),
                None => self.alarms.remove(&key),
            };
        }
    }
}

/// States who calls whom, where that is otherwise than it was.
fn state_calls(calls: &mut Calls, state: &State, now: Now, batch: &mut Batch) {
    let actor = Writer::Controller.to_string();
    for event in calls.look(state, now) {
        let tenant = event.app.tenant.clone();
        let events = vec![draft(event, Some(&tenant), &actor, &Cause::default(), now)];
        // What finds no room here is stated a moment later.
        if batch.fits(&events) {
            batch.add(events);
        }
    }
}

/// Begins to move replicas when it is time. Says when to look again, in ms since 1970.
fn rebalance_by_itself(state: &State, now: Now, batch: &mut Batch) -> Option<u64> {
    match rebalance::turn(state, now.utc_ms) {
        Turn::Rest => None,
        Turn::At(at) => Some(at),
        // What is decided here may be about it and is not in the state yet.
        Turn::Begin(..) if !batch.events.is_empty() => Some(now.utc_ms),
        Turn::Begin(event, cause) => {
            let actor = Writer::Controller.to_string();
            batch.add(vec![draft(event, None, &actor, &cause, now)]);
            None
        }
    }
}

/// One decision in the making.
#[derive(Default)]
struct Batch {
    events: Vec<Draft>,
    absent: Vec<String>,
    touched: Vec<AppKey>,
    bytes: usize,
}

impl Batch {
    fn fits(&self, events: &[Draft]) -> bool {
        let bytes: usize = events.iter().map(|event| event.data.get().len()).sum();
        self.events.is_empty()
            || (self.events.len() + events.len() <= EVENTS_MAX && self.bytes + bytes <= BATCH_BYTES)
    }

    fn add(&mut self, events: Vec<Draft>) {
        self.bytes += events.iter().map(|event| event.data.get().len()).sum::<usize>();
        self.events.extend(events);
    }
}

impl Rules for Controller {
    type Input = Heard;
    type Output = std::convert::Infallible;

    fn writer(&self) -> Writer {
        Writer::Controller
    }

    fn input(&mut self, heard: Heard, state: &State, now: Now) {
        match heard {
            Heard::Command(message) => self.take_command(message, state),
            Heard::Gateway(report) => {
                self.certificates.heard(&report, state);
                self.leaving.heard(report, now.mono_ms);
            }
            Heard::Gateways => self.leaving.listening(now.mono_ms),
            Heard::Traffic(report) => {
                self.calls.hear(&report, now.mono_ms);
                self.measured.extend(self.traffic.hear(&report, state));
            }
        }
    }

    fn connected(&mut self, now: Now) {
        self.leaving.connected(now.mono_ms);
    }

    fn decide(&mut self, state: &mut State, now: Now) -> Decision {
        let mut batch = Batch::default();
        self.answer_commands(state, now, &mut batch);
        let release_at = self.release_replicas(state, now, &mut batch);
        self.state_certificates(state, now, &mut batch);
        self.reconcile_apps(state, now, &mut batch);
        state_calls(&mut self.calls, state, now, &mut batch);
        let rebalance_at = rebalance_by_itself(state, now, &mut batch);
        let mut decision = Decision { events: batch.events, absent: batch.absent, wake_ms: None };
        if let Some(at) = self.alarms.values().chain(&rebalance_at).min() {
            decision.wake_at(now.mono_ms + at.saturating_sub(now.utc_ms).max(1));
        }
        if let Some(at) = release_at {
            decision.wake_at(at);
        }
        decision
    }

    fn reflect(&mut self, _: &mut State, place: Place, _: Now) -> Vec<Self::Output> {
        self.leaving.at(place);
        Vec::new()
    }

    /// A command that was answered so long ago that the state has forgotten its receipt.
    fn exists(&mut self, entity: &str) {
        let id = entity.strip_prefix("command/").and_then(|id| CommandId::new(id).ok());
        self.inbox.retain(|message| Some(message.id()) != id.as_ref());
    }

    fn lead(&mut self, _: &State, _: Now) {
        self.alarms.clear();
        self.leaving.begin();
        self.calls.begin();
    }

    fn levels(&self) -> Vec<Level> {
        let level = |name, help, value: usize| Level {
            name,
            help,
            value: u64::try_from(value).unwrap_or(u64::MAX),
        };
        vec![
            level(
                "muster_replicas_leaving",
                "Replicas that finish what is under way; counted by the leader.",
                self.leaving.waiting(),
            ),
            level("muster_gateways_known", "Gateways heard of late.", self.leaving.gateways()),
        ]
    }
}

#[cfg(test)]
mod tests;
