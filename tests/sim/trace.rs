//! The last things that happened, for whoever reads a failure.

use std::collections::VecDeque;

/// How many lines are kept.
const LINES: usize = 2_000;

/// The last lines.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: VecDeque<String>,
    /// Whether anybody will read them: making them costs more than the rest.
    pub(crate) on: bool,
}

impl Trace {
    pub(crate) fn say(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        if !self.on {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>7}.{:03}  {}", now_ms / 1_000, now_ms % 1_000, line()));
    }

    /// The lines, oldest first.
    pub(crate) fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}
