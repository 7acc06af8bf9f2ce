//! A load of HTTP requests: sent at a steady rate, whatever becomes of those before. What fails is kept
//! with when and how.
//!
//! Half of the requests travel on connections that are kept, half on one of their own each. Nothing is
//! ever sent twice: what fails, fails.

mod client;
mod outcome;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::clock;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use client::{Ask, Client, Fault};
pub use outcome::{Answered, Failure, Kind, Outcome};

/// How many connections are kept.
pub const KEPT: usize = 64;

/// How many requests are sent in a second, unless it is said otherwise.
pub const RATE: u64 = 200;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// `GET /`, and some that take a while.
    Gets,
    /// The same, and every fourth is a POST: one that must not be sent twice.
    GetsAndPosts,
}

/// Clients that ask until they are told to end.
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    book: Book,
    pacer: Option<JoinHandle<()>>,
}

/// What became of all requests until now.
type Book = Arc<Mutex<Outcome>>;

fn written(book: &Book) -> MutexGuard<'_, Outcome> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Load {
    /// Begins to ask these addresses in turn, so often in a second.
    #[must_use]
    pub fn start(at: &[SocketAddr], rate: u64, mix: Mix) -> Self {
        let (over, book) = (Arc::new(AtomicBool::new(false)), Book::default());
        let way = Arc::new(Way { at: at.to_vec(), book: book.clone(), kept: Mutex::default() });
        let ended = over.clone();
        let pacer = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(pace(way, rate, mix, &ended));
        });
        Self { over, book, pacer: Some(pacer) }
    }

    /// The same of one port of this machine, at the usual rate.
    #[must_use]
    pub fn on(port: u16, mix: Mix) -> Self {
        Self::start(&[SocketAddr::from(([127, 0, 0, 1], port))], RATE, mix)
    }

    /// How many requests there were until now.
    #[must_use]
    pub fn asked(&self) -> u64 {
        written(&self.book).asked
    }

    /// Goes on until so many were asked, however quick what was done meanwhile; then as `end`.
    ///
    /// # Panics
    ///
    /// When the clients did.
    #[must_use]
    pub fn end_after(self, least: u64) -> Outcome {
        while self.asked() < least && self.pacer.as_ref().is_some_and(|pacer| !pacer.is_finished())
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.end()
    }

    /// Sends no more, and waits for the last answer.
    ///
    /// # Panics
    ///
    /// When the clients did.
    #[must_use]
    pub fn end(mut self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        if let Some(pacer) = self.pacer.take() {
            pacer.join().expect("the clients end");
        }
        std::mem::take(&mut written(&self.book))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(pacer) = self.pacer.take() {
            let _ = pacer.join();
        }
    }
}

/// What all requests share.
#[derive(Debug)]
struct Way {
    at: Vec<SocketAddr>,
    book: Book,
    kept: Mutex<Kept>,
}

/// The connections that are kept: those that wait, and how many there are.
#[derive(Debug, Default)]
struct Kept {
    waiting: VecDeque<Client>,
    count: usize,
}

async fn pace(way: Arc<Way>, rate: u64, mix: Mix, over: &AtomicBool) {
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate.max(1)));
    // Who is late catches up.
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = JoinSet::new();
    for number in 0_usize.. {
        tick.tick().await;
        if over.load(Ordering::Relaxed) {
            break;
        }
        written(&way.book).asked += 1;
        let way = way.clone();
        under_way.spawn(async move { way.ask(number, mix).await });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
}

impl Way {
    async fn ask(&self, number: usize, mix: Mix) {
        let ask = Ask::of(number, mix);
        let (sent_ms, begun_us) = (clock::utc_ms(), clock::mono_us());
        let at = self.at[number / 2 % self.at.len()];
        let found = tokio::time::timeout(PATIENCE, self.exchange(&ask, at)).await;
        let found = found.unwrap_or_else(|_| Err(Fault::late()));
        let took_us = clock::mono_us() - begun_us;
        let mut book = written(&self.book);
        match found {
            Ok(text) => book.answered.push(Answered { at, sent_ms, took_us, text }),
            Err(Fault { kind, what }) => {
                let (ask, ended_ms) = (ask.to_string(), clock::utc_ms());
                book.failures.push(Failure { ask, at, sent_ms, ended_ms, kind, what });
            }
        }
    }

    async fn exchange(&self, ask: &Ask, at: SocketAddr) -> Result<String, Fault> {
        if !ask.kept {
            return Client::connect(at).await?.exchange(ask).await.map(|(text, _)| text);
        }
        let mut slot = Slot { way: self, client: None };
        let mut client = match self.take() {
            Some(client) => client,
            None => Client::connect(at).await?,
        };
        let (text, goes_on) = client.exchange(ask).await?;
        slot.client = goes_on.then_some(client);
        Ok(text)
    }

    /// The connection that has waited for the longest time, once there are enough of them.
    fn take(&self) -> Option<Client> {
        let mut kept = self.kept();
        while kept.count >= KEPT
            && let Some(client) = kept.waiting.pop_front()
        {
            if client.is_open() {
                return Some(client);
            }
            // The other end closed it while nothing was under way.
            kept.count -= 1;
            written(&self.book).closed_idle += 1;
        }
        kept.count += 1;
        None
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection among those that are kept, and what is left of it in the end.
struct Slot<'a> {
    way: &'a Way,
    client: Option<Client>,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut kept = self.way.kept();
        match self.client.take() {
            Some(client) if kept.count <= KEPT => kept.waiting.push_back(client),
            _ => kept.count -= 1,
        }
    }
}
