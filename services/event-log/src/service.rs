//! The pump: carries messages between the bus, the disk and the sequencer.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bus::{Bus, Expect, FollowError, PublishError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, clock, entropy};
use schemas::append::INBOX_HEADER;
use schemas::registry::Role;
use schemas::{stream, subject};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver, channel, unbounded_channel};

use crate::config::{Command, Config};
use crate::packed::Packed;
use crate::proof::Prover;
use crate::room::Disks;
use crate::sequencer::{
    Asked, Input, Message, Outcome, Output, Room, Seat, Sequencer, Setup, Window,
};
use crate::start::Stream;
use crate::store::{Commit, FjallStore};
use crate::view::{self, View};
use crate::witness::{Heads, Witness};
use crate::{audit, disk, index, others, reads, scrub};

/// How many append requests are ordered at once, at most.
const GROUP: usize = 256;

/// How many messages may wait for the sequencer.
const QUEUE: usize = 1_024;

/// How often time passes for the sequencer.
const TICK: Duration = Duration::from_millis(100);

/// How often read requests are taken out of the append stream, in ticks.
const PURGE_TICKS: u32 = 10;

/// How often tiles are computed that were filled since.
const TILES: Duration = Duration::from_secs(5);

/// How many of the newest entries are checked before anything relies on them.
const CHECKED: u64 = 1_000;

/// How often the disks are looked at, in ticks.
const ROOM_TICKS: u32 = 3;

/// How long a reader waits before it tries again.
const RETRY: Duration = Duration::from_millis(200);

/// What takes groups to the disk has ended, which it does when a write failed: that was said.
const DISK_ENDED: &str = "nothing is stored any more";

/// Runs event-log until it is asked to stop.
///
/// # Errors
///
/// When a start would lose or fork history, or the disk or the bus will not do.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    let name = "event-log";
    admin.readiness.set(name, Some("NATS".to_owned()));
    let folder = config.folder();
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    let store = FjallStore::open(&folder)?;
    audit::newest(&store, CHECKED)?;
    let witness = Witness::open(&folder)?;
    if let Some(notice) = witness.notice() {
        tracing::warn!("{notice}");
    }
    tokio::task::block_in_place(|| index::fill(&store))?;
    let packed = Packed::of(&folder);
    let view = View::open(&store, Some(&packed))?;
    let Some(bus) = config.settings.connect(&Role::EventLog, &shutdown).await? else {
        return Ok(());
    };
    let setup = Setup {
        instance: entropy::kept_id(&folder, "instance")?,
        genesis: entropy::hex(),
        witnessed: witness.heads().cloned(),
        seat: config.seat(),
        accepts_loss: matches!(config.command, Some(Command::Take { .. })),
        window: Window {
            messages: unsigned(stream::EVENTS.max_messages),
            bytes: unsigned(stream::EVENTS.max_bytes),
            message_bytes: usize::try_from(stream::EVENTS.max_message_bytes).unwrap_or(0),
        },
    };
    let newest = view::newest_snapshot(&store);
    let sequencer = Sequencer::new(store.clone(), view.clone(), setup)?;
    let (queue, arrived) = channel(QUEUE);
    let mut tasks = Tasks::default();
    let prover = Prover::open(store.clone(), &folder)?;
    tasks.spawn("proofs", keep_tiles(prover.clone(), view.clone(), shutdown.clone()));
    // One of several answers reads while it leads: an answer of another would be of the past.
    let (serves, served) = tokio::sync::watch::channel(config.seat() == Seat::Only);
    let (log, shown) = (store.clone(), view.clone());
    let reading = reads::serve(bus.clone(), log, shown, prover.clone(), served, shutdown.clone());
    tasks.spawn("reads", reading);
    let scrubbing =
        scrub::scrub(store.clone(), admin.clone(), config.scrub_per_second, shutdown.clone());
    tasks.spawn("scrubber", scrubbing);
    if config.seat() != Seat::Only {
        tasks.spawn("beats", others::read_beats(bus.clone(), queue.clone()));
        tasks.spawn("heartbeats", others::read_heartbeats(bus.clone(), queue.clone()));
    }
    tasks.spawn("marks", others::read_marks(bus.clone(), queue.clone()));
    tasks.spawn("connections", read_connections(bus.clone(), queue.clone(), shutdown.clone()));
    let (groups, ordered) = mpsc::channel();
    let (tell, stored) = unbounded_channel();
    let on_disk = store.clone();
    let disk = tokio::task::spawn_blocking(move || {
        disk::store_groups(&on_disk, &ordered, &mut |input| tell.send(input).is_ok());
    });
    let pump = Pump {
        bus,
        groups,
        stored,
        store,
        view,
        packed,
        prover,
        witness,
        sequencer,
        admin,
        queue,
        publishing: FuturesUnordered::new(),
        listening: None,
        following: None,
        serves,
        only: config.seat() == Seat::Only,
        purge: None,
        once: matches!(config.command, Some(Command::Take { .. })),
        snapshot_every: config.snapshot_every.max(1),
        snapshot_at: newest,
        snapshot: None,
        disks: Disks::new(&config),
        diverged: 0,
    };
    tasks.spawn("sequencer", pump.run(arrived, shutdown));
    // The first task that ends, ends the service.
    let ended = tasks.ended().await;
    tasks.shutdown().await;
    disk.await?;
    match ended {
        Some((task, Err(error))) => {
            Err(format!("{task}: {}", runtime::process::chain(error.as_ref())).into())
        }
        _ => Ok(()),
    }
}

