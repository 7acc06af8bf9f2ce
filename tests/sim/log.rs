//! event-log's process: the real sequencer on a store that knows written from synced.
//!
//! Not here: the server it publishes to, and time (`world`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use cluster::Marks;
use event_log::disk::store_group;
use event_log::sequencer::{Input, Output, Seat, Sequencer, Setup, Window};
use event_log::store::{Commit, Store as _};
use event_log::testing::{FakeStore, Shown, stands_for};
use event_log::witness::Heads;
use schemas::append::{Request, Verdict};
use schemas::id::{Series, Writer};
use schemas::place::Place;

/// States are compared every so many events.
pub(crate) const MARK_EVERY: u64 = 20;

/// A snapshot is written every so many events.
const SNAPSHOT_EVERY: u64 = 60;

/// An instance of event-log, which may be down.
pub(crate) struct Log {
    pub(crate) name: String,
    seat: Seat,
    pub(crate) store: FakeStore,
    witness: Option<Heads>,
    window: Window,
    pub(crate) machine: Option<Sequencer<FakeStore, Shown>>,
    pub(crate) shown: Option<Shown>,
    pub(crate) life: u64,
    /// The number of its connection: acknowledgements come on the one that was published on.
    pub(crate) connection: u64,
    pub(crate) outstanding: BTreeSet<u64>,
    /// Groups that the disk has not taken yet.
    storing: VecDeque<Arc<Commit>>,
    /// Whether a write failed in this life: then nothing more is written.
    broken: bool,
    /// When the last message that was sent gets to the server: one connection keeps the order.
    pub(crate) wire_ms: u64,
    pub(crate) listening: bool,
    pub(crate) read: u64,
    pub(crate) reading: bool,
    /// Until when it is stopped in its tracks.
    pub(crate) paused_until_ms: u64,
    /// The position it wants next of the events stream, while it follows.
    pub(crate) following: Option<u64>,
    pub(crate) follow_planned: bool,
    snapshot_at: u64,
    answered: BTreeMap<(Series, u64), Place>,
    pub(crate) skew_ms: u64,
}

impl Log {
    pub(crate) fn new(
        index: usize,
        seat: Seat,
        store: FakeStore,
        keeps: u64,
        skew_ms: u64,
    ) -> Self {
        Self {
            name: format!("event-log {index}"),
            seat,
            store,
            witness: None,
            window: Window { messages: keeps, bytes: 64 << 20, message_bytes: 1 << 20 },
            machine: None,
            shown: None,
            life: 0,
            // No two of all instances are the same.
            connection: u64::try_from(index).expect("small") << 32,
            outstanding: BTreeSet::new(),
            storing: VecDeque::new(),
            broken: false,
            wire_ms: 0,
            listening: false,
            read: 0,
            reading: false,
            paused_until_ms: 0,
            following: None,
            follow_planned: false,
            snapshot_at: 0,
            answered: BTreeMap::new(),
            skew_ms,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.machine.is_some()
    }

    pub(crate) fn leads(&self) -> bool {
        self.machine.as_ref().is_some_and(Sequencer::leads)
    }

    /// Whether it answers reads.
    pub(crate) fn rules(&self) -> bool {
        self.machine.as_ref().is_some_and(Sequencer::rules)
    }

    pub(crate) fn follows(&self) -> bool {
        self.machine.as_ref().is_some_and(Sequencer::follows)
    }

    /// Whether all that is stored is published, and all that was published is stored.
    pub(crate) fn is_level(&self, seen: Place) -> bool {
        let level = |machine: &Sequencer<_, _>| machine.backlog() == 0 && machine.stored() == seen;
        self.machine.as_ref().is_some_and(level)
    }

    /// Whether it has what is in the stream at a position.
    pub(crate) fn has(&self, position: u64, streamed: &[u8]) -> bool {
        let row = self.store.row(position).ok().flatten();
        row.is_some_and(|row| stands_for(&row.bytes, streamed))
    }

    /// A process begins on what is on disk.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        self.life += 1;
        self.connection += 1;
        self.outstanding.clear();
        self.storing.clear();
        self.broken = false;
        self.listening = false;
        self.read = 0;
        self.following = None;
        self.follow_planned = false;
        let setup = Setup {
            instance: self.name.clone(),
            genesis: format!("history-{}", self.life),
            witnessed: self.witness.clone(),
            seat: self.seat,
            accepts_loss: false,
            window: self.window,
        };
        let shown = Shown::open(&self.store, Marks::every(MARK_EVERY))?;
        let machine = Sequencer::new(self.store.clone(), shown.clone(), setup);
        self.machine = Some(machine.map_err(|error| error.to_string())?);
        self.shown = Some(shown);
        Ok(())
    }

