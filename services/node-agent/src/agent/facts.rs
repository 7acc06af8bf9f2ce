//! The claim to the node, and the facts that wait to be told: in order, each once.

use std::collections::VecDeque;

use cluster::state::Cause;
use decider::{Now, draft};
use schemas::append::{Answer, Code, Draft, Request, Verdict};
use schemas::document::Assignment;
use schemas::event::{Event, LeadershipReleased, LeadershipTaken};
use schemas::id::{CommandId, NodeName, Series, Tenant, Writer};
use schemas::place::Place;
use serde::{Deserialize, Serialize};

/// How long an unanswered request waits before it is offered again, in ms.
const OFFER_AGAIN_MS: u64 = 1_000;

/// How long a refused claim waits, in ms.
const CLAIM_AGAIN_MS: u64 = 3_000;

/// How many facts go into one request.
const FACTS_AT_ONCE: usize = 100;

/// How many facts may wait. When there are more, repeats of runs that come and go are dropped.
const FACTS_MAX: usize = 10_000;

/// Facts that wait, and the series they are told in.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    waiting: VecDeque<Draft>,
    /// The seed of the spool's series, random, made with the folder.
    seed: String,
    series_index: u64,
    n: u64,
    /// How many of the first facts are in the request that is under way.
    offered: usize,
    /// The last leadership of this node that is known.
    known_term: u64,
    /// Where the last description of the node stands in the log.
    #[serde(default)]
    described_at: Option<Place>,
    /// How many of the first facts are told one by one, because they were refused together.
    #[serde(default)]
    singly: usize,
    /// How many facts were dropped because too many waited.
    pub dropped: u64,
    /// How many facts event-log refused for what they say.
    #[serde(default)]
    pub refused: u64,

    #[serde(skip)]
    process: Process,
}

/// What is true for one life of the process only.
#[derive(Clone, Debug, Default)]
struct Process {
    writer: Option<Writer>,
    instance: String,
    claim_seed: String,
    claims: u64,
    granted: Option<u64>,
    claim_offered_ms: Option<u64>,
    rest_until_ms: u64,
    offered_ms: Option<u64>,
    held: Option<String>,
    connected: bool,
    releasing: Release,
    complaints: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Release {
    #[default]
    Not,
    Wanted,
    Stated,
}

impl Facts {
    /// A process begins, with an instance's id and a random seed.
    pub(super) fn begin(&mut self, node: &NodeName, instance: &str, seed: &str) {
        if self.seed.is_empty() {
            self.seed = seed.to_owned();
        }
        self.process = Process {
            writer: Some(Writer::Agent(node.clone())),
            instance: instance.to_owned(),
            claim_seed: format!("{seed}/claim"),
            ..Process::default()
        };
    }

    /// The leadership that was granted to this process.
    pub(super) fn term(&self) -> Option<u64> {
        self.process.granted
    }

    pub(super) fn waits_for(&self) -> Option<String> {
        if let Some(held) = &self.process.held {
            return Some(format!("the node to be free: {held}"));
        }
        self.process.granted.is_none().then(|| "event-log to grant the node".to_owned())
    }

    /// What event-log said when it refused the node to this process, because another has it.
    pub(super) fn held(&self) -> Option<&str> {
        self.process.held.as_deref()
    }

    /// Whether nothing more should be begun that must be told.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= FACTS_MAX
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.waiting.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.process.releasing != Release::Wanted
    }

    /// Whether the node was not described after a place, nor is about to be.
    pub(super) fn undescribed(&self, since: Place) -> bool {
        !self.waiting.iter().any(describes) && self.described_at.is_none_or(|at| since.after(&at))
    }

    /// Offers wait no longer: whoever was to answer may have been away.
    pub(super) fn connected(&mut self) {
        self.process.connected = true;
        self.process.offered_ms = None;
        self.process.claim_offered_ms = None;
    }

    /// The node is given up once everything was told.
    pub(super) fn release(&mut self) {
        if self.process.granted.is_some() && self.process.releasing == Release::Not {
            self.process.releasing = Release::Wanted;
        }
    }

    /// States a fact about a replica, going back to what put it into the document.
    pub(super) fn state_of(&mut self, assignment: Option<&Assignment>, event: Event, now: Now) {
        let tenant = assignment.map(|assignment| assignment.app.tenant.clone());
        let cause = assignment.map(|a| (a.correlation.clone(), a.cause));
        self.state(event, tenant, cause, now);
    }

    /// States a fact.
    pub(super) fn state(
        &mut self,
        event: impl Into<Event>,
        tenant: Option<Tenant>,
        cause: Option<(Option<CommandId>, u64)>,
        now: Now,
    ) {
        let Some(writer) = &self.process.writer else { return };
        let event = event.into();
        if self.waiting.len() >= FACTS_MAX
            && matches!(event, Event::RunFailed(_) | Event::RunStarted(_) | Event::RunEnded(_))
        {
            self.dropped += 1;
            return;
        }
        let cause = cause_of(cause);
        let actor = match &event {
            Event::ExecStarted(exec) => exec.actor.clone(),
            _ => writer.to_string(),
        };
        let draft = draft(event, tenant.as_ref(), &actor, &cause, now);
        self.waiting.push_back(draft);
    }

