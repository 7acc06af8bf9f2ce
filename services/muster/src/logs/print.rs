//! Lines on standard output, each after the name of its replica.

use std::collections::BTreeMap;
use std::io::Write as _;

use schemas::id::ReplicaId;
use schemas::live::Line;

use crate::args::{Format, Logs};
use crate::colour;
use crate::error::{CliError, Code};
use crate::{lists, tell};

pub(super) struct Printer {
    prefix: bool,
    timestamps: bool,
    json: bool,
    /// The replicas that were met, each with its number, which is its colour.
    met: BTreeMap<ReplicaId, usize>,
    width: usize,
}

impl Printer {
    pub(super) fn new(logs: &Logs) -> Self {
        Self {
            prefix: !logs.no_log_prefix,
            timestamps: logs.timestamps,
            json: logs.output == Format::Json,
            met: BTreeMap::new(),
            width: 0,
        }
    }

    /// These may have lines: room is left for the longest name.
    pub(super) fn expect<'a>(&mut self, replicas: impl Iterator<Item = &'a ReplicaId>) {
        for replica in replicas {
            self.number(replica);
        }
    }

    fn number(&mut self, replica: &ReplicaId) -> usize {
        self.width = self.width.max(replica.as_str().len());
        let next = self.met.len();
        *self.met.entry(replica.clone()).or_insert(next)
    }

    /// Prints lines of one replica.
    pub(super) fn lines(&mut self, replica: &ReplicaId, lines: Vec<Line>) -> Result<(), CliError> {
        let mut text = String::new();
        let number = self.number(replica);
        for line in lines {
            if self.json {
                text.push_str(&object(replica, &line));
                text.push('\n');
                continue;
            }
            if self.prefix {
                let prefix = format!("{:width$} |", replica.as_str(), width = self.width);
                text.push_str(&colour::nth(number, &prefix));
                text.push(' ');
            }
            if let Some(time_ms) = line.time_ms.filter(|_| self.timestamps) {
                text.push_str(&tell::time(time_ms));
                text.push(' ');
            }
            text.push_str(&line.text);
            text.push('\n');
        }
        let mut out = std::io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        // Whoever reads it has enough: `muster logs | head`.
        written.map_err(|_| CliError::new(Code::Closed, ""))
    }
}

/// A line as JSON.
fn object(replica: &ReplicaId, line: &Line) -> String {
    serde_json::json!({
        "replica": replica,
        "time": line.time_ms.map(lists::moment),
        "stream": line.stream,
        "text": line.text,
    })
    .to_string()
}
