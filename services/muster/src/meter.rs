//! How far something long has got: a line on standard error that is written over, where that is a
//! terminal. Elsewhere nothing is written.

use std::io::IsTerminal as _;

/// How often the line is written, in ms.
const EVERY_MS: u64 = 250;

/// So many steps are made between two looks at the clock: one a step would be dear.
const STEPS: u32 = 512;

/// How far it is.
#[derive(Debug)]
pub(crate) struct Meter {
    what: &'static str,
    /// Where it begins and ends; the end is 0 when nobody knows.
    from: u64,
    to: u64,
    terminal: bool,
    steps: u32,
    next_ms: u64,
    shown: bool,
}

impl Meter {
    /// What is done with events, the last position that was there before, and the last one.
    pub(crate) fn new(what: &'static str, from: u64, to: u64) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { terminal, ..Self::begun(what, from, to, runtime::clock::mono_ms()) }
    }

    fn begun(what: &'static str, from: u64, to: u64, now_ms: u64) -> Self {
        let next_ms = now_ms + EVERY_MS;
        Self { what, from, to, terminal: true, steps: 0, next_ms, shown: false }
    }

    /// It has got to a position.
    pub(crate) fn at(&mut self, position: u64) {
        self.steps += 1;
        if !self.terminal || !self.steps.is_multiple_of(STEPS) {
            return;
        }
        if let Some(line) = self.line(position, runtime::clock::mono_ms()) {
            eprint!("\r\u{1b}[K{line}");
        }
    }

    /// The line, when it is time for one.
    fn line(&mut self, position: u64, now_ms: u64) -> Option<String> {
        if now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + EVERY_MS;
        self.shown = true;
        let (count, of) = (position.saturating_sub(self.from), self.to.saturating_sub(self.from));
        let part = (count.saturating_mul(100)).checked_div(of);
        let of = part.map_or_else(String::new, |part| format!(" of {of} ({part} %)"));
        Some(format!("{count}{of} events {}", self.what))
    }
}

/// What comes next begins at the line's beginning, whether it is the result or an error.
impl Drop for Meter {
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_now_and_then_and_says_how_much_of_how_much() {
        let mut meter = Meter::begun("compared", 100, 1_100, 5_000);
        assert_eq!(meter.line(150, 5_100), None, "what is done in a moment shows nothing");
        assert_eq!(meter.line(350, 5_250).as_deref(), Some("250 of 1000 (25 %) events compared"));
        assert_eq!(meter.line(360, 5_499), None);
        assert_eq!(
            meter.line(1_100, 5_500).as_deref(),
            Some("1000 of 1000 (100 %) events compared")
        );
        let mut open = Meter::begun("exported", 0, 0, 0);
        assert_eq!(open.line(7, 300).as_deref(), Some("7 events exported"));
        (meter.shown, open.shown) = (false, false);
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_written() {
        let mut meter = Meter { terminal: false, ..Meter::begun("verified", 0, 10_000, 0) };
        (1..=10_000).for_each(|position| meter.at(position));
        assert!(!meter.shown);
    }
}
