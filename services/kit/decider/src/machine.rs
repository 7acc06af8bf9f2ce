//! The machine: what arrives, in which role, and what is sent in turn.

use cluster::{Fold, FoldError, Marks};
use schemas::append::{Answer, Code, Request, Verdict};
use schemas::event::{LeadershipReleased, LeadershipTaken};
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::{BEAT_MS, BEATS_MISSED, Beat, STANDBY_MS, StandbyReport};

use cluster::state::{Cause, Touched};

use crate::offer::Offers;
use crate::{Rules, draft};

/// How long a refused decision waits before it is made anew, in ms.
const REFUSED_WAIT_MS: u64 = 50;

/// The two times: for what is written, and for what is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970 UTC. Goes into events; never compared.
    pub utc_ms: u64,
    /// Milliseconds of a clock that only goes forward. For waiting; never written.
    pub mono_ms: u64,
}

/// What arrives.
#[derive(Debug)]
pub enum Input<I> {
    /// The next entry, as it stands in the stream.
    Entry(Vec<u8>),
    /// The next entry, as event-log itself says it.
    Logged(Vec<u8>),
    /// There is nothing after the entries that were handed in so far.
    CaughtUp,
    /// An answer to an append request.
    Answer(Answer),
    /// Another instance (or this one) says that it leads.
    Beat(Beat),
    /// The connection is there (again): silence counts from now.
    Connected,
    /// Time has passed.
    Tick,
    /// A clean stop is wanted.
    Stop,
    /// Something for the rules.
    Rules(I),
}

/// What is sent.
#[derive(Debug)]
pub enum Output<O> {
    /// An append request.
    Append(Request),
    /// A sign of life of the leader.
    Beat(Beat),
    /// What the state is of one who stands by.
    StandsBy(StandbyReport),
    /// Entries are missing, or are not what follows: have event-log say them from this position on.
    Fetch {
        /// The first one that is wanted.
        from: u64,
    },
    /// What was folded is not in the history (any more): begin again from nothing.
    Rebuild {
        /// What did not fit.
        why: String,
    },
    /// Something that should not be, for the operator.
    Complain(String),
    /// Something from the rules.
    Rules(O),
}

/// What this instance is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reading history.
    CatchingUp,
    /// Following, while another instance leads.
    Standby,
    /// Asking to lead.
    Claiming,
    /// Deciding.
    Leading {
        /// The number of the leadership.
        term: u64,
    },
    /// Stopped cleanly.
    Stopped,
}

/// A deciding service.
#[derive(Debug)]
pub struct Decider<R> {
    rules: R,
    fold: Fold,
    instance: String,
    role: Role,
    offers: Offers,
    connected_ms: u64,
    heard_ms: u64,
    beaten_ms: Option<u64>,
    stood_by_ms: Option<u64>,
    wake_ms: Option<u64>,
    rest_until_ms: u64,
    marks: Marks,
    /// The position that event-log was asked for.
    fetching: Option<u64>,
    /// How many batches were recorded.
    pub batches: u64,
    /// How many were refused.
    pub refusals: u64,
}

impl<R: Rules> Decider<R> {
    /// A service's instance with an id that outlives its process, and a seed that must not.
    pub fn new(rules: R, instance: String, seed: String) -> Self {
        let offers = Offers::new(rules.writer(), instance.clone(), seed);
        Self {
            rules,
            fold: Fold::new(),
            instance,
            role: Role::CatchingUp,
            offers,
            connected_ms: 0,
            heard_ms: 0,
            beaten_ms: None,
            stood_by_ms: None,
            wake_ms: None,
            rest_until_ms: 0,
            marks: Marks::default(),
            fetching: None,
            batches: 0,
            refusals: 0,
        }
    }

    /// Begins from a snapshot instead of the first event.
    #[must_use]
    pub fn from_fold(mut self, fold: Fold) -> Self {
        self.fold = fold;
        self
    }

    /// Takes marks of its state at another interval.
    #[must_use]
    pub fn marking(mut self, marks: Marks) -> Self {
        self.marks = marks;
        self
    }

    /// What this instance is doing.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The history as far as it was read.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// The rules.
    pub fn rules(&self) -> &R {
        &self.rules
    }

    /// Why this instance does not decide; none when it does, or another one rightly does.
    pub fn waits_for(&self) -> Option<String> {
        if let Some(what) = self.fold.blocked() {
            return Some(format!("a release that knows {what}"));
        }
        match self.role {
            Role::CatchingUp => {
                Some(format!("the log after position {}", self.fold.cursor().position))
            }
            Role::Claiming => Some("event-log to grant the leadership".to_owned()),
            Role::Standby | Role::Leading { .. } | Role::Stopped => None,
        }
    }

