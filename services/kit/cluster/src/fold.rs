//! Reading a history in order: the chain, the epochs and the batches, and the state at their end.

use schemas::envelope::{Batch, DecodeError, Envelope, Header};
use schemas::event::Event;
use schemas::place::{Hash, Place};
use serde::{Deserialize, Serialize};

use crate::apply::{At, apply};
use crate::state::State;

/// The version of the fold. Raised by any change to what a state is or how an event changes it;
/// only states of one version compare.
pub const FOLD_VERSION: u32 = 4;

/// A history as far as it was read.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    state: State,
    /// The end of the last batch that was applied.
    place: Place,
    /// The last entry that was read.
    cursor: Place,
    /// The entries of a batch that is not finished. An entry of an unknown type is `None`.
    open: Vec<Option<Envelope>>,
    open_batch: Option<Batch>,
    /// A type that only a newer release knows. Who decides must not, from here on.
    blocked: Option<String>,
}

/// What reading an entry finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The events of the batch, in order.
    pub events: Vec<Envelope>,
}

/// Why an entry is not the next one of this history.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// Another position than the next.
    #[error("expected the event at position {expected}, got that at {got}")]
    Gap {
        /// The next position.
        expected: u64,
        /// The entry's.
        got: u64,
    },
    /// The entry follows from another history.
    #[error(
        "the event at position {position} does not follow from the one before it: its hash differs"
    )]
    Broken {
        /// The entry's position.
        position: u64,
    },
    /// The entry's epoch is not that of the last `SequencerTaken`.
    #[error(
        "the event at position {position} is of epoch {got}, where epoch {expected} was expected"
    )]
    Epoch {
        /// The entry's position.
        position: u64,
        /// The epoch that reigns there.
        expected: u64,
        /// The entry's.
        got: u64,
    },
    /// The entry does not continue the batch that was begun.
    #[error("the event at position {position} is torn out of its batch")]
    Torn {
        /// The entry's position.
        position: u64,
    },
    /// Not an event this release can read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A snapshot that is not what it says.
    #[error("the snapshot is not usable: {0}")]
    Snapshot(String),
}

#[derive(Serialize, Deserialize)]
struct Snapshot<S> {
    fold_version: u32,
    place: Place,
    state_hash: String,
    state: S,
}

impl Fold {
    /// Before the first event.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The state at [`Fold::place`].
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The state, for one who takes note of what was touched.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// The end of the last batch that was applied.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// The last entry that was read: the same place, or one inside an unfinished batch.
    #[must_use]
    pub fn cursor(&self) -> Place {
        self.cursor
    }

    /// The type that this release would have to know in order to decide, if there is one.
    #[must_use]
    pub fn blocked(&self) -> Option<&str> {
        self.blocked.as_deref()
    }

    /// Reads the next entry. Says so when it finished a batch, which is then in the state.
    ///
    /// # Errors
    ///
    /// When the entry is not the next one of this history; nothing has changed then.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Applied>, FoldError> {
        let (header, event) = decode(bytes)?;
        let takes = matches!(event, Some(Event::SequencerTaken(_)));
        self.check_chain(&header, takes)?;
        let alone = matches!(event, Some(Event::PositionVoided(_)));
        if takes {
            self.open.clear();
            self.open_batch = None;
        } else if !alone {
            self.check_batch(&header)?;
        }

