//! Reads history in order into a queue: from the events stream, and from event-log what the stream
//! has let go of. Everything that folds reads with this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bus::{Bus, FollowError};
use decider::Input;
use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::stream;
use tokio::sync::mpsc::Sender;

use crate::{Failure, Metrics, history};

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

/// The last position of history that a reader has heard of, read or not. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicU64>);

impl Heard {
    fn at(&self, position: u64) {
        self.0.fetch_max(position, Ordering::Relaxed);
    }

    /// Shows how far a service has folded, and how far that is behind.
    pub fn tell(&self, metrics: &Metrics, service: &str, folded: Place) {
        let labels = [("service", service)];
        let lag = self.0.load(Ordering::Relaxed).saturating_sub(folded.position);
        let position = folded.position;
        metrics.set("muster_folded_position", "The last position folded.", &labels, position);
        metrics.set("muster_folded_epoch", "The epoch of that position.", &labels, folded.epoch);
        metrics.set("muster_lag_events", "Events known of and not folded yet.", &labels, lag);
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
    heard: Heard,
) -> Result<(), Failure> {
    loop {
        if log_first {
            match read_pages(&bus, &queue, &mut from, &heard).await {
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
            heard.at(follow.last());
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
async fn read_pages<M: From<Read>>(
    bus: &Bus,
    queue: &Sender<M>,
    from: &mut u64,
    heard: &Heard,
) -> Pages {
    let request = LogRequest { from: *from, ..LogRequest::default() };
    let page = match history::page(bus, &request).await {
        Ok(page) => page,
        Err(error) => {
            tracing::info!(%error, from = *from, "waiting for event-log to read history from");
            return Pages::None;
        }
    };
    heard.at(page.place.position);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_of_and_not_folded_is_the_lag() {
        let (heard, metrics) = (Heard::default(), Metrics::default());
        heard.at(10);
        heard.at(9);
        let mut folded = Place { epoch: 2, position: 7, ..Place::START };
        heard.tell(&metrics, "health", folded);
        let text = metrics.text();
        for line in [
            "muster_lag_events{service=\"health\"} 3",
            "muster_folded_position{service=\"health\"} 7",
            "muster_folded_epoch{service=\"health\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        // A fold may know more than was heard: it began at a snapshot.
        folded.position = 12;
        heard.tell(&metrics, "health", folded);
        assert!(metrics.text().contains("muster_lag_events{service=\"health\"} 0"));
    }
}
