//! The real sequencer on the real store, fed by the script.

use std::collections::VecDeque;
use std::path::Path;

use bytes::Bytes;
use event_log::sequencer::{
    Asked, Bindings, Input, Outcome, Output, Seat, Sequencer, Setup, Window,
};
use event_log::start::Stream;
use event_log::store::FjallStore;
use runtime::Failure;
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::report::Mark;
use schemas::subject;

use crate::clock::Since;
use crate::script::Script;

/// Every agent may speak of every replica: who does is known from the script.
struct Anybody;

impl Bindings for Anybody {
    fn node_of(&self, _: &ReplicaId) -> Option<NodeName> {
        None
    }

    fn intake_closed(&self) -> bool {
        false
    }

    fn mark_at(&self, _: Place) -> Option<Mark> {
        None
    }
}

pub(super) struct Driver {
    store: FjallStore,
    sequencer: Sequencer<FjallStore, Anybody>,
    script: Script,
    sequence: u64,
    now_ms: u64,
    ready: VecDeque<Asked>,
}

impl Driver {
    /// Begins a history in a folder that has none.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let store = FjallStore::open(folder)?;
        let setup = Setup {
            seat: Seat::Only,
            accepts_loss: false,
            instance: "bench".to_owned(),
            genesis: "b".repeat(32),
            witnessed: None,
            // The stream never forgets, so the sequencer need not take again.
            window: Window { messages: u64::MAX, bytes: u64::MAX, message_bytes: 1 << 20 },
        };
        let sequencer = Sequencer::new(store.clone(), Anybody, setup)?;
        let (script, ready) = (Script::new(), VecDeque::new());
        let mut driver =
            Self { store, sequencer, script, sequence: 0, now_ms: 1_700_000_000_000, ready };
        driver.input(Input::Connected)?;
        Ok(driver)
    }

    /// What it is stored in.
    pub(super) fn store(&self) -> &FjallStore {
        &self.store
    }

    /// The position of the stored head.
    pub(super) fn position(&self) -> u64 {
        self.sequencer.stored().position
    }

    /// Has so many requests at hand, so that making them is not measured.
    pub(super) fn prepare(&mut self, requests: usize) -> Result<(), Failure> {
        while self.ready.len() < requests {
            let (request, _) = self.script.next();
            self.sequence += 1;
            self.ready.push_back(Asked {
                sequence: self.sequence,
                subject: subject::append(&request.writer),
                inbox: Some("inbox".to_owned()),
                bytes: Bytes::from(serde_json::to_vec(&request)?),
            });
        }
        Ok(())
    }

    /// Appends a group of requests, until all are answered: how long that took.
    pub(super) fn append(&mut self, requests: usize) -> Result<u64, Failure> {
        self.prepare(requests)?;
        let group: Vec<Asked> = self.ready.drain(..requests).collect();
        self.now_ms += 250 * requests as u64;
        let since = Since::now();
        let answered = self.input(Input::Requests(group))?;
        let us = since.us();
        if answered != requests {
            let refused = &self.sequencer.counts().refused;
            return Err(format!("{answered} of {requests} are answered; {refused:?}").into());
        }
        Ok(us)
    }

    /// Does what the machine asks for, with a stream that agrees at once. How many were answered.
    fn input(&mut self, input: Input) -> Result<usize, Failure> {
        let mut inputs = VecDeque::from([input]);
        let mut answered = 0;
        while let Some(input) = inputs.pop_front() {
            let mut outcomes = Vec::new();
            for output in self.sequencer.on(input, self.now_ms) {
                match output {
                    Output::Inspect => {
                        inputs.push_back(Input::Stream(Stream { first: 1, last: 0, messages: 0 }));
                    }
                    Output::Publish(message) => {
                        let position = message.place.position;
                        outcomes.push((position, Outcome::Stored(position)));
                    }
                    Output::Answer { answer, .. } => {
                        let published =
                            matches!(answer.verdict, schemas::append::Verdict::Published(_));
                        if !published {
                            return Err(format!("refused: {answer:?}").into());
                        }
                        answered += 1;
                    }
                    Output::Stop(stop) => return Err(stop.into()),
                    _ => {}
                }
            }
            if !outcomes.is_empty() {
                inputs.push_back(Input::Outcomes(outcomes));
            }
        }
        Ok(answered)
    }
}