/// Computes the tree's tiles as events are published.
async fn keep_tiles(
    prover: Prover<FjallStore>,
    view: View,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let mut wait = Duration::ZERO;
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
        }
        let published = view.fold().place();
        let more = tokio::task::block_in_place(|| prover.catch_up(published))?;
        wait = if more { Duration::from_millis(20) } else { TILES };
    }
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

struct Pump {
    bus: Bus,
    /// What is ordered, for the disk.
    groups: mpsc::Sender<Arc<Commit>>,
    /// What the disk says.
    stored: UnboundedReceiver<Input>,
    store: FjallStore,
    view: View,
    packed: Packed,
    prover: Prover<FjallStore>,
    witness: Witness,
    sequencer: Sequencer<FjallStore, View>,
    admin: Admin,
    queue: Sender<Input>,
    publishing: FuturesUnordered<BoxFuture<'static, (u64, Outcome)>>,
    listening: Option<tokio::task::JoinSet<()>>,
    following: Option<tokio::task::JoinSet<()>>,
    /// Whether reads are answered.
    serves: tokio::sync::watch::Sender<bool>,
    /// Configured as the only instance.
    only: bool,
    /// To end as soon as it leads.
    once: bool,
    /// Requests up to here were read.
    purge: Option<u64>,
    snapshot_every: u64,
    /// Where the newest snapshot was taken.
    snapshot_at: u64,
    snapshot: Option<tokio::task::JoinHandle<()>>,
    disks: Disks,
    /// How many diverged states were counted for the health page.
    diverged: u64,
}

