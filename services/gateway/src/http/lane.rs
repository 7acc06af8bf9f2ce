//! A connection to a replica that HTTP/1.1 requests travel on, one after the other.
//!
//! It has no task of its own: whoever waits for an answer on it moves it along. So a request wakes
//! nobody else, and a connection that nobody uses costs nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::alarm::Alarm;
use super::sent::Sent;
use crate::site::is_silence;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) why: hyper::Error,
    /// The request, if nothing of it was sent.
    pub(crate) unsent: Option<Box<Request<Sent>>>,
    /// Whether it was the client that broke off, within its request.
    pub(crate) by_client: bool,
}

/// What a request came to that has no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    Unanswered(Unanswered),
    /// It did not begin in time.
    Late,
}

/// A connection to a replica.
#[derive(Debug)]
pub(crate) struct Lane {
    connection: Option<http1::Connection<TokioIo<TcpStream>, Sent>>,
    sender: http1::SendRequest<Sent>,
    /// When an answer is late.
    alarm: Alarm,
    /// Whether it has ended.
    over: bool,
    /// Whether a request was answered on it.
    pub(crate) used: bool,
    /// Since when nothing is under way on it.
    pub(crate) idle_since_ms: u64,
}

impl Lane {
    pub(crate) async fn new(stream: TcpStream) -> hyper::Result<Box<Self>> {
        let (sender, connection) = http1::Builder::new().handshake(TokioIo::new(stream)).await?;
        let (connection, alarm) = (Some(connection), Alarm::default());
        Ok(Box::new(Self { connection, sender, alarm, over: false, used: false, idle_since_ms: 0 }))
    }

    /// Moves it along: writes and reads what can be written and read.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.as_mut().filter(|_| !self.over) {
            // What went wrong is told to whoever waits for an answer.
            self.over = connection.poll_without_shutdown(cx).is_ready();
        }
    }

    /// Whether the next request can be sent on it, as far as can be known.
    pub(crate) fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        !self.over && self.sender.is_ready()
    }

    /// Whether it is known to have ended.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Sends a request, and waits for the head of its answer until it is late.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Sent>,
        late_ms: u64,
    ) -> Result<Response<Incoming>, Failed> {
        let mut answer = std::pin::pin!(self.sender.try_send_request(request));
        let mut gone = false;
        let answered = std::future::poll_fn(|cx| {
            self.drive(cx);
            let mut polled = answer.as_mut().poll(cx);
            if polled.is_pending() && self.over {
                // It ended without a word about the request: it says so when it is dropped.
                (self.connection, gone) = (None, true);
                polled = answer.as_mut().poll(cx);
            }
            match polled {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => self.alarm.poll(late_ms, cx).map(|()| None),
            }
        })
        .await;
        let answered = answered.ok_or(Failed::Late)?;
        self.used |= answered.is_ok();
        answered.map_err(|mut error| {
            let unsent = error.take_message().map(Box::new);
            let why = error.into_error();
            // What else is called a fault of ours is a body that could not be read.
            let by_client = !gone && unsent.is_none() && why.is_user();
            Failed::Unanswered(Unanswered { why, unsent, by_client })
        })
    }

    /// After an answer that says so, what is below HTTP: the stream, and what was read from it already.
    pub(crate) async fn upgraded(mut self: Box<Self>) -> Option<(TcpStream, Bytes)> {
        std::future::poll_fn(|cx| {
            self.drive(cx);
            if self.over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = self.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

/// What moves a body along: the connection it arrives on.
pub(crate) fn next_frame(
    lane: &mut Lane,
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<hyper::body::Frame<Bytes>, hyper::Error>>> {
    use hyper::body::Body as _;
    let mut polled = Pin::new(&mut *body).poll_frame(cx);
    if polled.is_pending() {
        lane.drive(cx);
        polled = Pin::new(&mut *body).poll_frame(cx);
    }
    if polled.is_pending() && lane.over {
        lane.connection = None;
        polled = Pin::new(body).poll_frame(cx);
    }
    polled
}

/// Why there is no answer, if it is that the other machine says nothing any more, whatever it is sent.
pub(crate) fn silence(why: &hyper::Error) -> Option<io::Error> {
    let mut source = std::error::Error::source(why);
    while let Some(error) = source {
        // HTTP/2 keeps what its connection met to itself.
        let below = error.downcast_ref::<h2::Error>().and_then(h2::Error::get_io);
        if let Some(kind) = error.downcast_ref().or(below).map(io::Error::kind) {
            return is_silence(kind).then(|| kind.into());
        }
        source = error.source();
    }
    None
}

/// Whether the other end of HTTP/2 says that it did nothing with the request.
pub(crate) fn is_refused(why: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(why);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let gone = error.is_go_away() && error.is_remote();
            return error.reason() == Some(h2::Reason::REFUSED_STREAM)
                || (gone && error.reason() == Some(h2::Reason::NO_ERROR));
        }
        source = error.source();
    }
    false
}
