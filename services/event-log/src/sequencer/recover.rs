//! Making the log and the stream equal: what the table in `start` says, carried out step by step.
//!
//! Every step ends in looking again, until the two are equal and nothing is left but to take.

use std::ops::ControlFlow;

use schemas::envelope::{DecodeError, Header};
use schemas::event::Event;
use schemas::id::Digest;
use schemas::place::Place;

use super::standby::Reign;
use super::{Bindings, Input, Output, Phase, Seat, Sequencer, Since, Stop, Streamed};
use crate::entry::{self, Entry};
use crate::index;
use crate::sequencer::admit::Group;
use crate::sequencer::flight::{Flight, Message};
use crate::start::{Action, Compared, Facts, Refusal, Stream, Waiting, judge};
use crate::store::{Store, StoreError};

/// How many entries are read from the log at once to be published again, and the most bytes of them.
const AGAIN: u64 = 4_096;
const AGAIN_BYTES: usize = 8 * 1024 * 1024;

/// Which step is under way.
#[derive(Clone, Debug)]
pub(super) enum Recovery {
    /// Asked how far the stream is.
    Inspecting,
    /// Reading what both have.
    Comparing { facts: Facts, next: u64, to: u64, proven: bool },
    /// Reading what the log has not.
    CatchingUp { next: u64, to: u64, proven: bool },
    /// Getting from another instance what the stream has let go of.
    Bridging { next: u64, to: u64 },
    /// Reading why the stream differs from what was published.
    Seeking { facts: Facts, next: u64, to: u64 },
    /// Moving the empty stream to where the log goes on.
    Seating,
    /// Publishing stored entries again. Those from `next` on are not on their way yet; once one is
    /// in trouble, no more are sent.
    Publishing { next: u64, trouble: bool },
}

/// What became of messages that were to follow from the log.
pub(super) struct Intake {
    /// The position of the next one.
    pub(super) next: u64,
    /// Whether a message there is not it.
    pub(super) odd: bool,
    /// Whether an instance took in them.
    pub(super) took: bool,
}

