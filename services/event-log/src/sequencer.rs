//! The sequencer: a synchronous machine that puts events in order, stores them, and only then has
//! them published and answers for them.
//!
//! It is handed what arrived and the time, and returns what to do. What is stored above the
//! published head is provisional: it is never answered for. On the first refusal or unknown outcome
//! it sends nothing more, waits for what is outstanding, looks at the stream and acts by the table
//! in `start`; so a start, a reconnection and a foreign message are one case.
//!
//! Not here: the checks of a request (`admit`), what a start does (`recover`, `start`), IO, a clock
//! or entropy (the pump in `service`).

mod admit;
mod ahead;
mod diverge;
mod flight;
mod held;
mod presence;
mod recover;
mod room;
mod standby;
mod words;

pub(crate) use self::admit::Group;
pub use self::diverge::{Said, Tally, Who};
pub use self::flight::Message;
pub(crate) use self::recover::{Met, meet};
pub use self::room::{Room, Short};
pub use self::words::*;

#[cfg(test)]
mod tests;

use schemas::append::Verdict;
use schemas::event::{Event, SequencerTaken};
use schemas::place::Place;

use self::admit::Decision;
use self::ahead::Ahead;
use self::diverge::States;
use self::flight::Flight;
use self::held::Held;
use self::presence::Presence;
use self::recover::Recovery;
use self::standby::Reign;
use crate::entry::{Entry, Tip};
use crate::index::Indexer;
use crate::start::Waiting;
use crate::store::{Row, Store, StoreError};
use crate::witness::Heads;

/// What the sequencer is doing.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
enum Phase {
    /// Waiting for a connection.
    Idle,
    /// Making the log and the stream equal.
    Recovering(Recovery),
    /// Taking in what another instance publishes.
    Following,
    /// Its `SequencerTaken` is on its way.
    Taking { position: u64 },
    /// Ordering requests, under the `SequencerTaken` at this position.
    Leading { fence: u64 },
    /// Something went wrong: waiting for what is under way, to the disk and to the stream.
    Draining,
    /// Waiting before the next attempt.
    Resting { ticks: u32 },
    /// Done for.
    Stopped,
}

/// What was published since the last `SequencerTaken`.
#[derive(Clone, Copy, Debug, Default)]
struct Since {
    messages: u64,
    bytes: u64,
}

/// The sequencer.
#[derive(Debug)]
pub struct Sequencer<S, B> {
    store: S,
    bindings: B,
    setup: Setup,
    phase: Phase,
    /// The stored head.
    tip: Tip,
    /// What is ordered behind it; nothing, unless it leads or has just led.
    ahead: Ahead,
    /// As it is behind all that is ordered.
    indexer: Indexer,
    published: Place,
    /// The highest epoch that was ever seen.
    epoch: u64,
    flight: Flight,
    held: Held,
    since: Since,
    presence: Presence,
    /// Set from taking until another instance is seen to have taken.
    reign: Option<Reign>,
    /// What keeps it from going on, as it was last said.
    waiting: Option<Waiting>,
    attempts: u32,
    full: bool,
    stated: Option<room::Stated>,
    states: States,
    /// Whether it led, or followed with all that the stream has, since it began: until then it shows
    /// what it folded before.
    settled: bool,
    counts: Counts,
}

/// The most ticks between two attempts: five seconds.
const REST_TICKS_MAX: u32 = 50;

