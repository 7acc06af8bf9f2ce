//! What is around the instances: their processes, the server, and the connections between.

use schemas::event::Event;
use schemas::place::Place;
use schemas::subject::SEQUENCER_TAKEN;

use super::{Instance, Storm};
use crate::disk::store_group;
use crate::entry;
use crate::sequencer::tests::world::Bound;
use crate::sequencer::{Input, Message, Outcome, Output, Seat, Sequencer, Setup, Stop, Streamed};
use crate::store::{Row, Store, rows};

impl Storm {
    pub(super) fn start(&mut self, i: usize) {
        let (window, one) = (self.window, &mut self.instances[i]);
        one.starts += 1;
        let setup = Setup {
            instance: format!("log-{i}"),
            genesis: format!("history-{i}-{}", one.starts),
            witnessed: one.witnessed.clone(),
            seat: Seat::OneOf { begins: one.begins },
            accepts_loss: one.accepts_loss,
            window,
        };
        let process = Sequencer::new(one.store.clone(), Bound::default(), setup);
        one.process = Some(process.expect("the store is readable"));
        one.arrived.push_back(Input::Connected);
    }

    /// Power is cut, or the process killed: what it had not done is not done, what it had sent may
    /// still arrive.
    pub(super) fn crash(&mut self, i: usize) {
        let one = &mut self.instances[i];
        let arrive = self.dice.below(one.network.len() + 1);
        one.network.truncate(arrive);
        self.late.append(&mut one.network);
        one.process = None;
        one.paused = false;
        one.listening = false;
        one.following = None;
        one.read = 0;
        one.arrived.clear();
        one.todo.clear();
        one.store.crash(0);
    }

    pub(super) fn on(&mut self, i: usize, input: Input) {
        self.now_ms += 1;
        let now_ms = self.now_ms;
        let one = &mut self.instances[i];
        if let Some(process) = &mut one.process {
            one.todo.extend(process.on(input, now_ms));
        }
    }

    pub(super) fn arrive(&mut self, i: usize) {
        if let Some(input) = self.instances[i].arrived.pop_front() {
            self.on(i, input);
        }
    }

    /// Does the next thing that an instance wants done.
    pub(super) fn step(&mut self, i: usize) {
        let Some(output) = self.instances[i].todo.pop_front() else { return self.arrive(i) };
        let input = match output {
            Output::Inspect => Input::Stream(self.stream.facts()),
            Output::Read { from, to } => {
                self.let_go(from);
                Input::Messages(self.stream.read(from, to, 7))
            }
            Output::Seat { next } => {
                self.stream.seat(next);
                Input::Seated
            }
            Output::Fetch { from, to } => self.page(from, to),
            Output::Follow(from) => {
                self.instances[i].following = from;
                return;
            }
            Output::Store(group) => {
                let one = &mut self.instances[i];
                let input = store_group(&one.store, group);
                if matches!(input, Input::NotStored(_)) {
                    one.todo.retain(|output| !matches!(output, Output::Store(_)));
                }
                input
            }
            Output::Publish(message) => return self.instances[i].network.push_back(message),
            Output::Beat(beat) => {
                for other in (0..self.instances.len()).filter(|other| *other != i) {
                    let one = &mut self.instances[other];
                    if one.process.is_some() && !one.paused && !self.dice.once_in(10) {
                        one.arrived.push_back(Input::Beat(beat.clone()));
                    }
                }
                return;
            }
            Output::Probe => {
                if self.instances.iter().any(Instance::rules) {
                    return;
                }
                Input::Nobody
            }
            Output::Confirm { ticket } if self.protections.confirmation => {
                Input::Confirmed { ticket, last: self.stream.last_taken() }
            }
            Output::Confirm { ticket } => {
                let process = self.instances[i].process.as_ref();
                let last = process.and_then(Sequencer::fence);
                Input::Confirmed { ticket, last }
            }
            Output::Listen(listening) => {
                let one = &mut self.instances[i];
                (one.listening, one.read) = (listening, 0);
                self.takes_over += u64::from(listening);
                return;
            }
            Output::Purge { up_to } => {
                return self.appends.retain(|asked| asked.sequence > up_to);
            }
            Output::Answer { answer, .. } => return self.answer(&answer),
            Output::Published(place) => return self.see(i, place),
            Output::Witness(heads) => {
                self.instances[i].witnessed = Some(heads);
                return;
            }
            Output::Notice(_) => return,
            Output::Stop(Stop::Store(_)) => return self.crash(i),
            Output::Stop(Stop::Refusal(refusal)) => panic!("instance {i}: {refusal}"),
        };
        self.on(i, input);
    }

    /// Entries from whoever answers reads.
    pub(super) fn page(&mut self, from: u64, to: u64) -> Input {
        let leader = self.instances.iter().find(|one| one.rules() && !one.paused);
        let Some(leader) = leader else { return Input::Failed("nobody answers".to_owned()) };
        let published = leader.process.as_ref().map_or(0, |process| process.published().position);
        let found = rows(&leader.store, from, to.min(published)).expect("readable");
        self.bridged += 1;
        let streamed = |row: Row| {
            let sequence = row.position();
            Streamed { sequence, subject: row.subject, bytes: row.bytes }
        };
        Input::Messages(found.into_iter().take(5).map(streamed).collect())
    }

