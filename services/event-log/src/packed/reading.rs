//! A segment's events, unpacked a piece at a time, for one who folds them on another thread.

use std::collections::HashMap;

use cluster::At;
use schemas::event::Event;
use schemas::id::{CommandId, Writer};
use schemas::place::{Basis, Place};

use super::value::{BadValue, Unpacker};

/// What comes of the segments, in order.
pub(super) enum Piece {
    /// Events, one after another.
    Events(Vec<Read>),
    /// A segment is whole, and ends at this place.
    End(Place),
    /// The segment behind this place is not what was packed.
    Bad {
        /// The place.
        from: Place,
        /// Why.
        error: String,
    },
}

/// An event, and what the fold looks at of its frame.
pub(super) struct Read {
    position: u64,
    recorded_ms: u64,
    writer: Writer,
    basis: Option<Basis>,
    correlation: Option<CommandId>,
    pub(super) event: Event,
}

impl Read {
    pub(super) fn at(&self) -> At<'_> {
        At {
            position: self.position,
            recorded_ms: self.recorded_ms,
            writer: &self.writer,
            basis: self.basis,
            correlation: self.correlation.as_ref(),
        }
    }
}

/// Reads the content of a segment.
pub(super) struct Reading<'a> {
    from: Unpacker<'a>,
    writers: HashMap<&'a str, Writer>,
    /// The last command, by its text: what follows from one comes in a row.
    command: Option<(&'a str, CommandId)>,
    position: u64,
    recorded_ms: u64,
}

impl<'a> Reading<'a> {
    /// Begins behind a position.
    pub(super) fn new(body: &'a [u8], position: u64) -> Self {
        let (writers, command) = (HashMap::new(), None);
        Self { from: Unpacker::new(body), writers, command, position, recorded_ms: 0 }
    }

    /// The next events, at most so many; none at the end.
    pub(super) fn next(&mut self, most: usize) -> Result<Vec<Read>, BadValue> {
        let mut piece = Vec::with_capacity(most);
        while piece.len() < most && !self.from.is_done() {
            piece.push(self.one()?);
        }
        Ok(piece)
    }

    fn one(&mut self) -> Result<Read, BadValue> {
        let from = &mut self.from;
        self.position = self.position.wrapping_add(from.number()?);
        self.recorded_ms = self.recorded_ms.wrapping_add(from.number()?);
        let name = from.text()?;
        let writer = match self.writers.get(name) {
            Some(writer) => writer.clone(),
            None => self.writers.entry(name).or_insert(Writer::parse(name)?).clone(),
        };
        let basis = match from.number()?.checked_sub(1) {
            Some(epoch) => Some(Basis { epoch, position: from.number()? }),
            None => None,
        };
        let correlation = match from.number()? {
            0 => None,
            _ => Some(from.text()?),
        };
        let correlation = match (correlation, &self.command) {
            (None, _) => None,
            (Some(text), Some((last, command))) if text == *last => Some(command.clone()),
            (Some(text), _) => {
                let command = CommandId::new(text)?;
                self.command = Some((text, command.clone()));
                Some(command)
            }
        };
        let kind = from.text()?;
        let event = Event::read(kind, from)
            .unwrap_or_else(|| Err(BadValue::from(format!("there is no event {kind}"))))?;
        let (position, recorded_ms) = (self.position, self.recorded_ms);
        Ok(Read { position, recorded_ms, writer, basis, correlation, event })
    }
}