/// What a message takes in the stream beside its payload: its subject, its headers and the server's
/// own framing, generously.
const FRAME_BYTES: usize = 512;

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// A sequencer on what the store holds.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn new(store: S, bindings: B, setup: Setup) -> Result<Self, StoreError> {
        let mut epoch = store.epoch()?;
        let mut published = Place::START;
        if let Some(witnessed) = &setup.witnessed {
            epoch = epoch.max(witnessed.stored.epoch).max(witnessed.published.epoch);
            published = witnessed.published;
        }
        let mut sequencer = Self {
            store,
            bindings,
            setup,
            phase: Phase::Idle,
            tip: Tip::default(),
            ahead: Ahead::default(),
            indexer: Indexer::default(),
            published,
            epoch,
            flight: Flight::default(),
            held: Held::default(),
            since: Since::default(),
            presence: Presence::default(),
            reign: None,
            waiting: None,
            attempts: 0,
            full: false,
            stated: None,
            states: States::default(),
            settled: false,
            counts: Counts::default(),
        };
        sequencer.reload()?;
        Ok(sequencer)
    }

    /// The stored head.
    pub fn stored(&self) -> Place {
        self.tip.place
    }

    /// The published head.
    pub fn published(&self) -> Place {
        self.published
    }

    /// Whether requests are taken.
    pub fn leads(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// How many entries are ordered and not published.
    pub fn backlog(&self) -> u64 {
        self.end().place.position.saturating_sub(self.published.position)
    }

    /// What was counted.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Takes in what arrived.
    pub fn on(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        if let Err(stop) = self.step(input, now_ms, &mut out) {
            self.phase = Phase::Stopped;
            out.push(Output::Stop(stop));
        }
        out
    }

    fn step(&mut self, input: Input, now_ms: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        if matches!(self.phase, Phase::Stopped) {
            return Ok(());
        }
        self.others(&input, out);
        match (input, &self.phase) {
            (Input::Outcomes(outcomes), _) => self.outcomes(outcomes, out),
            (Input::Stored(position), _) => {
                self.on_disk(position, out);
                Ok(())
            }
            (Input::NotStored(error), _) => Err(Stop::Store(error)),
            (Input::Room(room), _) => self.room(&room, now_ms, out),
            (Input::Marked(said), Phase::Leading { .. }) => self.check_state(&said, now_ms, out),
            (Input::Marked(_), _) => Ok(()),
            (Input::Requests(asked), Phase::Leading { .. }) if self.full => {
                self.let_go(&asked, out);
                Ok(())
            }
            (Input::Requests(asked), Phase::Leading { .. }) => self.group(&asked, now_ms, out),
            // They are still in their stream, and are read again from its first message on.
            (Input::Requests(_), _) => Ok(()),
            (Input::Confirmed { ticket, last }, Phase::Leading { .. }) => {
                self.confirmed(ticket, last, out);
                Ok(())
            }
            (Input::Connected, Phase::Idle | Phase::Resting { .. }) => {
                self.inspect(out);
                Ok(())
            }
            (Input::Connected, Phase::Leading { .. }) => {
                self.disturbed("the connection to NATS was made anew", out);
                Ok(())
            }
            (Input::Tick, Phase::Resting { ticks }) => {
                match ticks.checked_sub(1) {
                    Some(ticks) => self.phase = Phase::Resting { ticks },
                    None => self.inspect(out),
                }
                Ok(())
            }
            (Input::Tick, Phase::Leading { .. }) => {
                self.confirm(out);
                Ok(())
            }
            (input, Phase::Following) => self.following(input, out),
            (Input::Connected | Input::Tick, _) => Ok(()),
            (input, _) => self.recovery(input, now_ms, out),
        }
    }

    /// Orders a group: checks each request against the indexes and the group before it, and has what
    /// was accepted stored in one commit. It is published when that is on disk.
    fn group(&mut self, asked: &[Asked], now_ms: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        let mut group = Group::behind(&self.store, &self.ahead, self.end(), self.indexer.clone());
        let mut fence_at = None;
        if self.must_take_again() {
            let entry = self.taken(None, now_ms)?;
            fence_at = Some(entry.tip.place.position);
            group.push([entry])?;
        }
        let mut answers = Vec::with_capacity(asked.len());
        for one in asked {
            let decision =
                admit::admit(one, &mut group, &self.bindings, &self.setup.window, now_ms)?;
            answers.push((one.inbox.clone(), decision, group.tip().place.position));
        }
        let Some(up_to) = asked.last().map(|one| one.sequence) else { return Ok(()) };

        let group = group.done();
        if !group.0.rows.is_empty() {
            self.order(group, fence_at, out);
        }
        for (inbox, decision, after) in answers {
            self.hold(inbox, decision, after);
        }
        self.purge(up_to, out);
        self.confirm(out);
        self.release(out);
        Ok(())
    }

    /// Orders an event of its own.
    fn state(&mut self, event: Event, now_ms: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        let end = self.end();
        let mut group = Group::behind(&self.store, &self.ahead, end, self.indexer.clone());
        group.push([Entry::stated(&end, event, now_ms)])?;
        let group = group.done();
        self.order(group, None, out);
        Ok(())
    }

    fn send_rows(
        &mut self,
        rows: Vec<Row>,
        mut fence: u64,
        fence_at: Option<u64>,
        out: &mut Vec<Output>,
    ) {
        for row in rows {
            let (position, row_epoch) = (row.position(), row.place.epoch);
            self.flight.push(Message::of(row, Some(fence)));
            if fence_at == Some(position) {
                self.reign = Some(Reign { epoch: row_epoch, fences: [fence, position] });
                fence = position;
                self.counts.takes += 1;
            }
        }
        self.phase = Phase::Leading { fence };
        self.flight.send(out);
    }

    /// The stream refuses everything once my `SequencerTaken` has left it.
    fn must_take_again(&self) -> bool {
        self.since.messages >= self.setup.window.messages / 2
            || self.since.bytes >= self.setup.window.bytes / 2
    }

    /// A `SequencerTaken` behind all that is ordered.
    fn taken(&self, accept_loss: Option<Place>, now_ms: u64) -> Result<Entry, StoreError> {
        let new = self.store.genesis()?.is_none();
        let end = self.end();
        let event = SequencerTaken {
            instance: self.setup.instance.clone(),
            after: end.place.position,
            genesis: new.then(|| self.setup.genesis.clone()),
            accept_loss,
        };
        Ok(Entry::taken(&end, self.epoch + 1, event, now_ms))
    }

    fn hold(&mut self, inbox: Option<String>, decision: Decision, after: u64) {
        match &decision {
            Decision::Junk => self.counts.junk += 1,
            Decision::Answer(answer) => match &answer.verdict {
                Verdict::Published(_) => self.counts.recorded += 1,
                Verdict::Duplicate { .. } => self.counts.duplicates += 1,
                Verdict::Refused { code, .. } => {
                    *self.counts.refused.entry(admit::code_name(*code)).or_default() += 1;
                }
            },
        }
        if let (Some(inbox), Decision::Answer(answer)) = (inbox, decision) {
            let refused = matches!(answer.verdict, Verdict::Refused { .. });
            self.held.push(after, refused, inbox, answer);
        }
    }

    /// Sends the answers that need not wait any more.
    fn release(&mut self, out: &mut Vec<Output>) {
        while let Some((inbox, answer)) = self.held.release(self.published.position) {
            out.push(Output::Answer { inbox, answer });
        }
    }

    /// Asks whether what was refused was refused by the one who leads.
    fn confirm(&mut self, out: &mut Vec<Output>) {
        if let Some(ticket) = self.held.question() {
            out.push(Output::Confirm { ticket });
        }
    }

    fn confirmed(&mut self, ticket: u64, last: Option<u64>, out: &mut Vec<Output>) {
        let fences = self.reign.map_or([0; 2], |reign| reign.fences);
        match last {
            // Until mine is acknowledged, another's may stand there.
            Some(last) if fences.contains(&last) && last > self.published.position => {
                self.held.unanswered();
            }
            Some(last) if fences.contains(&last) => {
                self.held.confirm(ticket);
                self.release(out);
                self.confirm(out);
            }
            Some(last) => {
                let what = format!("position {last} holds a SequencerTaken that is not mine");
                self.disturbed(&what, out);
            }
            // Asked again with the next tick.
            None => self.held.unanswered(),
        }
    }

    fn outcomes(
        &mut self,
        outcomes: Vec<(u64, Outcome)>,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        for (position, outcome) in outcomes {
            let trouble = match outcome {
                Outcome::Stored(sequence) if sequence == position => None,
                Outcome::Stored(sequence) => Some(format!("it was stored at {sequence}")),
                Outcome::Refused(what) | Outcome::Unknown(what) => Some(what),
            };
            match self.phase {
                Phase::Leading { .. } | Phase::Draining => {
                    self.flight.outcome(position, trouble.is_none());
                    if let Some(what) = trouble
                        && self.leads()
                    {
                        self.disturbed(&format!("publishing position {position}: {what}"), out);
                    }
                }
                _ => self.recovery_outcome(position, trouble, out)?,
            }
        }
        // What is published again may lie below.
        if let Some(place) = self.flight.advance()
            && place.position > self.published.position
        {
            self.publish_head(place, out);
        }
        match self.phase {
            Phase::Leading { .. } => self.flight.send(out),
            Phase::Draining => self.drained(out),
            _ => self.publishing(out)?,
        }
        Ok(())
    }

    /// Everything up to `place` is in the stream.
    fn publish_head(&mut self, place: Place, out: &mut Vec<Output>) {
        self.published = place;
        out.push(Output::Published(place));
        self.release(out);
        out.push(Output::Witness(self.heads()));
    }

    fn heads(&self) -> Heads {
        let genesis = self.store.genesis().ok().flatten();
        Heads { stored: self.tip.place, published: self.published, genesis }
    }

    /// Sends nothing more until it is known what the stream holds.
    fn disturbed(&mut self, why: &str, out: &mut Vec<Output>) {
        self.counts.disturbed += 1;
        out.push(Output::Notice(format!("looking at the events stream again: {why}")));
        out.push(Output::Listen(false));
        self.held.forget_refusals();
        self.flight.stop();
        self.phase = Phase::Draining;
        self.drained(out);
    }

    fn drained(&mut self, out: &mut Vec<Output>) {
        if self.flight.outstanding() == 0 && self.ahead.is_stored() {
            self.flight = Flight::default();
            self.ahead = Ahead::default();
            self.attempt(out);
        }
    }

    /// Looks at the stream: at once the first time, later and later after that.
    fn attempt(&mut self, out: &mut Vec<Output>) {
        self.attempts += 1;
        match self.attempts {
            1 => self.inspect(out),
            more => {
                let ticks = (1 << more.min(10)).min(REST_TICKS_MAX);
                self.phase = Phase::Resting { ticks };
            }
        }
    }

    fn inspect(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Recovering(Recovery::Inspecting);
        out.push(Output::Inspect);
    }

    /// Reads the stored head back from the store.
    fn reload(&mut self) -> Result<(), StoreError> {
        let place = self.store.head()?;
        let mut recorded_ms = 0;
        crate::index::replay(&self.store, place.position, place.position, &mut |_, header, _| {
            recorded_ms = header.recorded_ms;
        })?;
        self.tip = Tip { place, recorded_ms };
        self.indexer = Indexer::behind(&self.store, place.position)?;
        self.stated = None;
        Ok(())
    }
}
