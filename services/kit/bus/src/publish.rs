//! Publishing into a stream under checks: what must be last, and what must not have changed.

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;

use crate::{Bus, PublishError};

/// The companion of the check on a subject that names another subject than the published one. The
/// client has no constant for it.
const FENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";
const LAST_ON_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence";
const LAST: &str = "Nats-Expected-Last-Sequence";

/// Error codes of the server: another message landed first, or is landing.
const WRONG_LAST: [u64; 2] = [10071, 10164];
/// Error codes of the server: a limit of the stream or the account is reached.
const FULL: [u64; 3] = [10077, 10023, 10047];

/// What must hold for a publish to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// The stream's last sequence.
    pub last: Option<u64>,
    /// The last sequence on a literal subject: the published one, or another that fences it.
    pub last_on: Option<(String, u64)>,
}

/// A publish that was sent, and whose outcome is not known yet.
#[derive(Debug)]
pub struct Ack {
    subject: String,
    future: PublishAckFuture,
}

impl Ack {
    /// Waits for the outcome: the message's sequence.
    ///
    /// # Errors
    ///
    /// When the server refused it, or did not answer in time.
    pub async fn outcome(self) -> Result<u64, PublishError> {
        let subject = self.subject;
        self.future.await.map(|ack| ack.sequence).map_err(|error| {
            use std::error::Error as _;
            let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let code = error
                .source()
                .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>())
                .map(|error| error.error_code().0);
            match (error.kind(), code) {
                (_, Some(code)) if WRONG_LAST.contains(&code) => PublishError::WrongLast(text),
                (_, Some(code)) if FULL.contains(&code) => PublishError::Full(text),
                (PublishErrorKind::WrongLastSequence, _) => PublishError::WrongLast(text),
                (PublishErrorKind::StreamNotFound, _) => PublishError::NoStream(subject),
                (PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, _) => {
                    PublishError::Unknown(text)
                }
                _ => PublishError::Refused(text),
            }
        })
    }
}

impl Bus {
    /// Sends a message into a stream; returns when it is sent, in the order of the calls.
    ///
    /// # Errors
    ///
    /// When it cannot be sent at all.
    pub async fn publish_checked(
        &self,
        subject: &str,
        payload: Vec<u8>,
        expect: &Expect,
    ) -> Result<Ack, PublishError> {
        // The client would keep it back and send it later, when its checks may be stale.
        if !self.connected() {
            return Err(PublishError::Unknown("there is no connection".to_owned()));
        }
        let mut headers = HeaderMap::new();
        if let Some(last) = expect.last {
            headers.insert(LAST, last.to_string());
        }
        if let Some((on, last)) = &expect.last_on {
            headers.insert(LAST_ON_SUBJECT, last.to_string());
            headers.insert(FENCE_SUBJECT, on.as_str());
        }
        let message = PublishMessage::build().payload(payload.into()).headers(headers);
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        let future = sent.map_err(|error| PublishError::Unknown(error.to_string()))?;
        Ok(Ack { subject: subject.to_owned(), future })
    }

    /// Publishes a command: into its stream, with an id by which a repeat is known.
    ///
    /// # Errors
    ///
    /// When it was not taken, or that is not known.
    pub async fn publish_command(
        &self,
        subject: &str,
        payload: Vec<u8>,
        headers: &[(&str, &str)],
    ) -> Result<u64, PublishError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, *value);
        }
        let message = PublishMessage::build().payload(payload.into()).headers(map);
        let taken = async {
            let sent = self.context.send_publish(subject.to_owned(), message).await;
            let future = sent.map_err(|error| PublishError::Unknown(error.to_string()))?;
            Ack { subject: subject.to_owned(), future }.outcome().await
        };
        tokio::select! {
            biased;
            () = self.forbids(subject) => Err(PublishError::Denied(subject.to_owned())),
            outcome = taken => outcome,
        }
    }
}
