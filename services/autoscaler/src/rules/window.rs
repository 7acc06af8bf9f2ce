//! What was wanted lately. A step up goes to the least of its window, a step down to the most: only
//! what was wanted all the time is done.

use std::collections::VecDeque;

/// What was wanted, from a beginning until now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    began_ms: u64,
    /// From when on how many were wanted, until the next entry. Two neighbours differ.
    wanted: VecDeque<(u64, u32)>,
}

impl Window {
    /// Nothing was wanted yet.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { began_ms: now_ms, wanted: VecDeque::new() }
    }

    /// So many are wanted from now on. What is older than the longest window is forgotten.
    pub(crate) fn note(&mut self, now_ms: u64, wanted: u32, keep_ms: u64) {
        if self.wanted.back().is_none_or(|(_, last)| *last != wanted) {
            self.wanted.push_back((now_ms, wanted));
        }
        let gone = now_ms.saturating_sub(keep_ms);
        while self.wanted.get(1).is_some_and(|(from, _)| *from <= gone) {
            self.wanted.pop_front();
        }
    }

    /// The least that was wanted in the last `window_ms`. None while they are not over.
    pub(crate) fn least(&self, now_ms: u64, window_ms: u64) -> Option<u32> {
        self.last(now_ms, window_ms)?.min()
    }

    /// The most that was wanted in the last `window_ms`. None while they are not over.
    pub(crate) fn most(&self, now_ms: u64, window_ms: u64) -> Option<u32> {
        self.last(now_ms, window_ms)?.max()
    }

    fn last(&self, now_ms: u64, window_ms: u64) -> Option<impl Iterator<Item = u32>> {
        let since = now_ms.checked_sub(window_ms).filter(|since| *since >= self.began_ms)?;
        let next = self.wanted.iter().skip(1).map(|(from, _)| *from).chain([u64::MAX]);
        let lasted = self.wanted.iter().zip(next).filter(move |(_, until)| *until > since);
        Some(lasted.map(|((_, wanted), _)| *wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(notes: &[(u64, u32)]) -> Window {
        let mut window = Window::new(notes[0].0);
        for (at, wanted) in notes {
            window.note(*at, *wanted, 100);
        }
        window
    }

    #[test]
    fn nothing_follows_before_the_window_is_over() {
        let window = window(&[(1_000, 5)]);
        assert_eq!(window.least(1_009, 10), None);
        assert_eq!(window.least(1_010, 10), Some(5));
        assert_eq!(window.most(1_050, 100), None);
        assert_eq!(window.most(1_000, 0), Some(5));
        assert_eq!(Window::new(0).most(10, 5), None);
    }

    #[test]
    fn the_least_and_the_most_of_what_lasted_into_the_window() {
        let window = window(&[(1_000, 5), (1_010, 3), (1_020, 4)]);
        assert_eq!((window.least(1_020, 20), window.most(1_020, 20)), (Some(3), Some(5)));
        assert_eq!((window.least(1_025, 15), window.most(1_025, 15)), (Some(3), Some(4)));
        assert_eq!((window.least(1_030, 10), window.most(1_030, 10)), (Some(4), Some(4)));
    }

    #[test]
    fn what_no_window_reaches_is_forgotten() {
        let notes: Vec<(u64, u32)> = (1_000..2_000).zip([1, 2].into_iter().cycle()).collect();
        let window = window(&notes);
        assert!(window.wanted.len() <= 101, "{}", window.wanted.len());
        assert_eq!(window.least(2_000, 100), Some(1));
    }
}
