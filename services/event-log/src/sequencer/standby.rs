//! One of several: following the instance that leads, and noticing that it does not any more.
//!
//! A standby takes in what the stream brings, durably, and publishes nothing. What it meets that
//! does not follow from its log makes it look at the stream from its published head on, as a start
//! does.

use schemas::event::Event;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::Beat;

use super::recover::Recovery;
use super::{Bindings, Input, Output, Phase, Seat, Sequencer, Stop, Streamed};
use crate::entry;
use crate::start::{Facts, Sought, Standing, Waiting, judge};
use crate::store::Store;

/// Ticks until what could not be done yet is looked at again.
const WAIT_TICKS: u32 = 3;

/// A leadership of this very process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reign {
    pub(super) epoch: u64,
    /// The positions of its last two `SequencerTaken`: of the second it may not be known yet whether
    /// the stream has it.
    pub(super) fences: [u64; 2],
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// Whether nobody else took since this process did: it orders requests, or is about to go on.
    pub fn rules(&self) -> bool {
        self.reign.is_some()
    }

    /// Whether it has all that the stream has, and takes in what comes.
    pub fn follows(&self) -> bool {
        matches!(self.phase, Phase::Following)
    }

    /// Up to where it has to get before what it shows is what is now: its stored head, until it has
    /// led or followed once. What it folded before it began may be of long ago.
    pub fn refills(&self) -> Option<u64> {
        (!self.settled).then_some(self.tip.place.position)
    }

    /// What a start waits for, when it is not just busy.
    pub fn waits_for(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// Where its own last `SequencerTaken` stands, as far as it knows.
    #[cfg(test)]
    pub(super) fn fence(&self) -> Option<u64> {
        self.reign.map(|reign| reign.fences[1])
    }

    /// What it is doing, for whoever reads a failed test.
    #[cfg(test)]
    pub(super) fn doing(&self) -> String {
        let (phase, stored, published) = (&self.phase, self.tip.place, self.published);
        format!("{phase:?}, stored {stored}, published {published}, {:?}", self.waiting)
    }

    pub(super) fn standing(&self) -> Standing {
        let (only, begins) = match self.setup.seat {
            Seat::Only => (true, true),
            Seat::OneOf { begins } => (false, begins),
        };
        Standing {
            only,
            begins,
            leads: self.rules(),
            silent: self.presence.is_silent(),
            full: self.full,
            known: self.presence.known(),
            accepts_loss: self.setup.accepts_loss,
        }
    }

    /// What concerns other instances, whatever this one is doing.
    pub(super) fn others(&mut self, input: &Input, out: &mut Vec<Output>) {
        match input {
            Input::Connected => self.presence.connected(),
            Input::Beat(beat) => self.heard(beat, out),
            Input::Known(place) => {
                self.epoch = self.epoch.max(place.epoch);
                self.presence.knows(*place);
            }
            Input::Nobody => {
                self.presence.nobody();
                self.take_if_silent(out);
            }
            Input::Tick => {
                self.presence.tick();
                self.states.tick();
                self.beat(out);
                self.stand_by(out);
                if self.follows() && self.presence.doubts() {
                    out.push(Output::Probe);
                }
                self.take_if_silent(out);
            }
            _ => {}
        }
    }

    fn heard(&mut self, beat: &Beat, out: &mut Vec<Output>) {
        if beat.writer != Writer::EventLog || beat.instance == self.setup.instance {
            return;
        }
        self.epoch = self.epoch.max(beat.term);
        self.presence.knows(beat.place);
        if beat.term < self.tip.place.epoch {
            return; // Somebody who was deposed and does not know it yet.
        }
        if self.reign.is_some_and(|reign| beat.term > reign.epoch) {
            self.reign = None;
            if self.leads() {
                let what = format!("instance {} leads under epoch {}", beat.instance, beat.term);
                self.disturbed(&what, out);
            }
        }
        self.presence.heard();
    }

    /// Says that this instance leads, also while it mends the stream: a standby has not to.
    pub(super) fn beat(&self, out: &mut Vec<Output>) {
        if let Some(reign) = self.reign {
            out.push(Output::Beat(Beat {
                writer: Writer::EventLog,
                term: reign.epoch,
                instance: self.setup.instance.clone(),
                place: self.published,
                mark: None,
            }));
        }
    }

    /// One without room does not: it would lead, and take nothing. Another may have more.
    fn take_if_silent(&mut self, out: &mut Vec<Output>) {
        if self.follows() && self.presence.is_silent() && !self.full {
            out.push(Output::Notice("nobody leads: about to take".to_owned()));
            self.look_again(out);
        }
    }

    /// Goes from following to looking at the stream.
    fn look_again(&mut self, out: &mut Vec<Output>) {
        out.push(Output::Follow(None));
        self.inspect(out);
    }

    pub(super) fn follow(&mut self, out: &mut Vec<Output>) {
        self.attempts = 0;
        self.waiting = None;
        self.settled = true;
        self.phase = Phase::Following;
        out.push(Output::Follow(Some(self.tip.place.position + 1)));
    }

    /// Waits for what may come by itself, and says once for what.
    pub(super) fn wait(&mut self, waiting: Waiting, out: &mut Vec<Output>) {
        if self.waiting.as_ref() != Some(&waiting) {
            out.push(Output::Notice(format!("waiting: {waiting}")));
            self.waiting = Some(waiting);
        }
        self.phase = Phase::Resting { ticks: WAIT_TICKS };
    }

    /// What arrives while following.
    pub(super) fn following(&mut self, input: Input, out: &mut Vec<Output>) -> Result<(), Stop> {
        match input {
            Input::Connected => self.look_again(out),
            Input::Strayed(what) => {
                out.push(Output::Notice(format!("looking at the events stream again: {what}")));
                self.look_again(out);
            }
            Input::Followed(messages) => {
                let next = self.tip.place.position + 1;
                let intake = self.take_in((next, u64::MAX), None, messages, out)?;
                if intake.took {
                    self.presence.heard();
                }
                if intake.odd {
                    let what = format!("position {} does not follow from the log", intake.next);
                    out.push(Output::Notice(format!("looking at the events stream again: {what}")));
                    self.look_again(out);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Entries that the stream has let go of, from another instance.
    pub(super) fn bridge(
        &mut self,
        (next, to): (u64, u64),
        messages: Vec<Streamed>,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let intake = self.take_in((next, to), None, messages, out)?;
        match intake.next {
            more if more > to => self.inspect(out),
            more if more > next && !intake.odd => self.fetch(more, to, out),
            more => self.wait(Waiting::Gap { from: more, to }, out),
        }
        Ok(())
    }

    /// Looks for another instance that took behind what this log has, and gave up the rest.
    pub(super) fn seek(
        &mut self,
        facts: Facts,
        (next, to): (u64, u64),
        messages: &[Streamed],
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let mut sought = Sought::Nothing;
        let mut reached = next - 1;
        for message in messages.iter().take_while(|message| message.sequence <= to) {
            reached = message.sequence;
            let Ok((_, Some(Event::SequencerTaken(taken)))) = entry::decode(&message.bytes) else {
                continue;
            };
            let Some(end) = taken.accept_loss else { continue };
            let row = self.store.row(end.position)?;
            if end.position + 1 == reached && row.is_some_and(|row| row.place == end) {
                sought = Sought::GivenUp { at: reached };
                break;
            }
        }
        if sought == Sought::Nothing && (next..to).contains(&reached) {
            let next = reached + 1;
            out.push(Output::Read { from: next, to });
            self.phase = Phase::Recovering(Recovery::Seeking { facts, next, to });
            return Ok(());
        }
        let facts = Facts { sought: Some(sought), standing: self.standing(), ..facts };
        self.act(judge(&facts), facts, now_ms, out)
    }

    /// What was published here and given up elsewhere is not shown any more.
    pub(super) fn give_up(&mut self, out: &mut Vec<Output>) -> Result<(), Stop> {
        let end = self.tip.place;
        for snapshot in self.store.snapshots()? {
            if snapshot.place.position > end.position {
                self.store.drop_snapshot(&snapshot)?;
            }
        }
        let what = format!("what had been published behind {end} was given up by an operator");
        out.push(Output::Notice(what));
        self.published = end;
        out.push(Output::Published(end));
        Ok(())
    }

    /// Another instance took, or this one in an earlier life.
    pub(super) fn deposed(&mut self, place: Place, out: &mut Vec<Output>) {
        self.presence.took();
        if self.reign.take().is_some() {
            out.push(Output::Notice(format!("another instance took at {place}: on standby")));
        }
    }
}