/// What the stream holds at the next position.
pub(crate) enum Met {
    /// The next entry of this history.
    Next(Box<Entry>),
    /// An event of some other history.
    Event,
    /// No event at all.
    Junk,
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// What a step was waiting for has come, or something that no step waits for.
    pub(super) fn recovery(
        &mut self,
        input: Input,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let Phase::Recovering(recovery) = &self.phase else { return Ok(()) };
        match (recovery.clone(), input) {
            (Recovery::Inspecting, Input::Stream(stream)) => {
                let facts = self.facts(stream)?;
                self.act(judge(&facts), facts, now_ms, out)
            }
            (Recovery::Comparing { facts, next, to, proven }, Input::Messages(messages)) => {
                self.compare(facts, (next, to), proven, &messages, now_ms, out)
            }
            (Recovery::CatchingUp { next, to, proven }, Input::Messages(messages)) => {
                self.catch_up((next, to), proven, messages, out)
            }
            (Recovery::Bridging { next, to }, Input::Messages(messages)) => {
                self.bridge((next, to), messages, out)
            }
            (Recovery::Bridging { next: from, to }, Input::Failed(_)) => {
                self.wait(Waiting::Gap { from, to }, out);
                Ok(())
            }
            (Recovery::Seeking { facts, next, to }, Input::Messages(messages)) => {
                self.seek(facts, (next, to), &messages, now_ms, out)
            }
            (Recovery::Seating, Input::Seated) => {
                self.inspect(out);
                Ok(())
            }
            // Nothing but outcomes is waited for.
            (Recovery::Publishing { .. }, Input::Failed(_)) => Ok(()),
            (_, Input::Failed(what)) => {
                out.push(Output::Notice(format!("not ready to take: {what}")));
                self.attempt(out);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn facts(&self, stream: Stream) -> Result<Facts, StoreError> {
        let log = self.tip.place;
        let published = self.published;
        let row = self.store.row(published.position)?;
        let known = self.presence.known();
        let known_fits = known.position > 0
            && self.store.row(known.position)?.is_some_and(|row| row.place == known);
        let mut anchor = published.position.min(stream.last).min(log.position);
        while anchor > 0 && self.is_void(anchor)? {
            anchor -= 1;
        }
        Ok(Facts {
            log,
            genesis: self.store.genesis()?,
            published,
            published_fits: row.is_none_or(|row| row.place == published),
            known_fits,
            witnessed_genesis: self.setup.witnessed.as_ref().and_then(|w| w.genesis.clone()),
            anchor,
            stream,
            compared: None,
            sought: None,
            standing: self.standing(),
        })
    }

    fn is_void(&self, position: u64) -> Result<bool, StoreError> {
        let mut void = false;
        index::replay(&self.store, position, position, &mut |_, _, event| {
            void = matches!(event, Some(Event::PositionVoided(_)));
        })?;
        Ok(void)
    }

    pub(super) fn act(
        &mut self,
        action: Action,
        facts: Facts,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        tracing::debug!(?action, ?facts, "a step towards equal log and stream");
        let asks = matches!(action, Action::Bridge { .. } | Action::CatchUp { proven: false, .. });
        if !asks && !matches!(action, Action::Wait(_)) {
            self.waiting = None;
        }
        let step = match action {
            Action::Refuse(refusal) => return Err(refusal.into()),
            Action::Genesis | Action::Take => return self.take(now_ms, out),
            Action::SetAside { from } => return self.set_aside(from, out),
            Action::Publish { from } => return self.publish_again(from, out),
            Action::Believe { head } => {
                self.publish_head(head, out);
                self.inspect(out);
                return Ok(());
            }
            Action::Follow => {
                self.follow(out);
                return Ok(());
            }
            Action::Wait(waiting) => {
                self.wait(waiting, out);
                return Ok(());
            }
            Action::Bridge { from, to } => {
                self.fetch(from, to, out);
                return Ok(());
            }
            Action::Seat { next } => {
                out.push(Output::Seat { next });
                Recovery::Seating
            }
            Action::Seek { to } => {
                let next = facts.stream.first;
                out.push(Output::Read { from: next, to });
                Recovery::Seeking { facts, next, to }
            }
            Action::Compare { from, to } => {
                out.push(Output::Read { from, to });
                // Before the first position all histories are equal.
                Recovery::Comparing { facts, next: from, to, proven: from == 1 }
            }
            Action::CatchUp { from, proven } => {
                let to = facts.stream.last;
                let log = self.tip.place;
                if self.waiting.is_none() {
                    let what = format!("taking in {from} to {to}, log ends at {log}");
                    out.push(Output::Notice(what));
                }
                out.push(Output::Read { from, to });
                Recovery::CatchingUp { next: from, to, proven }
            }
        };
        self.phase = Phase::Recovering(step);
        Ok(())
    }

    fn compare(
        &mut self,
        facts: Facts,
        (next, to): (u64, u64),
        mut proven: bool,
        messages: &[Streamed],
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let mut reached = next - 1;
        let mut differs = None;
        for message in messages.iter().take_while(|message| message.sequence <= to) {
            let at = message.sequence;
            let stored = self.store.row(at)?;
            if !stored.is_some_and(|row| entry::stands_for(&row.bytes, &message.bytes)) {
                let header = Header::decode(&message.bytes).ok().map(|(header, _)| header);
                let event = header.is_some();
                // Another instance went on from the very entry before.
                if let (Some(header), Some(before)) = (header, self.store.row(at - 1)?) {
                    proven |= header.prev_hash == before.place.hash;
                }
                differs = Some(Compared::Differs { at, proven, event });
                break;
            }
            proven |= !self.is_void(at)?;
            reached = at;
        }
        if reached >= next {
            self.read_back(reached, out)?;
        }
        let compared = match differs {
            Some(differs) => differs,
            None if reached < to && reached >= next => {
                out.push(Output::Read { from: reached + 1, to });
                let next = reached + 1;
                let step = Recovery::Comparing { facts, next, to, proven };
                self.phase = Phase::Recovering(step);
                return Ok(());
            }
            // The stream has let go of the rest since it was looked at, or somebody deleted it. What was
            // published was mine there; of what is above that nobody knows.
            None => {
                let (at, proven) = (reached + 1, proven && reached > 0);
                match at <= to && to > self.published.position {
                    true => Compared::Gone { at, proven },
                    false => Compared::Equal { proven },
                }
            }
        };
        let (published, standing) = (self.published, self.standing());
        let facts = Facts { compared: Some(compared), published, standing, ..facts };
        self.act(judge(&facts), facts, now_ms, out)
    }

    /// Everything up to `position` was read back equal.
    fn read_back(&mut self, position: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        if position > self.published.position
            && let Some(row) = self.store.row(position)?
        {
            self.publish_head(row.place, out);
        }
        Ok(())
    }

    pub(super) fn fetch(&mut self, from: u64, to: u64, out: &mut Vec<Output>) {
        // Only one who took can have gone on so far.
        self.reign = None;
        out.push(Output::Fetch { from, to });
        self.phase = Phase::Recovering(Recovery::Bridging { next: from, to });
    }

    fn catch_up(
        &mut self,
        (next, to): (u64, u64),
        mut proven: bool,
        messages: Vec<Streamed>,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let intake = match self.take_in((next, to), Some(&mut proven), messages, out) {
            // The stream may begin inside what was pipelined behind a foreign message: whoever led
            // then has voided it. Whether it is that or another history, the entries there tell.
            Err(Stop::Refusal(Refusal::Differs { at, .. })) if self.setup.seat != Seat::Only => {
                self.fetch(next, at, out);
                return Ok(());
            }
            intake => intake?,
        };
        if intake.odd && self.setup.seat == Seat::Only {
            return Err(Refusal::Hole { at: intake.next }.into());
        }
        if intake.odd || intake.next == next {
            // The stream was there when it was looked at: it may have lost its end since, or have
            // let go of its beginning.
            out.push(Output::Notice(Refusal::Hole { at: intake.next }.to_string()));
            self.attempt(out);
        } else if intake.next <= to {
            let next = intake.next;
            out.push(Output::Read { from: next, to });
            self.phase = Phase::Recovering(Recovery::CatchingUp { next, to, proven });
        } else if self.setup.seat != Seat::Only && !self.rules() && !self.presence.is_silent() {
            // Whoever leads goes on meanwhile: to look again would find more, again and again.
            self.follow(out);
        } else {
            self.inspect(out);
        }
        Ok(())
    }

    /// Takes in messages from a position on, as one group. What is not the next entry of this
    /// history ends it, or becomes a void, where `proven` says whether the log is known to be that
    /// of the stream.
    pub(super) fn take_in(
        &mut self,
        (next, to): (u64, u64),
        mut proven: Option<&mut bool>,
        messages: Vec<Streamed>,
        out: &mut Vec<Output>,
    ) -> Result<Intake, Stop> {
        let mut group = Group::new(&self.store, self.tip, self.indexer.clone());
        let mut voided = 0;
        let mut intake = Intake { next, odd: false, took: false };
        let wanted = messages.into_iter().skip_while(|message| message.sequence < next);
        for message in wanted.take_while(|message| message.sequence <= to) {
            if message.sequence != intake.next {
                intake.odd = true;
                break;
            }
            let sha256 = Digest::of(&message.bytes);
            let entry = match (meet(&group, message)?, proven.as_deref()) {
                (Met::Next(entry), _) => *entry,
                (_, None) => {
                    intake.odd = true;
                    break;
                }
                // A whole stream of another history is not taken for some foreign messages.
                (Met::Event, Some(false)) => {
                    let published = self.published;
                    return Err(Refusal::Differs { at: intake.next, published }.into());
                }
                (Met::Event | Met::Junk, Some(_)) => {
                    voided += 1;
                    Entry::voided(&group.tip(), sha256)
                }
            };
            if let Some(proven) = proven.as_deref_mut() {
                *proven |= !matches!(entry.event, Some(Event::PositionVoided(_)));
            }
            intake.took |= matches!(entry.event, Some(Event::SequencerTaken(_)));
            intake.next += 1;
            group.push([entry])?;
        }
        if intake.next == next {
            return Ok(intake);
        }
        let (commit, tip, indexer) = group.done();
        self.store.append(&commit)?;
        self.tip = tip;
        self.indexer = indexer;
        self.epoch = self.epoch.max(tip.place.epoch);
        self.counts.voided += voided;
        if voided > 0 {
            let reached = intake.next - 1;
            let what = format!("{voided} positions up to {reached} hold what the log never wrote");
            out.push(Output::Notice(what));
        }
        if intake.took {
            self.deposed(tip.place, out);
        }
        self.publish_head(tip.place, out);
        Ok(intake)
    }

    /// Moves what was never published aside. Nothing was answered for it: its writers offer it again.
    fn set_aside(&mut self, from: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        let rollback = index::rollback(&self.store, from - 1)?;
        let orphans = rollback.rows.len();
        self.store.set_aside(&rollback)?;
        self.counts.orphans += orphans as u64;
        self.held.forget_from(from);
        self.reload()?;
        if self.published.position >= from {
            self.give_up(out)?;
        }
        out.push(Output::Notice(format!("{orphans} entries from {from} on were moved aside")));
        out.push(Output::Witness(self.heads()));
        self.inspect(out);
        Ok(())
    }

    /// Each under the expected last sequence alone, so none is doubled and none leaves its place.
    ///
    /// That alone is no fence: what was pipelined behind a message that somebody else's came before
    /// is taken behind that. So several are on their way only where whoever sends them sends the
    /// same: what was published is the same in every log, and the only instance has nobody beside
    /// it. The rest goes one at a time, with nothing behind it in the connection.
    fn publish_again(&mut self, from: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        let same = match self.setup.seat {
            Seat::Only => self.tip.place.position,
            Seat::OneOf { .. } => self.published.position,
        };
        self.flight = Flight::default();
        let (mut next, mut bytes) = (from, 0);
        self.store.scan(from, same.max(from), &mut |row| {
            if row.position() != next || next - from >= AGAIN || bytes > AGAIN_BYTES {
                return ControlFlow::Break(());
            }
            next += 1;
            bytes += row.bytes.len();
            self.flight.push(Message::of(row, None));
            ControlFlow::Continue(())
        })?;
        if next == from {
            let what = "it is below the stored head and not there".to_owned();
            return Err(StoreError::Damaged { position: from, what }.into());
        }
        self.flight.send(out);
        self.phase = Phase::Recovering(Recovery::Publishing { next, trouble: false });
        Ok(())
    }

    /// Some of what is published again is acknowledged, or in trouble: then it is looked at what the
    /// stream holds, once it is known of all that was sent.
    pub(super) fn publishing(&mut self, out: &mut Vec<Output>) -> Result<(), Stop> {
        let Phase::Recovering(Recovery::Publishing { next, trouble }) = self.phase else {
            return Ok(());
        };
        if trouble {
            if self.flight.outstanding() == 0 {
                self.flight = Flight::default();
                self.attempt(out);
            }
        } else if !self.flight.is_empty() {
            self.flight.send(out);
        } else if next <= self.tip.place.position {
            self.publish_again(next, out)?;
        } else {
            self.inspect(out);
        }
        Ok(())
    }

    fn take(&mut self, now_ms: u64, out: &mut Vec<Output>) -> Result<(), Stop> {
        let loses = self.setup.accepts_loss && self.loses();
        if self.published.position > self.tip.place.position {
            self.published = self.tip.place;
        }
        let entry = self.taken(loses.then_some(self.tip.place), now_ms)?;
        let position = entry.tip.place.position;
        let mut group = Group::new(&self.store, self.tip, self.indexer.clone());
        group.push([entry])?;
        let (commit, tip, indexer) = group.done();
        self.store.append(&commit)?;
        self.tip = tip;
        self.indexer = indexer;
        self.epoch = tip.place.epoch;
        for row in commit.rows {
            out.push(Output::Publish(Message::of(row, None)));
        }
        self.phase = Phase::Taking { position };
        Ok(())
    }

    /// What became of a publish while not leading.
    pub(super) fn recovery_outcome(
        &mut self,
        position: u64,
        trouble: Option<String>,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        match (&mut self.phase, trouble) {
            (Phase::Recovering(Recovery::Publishing { trouble: already, .. }), trouble) => {
                self.flight.outcome(position, trouble.is_none());
                if let (false, Some(what)) = (*already, trouble) {
                    *already = true;
                    self.flight.stop();
                    self.counts.disturbed += 1;
                    out.push(Output::Notice(format!("publishing position {position}: {what}")));
                }
            }
            (Phase::Taking { position: awaited }, Some(what)) if *awaited == position => {
                self.counts.disturbed += 1;
                out.push(Output::Notice(format!("publishing position {position}: {what}")));
                self.attempt(out);
            }
            (Phase::Taking { position: awaited }, None) if *awaited == position => {
                let place = self.place_at(position)?;
                self.publish_head(place, out);
                self.lead(place, out);
            }
            _ => {}
        }
        Ok(())
    }

    fn lead(&mut self, taken: Place, out: &mut Vec<Output>) {
        let fence = taken.position;
        self.phase = Phase::Leading { fence };
        self.reign = Some(Reign { epoch: taken.epoch, fences: [fence; 2] });
        self.since = Since::default();
        self.attempts = 0;
        self.settled = true;
        self.counts.takes += 1;
        self.beat(out);
        out.push(Output::Listen(true));
    }

    /// Whether what is known to have been published is not all in the log.
    fn loses(&self) -> bool {
        let (log, known) = (self.tip.place, self.presence.known());
        self.published.position > log.position || known.after(&log)
    }

    fn place_at(&self, position: u64) -> Result<Place, StoreError> {
        match self.store.row(position)? {
            Some(row) => Ok(row.place),
            None => Err(StoreError::Damaged { position, what: "it is not there".to_owned() }),
        }
    }
}

/// What a message of the stream is to the log.
pub(crate) fn meet<S: Store>(group: &Group<'_, S>, message: Streamed) -> Result<Met, Refusal> {
    let Streamed { sequence: at, subject, bytes } = message;
    let tip = group.tip().place;
    let follows = |header: &Header| header.position == at && header.prev_hash == tip.hash;
    let (header, event) = match entry::decode(&bytes) {
        Ok((header, _)) if !follows(&header) => return Ok(Met::Event),
        Ok(decoded) => decoded,
        Err(error) => {
            let Ok((header, _)) = Header::decode(&bytes) else { return Ok(Met::Junk) };
            let newer =
                matches!(error, DecodeError::UnknownType { .. } | DecodeError::Schema { .. });
            // It follows from this very history, so event-log wrote it, of a newer release.
            if newer && follows(&header) {
                return Err(Refusal::Newer { at, what: error.to_string() });
            }
            return Ok(Met::Event);
        }
    };
    let takes = matches!(event, Some(Event::SequencerTaken(_)));
    let epoch_fits = if takes { header.epoch > tip.epoch } else { header.epoch == tip.epoch };
    if !epoch_fits || !group.fits(&header, event.as_ref()) {
        return Ok(Met::Event);
    }
    Ok(Met::Next(Box::new(Entry::read(header, event, subject, bytes))))
}
