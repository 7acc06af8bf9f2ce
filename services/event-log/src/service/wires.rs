//! What the sequencer asks of the bus: each in the background, and what comes of it goes into the queue
//! or is an outcome.

use bus::{Bus, Expect, FollowError, PublishError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use schemas::append::INBOX_HEADER;
use schemas::{stream, subject};
use tokio::sync::mpsc::Sender;

use super::{GROUP, RETRY};
use crate::others;
use crate::sequencer::{Asked, Input, Message, Outcome};
use crate::start::Stream;

/// The way to the bus.
pub(super) struct Wires {
    pub(super) bus: Bus,
    queue: Sender<Input>,
    publishing: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
    listening: Option<tokio::task::JoinSet<()>>,
    following: Option<tokio::task::JoinSet<()>>,
    /// Requests up to here were read.
    purge: Option<u64>,
}

impl Wires {
    pub(super) fn new(bus: Bus, queue: Sender<Input>) -> Self {
        let (listening, following, purge) = (None, None, None);
        Self { bus, queue, publishing: FuturesUnordered::new(), listening, following, purge }
    }

    /// What became of publishes, once something did. Waits for ever while none is under way. Outcomes
    /// come in bursts: those that are there already come together.
    pub(super) async fn outcomes(&mut self) -> Vec<(u64, Outcome)> {
        use futures_util::FutureExt as _;
        let Some(first) = self.publishing.next().await else { return std::future::pending().await };
        let mut outcomes = vec![first];
        while let Some(Some(outcome)) = self.publishing.next().now_or_never() {
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Sends in the order of the calls; the outcome comes later.
    pub(super) async fn publish(&mut self, message: Message) {
        let position = message.place.position;
        let expect = Expect {
            last: Some(message.expected_last),
            last_on: message.fence.map(|fence| (subject::SEQUENCER_TAKEN.to_owned(), fence)),
        };
        let sent =
            self.bus.publish_checked(&message.subject, message.bytes.to_vec(), &expect).await;
        self.publishing.push(Box::pin(async move {
            let outcome = match sent {
                Ok(ack) => ack.outcome().await,
                Err(error) => Err(error),
            };
            let outcome = match outcome {
                Ok(sequence) => Outcome::Stored(sequence),
                Err(error @ PublishError::Unknown(_)) => Outcome::Unknown(error.to_string()),
                Err(error) => Outcome::Refused(error.to_string()),
            };
            (position, outcome)
        }));
    }

    /// Asks the bus for something in the background; what comes of it goes into the queue.
    #[expect(
        clippy::disallowed_methods,
        reason = "each is one bounded request, awaited by the machine"
    )]
    fn ask(&self, asked: impl Future<Output = Result<Input, String>> + Send + 'static) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let input = asked.await.unwrap_or_else(Input::Failed);
            // Nobody there any more: the process ends.
            let _ = queue.send(input).await;
        });
    }

    pub(super) fn inspect(&self) {
        let bus = self.bus.clone();
        self.ask(async move {
            for spec in stream::ALL {
                bus.ensure_stream(spec).await.map_err(|error| error.to_string())?;
            }
            let state = bus.stream_state(stream::EVENTS.name).await;
            let state = state.map_err(|error| error.to_string())?;
            let state = state.ok_or_else(|| "the events stream is gone again".to_owned())?;
            let (first, last, messages) = (state.first, state.last, state.messages);
            Ok(Input::Stream(Stream { first, last, messages }))
        });
    }

    pub(super) fn read(&self, from: u64, to: u64) {
        let bus = self.bus.clone();
        self.ask(async move {
            let mut follow = bus.follow(stream::EVENTS.name, from, None);
            let batch = follow.next_batch(GROUP * 4).await.map_err(|error| error.to_string())?;
            let batch = batch.into_iter().map(others::streamed).collect();
            others::part(batch, follow.caught_up(), to)
        });
    }

    pub(super) fn seat(&self, next: u64) {
        let bus = self.bus.clone();
        self.ask(async move {
            let done = bus.purge_below(stream::EVENTS.name, next).await;
            done.map(|()| Input::Seated).map_err(|error| error.to_string())
        });
    }

    /// Entries that the stream has let go of, from whoever answers reads.
    pub(super) fn fetch(&self, from: u64, to: u64) {
        self.ask(others::fetch(self.bus.clone(), from, to));
    }

    pub(super) fn confirm(&self, ticket: u64) {
        self.ask(others::confirm(self.bus.clone(), ticket));
    }

    pub(super) fn follow(&mut self, from: Option<u64>) {
        self.following = from.map(|from| {
            let mut reader = tokio::task::JoinSet::new();
            reader.spawn(others::follow(self.bus.clone(), self.queue.clone(), from));
            reader
        });
    }

    pub(super) fn probe(&self) {
        let (bus, queue) = (self.bus.clone(), self.queue.clone());
        #[expect(clippy::disallowed_methods, reason = "one bounded request")]
        tokio::spawn(async move {
            if others::nobody_answers(&bus).await {
                let _ = queue.send(Input::Nobody).await;
            }
        });
    }

    pub(super) fn listen(&mut self, on: bool) {
        if !on {
            // What is read from now on is another's to take away.
            self.purge = None;
        }
        self.listening = on.then(|| {
            let mut reader = tokio::task::JoinSet::new();
            reader.spawn(read_requests(self.bus.clone(), self.queue.clone()));
            reader
        });
    }

    /// The append stream need not keep requests up to here, as soon as that is told it.
    pub(super) fn purge(&mut self, up_to: u64) {
        self.purge = Some(up_to);
    }

    pub(super) async fn purge_read(&mut self) {
        if let Some(up_to) = self.purge.take() {
            // What stays is read again after a reconnection, and known as a repeat then.
            if let Err(error) = self.bus.purge_below(stream::APPEND.name, up_to + 1).await {
                tracing::debug!(%error, "the append stream was not purged");
            }
        }
    }
}

/// Reads append requests from their stream's first message on, for as long as anyone wants them.
async fn read_requests(bus: Bus, queue: Sender<Input>) {
    let mut from = 0;
    loop {
        let mut follow = bus.follow(stream::APPEND.name, from, None);
        let error = loop {
            match follow.next_batch(GROUP).await {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => {
                    let asked = batch.into_iter().map(|message| Asked {
                        sequence: message.sequence,
                        inbox: message.header(INBOX_HEADER).map(str::to_owned),
                        subject: message.subject.clone(),
                        bytes: Bytes::clone(&message.payload),
                    });
                    if queue.send(Input::Requests(asked.collect())).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        // A memory stream begins anew with its server; what is gone from it is offered again.
        match error {
            FollowError::Gone { .. } | FollowError::Rewound { .. } => from = 0,
            FollowError::Bus(error) => tracing::warn!(%error, "reading requests again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