    /// The stream keeps so much, and gets more between two looks of somebody who wants to read from a
    /// sequence on.
    fn let_go(&mut self, from: u64) {
        if self.faults && self.dice.once_in(8) {
            let below = from + self.dice.below(3) as u64;
            let below = below.min(self.stream.last.saturating_sub(8));
            self.stream.messages.retain(|message| message.sequence >= below);
        }
    }

    /// What the stream brings to a follower.
    pub(super) fn read_stream(&mut self, i: usize) {
        let one = &mut self.instances[i];
        let Some(from) = one.following else { return };
        let facts = self.stream.facts();
        if from > facts.last + 1 || from < facts.first {
            one.following = None;
            one.arrived.push_back(Input::Strayed("what comes next is not there".to_owned()));
            return;
        }
        let messages = self.stream.read(from, u64::MAX, 1 + self.dice.below(5));
        if let Some(last) = messages.last() {
            one.following = Some(last.sequence + 1);
            one.arrived.push_back(Input::Followed(messages));
        }
    }

    pub(super) fn deliver(&mut self, i: usize) {
        if !self.late.is_empty() && self.dice.once_in(2) {
            let message = self.late.pop_front().expect("there is one");
            self.serve(&message);
            return;
        }
        let Some(message) = self.instances[i].network.pop_front() else { return };
        let outcome = self.serve(&message);
        let position = message.place.position;
        self.instances[i].arrived.push_back(Input::Outcomes(vec![(position, outcome)]));
    }

    /// What the server does. A leader that another has followed must get nothing in any more.
    pub(super) fn serve(&mut self, message: &Message) -> Outcome {
        let mut message = message.clone();
        let led = message.fence.is_some();
        if !self.protections.fence {
            message.fence = None;
        }
        let taken = self.stream.messages.iter().rev().find(|m| m.subject == SEQUENCER_TAKEN);
        let taken = taken.and_then(|taken| entry::decode(&taken.bytes).ok());
        let epoch = taken.map_or(0, |(header, _)| header.epoch);
        let outcome = self.stream.publish(&message);
        if led && matches!(outcome, Outcome::Stored(_)) && message.place.epoch < epoch {
            panic!("late: {} was taken under epoch {epoch}", message.place);
        }
        outcome
    }

    pub(super) fn reconnect(&mut self, i: usize) {
        if self.instances[i].process.is_none() || self.instances[i].paused {
            return;
        }
        let arrive = self.dice.below(self.instances[i].network.len() + 1);
        let mut unknown = Vec::new();
        for (k, message) in std::mem::take(&mut self.instances[i].network).into_iter().enumerate() {
            if k < arrive {
                self.serve(&message);
            }
            unknown.push((message.place.position, Outcome::Unknown("timeout".to_owned())));
        }
        let one = &mut self.instances[i];
        for input in &mut one.arrived {
            if let Input::Outcomes(outcomes) = input {
                let lost = std::mem::take(outcomes).into_iter();
                unknown.extend(lost.map(|(at, _)| (at, Outcome::Unknown("timeout".to_owned()))));
            }
        }
        one.arrived.push_back(Input::Outcomes(unknown));
        one.arrived.push_back(Input::Connected);
    }

    /// The server loses its end, of which every instance has everything.
    pub(super) fn lose_tail(&mut self) {
        let seen = self.seen.last_key_value().map_or(0, |(at, _)| *at);
        let Some(last) = self.stream.messages.back() else { return };
        let has = |one: &Instance| {
            let row = one.store.row(last.sequence).expect("readable");
            row.is_some_and(|row| row.bytes == last.bytes)
        };
        if last.sequence < seen || !self.instances.iter().all(has) {
            return;
        }
        self.late.clear();
        let lost = self.dice.below(5) as u64;
        for i in 0..self.instances.len() {
            self.instances[i].paused = false;
            self.reconnect(i);
        }
        self.stream.lose_after(self.stream.last.saturating_sub(lost));
    }

    /// What was published once stays as it is, whoever says so.
    pub(super) fn see(&mut self, i: usize, head: Place) {
        let from = self.seen.last_key_value().map_or(0, |(at, _)| *at) + 1;
        for row in rows(&self.instances[i].store, from, head.position).expect("readable") {
            if row.ends {
                self.end = row.place.basis();
            }
            if let Ok((_, Some(Event::LeadershipTaken(taken)))) = entry::decode(&row.bytes) {
                self.terms.insert(taken.writer, taken.term);
            }
            self.seen.insert(row.position(), row);
        }
        let seen = self.seen.get(&head.position).map(|row| row.place);
        assert_eq!(seen, Some(head), "instance {i} says that another history was published");
    }
}