    /// Takes in everything that arrived, then decides once.
    pub fn on(
        &mut self,
        inputs: impl IntoIterator<Item = Input<R::Input>>,
        now: Now,
    ) -> Vec<Output<R::Output>> {
        let mut out = Vec::new();
        for input in inputs {
            match input {
                Input::Entry(bytes) => self.entry(&bytes, false, now, &mut out),
                Input::Logged(bytes) => self.entry(&bytes, true, now, &mut out),
                Input::CaughtUp => {
                    if self.role == Role::CatchingUp {
                        self.role = Role::Standby;
                    }
                }
                Input::Answer(answer) => self.answer(&answer, now, &mut out),
                Input::Beat(beat) => self.beat_heard(&beat, now),
                Input::Connected => {
                    self.connected_ms = now.mono_ms;
                    self.heard_ms = now.mono_ms;
                    self.rules.connected(now);
                }
                Input::Tick => {}
                Input::Stop => self.stop(now, &mut out),
                Input::Rules(input) => self.rules.input(input, self.fold.state(), now),
            }
        }
        self.act(now, &mut out);
        out
    }

    /// When to call again if nothing arrives, by the monotonic clock.
    pub fn next_ms(&self, now: Now) -> u64 {
        let beat = match (self.role, self.beaten_ms) {
            (Role::Leading { .. }, None) => now.mono_ms,
            (Role::Leading { .. }, Some(at)) => at + BEAT_MS,
            _ => now.mono_ms + BEAT_MS,
        };
        let wake = self.wake_ms.unwrap_or(u64::MAX).max(now.mono_ms + 1);
        beat.min(wake).clamp(now.mono_ms, now.mono_ms + BEAT_MS)
    }

    fn entry(&mut self, bytes: &[u8], logged: bool, now: Now, out: &mut Vec<Output<R::Output>>) {
        let (next, before) = (self.fold.cursor().position + 1, self.fold.place());
        match self.fold.push(bytes) {
            Ok(None) => {}
            Ok(Some(applied)) => {
                let place = self.fold.place();
                if let Some(first) = applied.events.first() {
                    let batch = &first.header.batch;
                    self.offers.folded(place.position, &batch.series, batch.n);
                }
                self.marks.pushed(before, &self.fold);
                self.check_role(now);
            }
            // A repeat: this instance has it already.
            Err(FoldError::Gap { expected, got }) if got < expected => {}
            Err(FoldError::Gap { .. }) => self.fetch(next, out),
            // The stream may hold what the log never wrote. What the log itself says is history:
            // when that does not follow either, this instance has folded something else.
            Err(error) if logged => out.push(Output::Rebuild { why: error.to_string() }),
            Err(error) => {
                out.push(Output::Complain(error.to_string()));
                self.fetch(next, out);
            }
        }
    }

    /// Asks event-log for what comes next, once.
    fn fetch(&mut self, next: u64, out: &mut Vec<Output<R::Output>>) {
        if self.fetching != Some(next) {
            self.fetching = Some(next);
            out.push(Output::Fetch { from: next });
        }
    }

    /// The role that the state gives this instance.
    fn check_role(&mut self, now: Now) {
        if matches!(self.role, Role::CatchingUp | Role::Stopped) {
            return;
        }
        let writer = self.rules.writer();
        let mine = self
            .fold
            .state()
            .leaders
            .get(&writer)
            .filter(|leader| leader.instance == self.instance && !leader.released)
            .map(|leader| leader.term);
        match (self.role, mine) {
            (Role::Claiming, Some(term)) if self.offers.free() => {
                self.role = Role::Leading { term };
                self.fold.state_mut().touch_everything();
                self.rules.lead(self.fold.state(), now);
            }
            (Role::Leading { term }, leads) if leads != Some(term) => self.step_down(now),
            _ => {}
        }
    }

    fn step_down(&mut self, now: Now) {
        self.role = Role::Standby;
        self.heard_ms = now.mono_ms;
        self.offers.fresh_series();
    }

    fn answer(&mut self, answer: &Answer, now: Now, out: &mut Vec<Output<R::Output>>) {
        if !self.offers.concerns(&answer.series, answer.n) {
            return;
        }
        match &answer.verdict {
            Verdict::Published(place) | Verdict::Duplicate { place, .. } => {
                self.batches += 1;
                if self.fold.place().position >= place.position {
                    self.offers.folded(u64::MAX, &answer.series, answer.n);
                    self.check_role(now);
                } else {
                    self.offers.recorded(place.position);
                }
            }
            Verdict::Refused { code, detail, entity, .. } => {
                self.refusals += 1;
                self.refused(*code, detail, entity.as_deref(), now, out);
            }
        }
    }

    fn refused(
        &mut self,
        code: Code,
        detail: &str,
        entity: Option<&str>,
        now: Now,
        out: &mut Vec<Output<R::Output>>,
    ) {
        self.offers.fresh_series();
        self.rest_until_ms = now.mono_ms + REFUSED_WAIT_MS;
        self.fold.state_mut().touch_everything();
        match code {
            Code::StaleTerm | Code::Held => self.step_down(now),
            Code::Exists => {
                if let Some(entity) = entity {
                    self.rules.exists(entity);
                }
            }
            Code::StaleBasis | Code::Gap => {
                if self.role == Role::Claiming {
                    self.role = Role::Standby;
                }
            }
            Code::Invalid | Code::NotPermitted | Code::TooLarge => {
                self.rest_until_ms = now.mono_ms + 20 * REFUSED_WAIT_MS;
                let writer = self.rules.writer();
                out.push(Output::Complain(format!("{writer} was refused ({code:?}): {detail}")));
            }
        }
    }

