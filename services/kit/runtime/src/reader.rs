//! Reads history in order into a queue: from the events stream, and from event-log what the stream
//! has let go of. Everything that folds reads with this.

use std::time::Duration;

use bus::{Bus, FollowError};
use decider::Input;
use schemas::read::LogRequest;
use schemas::stream;
use tokio::sync::mpsc::Sender;

use crate::{Failure, history};

/// How many messages are taken from the stream at once.
const AT_ONCE: usize = 1_024;

/// How long the reader waits before it tries again.
const RETRY: Duration = Duration::from_millis(200);

/// What was read.
#[derive(Debug)]
pub enum Read {
    /// The next entry, as it stands in the stream.
    Entry(Vec<u8>),
    /// The next entry, as event-log itself says it.
    Logged(Vec<u8>),
    /// There is nothing after the entries that were handed in so far.
    CaughtUp,
}

impl<I> From<Read> for Input<I> {
    fn from(read: Read) -> Self {
        match read {
            Read::Entry(bytes) => Self::Entry(bytes),
            Read::Logged(bytes) => Self::Logged(bytes),
            Read::CaughtUp => Self::CaughtUp,
        }
    }
}

/// Reads events from a position on, for as long as the queue is there; with `log_first`, those that
/// event-log has before those of the stream.
///
/// # Errors
///
/// None of its own: what fails is tried again.
pub async fn events<M: From<Read> + Send>(
    bus: Bus,
    queue: Sender<M>,
    mut from: u64,
    mut log_first: bool,
) -> Result<(), Failure> {
    loop {
        if log_first {
            match read_pages(&bus, &queue, &mut from).await {
                Pages::Nobody => return Ok(()),
                // The log has not got past it yet: it says what stands there when it has.
                Pages::None => tokio::time::sleep(RETRY).await,
                Pages::Some => log_first = false,
            }
            continue;
        }
        let mut follow = bus.follow(stream::EVENTS.name, from, None);
        let error = loop {
            let batch = match follow.next_batch(AT_ONCE).await {
                Ok(batch) => batch,
                Err(error) => break error,
            };
            for message in batch {
                from = message.sequence + 1;
                let read = Read::Entry(message.payload.to_vec());
                if queue.send(read.into()).await.is_err() {
                    return Ok(());
                }
            }
            if follow.caught_up() && queue.send(Read::CaughtUp.into()).await.is_err() {
                return Ok(());
            }
        };
        match error {
            FollowError::Gone { .. } => {
                log_first = true;
                continue;
            }
            // event-log publishes again what the stream lost; hashes tell whether it is the same.
            FollowError::Rewound { .. } => {
                tracing::warn!(%error, "waiting for event-log to mend it")
            }
            FollowError::Bus(error) => tracing::warn!(%error, "reading events again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// What a page of event-log held.
enum Pages {
    /// Events, handed on.
    Some,
    /// None yet.
    None,
    /// Nobody wants them any more.
    Nobody,
}

/// Reads one page from event-log.
async fn read_pages<M: From<Read>>(bus: &Bus, queue: &Sender<M>, from: &mut u64) -> Pages {
    let request = LogRequest { from: *from, ..LogRequest::default() };
    let page = match history::page(bus, &request).await {
        Ok(page) => page,
        Err(error) => {
            tracing::info!(%error, from = *from, "waiting for event-log to read history from");
            return Pages::None;
        }
    };
    if page.events.is_empty() {
        return Pages::None;
    }
    for event in page.events {
        *from += 1;
        let read = Read::Logged(event.get().as_bytes().to_vec());
        if queue.send(read.into()).await.is_err() {
            return Pages::Nobody;
        }
    }
    Pages::Some
}
