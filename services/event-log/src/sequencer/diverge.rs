//! Whether services have the state that event-log has of the same place. What differs is stated, for
//! an operator: nothing follows from it by itself.

use std::collections::BTreeMap;

use schemas::event::StateDiverged;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::report::Beat;

use super::{Bindings, Output, Sequencer, Stop};
use crate::store::Store;

/// For how many ticks nothing more is stated of an instance: a minute.
const QUIET_TICKS: u32 = 600;

/// What was last stated of each service.
#[derive(Clone, Debug, Default)]
pub(super) struct Diverged(BTreeMap<Writer, Last>);

#[derive(Clone, Debug)]
struct Last {
    instance: String,
    place: Place,
    quiet: u32,
}

impl Diverged {
    pub(super) fn tick(&mut self) {
        for last in self.0.values_mut() {
            last.quiet = last.quiet.saturating_sub(1);
        }
    }

    /// Whether there is nothing to add to what was stated.
    fn is_told(&self, beat: &Beat, place: Place) -> bool {
        let last = self.0.get(&beat.writer).filter(|last| last.instance == beat.instance);
        last.is_some_and(|last| last.quiet > 0 || last.place == place)
    }
}

impl<S: Store, B: Bindings> Sequencer<S, B> {
    /// Compares what a service says of its state. Only the same place of the same history and the
    /// same version of the fold compare.
    pub(super) fn check_state(
        &mut self,
        beat: &Beat,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<(), Stop> {
        let Some(theirs) = &beat.mark else { return Ok(()) };
        let Some(ours) = self.bindings.mark_at(theirs.place) else { return Ok(()) };
        let compares = theirs.fold_version == ours.fold_version
            // Anything may be in a report; a hash it is not, then.
            && theirs.state_hash.len() == ours.state_hash.len();
        let told = self.diverged.is_told(beat, theirs.place);
        if self.full || !compares || theirs.state_hash == ours.state_hash || told {
            return Ok(());
        }
        let leads = self.leadership(&beat.writer)?.is_some_and(|row| {
            row.instance == beat.instance && row.term == beat.term && !row.released
        });
        if !leads || !Writer::DECIDERS.contains(&beat.writer) {
            return Ok(());
        }
        let event = StateDiverged {
            writer: beat.writer.clone(),
            instance: beat.instance.clone(),
            place: theirs.place,
            fold_version: theirs.fold_version,
            theirs: theirs.state_hash.clone(),
            ours: ours.state_hash,
        };
        let what = format!("the state of {} at {} is not the log's", beat.writer, theirs.place);
        out.push(Output::Notice(what));
        let (instance, place) = (beat.instance.clone(), theirs.place);
        self.diverged.0.insert(beat.writer.clone(), Last { instance, place, quiet: QUIET_TICKS });
        self.counts.diverged += 1;
        self.state(event.into(), now_ms, out)
    }
}
