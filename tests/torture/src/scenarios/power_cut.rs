//! `power-cut`: event-log on a disk of its own, which is copied in the middle of its work as a power
//! cut would leave it: with what was synced, and whatever else happened to be written.
//!
//! The control is the same with an event-log that does not sync: it must lose something, or the
//! scenario proves nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bus::Bus;
use bus::testing::Server;
use runtime::Failure;
use schemas::id::Series;
use schemas::place::Place;

use crate::audit::{self, Audit};
use crate::load::{As, Load, connect};
use crate::mount::{self, Mount};
use crate::process::{Kind, Log, verify};
use crate::run::{Checked, Run};

/// The disk, in MiB.
const DISK_MIB: u64 = 1_024;

/// How long event-log works before the next cut, at most, in ms.
const WORKS_MS: u64 = 500;

/// Of how many cuts one is also started from, with an empty NATS.
const START_EVERY: u32 = 5;

/// How many cuts the control gets at most to lose something.
const CONTROL: u32 = 10;

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let mut disk = Disk::start(run, Kind::Real).await?;
    for round in 0..run.rounds {
        let cut = disk.cut(run, &mut checked).await;
        let cut = cut.map_err(|error| format!("round {round}: {error}"))?;
        if let Some(lost) = cut.lost {
            return Err(format!("round {round}: {lost}").into());
        }
        if (round + 1) % START_EVERY == 0 {
            starts(run, &cut.mount).await.map_err(|error| format!("round {round}: {error}"))?;
            checked.add("cut disks started from", 1);
        }
        checked.add("power cuts", 1);
    }
    checked.add("requests answered", disk.load.answered() as u64);
    drop(disk);
    control(run, &mut checked).await?;
    Ok(checked)
}

/// Without fsync something must get lost.
async fn control(run: &mut Run, checked: &mut Checked) -> Result<(), Failure> {
    let mut disk = Disk::start(run, Kind::Unsynced).await?;
    for round in 0..CONTROL {
        if disk.cut(run, &mut Checked::default()).await?.lost.is_some() {
            checked.add("power cuts without fsync until something was lost", u64::from(round + 1));
            return Ok(());
        }
    }
    Err(format!("nothing was lost without fsync in {CONTROL} power cuts: they are none").into())
}

/// An event-log at work on a disk of its own; its NATS is elsewhere.
struct Disk {
    load: Load,
    log: Log,
    bus: Bus,
    /// What was read of earlier cuts: each goes on from the one before it.
    seen: Audit,
    _server: Server,
    /// Last, so that it is unmounted when nobody uses it any more.
    _mount: Mount,
}

/// What a power cut left.
struct Cut {
    mount: Mount,
    lost: Option<String>,
}

impl Disk {
    async fn start(run: &mut Run, kind: Kind) -> Result<Self, Failure> {
        let at = run.folder().join("disk");
        let mount = Mount::ext4(&run.folder().join("disk.img"), DISK_MIB, &at)?;
        let server = Server::start();
        let bus = connect(&server.url(), "auditor").await?;
        let output = run.folder().join("event-log.log");
        let mut log = Log::start(kind, &server.url(), &at, &output)?;
        log.serving(&bus).await?;
        let load = Load::start(&server.url(), &mut run.dice).await?;
        Ok(Self { load, log, bus, seen: Audit::default(), _server: server, _mount: mount })
    }

    /// Stops event-log in its tracks, copies its disk, lets it go on, and looks at the copy.
    async fn cut(&mut self, run: &mut Run, checked: &mut Checked) -> Result<Cut, Failure> {
        self.load.resume();
        self.load.until_answered(20).await?;
        tokio::time::sleep(Duration::from_millis(run.dice.below(WORKS_MS))).await;
        self.log.signal("STOP")?;
        let image = run.folder().join("cut.img");
        let copied =
            tokio::task::block_in_place(|| mount::copy(&run.folder().join("disk.img"), &image));
        // What was told and published until now was so before the disk stood still.
        let answered = self.load.ledger().answered.clone();
        let published = audit::stream(&self.bus, self.seen.next()).await;
        self.log.signal("CONT")?;
        copied?;
        let published = published?;
        // What is written while the copy is looked at would only fill the disk.
        self.load.pause().await?;

        let mount = Mount::image(&image, &run.folder().join("cut"))?;
        let lost = self.look(mount.at(), &answered, &published, checked).await;
        let lost = lost.err().map(|error| runtime::process::chain(error.as_ref()));
        Ok(Cut { mount, lost })
    }

    /// The log of a cut disk: it opens by itself, and nothing that anyone knew of is missing.
    async fn look(
        &mut self,
        state: &Path,
        answered: &BTreeMap<(Series, u64), Place>,
        published: &BTreeMap<u64, Vec<u8>>,
        checked: &mut Checked,
    ) -> Result<(), Failure> {
        verify(state).await?;
        tokio::task::block_in_place(|| self.seen.read(&state.join("event-log")))?;
        self.seen.is_of(&self.load)?;
        checked.add("answers found on a cut disk", self.seen.holds(answered)?);
        checked.add("published messages found on it", self.seen.covers(published)?);
        Ok(())
    }
}

/// An event-log starts from a cut disk, fills an empty NATS from it, and serves.
async fn starts(run: &Run, cut: &Mount) -> Result<(), Failure> {
    let server = Server::start();
    let bus = connect(&server.url(), "auditor").await?;
    let output = run.folder().join("started.log");
    let mut log = Log::start(Kind::Real, &server.url(), cut.at(), &output)?;
    log.serving(&bus).await?;
    // Other nodes: those of the cut disk are held.
    let who = |number| As::nobody(&format!("after{number}"));
    let load = Load::start_as(&server.url(), &mut run.dice.clone(), &who).await?;
    load.until_answered(5).await?;
    log.kill();
    verify(cut.at()).await
}
