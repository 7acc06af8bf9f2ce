//! What is on its way to the stream: stored entries, pipelined up to a bound, and how far they are
//! acknowledged without a gap.

use std::collections::VecDeque;

use bytes::Bytes;
use schemas::place::Place;

use super::Output;
use crate::store::Row;

/// The most messages that are sent and not acknowledged.
const MESSAGES_MAX: usize = 512;

/// The most bytes of them.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// An event to publish, and what must hold for the server to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it stands.
    pub place: Place,
    /// Its subject.
    pub subject: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// The stream's last sequence must be this.
    pub expected_last: u64,
    /// The last message on the subject of `SequencerTaken` must be this one. None for what is
    /// published by a sequencer that has not taken yet.
    pub fence: Option<u64>,
}

impl Message {
    /// A stored entry as a message.
    pub(crate) fn of(row: Row, fence: Option<u64>) -> Self {
        let Row { place, subject, bytes, .. } = row;
        Self { place, subject, bytes, expected_last: place.position - 1, fence }
    }
}

/// What waits to be sent, and what was sent.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    waiting: VecDeque<Message>,
    sent: VecDeque<Sent>,
    bytes: usize,
}

#[derive(Debug)]
struct Sent {
    place: Place,
    fence: Option<u64>,
    bytes: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Outstanding,
    Stored,
    Failed,
}

impl Flight {
    pub(crate) fn push(&mut self, message: Message) {
        self.waiting.push_back(message);
    }

    /// Sends as much as may be under way. What a new `SequencerTaken` fences waits until that is
    /// acknowledged: another instance's may have landed at the same position, and the check knows
    /// the position only.
    pub(crate) fn send(&mut self, out: &mut Vec<Output>) {
        while self.sent.len() < MESSAGES_MAX && self.bytes < BYTES_MAX {
            let fence = self.waiting.front().map(|message| message.fence);
            if self.sent.back().is_some_and(|sent| Some(sent.fence) != fence) {
                return;
            }
            let Some(message) = self.waiting.pop_front() else { return };
            let bytes = message.bytes.len();
            self.bytes += bytes;
            let (place, fence, state) = (message.place, message.fence, State::Outstanding);
            self.sent.push_back(Sent { place, fence, bytes, state });
            out.push(Output::Publish(message));
        }
    }

    /// Sends nothing more.
    pub(crate) fn stop(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn outcome(&mut self, position: u64, stored: bool) {
        // What is sent stands one behind another.
        let first = self.sent.front().map_or(0, |sent| sent.place.position);
        let index = position.checked_sub(first).and_then(|index| usize::try_from(index).ok());
        if let Some(sent) = index.and_then(|index| self.sent.get_mut(index)) {
            sent.state = if stored { State::Stored } else { State::Failed };
        }
    }

    /// Whether nothing waits and nothing is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.sent.is_empty()
    }

    /// How many outcomes are missing.
    pub(crate) fn outstanding(&self) -> usize {
        self.sent.iter().filter(|sent| sent.state == State::Outstanding).count()
    }

    /// The place up to which everything is acknowledged, when it has moved. What was acknowledged
    /// behind a gap does not count: it stands behind something foreign.
    pub(crate) fn advance(&mut self) -> Option<Place> {
        let mut place = None;
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.state == State::Stored) {
            self.bytes -= sent.bytes;
            place = Some(sent.place);
        }
        place
    }
}
