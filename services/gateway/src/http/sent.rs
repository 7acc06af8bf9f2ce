//! The body of a request on its way to a replica.
//!
//! Of a request that may be repeated, what was sent is kept as long as it is short, so that it can be
//! sent again.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How much is kept of a body that may have to be sent again, in bytes.
const KEPT_MAX: usize = 64 << 10;

/// A body that is sent.
#[derive(Debug)]
pub(crate) enum Sent {
    /// There is none.
    Nothing,
    /// It is sent once.
    Once(Incoming),
    /// It may be sent again.
    Kept {
        source: Arc<Mutex<Source>>,
        /// How many of the kept pieces were sent.
        sent: usize,
    },
}

/// Where a body that may be sent again comes from.
#[derive(Debug)]
pub(crate) struct Source {
    incoming: Incoming,
    pieces: Vec<Bytes>,
    kept: usize,
    /// More was sent than is kept.
    gone: bool,
}

impl Sent {
    /// A request's body; `again` says whether it may be sent again.
    pub(crate) fn of(body: Incoming, again: bool) -> Self {
        if body.is_end_stream() {
            Self::Nothing
        } else if again {
            let source = Source { incoming: body, pieces: Vec::new(), kept: 0, gone: false };
            Self::Kept { source: Arc::new(Mutex::new(source)), sent: 0 }
        } else {
            Self::Once(body)
        }
    }

    /// The same once more, if it can be had.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Nothing),
            Self::Once(_) => None,
            Self::Kept { source, .. } => Some(Self::Kept { source: source.clone(), sent: 0 }),
        }
    }

    /// Whether it could be sent from its beginning.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Nothing | Self::Once(_) => true,
            Self::Kept { source, .. } => {
                !source.lock().unwrap_or_else(PoisonError::into_inner).gone
            }
        }
    }
}

impl Source {
    fn poll(
        &mut self,
        sent: &mut usize,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(piece) = self.pieces.get(*sent) {
            *sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            match frame.data_ref() {
                Some(piece) if !self.gone && self.kept + piece.len() <= KEPT_MAX => {
                    self.kept += piece.len();
                    self.pieces.push(piece.clone());
                    *sent += 1;
                }
                // Too long, or what follows the data.
                _ => {
                    self.gone = true;
                    self.pieces.clear();
                    *sent = 0;
                }
            }
        }
        polled
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut *self {
            Self::Nothing => Poll::Ready(None),
            Self::Once(body) => Pin::new(body).poll_frame(cx),
            Self::Kept { source, sent } => {
                source.lock().unwrap_or_else(PoisonError::into_inner).poll(sent, cx)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Once(body) => body.is_end_stream(),
            Self::Kept { source, sent } => {
                let source = source.lock().unwrap_or_else(PoisonError::into_inner);
                *sent >= source.pieces.len() && source.incoming.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Once(body) => body.size_hint(),
            Self::Kept { source, sent } => {
                let source = source.lock().unwrap_or_else(PoisonError::into_inner);
                let waiting: usize = source.pieces.iter().skip(*sent).map(Bytes::len).sum();
                let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
                match source.incoming.size_hint().exact() {
                    Some(rest) => SizeHint::with_exact(rest.saturating_add(waiting)),
                    None => SizeHint::default(),
                }
            }
        }
    }
}
