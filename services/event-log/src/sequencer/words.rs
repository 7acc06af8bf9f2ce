//! What arrives at the sequencer, what it wants done, and what it is made with.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use schemas::append::Answer;
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::report::{Beat, Mark, StandbyReport};

use super::diverge::{Said, Tally, Who};
use super::flight::Message;
use super::room::Room;
use crate::start::{Refusal, Stream};
use crate::store::{Commit, StoreError};
use crate::witness::Heads;

/// What the published state says: of replicas, of which an agent may only name its own, and of itself.
pub trait Bindings {
    /// The node that a replica is bound to, once it is.
    fn node_of(&self, replica: &ReplicaId) -> Option<NodeName>;

    /// Whether it was stated that commands which ask for more are refused.
    fn intake_closed(&self) -> bool;

    /// The mark at a place, if one was taken there and is still known.
    fn mark_at(&self, place: Place) -> Option<Mark>;

    /// The newest mark, if there is one.
    fn newest_mark(&self) -> Option<Mark>;
}

/// How much the events stream keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The largest message, headers and subject included.
    pub message_bytes: usize,
}

/// How an instance stands to others, as it is configured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seat {
    /// There is no other: whoever took was this one, in an earlier life.
    #[default]
    Only,
    /// One of several: it publishes nothing while another may lead.
    OneOf {
        /// Whether it may begin a history where there is none.
        begins: bool,
    },
}

/// What a sequencer is made with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The id of this instance.
    pub instance: String,
    /// The id that a new history would get. Random: two histories never share one.
    pub genesis: String,
    /// What the witness remembers.
    pub witnessed: Option<Heads>,
    /// How it stands to other instances.
    pub seat: Seat,
    /// Whether to take although something that was published is in no log, as an operator said.
    pub accepts_loss: bool,
    /// How much the events stream keeps.
    pub window: Window,
}

/// An append request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its sequence in the append stream.
    pub sequence: u64,
    /// Its subject, which says who asks.
    pub subject: String,
    /// Where the answer goes.
    pub inbox: Option<String>,
    /// The request.
    pub bytes: Bytes,
}

/// A message of the events stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// Its sequence.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its payload.
    pub bytes: Bytes,
}

/// What became of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the stream at this sequence.
    Stored(u64),
    /// It is not in the stream.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// What arrives.
#[derive(Clone, Debug)]
pub enum Input {
    /// The connection is there, for the first time or again.
    Connected,
    /// [`Output::Inspect`] is done.
    Stream(Stream),
    /// [`Output::Read`] is done, or its first part: as many messages as came at once. None: there
    /// is no message in the range.
    Messages(Vec<Streamed>),
    /// [`Output::Seat`] is done.
    Seated,
    /// What was asked for last, other than a publish, did not succeed.
    Failed(String),
    /// What became of publishes. Every [`Output::Publish`] has exactly one outcome.
    Outcomes(Vec<(u64, Outcome)>),
    /// Everything that was to be stored up to this position is on disk. Groups are stored in their
    /// order; several may be in one commit.
    Stored(u64),
    /// A group may not be on disk.
    NotStored(Arc<StoreError>),
    /// Append requests, in the order of their stream.
    Requests(Vec<Asked>),
    /// [`Output::Follow`] has more.
    Followed(Vec<Streamed>),
    /// [`Output::Follow`] does not find what comes next: the stream lost it, or let go of it.
    Strayed(String),
    /// A leading event-log says that it is there.
    Beat(Beat),
    /// Somebody who folds says what their state is.
    Marked(Said),
    /// Somebody has folded up to here, so that it was published.
    Known(Place),
    /// [`Output::Probe`] found nobody.
    Nobody,
    /// [`Output::Confirm`] is done: the sequence of the last `SequencerTaken`.
    Confirmed {
        /// The number of the question.
        ticket: u64,
        /// The sequence; none when the stream has no such message, or does not say.
        last: Option<u64>,
    },
    /// Some time has passed; about ten times a second, by a clock that never goes back, and once
    /// only after the process itself was stopped for a while.
    Tick,
    /// How much room the disks have.
    Room(Room),
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// See that the streams exist, and how far the events stream is.
    Inspect,
    /// Read messages of the events stream.
    Read {
        /// The first sequence.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Make the events stream go on at a sequence, by purging what is below.
    Seat {
        /// The sequence of its next message.
        next: u64,
    },
    /// Ask the instance that answers reads for entries that the stream has let go of. They come as
    /// [`Input::Messages`].
    Fetch {
        /// The first position.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// Hand in what comes into the events stream from here on, until told otherwise.
    Follow(Option<u64>),
    /// Store a group, durably, behind those before it. It comes back as [`Input::Stored`].
    Store(Arc<Commit>),
    /// Publish an event under its checks.
    Publish(Message),
    /// Say that this instance leads.
    Beat(Beat),
    /// Say what the state is of this instance, which stands by.
    StandsBy(StandbyReport),
    /// See whether any instance answers reads.
    Probe,
    /// Read the sequence of the last `SequencerTaken` from the stream.
    Confirm {
        /// The number of the question.
        ticket: u64,
    },
    /// Read append requests from their stream's first message on, or stop reading them.
    Listen(bool),
    /// The append stream need not keep requests up to this sequence.
    Purge {
        /// The sequence.
        up_to: u64,
    },
    /// Answer a request.
    Answer {
        /// Where to.
        inbox: String,
        /// The answer.
        answer: Answer,
    },
    /// The published head has moved. Entries up to it may be shown.
    Published(Place),
    /// Remember both heads.
    Witness(Heads),
    /// Something an operator should know.
    Notice(String),
    /// End the process.
    Stop(Stop),
}

/// Why the sequencer cannot go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Stop {
    /// The store failed, and only opening it anew tells what is on disk.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
    /// A start would lose or fork history.
    #[error(transparent)]
    Refusal(#[from] Refusal),
}

impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Stop {}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Groups that were ordered.
    pub groups: u64,
    /// Requests that were recorded.
    pub recorded: u64,
    /// Events that were recorded.
    pub events: u64,
    /// Requests that were repeats.
    pub duplicates: u64,
    /// Requests that were refused, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Messages on the append stream that are no requests.
    pub junk: u64,
    /// Requests that were let go for lack of room.
    pub deferred: u64,
    /// States of whoever folds.
    pub states: BTreeMap<Who, Tally>,
    /// Times that a publish did not go as expected.
    pub disturbed: u64,
    /// Leaderships that were taken.
    pub takes: u64,
    /// Positions that hold something the log never wrote.
    pub voided: u64,
    /// Entries that were moved aside.
    pub orphans: u64,
}
