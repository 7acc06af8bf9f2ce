//! Marks: the hash of the state at places that are the same for all who fold, so that they compare.

use std::collections::VecDeque;

use schemas::place::Place;
use schemas::report::{MARK_EVERY, Mark};

use crate::fold::{FOLD_VERSION, Fold};

/// How many of the newest marks are kept: whoever compares may be that many behind the other.
const KEPT: usize = 16;

/// The newest marks of a fold: at the first end of a batch at or behind each multiple of an interval.
/// Where those are is a matter of the history alone, wherever a fold begins.
#[derive(Clone, Debug)]
pub struct Marks {
    every: u64,
    kept: VecDeque<Mark>,
}

impl Default for Marks {
    fn default() -> Self {
        Self::every(MARK_EVERY)
    }
}

impl Marks {
    /// Marks at another interval than services have.
    #[must_use]
    pub fn every(every: u64) -> Self {
        Self { every: every.max(1), kept: VecDeque::new() }
    }

    /// Takes a mark when one is due, after every entry: `before` is where the fold was before it.
    pub fn pushed(&mut self, before: Place, fold: &Fold) {
        let place = fold.place();
        if place.position / self.every <= before.position / self.every {
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        let state_hash = fold.state().hash();
        self.kept.push_back(Mark { place, fold_version: FOLD_VERSION, state_hash });
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Option<&Mark> {
        self.kept.back()
    }

    /// The one at a place: the same position of the same history.
    #[must_use]
    pub fn at(&self, place: Place) -> Option<&Mark> {
        self.kept.iter().rev().find(|mark| mark.place == place)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use schemas::event::{Event, NoteAdded};
    use schemas::id::Writer;

    use super::*;
    use crate::history::History;

    /// A history whose batches have so many events.
    fn of(sizes: &[usize]) -> History {
        let mut history = History::default();
        for (n, size) in sizes.iter().enumerate() {
            history.node(&format!("n{n}"), 1, 1);
            let note: Event = NoteAdded {
                object: "app/main/shop".to_owned(),
                text: "a note".to_owned(),
                fields: BTreeMap::new(),
            }
            .into();
            history.batch(&Writer::Controller, vec![note; *size]);
        }
        history
    }

    /// The marks of a history that is folded on from a position.
    fn marks(history: &History, every: u64, from: usize) -> Marks {
        let (mut fold, mut marks) = (Fold::new(), Marks::every(every));
        for (i, entry) in history.entries.iter().enumerate() {
            let before = fold.place();
            fold.push(entry).expect("it follows");
            if i >= from {
                marks.pushed(before, &fold);
            }
        }
        marks
    }

    #[test]
    fn a_mark_is_at_the_first_end_of_a_batch_at_or_behind_each_multiple() {
        let history = of(&[3, 7]);
        let marks = marks(&history, 5, 0);
        let at: Vec<u64> = marks.kept.iter().map(|mark| mark.place.position).collect();
        let ends = |fold: &Fold| fold.place() == fold.cursor();
        let mut fold = Fold::new();
        let mut expected = Vec::new();
        let mut next = 5;
        for entry in &history.entries {
            fold.push(entry).expect("it follows");
            let position = fold.cursor().position;
            if ends(&fold) && position >= next {
                expected.push(position);
                next = (position / 5 + 1) * 5;
            }
        }
        assert_eq!(at, expected);
        assert!(at.iter().any(|at| !at.is_multiple_of(5)), "one is inside a batch: {at:?}");
        let newest = marks.newest().expect("there are some");
        assert_eq!((newest.place, &newest.state_hash), (fold.place(), &fold.state().hash()));
    }

    #[test]
    fn whoever_begins_later_has_the_same_marks_and_only_so_many_are_kept() {
        let history = of(&[2; 40]);
        let all = marks(&history, 4, 0);
        assert_eq!(all.kept.len(), KEPT);
        let later = marks(&history, 4, history.entries.len() - 30);
        assert!(later.kept.len() > 3);
        assert!(later.kept.iter().all(|mark| all.at(mark.place) == Some(mark)));
        let newest = all.newest().expect("there are some").place;
        let elsewhere = Place { epoch: newest.epoch + 1, ..newest };
        assert_eq!(all.at(elsewhere), None);
    }
}
