//! Who did what in a stretch of history: people command by command, services counted.

use std::collections::BTreeMap;

use schemas::envelope::{Envelope, Header};
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
    events: BTreeMap<String, u64>,
}

/// A command that was sent.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Sent {
    position: u64,
    recorded: String,
    text: String,
}

impl Tally {
    /// Takes one event into account, by its frame: only of commands it is read what they say.
    pub(crate) fn add(&mut self, header: &Header, kind: &str, text: &str) {
        let command = matches!(kind, "CommandAccepted" | "CommandRejected");
        if command && let Ok(event) = Envelope::decode(text.as_bytes()) {
            let sent = Sent {
                position: header.position,
                recorded: moment(header.recorded_ms),
                text: tell::words(&event.event),
            };
            self.deeds(&header.actor).commands.push(sent);
        } else if !command && header.writer.to_string() == header.actor {
            let events = &mut self.deeds(&header.actor).events;
            match events.get_mut(kind) {
                Some(count) => *count += 1,
                None => _ = events.insert(kind.to_owned(), 1),
            }
        }
    }

    fn deeds(&mut self, actor: &str) -> &mut Deeds {
        if !self.0.contains_key(actor) {
            self.0.insert(actor.to_owned(), Deeds::default());
        }
        self.0.get_mut(actor).expect("it is there now")
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
