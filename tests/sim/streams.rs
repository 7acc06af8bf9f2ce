//! The streams beside that of events: append requests, commands, node documents.

use std::collections::{BTreeMap, VecDeque};

use controller::commands::CommandMessage;
use event_log::sequencer::Asked;
use scheduler::documents::Write;
use schemas::document::{NodeDocument, SpecDocument};
use schemas::id::{Digest, NodeName};

/// The append stream: in memory, emptied as it is read.
#[derive(Debug, Default)]
pub(crate) struct Appends {
    pub(crate) waiting: VecDeque<Asked>,
    last: u64,
}

impl Appends {
    pub(crate) fn add(&mut self, subject: String, inbox: String, bytes: Vec<u8>) {
        self.last += 1;
        let sequence = self.last;
        self.waiting.push_back(Asked {
            sequence,
            subject,
            inbox: Some(inbox),
            bytes: bytes.into(),
        });
    }

    pub(crate) fn after(&self, read: u64, max: usize) -> Vec<Asked> {
        self.waiting.iter().filter(|asked| asked.sequence > read).take(max).cloned().collect()
    }

    pub(crate) fn purge(&mut self, up_to: u64) {
        self.waiting.retain(|asked| asked.sequence > up_to);
    }

    /// The server restarts: a stream in memory begins anew.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// The commands stream.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    messages: Vec<CommandMessage>,
}

impl Commands {
    /// The sequence of the next command.
    pub(crate) fn next(&self) -> u64 {
        u64::try_from(self.messages.len()).unwrap_or(u64::MAX) + 1
    }

    pub(crate) fn add(&mut self, message: CommandMessage) {
        self.messages.push(message);
    }

    pub(crate) fn all(&self) -> &[CommandMessage] {
        &self.messages
    }

    pub(crate) fn from(&self, sequence: u64) -> &[CommandMessage] {
        let before = usize::try_from(sequence.saturating_sub(1)).unwrap_or(usize::MAX);
        self.messages.get(before..).unwrap_or(&[])
    }
}

/// The nodes stream: the newest document of each node, and the specs.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    documents: BTreeMap<NodeName, NodeDocument>,
    specs: BTreeMap<(NodeName, Digest), SpecDocument>,
}

impl Documents {
    /// Writes specs and then the document, unless there is a later one. Says what is published again.
    pub(crate) fn write(&mut self, write: Write, specs_only: bool) -> Option<NodeDocument> {
        let node = write.document.node.clone();
        for spec in write.specs {
            self.specs.insert((node.clone(), spec.digest.clone()), spec);
        }
        let known = self.documents.get(&node);
        let later = known.is_some_and(|known| known.place.after(&write.document.place));
        if specs_only || later {
            return None;
        }
        self.documents.insert(node, write.document.clone());
        Some(write.document)
    }

    pub(crate) fn document(&self, node: &NodeName) -> Option<&NodeDocument> {
        self.documents.get(node)
    }

    pub(crate) fn spec(&self, node: &NodeName, digest: &Digest) -> Option<&SpecDocument> {
        self.specs.get(&(node.clone(), digest.clone()))
    }
}
