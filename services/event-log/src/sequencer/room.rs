//! What the sequencer does when a disk has little room left: it states so, and later takes nothing.

use schemas::event::{Event, IntakeClosed, IntakeOpened};

use super::{Asked, Bindings, Output, Sequencer, Stop};
use crate::store::Store;

/// How much room there is for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    /// As much as is wanted.
    Enough(Short),
    /// More than would close the intake, and less than opens it: that stays as it is.
    Between,
    /// So little that commands are refused.
    Little(Short),
    /// So little that nothing is taken.
    None(Short),
}

/// The disk with the least room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// Which: `log` or `nats`.
    pub disk: &'static str,
    /// How much is free.
    pub free_bytes: u64,
    /// How much must be free for the intake to open.
    pub needed_bytes: u64,
}

/// What was last stated about the intake, and is perhaps not published yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stated {
    position: u64,
    closed: bool,
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// Whether what is offered stays unanswered for lack of room.
    pub fn full(&self) -> bool {
        self.full
    }

    /// Takes in how much room there is, and states it when it changes what commands may do.
    pub(super) fn room(
        &mut self,
        room: &Room,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        self.full = matches!(room, Room::None(_));
        if !self.leads() {
            return Ok(());
        }
        let closed = match self.stated {
            Some(stated) if stated.position > self.published.position => stated.closed,
            _ => self.bindings.intake_closed(),
        };
        let event: Event = match (room, closed) {
            (Room::Little(short) | Room::None(short), false) => IntakeClosed {
                disk: short.disk.to_owned(),
                free_bytes: short.free_bytes,
                needed_bytes: short.needed_bytes,
            }
            .into(),
            (Room::Enough(short), true) => {
                IntakeOpened { disk: short.disk.to_owned(), free_bytes: short.free_bytes }.into()
            }
            _ => return Ok(()),
        };
        self.state(event, now_ms, out)?;
        self.stated = Some(Stated { position: self.end().place.position, closed: !closed });
        Ok(())
    }

    /// Lets go of requests for which there is no room. Their writers offer them again.
    pub(super) fn let_go(&mut self, asked: &[Asked], out: &mut Vec<Output>) {
        self.counts.deferred += asked.len() as u64;
        if let Some(one) = asked.last() {
            self.purge(one.sequence, out);
        }
    }
}