    fn beat_heard(&mut self, beat: &Beat, now: Now) {
        if beat.writer == self.rules.writer() && beat.instance != self.instance {
            self.heard_ms = now.mono_ms;
        }
    }

    fn stop(&mut self, now: Now, out: &mut Vec<Output<R::Output>>) {
        if let Role::Leading { term } = self.role {
            let event = LeadershipReleased { writer: self.rules.writer(), term };
            self.append(term, vec![self.own(event, now)], Vec::new(), now, out);
        }
        self.role = Role::Stopped;
    }

    fn act(&mut self, now: Now, out: &mut Vec<Output<R::Output>>) {
        if let Some(request) = self.offers.again(now.mono_ms) {
            out.push(Output::Append(request));
        }
        if !matches!(self.role, Role::Leading { .. }) {
            // Whoever begins to lead looks at everything.
            self.fold.state_mut().touched = Touched::default();
        }
        if self.role == Role::Standby {
            self.stand_by(now, out);
        }
        if self.fold.blocked().is_some() || now.mono_ms < self.rest_until_ms {
            return;
        }
        match self.role {
            Role::Standby if self.may_claim(now) => self.claim(now, out),
            Role::Leading { term } => self.lead(term, now, out),
            _ => {}
        }
    }

    /// At once when this instance holds the leadership or nobody does; after silence otherwise.
    fn may_claim(&self, now: Now) -> bool {
        let Some(leader) = self.fold.state().leaders.get(&self.rules.writer()) else { return true };
        let silence = now.mono_ms.saturating_sub(self.heard_ms.max(self.connected_ms));
        leader.released || leader.instance == self.instance || silence > BEATS_MISSED * BEAT_MS
    }

    fn claim(&mut self, now: Now, out: &mut Vec<Output<R::Output>>) {
        let writer = self.rules.writer();
        let term = self.fold.state().term(&writer) + 1;
        let event = LeadershipTaken { writer, term, instance: self.instance.clone() };
        self.role = Role::Claiming;
        self.offers.fresh_series();
        self.append(term, vec![self.own(event, now)], Vec::new(), now, out);
    }

    /// Says what its state is: it would decide by that.
    fn stand_by(&mut self, now: Now, out: &mut Vec<Output<R::Output>>) {
        let Some(mark) = self.marks.newest() else { return };
        if self.stood_by_ms.is_none_or(|at| now.mono_ms >= at + STANDBY_MS) {
            self.stood_by_ms = Some(now.mono_ms);
            let (writer, instance) = (self.rules.writer(), self.instance.clone());
            out.push(Output::StandsBy(StandbyReport { writer, instance, mark: mark.clone() }));
        }
    }

    fn lead(&mut self, term: u64, now: Now, out: &mut Vec<Output<R::Output>>) {
        if self.beaten_ms.is_none_or(|at| now.mono_ms >= at + BEAT_MS) {
            self.beaten_ms = Some(now.mono_ms);
            out.push(Output::Beat(Beat {
                writer: self.rules.writer(),
                term,
                instance: self.instance.clone(),
                place: self.fold.place(),
                mark: self.marks.newest().cloned(),
            }));
        }
        let place = self.fold.place();
        let reflected = self.rules.reflect(self.fold.state_mut(), place, now);
        out.extend(reflected.into_iter().map(Output::Rules));
        // Inside a batch nothing is decided: the state is that of the place before it.
        if !self.offers.free() || self.fold.cursor() != place {
            return;
        }
        let decision = self.rules.decide(self.fold.state_mut(), now);
        self.wake_ms = decision.wake_ms;
        if !decision.events.is_empty() {
            self.append(term, decision.events, decision.absent, now, out);
        }
    }

    fn append(
        &mut self,
        term: u64,
        events: Vec<schemas::append::Draft>,
        absent: Vec<String>,
        now: Now,
        out: &mut Vec<Output<R::Output>>,
    ) {
        let basis = self.fold.place().basis();
        let request = self.offers.offer(term, basis, events, absent, now.mono_ms);
        out.push(Output::Append(request));
    }

    fn own(&self, event: impl Into<schemas::event::Event>, now: Now) -> schemas::append::Draft {
        let writer: Writer = self.rules.writer();
        draft(event, None, &writer.to_string(), &Cause::default(), now)
    }

    /// Whether nothing is in flight.
    pub fn at_rest(&self) -> bool {
        self.offers.free()
    }

    /// The place it has folded.
    pub fn place(&self) -> Place {
        self.fold.place()
    }
}

#[cfg(test)]
mod tests;