    /// The power is cut: of what was not synced, some survives.
    pub(crate) fn crash(&mut self, survive: usize) {
        self.machine = None;
        self.shown = None;
        self.storing.clear();
        self.broken = false;
        self.listening = false;
        self.reading = false;
        self.following = None;
        self.paused_until_ms = 0;
        self.life += 1;
        self.connection += 1;
        self.store.crash(survive);
    }

    pub(crate) fn on(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let now_ms = now_ms + self.skew_ms;
        self.machine.as_mut().map_or_else(Vec::new, |machine| machine.on(input, now_ms))
    }

    /// A group is on its way to the disk.
    pub(crate) fn store(&mut self, group: Arc<Commit>) {
        self.storing.push_back(group);
    }

    /// The disk takes the next group, or all that wait as one. None: it was taken with another, or
    /// the disk takes nothing any more.
    pub(crate) fn stores(&mut self, all: bool) -> Option<Input> {
        if self.broken {
            return None;
        }
        let mut group = self.storing.pop_front()?;
        while all && let Some(next) = self.storing.pop_front() {
            Arc::make_mut(&mut group).join(Commit::clone(&next));
        }
        let input = store_group(&self.store, group);
        self.broken = matches!(input, Input::NotStored(_));
        Some(input)
    }

    pub(crate) fn remember(&mut self, heads: Heads) {
        self.witness = Some(heads);
    }

    /// The published head has moved.
    pub(crate) fn published(&mut self, place: Place) -> Result<(), String> {
        let Some(shown) = &self.shown else { return Ok(()) };
        shown.advance(place)?;
        if place.position >= self.snapshot_at + SNAPSHOT_EVERY {
            self.snapshot_at = place.position;
            shown.snapshot()?;
        }
        Ok(())
    }

    /// A batch is published once, at one place.
    pub(crate) fn answers(
        &mut self,
        series: &Series,
        n: u64,
        verdict: &Verdict,
    ) -> Result<(), String> {
        let Verdict::Published(place) = verdict else { return Ok(()) };
        match self.answered.insert((series.clone(), n), *place) {
            Some(before) if before != *place => {
                Err(format!("number {n} of {series} was answered at {before}, then at {place}"))
            }
            _ => Ok(()),
        }
    }

    /// What was answered is in the log, at the place that was said, as the end of that batch.
    pub(crate) fn check_answers(&self) -> Result<(), String> {
        for ((series, n), place) in &self.answered {
            let row = self.store.row(place.position).map_err(|error| error.to_string())?;
            let fits = row.is_some_and(|row| {
                let text = String::from_utf8_lossy(&row.bytes).into_owned();
                row.place == *place && row.ends && text.contains(series.as_str())
            });
            if !fits {
                return Err(format!(
                    "number {n} of {series} was answered at {place}, and is not there"
                ));
            }
        }
        Ok(())
    }

    /// What a sequencer without a check of leaderships and of bases would see: every request as if
    /// it came from the leader, who had folded everything.
    pub(crate) fn forge(&self, request: &mut Request) {
        if matches!(request.writer, Writer::Agent(_)) || request.events[0].kind == "LeadershipTaken"
        {
            return;
        }
        if let Ok(Some(row)) = self.store.writer(&request.writer) {
            request.term = row.term;
            request.instance = row.instance;
        }
        let mut at = self.store.head().map_or(0, |head| head.position);
        while let Ok(Some(row)) = self.store.row(at) {
            if row.ends {
                request.basis = Some(row.place.basis());
                return;
            }
            at -= 1;
        }
    }
}
