//! The events stream in memory, with the checks that a server makes.

use std::collections::VecDeque;

use bytes::Bytes;
use schemas::subject::SEQUENCER_TAKEN;

use crate::sequencer::{Message, Outcome, Streamed};
use crate::start::Stream;

/// The events stream, with what a server checks.
#[derive(Debug, Default)]
pub struct FakeStream {
    /// What it holds.
    pub messages: VecDeque<Streamed>,
    /// The last sequence it gave.
    pub last: u64,
    /// How many messages it keeps.
    pub keeps: usize,
}

impl FakeStream {
    /// What the server says of it.
    #[must_use]
    pub fn facts(&self) -> Stream {
        let first = self.messages.front().map_or(self.last + 1, |message| message.sequence);
        Stream { first, last: self.last, messages: self.messages.len() as u64 }
    }

    /// What the server does with a publish.
    pub fn publish(&mut self, message: &Message) -> Outcome {
        if message.expected_last != self.last {
            return Outcome::Refused(format!("wrong last sequence: {}", self.last));
        }
        if let Some(fence) = message.fence
            && self.last_taken().unwrap_or(0) != fence
        {
            return Outcome::Refused("wrong last sequence on the subject".to_owned());
        }
        Outcome::Stored(self.add(&message.subject, message.bytes.clone()))
    }

    /// The sequence of the last message on the subject of `SequencerTaken`.
    #[must_use]
    pub fn last_taken(&self) -> Option<u64> {
        let taken = self.messages.iter().rev().find(|m| m.subject == SEQUENCER_TAKEN);
        taken.map(|taken| taken.sequence)
    }

    /// A publish by hand, under no check.
    pub fn add(&mut self, subject: &str, bytes: Bytes) -> u64 {
        self.last += 1;
        let subject = subject.to_owned();
        self.messages.push_back(Streamed { sequence: self.last, subject, bytes });
        if self.messages.len() > self.keeps {
            self.messages.pop_front();
        }
        self.last
    }

    /// The server lost what it had not synced.
    pub fn lose_after(&mut self, sequence: u64) {
        self.messages.retain(|message| message.sequence <= sequence);
        self.last = self.last.min(sequence);
    }

    /// Goes on at `next`, by purging what is below.
    pub fn seat(&mut self, next: u64) {
        self.messages.retain(|message| message.sequence >= next);
        self.last = self.last.max(next - 1);
    }

    /// The messages from `from` to `to`, `max` at most.
    #[must_use]
    pub fn read(&self, from: u64, to: u64, max: usize) -> Vec<Streamed> {
        let first = self.messages.partition_point(|message| message.sequence < from);
        let wanted = self.messages.range(first..).take_while(|message| message.sequence <= to);
        wanted.take(max).cloned().collect()
    }
}
