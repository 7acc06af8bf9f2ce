//! The body of an answer on its way to a client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use runtime::clock;

use super::alarm;
use super::lane::{self, Failed, Lane, Unanswered};
use super::lanes::Stream;
use super::sent::Sent;
use super::serve::Busy;
use crate::pool::Picked;

/// A body: words of the gateway's own, or what a replica says.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    words: Option<Bytes>,
    streamed: Option<Streamed>,
    /// The client's connection is busy with it.
    _busy: Option<Busy>,
}

/// What a replica says, and all that is held until it has said it.
#[derive(Debug)]
struct Streamed {
    body: Incoming,
    carrier: Carrier,
    picked: Picked,
}

/// What an answer arrives on.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// A connection that it has for itself.
    Lane(Box<Lane>),
    /// A part of one.
    Stream(Stream),
}

impl Answer {
    pub(crate) fn words(words: impl Into<Bytes>) -> Self {
        Self { words: Some(words.into()), ..Self::default() }
    }

    /// The body that a replica sends. When there is none, the connection is free again at once.
    pub(crate) fn streamed(body: Incoming, carrier: Carrier, picked: Picked) -> Self {
        if body.is_end_stream() {
            carrier.end(&picked);
            return Self::default();
        }
        Self { streamed: Some(Streamed { body, carrier, picked }), ..Self::default() }
    }

    /// Holds this until its end.
    pub(crate) fn busy(self, busy: Busy) -> Self {
        Self { _busy: Some(busy), ..self }
    }
}

impl Carrier {
    /// Whether it was there before this request.
    pub(crate) fn is_used(&self) -> bool {
        match self {
            Self::Lane(lane) => lane.used,
            Self::Stream(stream) => !stream.fresh,
        }
    }

    /// Sends a request on it, and waits for the head of the answer until it is late.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Sent>,
        late_ms: u64,
    ) -> Result<Response<Incoming>, Failed> {
        match self {
            Self::Lane(lane) => lane.exchange(request, late_ms).await,
            Self::Stream(stream) => {
                let sending = stream.sender.try_send_request(request);
                let sent = tokio::time::timeout_at(alarm::instant(late_ms), sending).await;
                sent.map_err(|_| Failed::Late)?.map_err(|mut error| {
                    let unsent = error.take_message().map(Box::new);
                    let why = error.into_error();
                    Failed::Unanswered(Unanswered { why, unsent, by_client: false })
                })
            }
        }
    }

    /// The answer has ended on it.
    fn end(self, picked: &Picked) {
        if let Self::Lane(lane) = self {
            picked.site.lanes.give(lane, clock::mono_ms());
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(streamed) = &mut self.streamed else {
            return Poll::Ready(self.words.take().map(|words| Ok(Frame::data(words))));
        };
        let polled = match &mut streamed.carrier {
            Carrier::Lane(lane) => lane::next_frame(lane, &mut streamed.body, cx),
            Carrier::Stream(_) => Pin::new(&mut streamed.body).poll_frame(cx),
        };
        let ended = match &polled {
            Poll::Pending => false,
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(_))) => streamed.body.is_end_stream(),
            Poll::Ready(Some(Err(error))) => {
                streamed.picked.broken(error);
                self.streamed = None;
                return polled;
            }
        };
        if ended && let Some(Streamed { carrier, picked, .. }) = self.streamed.take() {
            carrier.end(&picked);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.words.is_none() && self.streamed.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.words, &self.streamed) {
            (_, Some(streamed)) => streamed.body.size_hint(),
            (Some(words), None) => {
                SizeHint::with_exact(u64::try_from(words.len()).unwrap_or(u64::MAX))
            }
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