impl Pump {
    async fn run(
        mut self,
        mut arrived: Receiver<Input>,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0_u32;
        loop {
            let inputs = tokio::select! {
                biased;
                () = shutdown.requested() => return Ok(()),
                Some(outcome) = self.publishing.next(), if !self.publishing.is_empty() => {
                    vec![Input::Outcomes(self.more_outcomes(outcome))]
                }
                input = self.stored.recv() => vec![input.ok_or(DISK_ENDED)?],
                // While the disk is behind, what arrives makes the next group larger.
                Some(input) = arrived.recv(), if self.sequencer.has_room() => {
                    gather(input, &mut arrived)
                }
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(PURGE_TICKS) {
                        self.purge_read().await;
                    }
                    let looked = ticks.is_multiple_of(ROOM_TICKS);
                    let room = looked.then(|| self.room()).flatten();
                    std::iter::once(Input::Tick).chain(room.map(Input::Room)).collect()
                }
            };
            for input in inputs {
                while matches!(input, Input::Requests(_)) && !self.sequencer.has_room() {
                    let stored = self.stored.recv().await.ok_or(DISK_ENDED)?;
                    self.hand_in(stored).await?;
                }
                self.hand_in(input).await?;
            }
            self.tell();
            if self.once && self.sequencer.leads() {
                tracing::info!(place = %self.sequencer.published(), "took");
                return Ok(());
            }
        }
    }

    async fn hand_in(&mut self, input: Input) -> Result<(), Failure> {
        let outputs = tokio::task::block_in_place(|| self.sequencer.on(input, clock::utc_ms()));
        self.carry_out(outputs).await
    }

    /// Outcomes come in bursts: those that are there already go in together.
    fn more_outcomes(&mut self, first: (u64, Outcome)) -> Vec<(u64, Outcome)> {
        use futures_util::FutureExt as _;
        let mut outcomes = vec![first];
        while let Some(Some(outcome)) = self.publishing.next().now_or_never() {
            outcomes.push(outcome);
        }
        outcomes
    }

    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), Failure> {
        let last_heads = outputs.iter().rposition(|output| matches!(output, Output::Witness(_)));
        for (i, output) in outputs.into_iter().enumerate() {
            match output {
                Output::Inspect => self.inspect(),
                Output::Read { from, to } => self.read(from, to),
                Output::Seat { next } => self.seat(next),
                Output::Fetch { from, to } => self.ask(others::fetch(self.bus.clone(), from, to)),
                Output::Follow(from) => self.follow(from),
                Output::Beat(beat) => others::beat(&self.bus, &beat).await,
                Output::Probe => self.probe(),
                Output::Confirm { ticket } => {
                    self.ask(others::confirm(self.bus.clone(), ticket));
                }
                Output::Store(group) => self.groups.send(group).map_err(|_| DISK_ENDED)?,
                Output::Publish(message) => self.publish(message).await,
                Output::Listen(on) => self.listen(on),
                Output::Purge { up_to } => self.purge = Some(up_to),
                Output::Answer { inbox, answer } => {
                    let payload = serde_json::to_vec(&answer)?;
                    // An answer that is lost is asked for again.
                    let _ = self.bus.publish(&inbox, payload).await;
                }
                Output::Published(place) => {
                    let given_up = place.position < self.view.fold().place().position;
                    tokio::task::block_in_place(|| self.view.advance(&self.store, place))?;
                    if given_up {
                        self.prover.give_up(place)?;
                    }
                    self.snapshot_if_due();
                }
                Output::Witness(heads) if Some(i) == last_heads => self.remember(&heads)?,
                Output::Witness(_) => {}
                Output::Notice(what) => tracing::warn!(what, "event-log"),
                Output::Stop(stop) => return Err(stop.into()),
            }
        }
        Ok(())
    }

    fn remember(&mut self, heads: &Heads) -> Result<(), Failure> {
        tokio::task::block_in_place(|| self.witness.write(heads))?;
        Ok(())
    }

    /// Sends in the order of the calls; the outcome comes later.
    async fn publish(&mut self, message: Message) {
        let position = message.place.position;
        let expect = Expect {
            last: Some(message.expected_last),
            last_on: message.fence.map(|fence| (subject::SEQUENCER_TAKEN.to_owned(), fence)),
        };
        let sent =
            self.bus.publish_checked(&message.subject, message.bytes.to_vec(), &expect).await;
        self.publishing.push(Box::pin(async move {
            let outcome = match sent {
                Ok(ack) => ack.outcome().await,
                Err(error) => Err(error),
            };
            let outcome = match outcome {
                Ok(sequence) => Outcome::Stored(sequence),
                Err(error @ PublishError::Unknown(_)) => Outcome::Unknown(error.to_string()),
                Err(error) => Outcome::Refused(error.to_string()),
            };
            (position, outcome)
        }));
    }

    /// Asks the bus for something in the background; what comes of it goes into the queue.
    #[expect(
        clippy::disallowed_methods,
        reason = "each is one bounded request, awaited by the machine"
    )]
    fn ask(&self, asked: impl Future<Output = Result<Input, String>> + Send + 'static) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let input = asked.await.unwrap_or_else(Input::Failed);
            // Nobody there any more: the process ends.
            let _ = queue.send(input).await;
        });
    }

    fn inspect(&self) {
        let bus = self.bus.clone();
        self.ask(async move {
            for spec in stream::ALL {
                bus.ensure_stream(spec).await.map_err(|error| error.to_string())?;
            }
            let state = bus.stream_state(stream::EVENTS.name).await;
            let state = state.map_err(|error| error.to_string())?;
            let state = state.ok_or_else(|| "the events stream is gone again".to_owned())?;
            let (first, last, messages) = (state.first, state.last, state.messages);
            Ok(Input::Stream(Stream { first, last, messages }))
        });
    }

    fn read(&self, from: u64, to: u64) {
        let bus = self.bus.clone();
        self.ask(async move {
            let mut follow = bus.follow(stream::EVENTS.name, from, None);
            let batch = follow.next_batch(GROUP * 4).await.map_err(|error| error.to_string())?;
            let wanted = batch.into_iter().filter(|message| message.sequence <= to);
            Ok(Input::Messages(wanted.map(others::streamed).collect()))
        });
    }

    fn seat(&self, next: u64) {
        let bus = self.bus.clone();
        self.ask(async move {
            let done = bus.purge_below(stream::EVENTS.name, next).await;
            done.map(|()| Input::Seated).map_err(|error| error.to_string())
        });
    }

    fn follow(&mut self, from: Option<u64>) {
        self.following = from.map(|from| {
            let mut reader = tokio::task::JoinSet::new();
            reader.spawn(others::follow(self.bus.clone(), self.queue.clone(), from));
            reader
        });
    }

    fn probe(&self) {
        let (bus, queue) = (self.bus.clone(), self.queue.clone());
        #[expect(clippy::disallowed_methods, reason = "one bounded request")]
        tokio::spawn(async move {
            if others::nobody_answers(&bus).await {
                let _ = queue.send(Input::Nobody).await;
            }
        });
    }

    fn listen(&mut self, on: bool) {
        if !on {
            // What is read from now on is another's to take away.
            self.purge = None;
        }
        self.listening = on.then(|| {
            let mut reader = tokio::task::JoinSet::new();
            reader.spawn(read_requests(self.bus.clone(), self.queue.clone()));
            reader
        });
    }

    /// How much room there is.
    fn room(&self) -> Option<Room> {
        let metrics = &self.admin.metrics;
        let help = "Room on the disk of the log, and of NATS where that is known.";
        self.disks.look(&mut |disk, free| {
            metrics.set("muster_log_disk_free_bytes", help, &[("disk", disk)], free);
        })
    }

    async fn purge_read(&mut self) {
        if let Some(up_to) = self.purge.take() {
            // What stays is read again after a reconnection, and known as a repeat then.
            if let Err(error) = self.bus.purge_below(stream::APPEND.name, up_to + 1).await {
                tracing::debug!(%error, "the append stream was not purged");
            }
        }
    }

    fn snapshot_if_due(&mut self) {
        let busy = self.snapshot.as_ref().is_some_and(|writing| !writing.is_finished());
        let fold = self.view.fold();
        let position = fold.place().position;
        if busy || position < self.snapshot_at + self.snapshot_every {
            return;
        }
        self.snapshot_at = position;
        let (store, packed, fold) = (self.store.clone(), self.packed.clone(), fold.clone());
        self.snapshot = Some(tokio::task::spawn_blocking(move || {
            if let Err(error) = view::write_snapshot(&store, &fold) {
                tracing::error!(error = runtime::process::chain(&error), "no snapshot was written");
            }
            if let Err(error) = packed.catch_up(&store, fold.place().position) {
                tracing::error!(error = runtime::process::chain(&error), "the log was not packed");
            }
        }));
    }

    /// What the health page shows.
    fn tell(&mut self) {
        let ready = self.sequencer.leads() || self.sequencer.follows();
        let missing = match (self.bus.connected(), ready, self.sequencer.waits_for()) {
            (false, ..) => Some("NATS".to_owned()),
            (true, true, _) if self.sequencer.full() => Some("room on a disk".to_owned()),
            (true, true, _) => None,
            (true, false, Some(waiting)) => Some(waiting.to_string()),
            (true, false, None) => Some("the events stream to be as the log".to_owned()),
        };
        let serves = self.only || self.sequencer.rules();
        self.serves.send_if_modified(|now| std::mem::replace(now, serves) != serves);
        self.admin.readiness.set("event-log", missing);
        let (metrics, counts) = (&self.admin.metrics, self.sequencer.counts());
        let set = |name, help, value| metrics.set(name, help, &[], value);
        set("muster_log_stored_position", "The stored head.", self.sequencer.stored().position);
        set(
            "muster_log_published_position",
            "The published head.",
            self.sequencer.published().position,
        );
        set(
            "muster_log_leads",
            "1 while this instance orders requests; 0 on standby.",
            u64::from(self.sequencer.leads()),
        );
        set(
            "muster_log_groups",
            "Groups of requests; those behind a sync share the next.",
            counts.groups,
        );
        set("muster_log_events", "Events recorded.", counts.events);
        set("muster_log_duplicates", "Requests that were repeats.", counts.duplicates);
        set("muster_log_junk", "Messages on the append stream that are no requests.", counts.junk);
        let help = "Requests let go for lack of room, to be offered again.";
        set("muster_log_deferred", help, counts.deferred);
        set("muster_log_voided", "Positions that hold what the log never wrote.", counts.voided);
        let help = "States of services that were not the log's.";
        metrics.count("muster_state_diverged", help, &[], counts.diverged - self.diverged);
        for (code, count) in &counts.refused {
            metrics.set("muster_log_refused", "Requests refused.", &[("code", code)], *count);
        }
        self.diverged = counts.diverged;
    }
}