        if event.is_none() && !header.ignorable && self.blocked.is_none() {
            self.blocked = Some(format!("an event at position {}", header.position));
        }
        self.cursor = Place {
            epoch: header.epoch,
            position: header.position,
            hash: header.prev_hash.extend(bytes),
        };
        let batch = header.batch.clone();
        let envelope = event.map(|event| Envelope { header, event });
        if alone {
            let applied = self.finish(vec![envelope]);
            return Ok(Some(applied));
        }
        self.open.push(envelope);
        if !batch.ends() {
            self.open_batch = Some(batch);
            return Ok(None);
        }
        self.open_batch = None;
        let entries = std::mem::take(&mut self.open);
        Ok(Some(self.finish(entries)))
    }

    fn finish(&mut self, entries: Vec<Option<Envelope>>) -> Applied {
        let events: Vec<Envelope> = entries.into_iter().flatten().collect();
        for envelope in &events {
            apply(&mut self.state, &At::from(&envelope.header), &envelope.event);
        }
        self.state.settle();
        if self.open.is_empty() {
            self.place = self.cursor;
        }
        Applied { events }
    }

    fn check_chain(&self, header: &Header, takes: bool) -> Result<(), FoldError> {
        let (position, epoch) = (header.position, header.epoch);
        if position != self.cursor.position + 1 {
            return Err(FoldError::Gap { expected: self.cursor.position + 1, got: position });
        }
        if header.prev_hash != self.cursor.hash {
            return Err(FoldError::Broken { position });
        }
        let fits = if takes { epoch > self.cursor.epoch } else { epoch == self.cursor.epoch };
        if !fits {
            return Err(FoldError::Epoch { position, expected: self.cursor.epoch, got: epoch });
        }
        Ok(())
    }

    fn check_batch(&self, header: &Header) -> Result<(), FoldError> {
        let batch = &header.batch;
        let fits = match &self.open_batch {
            None => batch.i == 0 && batch.of > 0,
            Some(open) => {
                (&open.series, open.n, open.of) == (&batch.series, batch.n, batch.of)
                    && batch.i == open.i + 1
            }
        };
        if fits { Ok(()) } else { Err(FoldError::Torn { position: header.position }) }
    }

    /// The state and its place as JSON, to begin from instead of the first event.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let snapshot = Snapshot {
            fold_version: FOLD_VERSION,
            place: self.place,
            state_hash: self.state.hash(),
            state: &self.state,
        };
        serde_json::to_vec(&snapshot).expect("a state has string keys only")
    }

    /// Begins from a snapshot. Everything counts as touched.
    ///
    /// # Errors
    ///
    /// When it was made by another version of the fold, or is not what its hash says.
    pub fn restore(bytes: &[u8]) -> Result<Self, FoldError> {
        let snapshot: Snapshot<State> =
            serde_json::from_slice(bytes).map_err(|e| FoldError::Snapshot(e.to_string()))?;
        if snapshot.fold_version != FOLD_VERSION {
            let what = format!("fold version {}, not {FOLD_VERSION}", snapshot.fold_version);
            return Err(FoldError::Snapshot(what));
        }
        let mut state = snapshot.state;
        state.rebuild_index();
        if state.hash() != snapshot.state_hash {
            return Err(FoldError::Snapshot("its state does not have its hash".to_owned()));
        }
        let place = snapshot.place;
        Ok(Self { state, place, cursor: place, ..Self::default() })
    }

    /// The hash before the next entry.
    #[must_use]
    pub fn head_hash(&self) -> Hash {
        self.cursor.hash
    }
}

/// A fold that is given events of finished batches which were checked before: it only applies.
#[derive(Clone, Debug)]
pub struct Replay(Fold);

impl Fold {
    /// Goes on from the end of the last batch with what was checked before.
    #[must_use]
    pub fn replay(self) -> Replay {
        let place = self.place;
        Replay(Self { cursor: place, open: Vec::new(), open_batch: None, ..self })
    }
}

impl Replay {
    /// Applies the next event.
    pub fn apply(&mut self, at: &At<'_>, event: &Event) {
        apply(&mut self.0.state, at, event);
    }

    /// All that leads to `place` was applied.
    #[must_use]
    pub fn at(mut self, place: Place) -> Fold {
        self.0.state.settle();
        Fold { place, cursor: place, ..self.0 }
    }
}

/// The header, and the event unless its type is unknown.
fn decode(bytes: &[u8]) -> Result<(Header, Option<Event>), FoldError> {
    match Envelope::decode(bytes) {
        Ok(Envelope { header, event }) => Ok((header, Some(event))),
        Err(DecodeError::UnknownType { .. } | DecodeError::Schema { .. }) => {
            let (header, _) = Header::decode(bytes)?;
            Ok((header, None))
        }
        Err(error) => Err(error.into()),
    }
}
