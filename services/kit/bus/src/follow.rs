//! Following a stream in order: no gaps, no repeats, no acknowledgements, and no silent stall.

use std::pin::Pin;
use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, pull};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;

use crate::{Bus, BusError, FollowError};

/// How long nothing may come before the stream itself is asked whether that can be.
const IDLE: Duration = Duration::from_secs(2);

/// How long a failed attempt waits before the next.
const RETRY: Duration = Duration::from_millis(100);

/// A message of a stream, or of a plain subscription.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its sequence in the stream; 0 when it is of no stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub payload: Bytes,
    /// When the server took it, in ms since 1970 UTC; 0 when it is of no stream.
    pub time_ms: u64,
    /// Where an answer is wanted, if one is.
    pub reply: Option<String>,
    headers: Option<async_nats::HeaderMap>,
}

impl Message {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
    }

    pub(crate) fn plain(message: async_nats::Message) -> Self {
        Self {
            sequence: 0,
            subject: message.subject.to_string(),
            payload: message.payload,
            time_ms: 0,
            reply: message.reply.map(|reply| reply.to_string()),
            headers: message.headers,
        }
    }

    pub(crate) fn stored(message: async_nats::jetstream::message::StreamMessage) -> Self {
        Self {
            sequence: message.sequence,
            subject: message.subject.to_string(),
            payload: message.payload,
            time_ms: millis(message.time),
            reply: None,
            headers: Some(message.headers),
        }
    }

    fn delivered(message: async_nats::jetstream::Message) -> Option<(Self, u64)> {
        let info = message.info().ok()?;
        let (sequence, time_ms, pending) =
            (info.stream_sequence, millis(info.published), info.pending);
        let message = Self {
            sequence,
            subject: message.message.subject.to_string(),
            payload: message.message.payload.clone(),
            time_ms,
            reply: None,
            headers: message.message.headers.clone(),
        };
        Some((message, pending))
    }
}

fn millis(time: chrono::DateTime<chrono::Utc>) -> u64 {
    u64::try_from(time.timestamp_millis()).unwrap_or(0)
}

/// A reader of a stream.
pub struct Follow {
    bus: Bus,
    stream: String,
    filter: String,
    /// The lowest sequence that was not handed out.
    next: u64,
    pending: Option<u64>,
    /// The highest sequence that the stream is known to have.
    last: u64,
    messages: Option<pull::Ordered>,
    connections: watch::Receiver<u64>,
    /// A look at the stream that was begun. Kept until it is over: whoever waits for a batch may be
    /// called away again and again, each time before that.
    look: Option<BoxFuture<'static, Result<Seen, FollowError>>>,
    /// The end of the time in which nothing may come, kept for the same reason.
    idle: Option<Pin<Box<tokio::time::Sleep>>>,
}

/// What a look at the stream found.
#[derive(Default)]
struct Seen {
    /// The highest sequence that it has; none when it could not be looked at.
    last: Option<u64>,
    /// Whether everything in it was read.
    at_end: bool,
    /// Whether it is not there.
    gone: bool,
    /// A consumer, when one was wanted and could be made.
    messages: Option<pull::Ordered>,
}

impl Bus {
    /// Follows a stream from a sequence on; 0 for its first message, whatever that is.
    #[must_use]
    pub fn follow(&self, stream: &str, from: u64, filter: Option<&str>) -> Follow {
        Follow {
            bus: self.clone(),
            stream: stream.to_owned(),
            filter: filter.unwrap_or_default().to_owned(),
            next: from,
            pending: None,
            last: 0,
            messages: None,
            look: None,
            idle: None,
            connections: self.connections(),
        }
    }
}

