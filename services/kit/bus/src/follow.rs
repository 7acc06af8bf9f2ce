//! Following a stream in order: no gaps, no repeats, no acknowledgements, and no silent stall.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, pull};
use bytes::Bytes;
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
    messages: Option<pull::Ordered>,
    connections: watch::Receiver<u64>,
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
            messages: None,
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

    /// Whether everything was handed out that the stream had when it was last heard.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        self.pending == Some(0)
    }

    /// Waits for the next message, then takes what is there already, up to `max`. Empty after a
    /// while in which nothing came: the reader is then at the stream's end.
    ///
    /// # Errors
    ///
    /// When the stream does not have what is wanted, or was made anew.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Message>, FollowError> {
        loop {
            if self.messages.is_none() && !self.open().await? {
                return Ok(Vec::new());
            }
            let Some(messages) = &mut self.messages else { continue };
            let heard = tokio::select! {
                heard = tokio::time::timeout(IDLE, messages.next()) => heard,
                // A server that was started anew knows nothing of this consumer, and the client
                // notices that only after a while.
                Ok(()) = self.connections.changed() => {
                    self.messages = None;
                    continue;
                }
            };
            match heard {
                Ok(Some(Ok(message))) => {
                    let mut batch = Vec::new();
                    self.take(message, &mut batch);
                    self.take_ready(max, &mut batch);
                    if !batch.is_empty() {
                        return Ok(batch);
                    }
                }
                Ok(Some(Err(error))) => {
                    tracing::debug!(stream = self.stream, %error, "reading again");
                    self.messages = None;
                    tokio::time::sleep(RETRY).await;
                }
                Ok(None) => self.messages = None,
                Err(_) => {
                    self.check().await?;
                    return Ok(Vec::new());
                }
            }
        }
    }

    fn take(&mut self, message: async_nats::jetstream::Message, batch: &mut Vec<Message>) {
        let Some((message, pending)) = Message::delivered(message) else { return };
        if message.sequence >= self.next {
            self.next = message.sequence + 1;
            self.pending = Some(pending);
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

    /// Makes a consumer. `false` when the server cannot be asked just now.
    async fn open(&mut self) -> Result<bool, FollowError> {
        self.connections.mark_unchanged();
        if !self.check().await? {
            tokio::time::sleep(RETRY).await;
            return Ok(false);
        }
        let config = pull::OrderedConfig {
            filter_subject: self.filter.clone(),
            deliver_policy: match self.next {
                0 => DeliverPolicy::All,
                next => DeliverPolicy::ByStartSequence { start_sequence: next },
            },
            replay_policy: ReplayPolicy::Instant,
            ..Default::default()
        };
        let made = self.bus.context.create_consumer_on_stream(config, self.stream.as_str()).await;
        let opened = match made {
            Ok(consumer) => consumer.messages().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match opened {
            Ok(messages) => {
                self.messages = Some(messages);
                Ok(true)
            }
            Err(error) => {
                tracing::debug!(stream = self.stream, error, "cannot read yet");
                tokio::time::sleep(RETRY).await;
                Ok(false)
            }
        }
    }

    /// Compares the stream with what was read of it: a consumer behind a stream that was made anew
    /// would wait for ever, or skip what it calls known.
    async fn check(&mut self) -> Result<bool, FollowError> {
        let state = match self.bus.stream_state(&self.stream).await {
            Ok(Some(state)) => state,
            Ok(None) => {
                self.messages = None;
                return Ok(false);
            }
            Err(BusError::Failed { why, .. }) => {
                tracing::debug!(stream = self.stream, why, "cannot look at the stream");
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        let stream = self.stream.clone();
        if self.next > state.last + 1 {
            return Err(FollowError::Rewound { stream, last: state.last, read: self.next - 1 });
        }
        if self.next > 0 && self.next < state.first {
            return Err(FollowError::Gone { stream, first: state.first, wanted: self.next });
        }
        if self.next == state.last + 1 || (self.next == 0 && state.messages == 0) {
            self.pending = Some(0);
        }
        Ok(true)
    }
}
