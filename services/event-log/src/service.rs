//! The wiring: what is opened, in which order, and which tasks the service is made of.

mod page;
mod pump;
mod snapshots;
mod tiles;
mod wires;

use std::sync::mpsc;
use std::time::Duration;

use bus::Bus;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, entropy};
use schemas::registry::Role;
use schemas::stream;
use tokio::sync::mpsc::{Sender, channel, unbounded_channel};

use self::page::Page;
use self::pump::Pump;
use self::snapshots::Snapshots;
use self::wires::Wires;
use crate::config::{Command, Config};
use crate::packed::Packed;
use crate::proof::Prover;
use crate::room::Disks;
use crate::sequencer::{Input, Seat, Sequencer, Setup, Window};
use crate::store::FjallStore;
use crate::view::View;
use crate::witness::Witness;
use crate::{audit, disk, index, others, reads, scrub};

/// How many append requests are ordered at once, at most.
const GROUP: usize = 256;

/// How many messages may wait for the sequencer.
const QUEUE: usize = 1_024;

/// How many of the newest entries are checked before anything relies on them.
const CHECKED: u64 = 1_000;

/// How long a reader waits before it tries again.
const RETRY: Duration = Duration::from_millis(200);

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
    let goes_on = || !shutdown.is_requested();
    if !tokio::task::block_in_place(|| index::fill(&store, &goes_on))? {
        return Ok(());
    }
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
    let snapshots = Snapshots::new(&store, packed, config.snapshot_every);
    let sequencer = Sequencer::new(store.clone(), view.clone(), setup)?;
    let (queue, arrived) = channel(QUEUE);
    let mut tasks = Tasks::default();
    let prover = Prover::open(store.clone(), &folder)?;
    let tiles = tiles::keep(store.clone(), prover.clone(), view.clone(), shutdown.clone());
    tasks.spawn("proofs", tiles);
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
        wires: Wires::new(bus, queue),
        groups,
        stored,
        store,
        view,
        prover,
        witness,
        sequencer,
        snapshots,
        disks: Disks::new(&config),
        admin,
        page: Page::default(),
        serves,
        only: config.seat() == Seat::Only,
        once: matches!(config.command, Some(Command::Take { .. })),
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

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
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