impl Follow {
    /// The lowest sequence that was not handed out.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The last sequence of the stream, as far as it was heard of; with a filter perhaps less.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether everything was handed out that the stream had when it was last heard.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.pending == Some(0)
    }

    /// Waits for the next message, then takes what is there already, up to `max`. Empty after a
    /// while in which nothing came: the reader is then at the stream's end. May be dropped while it
    /// waits, and called again.
    ///
    /// # Errors
    ///
    /// When the stream does not have what is wanted, or was made anew.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Message>, FollowError> {
        loop {
            if self.look.is_none() && self.messages.is_none() {
                self.connections.mark_unchanged();
                let (bus, stream) = (self.bus.clone(), self.stream.clone());
                self.look = Some(open(bus, stream, self.filter.clone(), self.next).boxed());
            }
            if let Some(look) = &mut self.look {
                let seen = look.await;
                self.look = None;
                if !self.see(seen?) {
                    return Ok(Vec::new());
                }
            }
            let Some(messages) = &mut self.messages else { continue };
            let idle = self.idle.get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
            let came = tokio::select! {
                came = messages.next() => came,
                () = idle.as_mut() => {
                    self.idle = None;
                    let (bus, stream) = (self.bus.clone(), self.stream.clone());
                    self.look = Some(look(bus, stream, self.next).boxed());
                    continue;
                }
                // A server that was started anew knows nothing of this consumer, and the client
                // notices that only after a while.
                Ok(()) = self.connections.changed() => {
                    (self.messages, self.idle) = (None, None);
                    continue;
                }
            };
            self.idle = None;
            match came {
                Some(Ok(message)) => {
                    let mut batch = Vec::new();
                    self.take(message, &mut batch);
                    self.take_ready(max, &mut batch);
                    if !batch.is_empty() {
                        return Ok(batch);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(stream = self.stream, %error, "reading again");
                    self.messages = None;
                    tokio::time::sleep(RETRY).await;
                }
                None => self.messages = None,
            }
        }
    }

    /// Takes in what a look found. Says whether a consumer was made just now, so that there may be
    /// more to come at once.
    fn see(&mut self, seen: Seen) -> bool {
        self.last = seen.last.unwrap_or(self.last);
        if seen.at_end {
            self.pending = Some(0);
        } else if self.filter.is_empty() || seen.last.is_none() {
            // There is more, or it is not known: what was heard before says nothing any more. With a
            // filter what there is more may be for others.
            self.pending = None;
        }
        if seen.gone {
            self.messages = None;
        }
        let made = seen.messages.is_some();
        self.messages = seen.messages.or(self.messages.take());
        made
    }

    fn take(&mut self, message: async_nats::jetstream::Message, batch: &mut Vec<Message>) {
        let Some((message, pending)) = Message::delivered(message) else { return };
        if message.sequence >= self.next {
            self.next = message.sequence + 1;
            self.pending = Some(pending);
            self.last = self.last.max(message.sequence + pending);
            batch.push(message);
        }
    }

    fn take_ready(&mut self, max: usize, batch: &mut Vec<Message>) {
        while batch.len() < max {
            let Some(messages) = &mut self.messages else { return };
            match messages.next().now_or_never() {
                Some(Some(Ok(message))) => self.take(message, batch),
                Some(Some(Err(_)) | None) => {
                    self.messages = None;
                    return;
                }
                None => return,
            }
        }
    }
}

/// Makes a consumer, if the server can be asked just now.
async fn open(bus: Bus, stream: String, filter: String, next: u64) -> Result<Seen, FollowError> {
    let mut seen = look(bus.clone(), stream.clone(), next).await?;
    if seen.gone {
        tokio::time::sleep(RETRY).await;
        return Ok(seen);
    }
    let config = pull::OrderedConfig {
        filter_subject: filter,
        deliver_policy: match next {
            0 => DeliverPolicy::All,
            next => DeliverPolicy::ByStartSequence { start_sequence: next },
        },
        replay_policy: ReplayPolicy::Instant,
        ..Default::default()
    };
    let made = bus.context.create_consumer_on_stream(config, stream.as_str()).await;
    let opened = match made {
        Ok(consumer) => consumer.messages().await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match opened {
        Ok(messages) => seen.messages = Some(messages),
        Err(error) => {
            tracing::debug!(stream, error, "cannot read yet");
            tokio::time::sleep(RETRY).await;
        }
    }
    Ok(seen)
}

/// Compares the stream with what was read of it: a consumer behind a stream that was made anew would
/// wait for ever, or skip what it calls known.
async fn look(bus: Bus, stream: String, next: u64) -> Result<Seen, FollowError> {
    let state = match bus.stream_state(&stream).await {
        Ok(Some(state)) => state,
        Ok(None) => return Ok(Seen { gone: true, ..Seen::default() }),
        Err(BusError::Failed { why, .. }) => {
            tracing::debug!(stream, why, "cannot look at the stream");
            return Ok(Seen::default());
        }
        Err(error) => return Err(error.into()),
    };
    if next > state.last + 1 {
        return Err(FollowError::Rewound { stream, last: state.last, read: next - 1 });
    }
    if next > 0 && next < state.first {
        return Err(FollowError::Gone { stream, first: state.first, wanted: next });
    }
    let at_end = next == state.last + 1 || (next == 0 && state.messages == 0);
    Ok(Seen { last: Some(state.last), at_end, ..Seen::default() })
}
