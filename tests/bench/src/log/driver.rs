//! The real sequencer on the real store, fed by the script. As in the service, the store has a
//! thread of its own: a group is synced while the next is made.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use event_log::disk::store_groups;
use event_log::sequencer::{
    Asked, Bindings, Input, Outcome, Output, Seat, Sequencer, Setup, Window,
};
use event_log::start::Stream;
use event_log::store::{Commit, FjallStore};
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

    fn newest_mark(&self) -> Option<Mark> {
        None
    }
}

/// How many groups are under way: one is synced, one waits for it. With more, the disk would join them.
pub(super) const UNDER_WAY: usize = 2;

/// What one run of groups took.
#[derive(Default)]
pub(super) struct Ran {
    /// Microseconds of all.
    pub(super) us: u64,
    /// Microseconds of each, from when it was handed in until its last request was answered.
    pub(super) groups: Vec<u64>,
    /// The last position of each.
    pub(super) ends: Vec<u64>,
}

pub(super) struct Driver {
    store: FjallStore,
    sequencer: Sequencer<FjallStore, Anybody>,
    script: Script,
    sequence: u64,
    now_ms: u64,
    ready: VecDeque<Asked>,
    answered: usize,
    disk: Disk,
}

/// The thread that stores.
struct Disk {
    /// None while it is being ended.
    groups: Option<Sender<Arc<Commit>>>,
    stored: Receiver<Input>,
    thread: Option<JoinHandle<()>>,
}

impl Disk {
    fn start(store: &FjallStore) -> Self {
        let (groups, ordered) = channel();
        let (tell, stored) = channel();
        let store = store.clone();
        let thread = std::thread::spawn(move || {
            store_groups(&store, &ordered, &mut |input| tell.send(input).is_ok());
        });
        Self { groups: Some(groups), stored, thread: Some(thread) }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.groups = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Driver {
    /// Begins a history in a folder that has none.
    pub(super) fn open(folder: &Path) -> Result<Self, Failure> {
        let store = FjallStore::open(folder)?;
        event_log::testing::begin(&store)?;
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
        let mut driver = Self {
            disk: Disk::start(&store),
            store,
            sequencer,
            script: Script::new(),
            sequence: 0,
            now_ms: 1_700_000_000_000,
            ready: VecDeque::new(),
            answered: 0,
        };
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

    /// Appends so many groups of so many requests, until all are answered. So many are handed in before the
    /// first of them is.
    pub(super) fn run(
        &mut self,
        groups: usize,
        requests: usize,
        under_way: usize,
    ) -> Result<Ran, Failure> {
        self.prepare(groups * requests)?;
        let (mut ran, mut begun) = (Ran::default(), VecDeque::new());
        let before = self.answered;
        let since = Since::now();
        while ran.groups.len() < groups {
            if ran.ends.len() < groups && begun.len() < under_way {
                begun.push_back(since.us());
                self.hand_in(requests)?;
                ran.ends.push(self.sequencer.ordered().position);
            } else {
                self.stored(true)?;
            }
            while self.answered >= before + (ran.groups.len() + 1) * requests
                && let Some(began) = begun.pop_front()
            {
                ran.groups.push(since.us() - began);
            }
        }
        ran.us = since.us();
        Ok(ran)
    }

    /// Hands in a group.
    pub(super) fn hand_in(&mut self, requests: usize) -> Result<(), Failure> {
        self.prepare(requests)?;
        let group: Vec<Asked> = self.ready.drain(..requests).collect();
        self.now_ms += 250 * requests as u64;
        self.input(Input::Requests(group))
    }

    /// Takes in what the disk has said, or waits for that. False when it has said nothing.
    pub(super) fn stored(&mut self, wait: bool) -> Result<bool, Failure> {
        let said = match wait {
            true => Some(self.disk.stored.recv()?),
            false => self.disk.stored.try_recv().ok(),
        };
        match said {
            Some(input) => self.input(input).map(|()| true),
            None => Ok(false),
        }
    }

    /// Whether the disk is ready for another group.
    pub(super) fn has_room(&self) -> bool {
        self.sequencer.has_room()
    }

    /// How many requests were ever answered.
    pub(super) fn answered(&self) -> usize {
        self.answered
    }

    /// Does what the machine asks for, with a stream that agrees at once.
    fn input(&mut self, input: Input) -> Result<(), Failure> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outcomes = Vec::new();
            for output in self.sequencer.on(input, self.now_ms) {
                match output {
                    Output::Inspect => {
                        inputs.push_back(Input::Stream(Stream { first: 1, last: 0, messages: 0 }));
                    }
                    Output::Store(group) => {
                        let groups = self.disk.groups.as_ref().ok_or("the disk was closed")?;
                        groups.send(group).map_err(|_| "nothing is stored any more")?;
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
                        self.answered += 1;
                    }
                    Output::Stop(stop) => return Err(stop.into()),
                    _ => {}
                }
            }
            if !outcomes.is_empty() {
                inputs.push_back(Input::Outcomes(outcomes));
            }
        }
        Ok(())
    }
}
