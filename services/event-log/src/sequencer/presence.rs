//! Whether another instance leads, as far as this one can tell: its silence, and how far history is
//! known to have been published.
//!
//! Silence is counted in ticks, from my own last connection on. Nothing here makes a take-over safe;
//! the stream's checks do. It makes a needless one rare.

use schemas::place::Place;

/// Ticks without a beat after which it is asked whether anybody is there.
const DOUBT_TICKS: u32 = 3;

/// Ticks without a beat after which a leader that was heard over this connection is silent.
const SILENT_TICKS: u32 = 12;

/// Ticks after which one that was not heard over this connection is silent. A leader that lost its
/// connection at the same moment, because the server went, has long come back by then.
const CONNECTED_TICKS: u32 = 30;

/// What is known of the other instances.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Presence {
    silent: u32,
    heard: bool,
    nobody: bool,
    known: Place,
}

impl Presence {
    /// What was heard before this connection says nothing about now.
    pub(super) fn connected(&mut self) {
        *self = Self { known: self.known, ..Self::default() };
    }

    pub(super) fn tick(&mut self) {
        self.silent = self.silent.saturating_add(1);
    }

    /// A leader is there now.
    pub(super) fn heard(&mut self) {
        *self = Self { heard: true, known: self.known, ..Self::default() };
    }

    /// Somebody took: they get as long as anyone to be heard.
    pub(super) fn took(&mut self) {
        (self.silent, self.nobody) = (0, false);
    }

    /// Nobody answers where a leader would.
    pub(super) fn nobody(&mut self) {
        self.nobody = true;
    }

    /// This was published.
    pub(super) fn knows(&mut self, place: Place) {
        if place.after(&self.known) {
            self.known = place;
        }
    }

    /// The highest place that is known to have been published.
    pub(super) fn known(&self) -> Place {
        self.known
    }

    /// Whether it is time to ask if anybody is there.
    pub(super) fn doubts(&self) -> bool {
        self.heard && self.silent >= DOUBT_TICKS && !self.is_silent()
    }

    /// Whether a leader would have been heard.
    pub(super) fn is_silent(&self) -> bool {
        match self.heard {
            true if self.nobody => self.silent >= DOUBT_TICKS,
            true => self.silent >= SILENT_TICKS,
            false => self.silent >= CONNECTED_TICKS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(ticks: u32, mut presence: Presence) -> Presence {
        (0..ticks).for_each(|_| presence.tick());
        presence
    }

    #[test]
    fn silence_is_counted_from_the_last_connection() {
        let mut presence = Presence::default();
        presence.heard();
        presence = after(SILENT_TICKS, presence);
        assert!(presence.is_silent());
        presence.connected();
        assert!(!after(CONNECTED_TICKS - 1, presence).is_silent(), "the leader comes back first");
        assert!(after(CONNECTED_TICKS, presence).is_silent());
    }

    #[test]
    fn a_death_that_is_seen_is_silence_sooner() {
        let mut presence = Presence::default();
        presence.heard();
        presence = after(DOUBT_TICKS, presence);
        assert!(presence.doubts() && !presence.is_silent());
        presence.nobody();
        assert!(presence.is_silent());
        // One beat tells that it was not so.
        presence.heard();
        assert!(!after(DOUBT_TICKS, presence).is_silent());
    }

    #[test]
    fn that_nobody_answers_right_after_a_connection_says_nothing() {
        let mut presence = Presence::default();
        presence.nobody();
        assert!(!after(CONNECTED_TICKS - 1, presence).is_silent());
    }

    #[test]
    fn known_heads_compare_by_epoch_before_position() {
        let place = |epoch, position| Place { epoch, position, ..Place::START };
        let mut presence = Presence::default();
        for known in [place(2, 10), place(1, 50), place(2, 9)] {
            presence.knows(known);
        }
        assert_eq!(presence.known(), place(2, 10));
    }
}
