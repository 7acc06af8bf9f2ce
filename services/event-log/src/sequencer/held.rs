//! Answers that wait: each until all that was stored before it is published, and a refusal also
//! until the stream has said since that no other instance took. One that did may already have made
//! right what was refused here.

use std::collections::VecDeque;

use schemas::append::Answer;

/// The answers, in the order of their requests.
#[derive(Debug, Default)]
pub(super) struct Held {
    waiting: VecDeque<Waiting>,
    /// The last number that a refusal got; the last that was asked for; the last that holds.
    given: u64,
    asked: u64,
    confirmed: u64,
}

#[derive(Debug)]
struct Waiting {
    after: u64,
    /// The number of a refusal: 0 for another answer, which needs no confirmation.
    ticket: u64,
    inbox: String,
    answer: Answer,
}

impl Held {
    /// Keeps an answer until everything up to `after` is published.
    pub(super) fn push(&mut self, after: u64, refused: bool, inbox: String, answer: Answer) {
        let ticket = match refused {
            true => {
                self.given += 1;
                self.given
            }
            false => 0,
        };
        self.waiting.push_back(Waiting { after, ticket, inbox, answer });
    }

    /// The number to ask the stream with, when there is something to ask and no question under way.
    pub(super) fn question(&mut self) -> Option<u64> {
        if self.asked > self.confirmed || self.given == self.confirmed {
            return None;
        }
        self.asked = self.given;
        Some(self.asked)
    }

    /// The stream did not say.
    pub(super) fn unanswered(&mut self) {
        self.asked = self.confirmed;
    }

    /// Refusals up to this number hold.
    pub(super) fn confirm(&mut self, ticket: u64) {
        self.confirmed = self.confirmed.max(ticket);
    }

    /// The next answer that may leave.
    pub(super) fn release(&mut self, published: u64) -> Option<(String, Answer)> {
        let confirmed = self.confirmed;
        let waiting = self
            .waiting
            .pop_front_if(|waiting| waiting.after <= published && waiting.ticket <= confirmed)?;
        Some((waiting.inbox, waiting.answer))
    }

    /// Refusals that were not confirmed are for whoever leads next to repeat.
    pub(super) fn forget_refusals(&mut self) {
        let confirmed = self.confirmed;
        self.waiting.retain(|waiting| waiting.ticket <= confirmed);
        (self.asked, self.confirmed) = (self.given, self.given);
    }

    /// What was stored from a position on is not history.
    pub(super) fn forget_from(&mut self, from: u64) {
        self.waiting.retain(|waiting| waiting.after < from);
    }
}
