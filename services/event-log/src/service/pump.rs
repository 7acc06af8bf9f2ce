//! The pump: what arrives goes into the sequencer, and what that wants done is done.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use runtime::{Admin, Failure, Shutdown, clock};
use schemas::place::Place;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::watch;

use super::GROUP;
use super::page::Page;
use super::snapshots::Snapshots;
use super::wires::Wires;
use crate::others;
use crate::proof::Prover;
use crate::room::Disks;
use crate::sequencer::{Input, Output, Room, Sequencer};
use crate::store::{Commit, FjallStore};
use crate::view::View;
use crate::witness::{Heads, Witness};

/// How often time passes for the sequencer.
const TICK: Duration = Duration::from_millis(100);

/// How often read requests are taken out of the append stream, in ticks.
const PURGE_TICKS: u32 = 10;

/// How often the disks are looked at, in ticks.
const ROOM_TICKS: u32 = 3;

/// What takes groups to the disk has ended, which it does when a write failed: that was said.
const DISK_ENDED: &str = "nothing is stored any more";

/// Everything that the sequencer works with.
pub(super) struct Pump {
    pub(super) wires: Wires,
    /// What is ordered, for the disk.
    pub(super) groups: mpsc::Sender<Arc<Commit>>,
    /// What the disk says.
    pub(super) stored: UnboundedReceiver<Input>,
    pub(super) store: FjallStore,
    pub(super) view: View,
    pub(super) prover: Prover<FjallStore>,
    pub(super) witness: Witness,
    pub(super) sequencer: Sequencer<FjallStore, View>,
    pub(super) snapshots: Snapshots,
    pub(super) disks: Disks,
    pub(super) admin: Admin,
    pub(super) page: Page,
    /// Whether reads are answered.
    pub(super) serves: watch::Sender<bool>,
    /// Configured as the only instance.
    pub(super) only: bool,
    /// To end as soon as it leads.
    pub(super) once: bool,
}

impl Pump {
    pub(super) async fn run(
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
                outcomes = self.wires.outcomes() => vec![Input::Outcomes(outcomes)],
                input = self.stored.recv() => vec![input.ok_or(DISK_ENDED)?],
                // While the disk is behind, what arrives makes the next group larger.
                Some(input) = arrived.recv(), if self.sequencer.has_room() => {
                    gather(input, &mut arrived)
                }
                _ = tick.tick() => {
                    ticks = ticks.wrapping_add(1);
                    if ticks.is_multiple_of(PURGE_TICKS) {
                        self.wires.purge_read().await;
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

    async fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), Failure> {
        let last_heads = outputs.iter().rposition(|output| matches!(output, Output::Witness(_)));
        for (i, output) in outputs.into_iter().enumerate() {
            match output {
                Output::Inspect => self.wires.inspect(),
                Output::Read { from, to } => self.wires.read(from, to),
                Output::Seat { next } => self.wires.seat(next),
                Output::Fetch { from, to } => self.wires.fetch(from, to),
                Output::Follow(from) => self.wires.follow(from),
                Output::Beat(beat) => others::beat(&self.wires.bus, &beat).await,
                Output::StandsBy(report) => others::stand_by(&self.wires.bus, &report).await,
                Output::Probe => self.wires.probe(),
                Output::Confirm { ticket } => self.wires.confirm(ticket),
                Output::Store(group) => self.groups.send(group).map_err(|_| DISK_ENDED)?,
                Output::Publish(message) => self.wires.publish(message).await,
                Output::Listen(on) => self.wires.listen(on),
                Output::Purge { up_to } => self.wires.purge(up_to),
                Output::Answer { inbox, answer } => {
                    let payload = serde_json::to_vec(&answer)?;
                    // An answer that is lost is asked for again.
                    let _ = self.wires.bus.publish(&inbox, payload).await;
                }
                Output::Published(place) => self.published(place)?,
                Output::Witness(heads) if Some(i) == last_heads => self.remember(&heads)?,
                Output::Witness(_) => {}
                Output::Notice(what) => tracing::warn!(what, "event-log"),
                Output::Stop(stop) => return Err(stop.into()),
            }
        }
        Ok(())
    }

    /// What was published is folded and may be shown.
    fn published(&mut self, place: Place) -> Result<(), Failure> {
        let given_up = place.position < self.view.fold().place().position;
        tokio::task::block_in_place(|| self.view.advance(&self.store, place))?;
        if given_up {
            self.prover.give_up(place)?;
            self.snapshots.went_back(&self.store);
        }
        self.snapshots.write_if_due(&self.store, &self.view);
        Ok(())
    }

    fn remember(&mut self, heads: &Heads) -> Result<(), Failure> {
        tokio::task::block_in_place(|| self.witness.write(heads))?;
        Ok(())
    }

    /// How much room there is.
    fn room(&self) -> Option<Room> {
        let metrics = &self.admin.metrics;
        let help = "Room on the disk of the log, and of NATS where that is known.";
        self.disks.look(&mut |disk, free| {
            metrics.set("muster_log_disk_free_bytes", help, &[("disk", disk)], free);
        })
    }

    /// What others are to see of it.
    fn tell(&mut self) {
        let serves = self.only || self.sequencer.rules();
        self.serves.send_if_modified(|now| std::mem::replace(now, serves) != serves);
        self.view.refills(self.sequencer.refills());
        self.page.tell(&self.admin, &self.sequencer, &self.view, self.wires.bus.connected());
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
