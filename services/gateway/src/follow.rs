//! From entries of history to tables: the fold, and what to do about entries that do not follow.

use cluster::{Fold, FoldError, Marks};
use runtime::reader::Read;
use schemas::event::Event;
use schemas::id::NodeName;
use schemas::place::Place;
use schemas::report::Mark;

use crate::inside::map::Map;
use crate::table::Table;

/// A reader of history that says what is to be served.
#[derive(Debug)]
pub struct Follower {
    fold: Fold,
    marks: Marks,
    /// The node whose machine is served.
    node: NodeName,
    /// Whether the end of history was seen: a table of the past must not be served.
    caught_up: bool,
    /// The last table that was asked for.
    told: Option<Table>,
    /// Whether something left since: what is known of that is told, whether or not it changed anything.
    left: bool,
    /// The position that event-log was asked for.
    fetching: Option<u64>,
}

/// What must happen before more can be read.
#[derive(Debug, PartialEq, Eq)]
pub enum Need {
    /// Entries are missing, or are not what follows: have event-log say them from this position on.
    Fetch {
        /// The first one that is wanted.
        from: u64,
    },
    /// What was folded is not in the history (any more): begin again from nothing.
    Rebuild {
        /// What did not fit.
        why: String,
    },
}

impl Follower {
    /// Goes on after a fold, for the machine of a node.
    #[must_use]
    pub fn new(fold: Fold, node: NodeName) -> Self {
        let marks = Marks::default();
        Self { fold, marks, node, caught_up: false, told: None, left: false, fetching: None }
    }

    /// Takes marks of its state at another interval.
    #[must_use]
    pub fn marking(self, marks: Marks) -> Self {
        Self { marks, ..self }
    }

    /// The newest mark of its state.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.marks.newest()
    }

    /// The history as far as it was read.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What keeps its tables from being those of now.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if let Some(what) = self.fold.blocked() {
            return Some(format!("a release that knows {what}"));
        }
        let read = self.fold.cursor().position;
        (!self.caught_up).then(|| format!("the log after position {read}"))
    }

    /// Takes in what was read.
    pub fn take(&mut self, read: Read) -> Option<Need> {
        let (bytes, logged) = match read {
            Read::CaughtUp => {
                self.caught_up = true;
                return None;
            }
            Read::Entry(bytes) => (bytes, false),
            Read::Logged(bytes) => (bytes, true),
        };
        let (next, before) = (self.fold.cursor().position + 1, self.fold.place());
        match self.fold.push(&bytes) {
            Ok(applied) => {
                self.marks.pushed(before, &self.fold);
                let events = applied.iter().flat_map(|applied| &applied.events);
                let leaves =
                    |event: &Event| matches!(event, Event::ReplicasRetired(e) if e.leaving);
                self.left |= events.map(|envelope| &envelope.event).any(leaves);
                None
            }
            // A repeat: it was folded already.
            Err(FoldError::Gap { expected, got }) if got < expected => None,
            // What the log itself says is history: when that does not follow, something else was
            // folded here. The stream may hold what the log never wrote.
            Err(error) if logged && !matches!(error, FoldError::Gap { .. }) => {
                Some(Need::Rebuild { why: error.to_string() })
            }
            Err(error) => {
                if self.fetching == Some(next) {
                    return None;
                }
                self.fetching = Some(next);
                tracing::warn!(%error, from = next, "asking event-log for what follows");
                Some(Need::Fetch { from: next })
            }
        }
    }

    /// The table of what was folded, of whatever moment. None: nothing was.
    #[must_use]
    pub fn last_known(&self) -> Option<Table> {
        (self.fold.place() != Place::START).then(|| self.of_state())
    }

    fn of_state(&self) -> Table {
        let (state, place) = (self.fold.state(), self.fold.place());
        Table { inside: Map::of(state, &self.node), ..Table::of(state, place) }
    }

    /// The table of now, if it differs from the last one that was asked for, or is known to hold for
    /// what left since.
    pub fn table(&mut self) -> Option<Table> {
        if !self.caught_up {
            return None;
        }
        let touched = std::mem::take(&mut self.fold.state_mut().touched);
        let place = self.fold.place();
        let news = std::mem::take(&mut self.left)
            || self.told.as_ref().is_none_or(|told| told.place.epoch != place.epoch);
        if !news && touched.apps.is_empty() && touched.nodes.is_empty() {
            return None;
        }
        let table = self.of_state();
        if !news && self.told.as_ref().is_some_and(|told| told.leads_as(&table)) {
            return None;
        }
        self.told = Some(table.clone());
        Some(table)
    }
}

#[cfg(test)]
mod tests;