/// One input, with the requests or entries that are there already joined into one group.
fn gather(first: Input, arrived: &mut Receiver<Input>) -> Vec<Input> {
    let mut inputs = vec![first];
    while let Ok(next) = arrived.try_recv() {
        match (inputs.last_mut(), next) {
            (Some(Input::Requests(group)), Input::Requests(more)) if group.len() < GROUP => {
                group.extend(more);
            }
            (Some(Input::Followed(group)), Input::Followed(more)) if group.len() < 4 * GROUP => {
                group.extend(more);
            }
            (_, next) => inputs.push(next),
        }
    }
    inputs
}

async fn read_connections(
    bus: Bus,
    queue: Sender<Input>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let mut connections = bus.connections();
    loop {
        if queue.send(Input::Connected).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            changed = connections.changed() => changed?,
        }
    }
}

/// Reads append requests from their stream's first message on, for as long as anyone wants them.
async fn read_requests(bus: Bus, queue: Sender<Input>) {
    let mut from = 0;
    loop {
        let mut follow = bus.follow(stream::APPEND.name, from, None);
        let error = loop {
            match follow.next_batch(GROUP).await {
                Ok(batch) if batch.is_empty() => {}
                Ok(batch) => {
                    let asked = batch.into_iter().map(|message| Asked {
                        sequence: message.sequence,
                        inbox: message.header(INBOX_HEADER).map(str::to_owned),
                        subject: message.subject.clone(),
                        bytes: Bytes::clone(&message.payload),
                    });
                    if queue.send(Input::Requests(asked.collect())).await.is_err() {
                        return;
                    }
                }
                Err(error) => break error,
            }
        };
        // A memory stream begins anew with its server; what is gone from it is offered again.
        match error {
            FollowError::Gone { .. } | FollowError::Rewound { .. } => from = 0,
            FollowError::Bus(error) => tracing::warn!(%error, "reading requests again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