    /// The request to offer now, if there is one.
    pub(super) fn offer(&mut self, now: Now) -> Option<Request> {
        let process = &self.process;
        if !process.connected || now.mono_ms < process.rest_until_ms {
            return None;
        }
        match process.granted {
            None => self.claim(now),
            Some(term) => self.tell(term, now),
        }
    }

    fn claim(&mut self, now: Now) -> Option<Request> {
        let writer = self.process.writer.clone()?;
        if self.process.claim_offered_ms.is_some_and(|at| now.mono_ms < at + OFFER_AGAIN_MS) {
            return None;
        }
        self.process.claim_offered_ms = Some(now.mono_ms);
        let (term, instance) = (self.known_term + 1, self.process.instance.clone());
        let event = LeadershipTaken { writer: writer.clone(), term, instance: instance.clone() };
        let series = Series::derive(&self.process.claim_seed, self.process.claims);
        let draft = draft(event, None, &writer.to_string(), &cause_of(None), now);
        Some(Request {
            writer,
            term,
            instance,
            series,
            n: 1,
            basis: None,
            absent: Vec::new(),
            events: vec![draft],
        })
    }

    fn tell(&mut self, term: u64, now: Now) -> Option<Request> {
        let again = self.process.offered_ms.is_none_or(|at| now.mono_ms >= at + OFFER_AGAIN_MS);
        if !again {
            return None;
        }
        if self.waiting.is_empty() && self.process.releasing == Release::Wanted {
            let writer = self.process.writer.clone()?;
            self.process.releasing = Release::Stated;
            self.state(LeadershipReleased { writer, term }, None, None, now);
        }
        if self.offered == 0 {
            let at_once = if self.singly > 0 { 1 } else { FACTS_AT_ONCE };
            self.offered = self.waiting.len().min(at_once);
            if self.offered == 0 {
                return None;
            }
            self.n += 1;
        }
        self.process.offered_ms = Some(now.mono_ms);
        Some(Request {
            writer: self.process.writer.clone()?,
            term,
            instance: self.process.instance.clone(),
            series: Series::derive(&self.seed, self.series_index),
            n: self.n,
            basis: None,
            absent: Vec::new(),
            events: self.waiting.iter().take(self.offered).cloned().collect(),
        })
    }

    /// Takes an answer in.
    pub(super) fn answered(&mut self, answer: &Answer) {
        let claim = Series::derive(&self.process.claim_seed, self.process.claims);
        let series = Series::derive(&self.seed, self.series_index);
        if answer.series == claim {
            self.claim_answered(&answer.verdict);
        } else if answer.series == series && answer.n == self.n && self.offered > 0 {
            self.told(&answer.verdict);
        }
    }

    /// A claim that was offered more than once is answered as often; the first answer counts.
    fn claim_answered(&mut self, verdict: &Verdict) {
        let process = &mut self.process;
        if process.granted.is_some() {
            return;
        }
        let offered_ms = process.claim_offered_ms.take().unwrap_or(0);
        match verdict {
            Verdict::Published(_) | Verdict::Duplicate { .. } => {
                self.known_term += 1;
                process.granted = Some(self.known_term);
                process.held = None;
            }
            Verdict::Refused { code, term, detail, .. } => {
                process.claims += 1;
                match code {
                    Code::StaleTerm if *term != self.known_term => self.known_term = *term,
                    _ => {
                        process.held = Some(detail.clone());
                        process.rest_until_ms = offered_ms + CLAIM_AGAIN_MS;
                    }
                }
            }
        }
    }

    fn told(&mut self, verdict: &Verdict) {
        self.process.offered_ms = None;
        match verdict {
            Verdict::Published(place) | Verdict::Duplicate { place, .. } => {
                if self.waiting.iter().take(self.offered).any(describes) {
                    self.described_at = Some(*place);
                }
                self.drop_offered();
            }
            Verdict::Refused { code, term, detail, .. } => {
                self.series_index += 1;
                self.n = 0;
                self.refused(*code, *term, detail);
            }
        }
    }

    fn refused(&mut self, code: Code, term: u64, detail: &str) {
        if matches!(code, Code::StaleTerm | Code::Gap | Code::Held) {
            // The facts are as true under the next leadership, in a fresh series; that one is
            // given up is not: it is over already.
            self.waiting.retain(|draft| draft.kind != "LeadershipReleased");
            self.known_term = term;
            self.process.granted = None;
            self.process.claims += 1;
            self.offered = 0;
        } else if self.offered > 1 {
            // One of them can never become right. The others can: each is told alone.
            self.singly = self.offered;
            self.offered = 0;
        } else {
            if let Some(fact) = self.waiting.front().filter(|_| self.offered == 1) {
                self.refused += 1;
                self.process.complaints.push(format!("{} was refused: {detail}", fact.kind));
            }
            self.drop_offered();
        }
    }

