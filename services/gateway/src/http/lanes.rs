//! The connections to one replica: those of HTTP/1.1 that wait for a next request, and those of HTTP/2,
//! which carry many at a time.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use runtime::tasks::Crew;
use tokio::net::TcpStream;

use super::lane::Lane;
use super::sent::Sent;

/// How many connections may wait.
const IDLE_MAX: usize = 512;

/// How long one may, in ms.
const IDLE_MS: u64 = 30_000;

/// How many requests one connection of HTTP/2 carries at a time: as many as servers usually let it.
const STREAMS_MAX: usize = 100;

/// The connections to one replica.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    kept: Mutex<Kept>,
    /// Held while a connection of HTTP/2 is made, so that those who wait for it share it.
    making: tokio::sync::Mutex<()>,
    crew: Crew,
}

#[derive(Debug, Default)]
struct Kept {
    /// The replica gets nothing new: what ends here is not kept.
    closed: bool,
    #[expect(clippy::vec_box, reason = "they are large, and move with every request")]
    idle: Vec<Box<Lane>>,
    shared: Vec<Shared>,
}

/// A connection of HTTP/2 that requests share.
#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Sent>,
    streams: Arc<AtomicUsize>,
}

/// A request on a shared connection. It has room there until this is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) sender: http2::SendRequest<Sent>,
    /// Whether the connection was made for it.
    pub(crate) fresh: bool,
    streams: Arc<AtomicUsize>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Relaxed);
    }
}

impl Lanes {
    /// One that waits and is alive, and has not waited for longer than that.
    pub(crate) fn take(&self, waited_at_most_ms: u64, now_ms: u64) -> Option<Box<Lane>> {
        loop {
            let mut lane = {
                let mut kept = self.kept();
                // The last one has waited for the shortest time.
                let idle_ms = now_ms.saturating_sub(kept.idle.last()?.idle_since_ms);
                if idle_ms > waited_at_most_ms {
                    return None;
                }
                kept.idle.pop()?
            };
            if lane.is_free() {
                return Some(lane);
            }
        }
    }

    /// Keeps one for the next request. Whether it is fit for one shows when it is taken.
    pub(crate) fn give(&self, mut lane: Box<Lane>, now_ms: u64) {
        if lane.is_over() {
            return;
        }
        lane.idle_since_ms = now_ms;
        let mut kept = self.kept();
        if !kept.closed && kept.idle.len() < IDLE_MAX {
            kept.idle.push(lane);
        }
    }

    /// Closes what waits, and keeps nothing from now on.
    pub(crate) fn close(&self) {
        self.kept().closed = true;
        self.forget();
    }

    /// Closes what waits.
    pub(crate) fn forget(&self) {
        let mut kept = self.kept();
        kept.idle.clear();
        // Their streams go on; with the last one they end.
        kept.shared.clear();
    }

    /// Closes what waited for too long or was closed by the other end.
    pub(crate) fn sweep(&self, now_ms: u64) {
        let mut kept = self.kept();
        kept.idle.retain_mut(|lane| {
            now_ms.saturating_sub(lane.idle_since_ms) <= IDLE_MS && lane.is_free()
        });
        kept.shared.retain(|shared| !shared.sender.is_closed());
    }

    /// Room on a connection of HTTP/2; one is made when there is none.
    pub(crate) async fn stream<F>(&self, connect: impl FnOnce() -> F) -> std::io::Result<Stream>
    where
        F: Future<Output = std::io::Result<TcpStream>>,
    {
        if let Some(stream) = self.room() {
            return Ok(stream);
        }
        let _making = self.making.lock().await;
        if let Some(stream) = self.room() {
            return Ok(stream);
        }
        let io = TokioIo::new(connect().await?);
        let (sender, connection) = http2::Builder::new(self.crew.hand())
            .adaptive_window(true)
            .handshake(io)
            .await
            .map_err(std::io::Error::other)?;
        self.crew.hand().spawn(async move {
            // Whoever waits for an answer on it is told what went wrong.
            let _ = connection.await;
        });
        let shared = Shared { sender, streams: Arc::default() };
        let stream = shared.stream(true);
        let mut kept = self.kept();
        if !kept.closed {
            kept.shared.push(shared);
        }
        Ok(stream)
    }

    /// Keeps a connection of HTTP/2 no longer that was of no use. Its streams go on.
    pub(crate) fn discard(&self, stream: &Stream) {
        self.kept().shared.retain(|shared| !Arc::ptr_eq(&shared.streams, &stream.streams));
    }

    /// Room on a connection of HTTP/2 that is there.
    pub(crate) fn room(&self) -> Option<Stream> {
        let mut kept = self.kept();
        kept.shared.retain(|shared| !shared.sender.is_closed());
        let least = kept.shared.iter().min_by_key(|shared| shared.streams.load(Relaxed))?;
        (least.streams.load(Relaxed) < STREAMS_MAX).then(|| least.stream(false))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn stream(&self, fresh: bool) -> Stream {
        self.streams.fetch_add(1, Relaxed);
        Stream { sender: self.sender.clone(), fresh, streams: self.streams.clone() }
    }
}
