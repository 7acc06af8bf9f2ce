//! Who did what in a stretch of history: people command by command, services counted.

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::Event;
use serde::Serialize;

use crate::lists::moment;
use crate::tell;

/// How many commands of one actor are told one by one.
const SHOWN: usize = 10;

/// What each actor did.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Tally(BTreeMap<String, Deeds>);

/// What an actor did.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Deeds {
    /// Commands it sent, in order.
    commands: Vec<Sent>,
    /// Events that it is behind without a command of its own, by type.
    events: BTreeMap<&'static str, u64>,
}

/// A command that was sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Sent {
    position: u64,
    recorded: String,
    text: String,
}

impl Tally {
    /// Takes one event into account.
    pub(crate) fn add(&mut self, event: &Envelope) {
        let header = &event.header;
        let by_itself = header.actor == header.writer.to_string();
        if let Event::CommandAccepted(_) | Event::CommandRejected(_) = &event.event {
            let sent = Sent {
                position: header.position,
                recorded: moment(header.recorded_ms),
                text: tell::words(&event.event),
            };
            self.0.entry(header.actor.clone()).or_default().commands.push(sent);
        } else if by_itself {
            let deeds = self.0.entry(header.actor.clone()).or_default();
            *deeds.events.entry(event.event.kind()).or_default() += 1;
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.0.is_empty() {
            text.push_str("\nWho did what\n");
        }
        for (actor, deeds) in self.0.iter().filter(|(_, deeds)| !deeds.commands.is_empty()) {
            for sent in deeds.commands.iter().take(SHOWN) {
                text.push_str(&format!("  {actor}  r{}  {}\n", sent.position, sent.text));
            }
            if deeds.commands.len() > SHOWN {
                let more = deeds.commands.len() - SHOWN;
                text.push_str(&format!("  {actor}  and {more} more: muster log --actor {actor}\n"));
            }
        }
        for (actor, deeds) in self.0.iter().filter(|(_, deeds)| !deeds.events.is_empty()) {
            let counts: Vec<String> =
                deeds.events.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            text.push_str(&format!("  {actor}  {}\n", counts.join(", ")));
        }
        text
    }
}