    fn drop_offered(&mut self) {
        self.waiting.drain(..self.offered.min(self.waiting.len()));
        self.singly = self.singly.saturating_sub(self.offered);
        self.offered = 0;
    }

    /// What was said against facts since this was last asked.
    pub(super) fn complaints(&mut self) -> Vec<String> {
        std::mem::take(&mut self.process.complaints)
    }
}

fn describes(draft: &Draft) -> bool {
    draft.kind == "NodeDescribed"
}

/// What put a replica into the document is the cause of what is told of it.
fn cause_of(cause: Option<(Option<CommandId>, u64)>) -> Cause {
    cause.map_or_else(Cause::default, |(correlation, position)| Cause { correlation, position })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_that_is_answered_twice_is_granted_once() {
        let node = NodeName::new("n1").expect("a name");
        let mut facts = Facts::default();
        facts.begin(&node, "i", "seed");
        facts.connected();
        let claim = facts.offer(Now { utc_ms: 1, mono_ms: 1 }).expect("it claims");
        let answer = |verdict| Answer { series: claim.series.clone(), n: 1, verdict };
        facts.answered(&answer(Verdict::Published(Place::START)));
        facts.answered(&answer(Verdict::Duplicate { last_n: 1, place: Place::START }));
        assert_eq!((claim.term, facts.term()), (1, Some(1)));
    }

    /// Facts of a process that was granted its node.
    fn granted(now: Now) -> Facts {
        let mut facts = Facts::default();
        facts.begin(&NodeName::new("n1").expect("a name"), "i", "seed");
        facts.connected();
        let claim = facts.offer(now).expect("it claims");
        let verdict = Verdict::Published(Place::START);
        facts.answered(&Answer { series: claim.series, n: 1, verdict });
        facts
    }

    #[test]
    fn of_facts_that_are_refused_together_only_the_wrong_one_is_dropped() {
        let now = Now { utc_ms: 1, mono_ms: 1 };
        let mut facts = granted(now);
        let node = NodeName::new("n1").expect("a name");
        for container in ["a", "wrong", "b"] {
            let container = container.to_owned();
            let stray = schemas::event::StrayRemoved { node: node.clone(), container };
            facts.state(stray, None, None, now);
        }
        let (mut told, mut sizes) = (Vec::new(), Vec::new());
        while let Some(request) = facts.offer(now) {
            sizes.push(request.events.len());
            let text = |draft: &Draft| draft.data.get().to_owned();
            let wrong = request.events.iter().any(|draft| text(draft).contains("wrong"));
            let verdict = if wrong {
                let (code, detail) = (Code::Invalid, "it is wrong".to_owned());
                Verdict::Refused { code, term: 1, detail, entity: None }
            } else {
                told.extend(request.events.iter().map(text));
                Verdict::Published(Place::START)
            };
            facts.answered(&Answer { series: request.series, n: request.n, verdict });
            if sizes == [3, 1, 1] {
                // What comes meanwhile is told after those, together again.
                for container in ["c", "d"] {
                    let container = container.to_owned();
                    let stray = schemas::event::StrayRemoved { node: node.clone(), container };
                    facts.state(stray, None, None, now);
                }
            }
        }
        let about = |it: &String| it.split('"').rev().nth(1).unwrap_or_default().to_owned();
        assert_eq!(told.iter().map(about).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
        assert_eq!(sizes, [3, 1, 1, 1, 2]);
        assert!(facts.is_empty());
        assert_eq!((facts.refused, facts.dropped), (1, 0));
        assert_eq!(facts.complaints(), ["StrayRemoved was refused: it is wrong"]);
    }

    #[test]
    fn a_leadership_is_given_up_once_and_not_after_its_end() {
        let node = NodeName::new("n1").expect("a name");
        let mut facts = Facts::default();
        facts.begin(&node, "i", "seed");
        facts.connected();
        let mut now = Now { utc_ms: 1, mono_ms: 1 };
        let claim = facts.offer(now).expect("it claims");
        let published = Verdict::Published(Place::START);
        facts.answered(&Answer { series: claim.series, n: 1, verdict: published });
        facts.release();
        let release = facts.offer(now).expect("it gives up what it has");
        assert_eq!(release.events[0].kind, "LeadershipReleased");
        facts.release();
        let (code, term) = (Code::StaleTerm, 1);
        let verdict = Verdict::Refused { code, term, detail: String::new(), entity: None };
        facts.answered(&Answer { series: release.series, n: 1, verdict });
        assert!(facts.is_empty(), "what is over needs no end");
        now.mono_ms += 5_000;
        assert_eq!(facts.offer(now).expect("it claims").events[0].kind, "LeadershipTaken");
    }
}
