//! Forks: a log that begins as a copy of another one and says where it leaves it.

use std::path::Path;

use bytes::Bytes;
use cluster::Fold;
use runtime::Failure;
use schemas::event::{Event, HistoryForked, LeadershipReleased};
use schemas::id::Writer;
use schemas::place::Place;

use crate::config;
use crate::entry::Entry;
use crate::rebuild::Rebuild;

/// A fork that is being made.
#[derive(Debug)]
pub struct Fork(Rebuild);

impl Fork {
    /// Begins one in a state folder that holds no log.
    ///
    /// # Errors
    ///
    /// When it does, or cannot be written.
    pub fn begin(state_dir: &Path) -> Result<Self, Failure> {
        Ok(Self(Rebuild::begin(&config::folder(state_dir))?))
    }

    /// The last entry that was copied.
    #[must_use]
    pub fn place(&self) -> Place {
        self.0.place()
    }

    /// What follows from everything that was copied.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        self.0.fold()
    }

    /// Copies the next entry.
    ///
    /// # Errors
    ///
    /// When it is not the next one of this history.
    pub fn take(&mut self, entry: &[u8]) -> Result<(), Failure> {
        self.0.take(Bytes::copy_from_slice(entry))
    }

    /// Ends the copy with the event that says so. Whoever led is elsewhere and will not come back:
    /// each leadership is released, so that others may lead here at once. Says which place is the last
    /// that both histories have, and the state behind all of it.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(mut self) -> Result<(Place, Fold), Failure> {
        let from = self.0.fold().place();
        let leaders = self.0.fold().state().leaders.iter();
        let released: Vec<(Writer, Event)> = leaders
            .filter(|(_, leader)| !leader.released)
            .map(|(writer, leader)| {
                let released = LeadershipReleased { writer: writer.clone(), term: leader.term };
                (writer.clone(), released.into())
            })
            .collect();
        self.add(&Writer::EventLog, HistoryForked { from }.into())?;
        for (writer, event) in released {
            self.add(&writer, event)?;
        }
        let fold = self.0.fold().clone();
        self.0.finish(None)?;
        Ok((from, fold))
    }

    fn add(&mut self, writer: &Writer, event: Event) -> Result<(), Failure> {
        let (tip, term) = (self.0.tip()?, self.0.fold().state().term(writer));
        let entry = Entry::forked(&tip, writer, term, event);
        self.0.take(entry.bytes)
    }
}
