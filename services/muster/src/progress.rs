//! What is shown while something comes about, on standard error: a block that is drawn again and again
//! on a terminal, else one line an event.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use schemas::envelope::Envelope;
use schemas::read::StatePage;

use crate::args::Progress;
use crate::colour::{self, of_state, painted};
use crate::table::{ago, table};
use crate::tell;

/// How often the block is drawn.
pub(crate) const REDRAW: Duration = Duration::from_millis(250);

/// The most lines of a block, and the width of a terminal that does not tell its own.
const LINES_MAX: usize = 20;
const WIDTH: usize = 80;

/// What is shown.
pub(crate) enum Display {
    /// How many lines of the block are on the terminal now.
    Live(usize),
    Plain,
    Quiet,
}

impl Display {
    pub(crate) fn new(wanted: Progress) -> Self {
        match wanted {
            Progress::Auto if std::io::stderr().is_terminal() => Self::Live(0),
            Progress::Auto | Progress::Plain => Self::Plain,
            Progress::Quiet => Self::Quiet,
        }
    }

    /// Whether it wants to be drawn now and then.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Live(_))
    }

    /// Something happened.
    pub(crate) fn event(&self, envelope: &Envelope) {
        if matches!(self, Self::Plain) {
            eprintln!("{}", tell::line(envelope));
        }
    }

    /// Draws the replicas and what waits for a node, over what was drawn before.
    pub(crate) fn draw(&mut self, page: &StatePage, now_ms: u64) {
        let Self::Live(drawn) = self else { return };
        let (width, height) = size();
        let lines = block(page, now_ms, width, height, colour::wanted(&std::io::stderr()));
        let mut text = rewind(*drawn);
        for line in &lines {
            text.push_str(line);
            text.push('\n');
        }
        *drawn = lines.len();
        // A terminal that went away is no reason to stop waiting.
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}

/// The terminal's columns and lines.
fn size() -> (usize, usize) {
    let known = terminal_size::terminal_size_of(std::io::stderr());
    known.map_or((WIDTH, LINES_MAX), |(width, height)| {
        (usize::from(width.0), usize::from(height.0).saturating_sub(2).clamp(1, LINES_MAX))
    })
}

/// Goes up over so many lines and takes away what is there.
fn rewind(lines: usize) -> String {
    match lines {
        0 => String::new(),
        n => format!("\u{1b}[{n}A\r\u{1b}[J"),
    }
}

/// The lines of the block: a line that is too long would wrap, and then going up goes wrong.
fn block(page: &StatePage, now_ms: u64, width: usize, height: usize, colours: bool) -> Vec<String> {
    let mut rows = Vec::new();
    for app in &page.apps {
        for (name, workload) in app.workloads.iter().filter(|(_, w)| !w.unplaced.is_empty()) {
            let why = workload.unplaced.join("; ");
            rows.push(vec![format!("{name}"), "unplaced".to_owned(), String::new(), why]);
        }
    }
    for r in &page.replicas {
        let node = r.node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let age = ago(now_ms.saturating_sub(r.since_ms));
        let trouble = r.trouble.clone().filter(|_| r.status != "ready").unwrap_or_default();
        rows.push(vec![r.replica.to_string(), r.status.clone(), age, format!("{node}  {trouble}")]);
    }
    let text = table(&["REPLICA", "STATUS", "SINCE", "NODE"], &rows);
    let mut lines: Vec<String> = text.lines().map(|line| cut(line, width)).collect();
    if lines.len() > height {
        let hidden = lines.len() - height + 1;
        lines.truncate(height - 1);
        lines.push(format!("… and {hidden} more"));
    }
    if colours {
        for (line, row) in lines.iter_mut().skip(1).zip(&rows) {
            let state = format!(" {} ", row[1]);
            *line = line.replacen(&state, &painted(true, of_state(&row[1]), &state), 1);
        }
    }
    lines
}

fn cut(line: &str, width: usize) -> String {
    match line.chars().count() > width {
        true => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::{AppKey, ReplicaId, WorkloadName};
    use schemas::place::Place;
    use schemas::read::ReplicaView;

    use super::*;

    fn page(count: u64) -> StatePage {
        let app = AppKey::parse("shop").expect("a name");
        let workload = WorkloadName::new("web").expect("a name");
        let replica = |serial| ReplicaView {
            replica: ReplicaId::derive(&app, &workload, serial),
            app: app.clone(),
            workload: workload.clone(),
            revision: 1,
            status: "running".to_owned(),
            node: None,
            run: 1,
            image: "web:1".to_owned(),
            container: None,
            since_ms: 1_000,
            requested_ms: 0,
            trouble: Some("the probe was answered with 503 ".repeat(9)),
            endpoints: Vec::new(),
        };
        let replicas = (0..count).map(replica).collect();
        StatePage { place: Place::START, apps: Vec::new(), nodes: Vec::new(), replicas, next: None }
    }

    #[test]
    fn a_line_never_wraps_and_a_block_never_scrolls() {
        let lines = block(&page(30), 4_000, 60, 10, false);
        assert_eq!(lines.len(), 10);
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{lines:?}");
        assert!(lines[9].contains("22 more"), "{}", lines[9]);
        assert!(lines[1].contains("running  3s"), "{}", lines[1]);
    }

    #[test]
    fn a_block_is_drawn_over_the_one_before() {
        assert_eq!(rewind(0), "");
        assert_eq!(rewind(3), "\u{1b}[3A\r\u{1b}[J");
    }
}
