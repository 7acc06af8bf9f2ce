//! Who may state a type of event.

use crate::id::Writer;

/// Who may state a type of event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The sequencer alone; never part of an append request.
    EventLog,
    /// The controller.
    Controller,
    /// The scheduler.
    Scheduler,
    /// The health service.
    Health,
    /// A node's agent, about its own node.
    Agent,
    /// Every writer that can lead, about its own leadership.
    Leader,
}

impl By {
    /// Whether `writer` may state it.
    #[must_use]
    pub fn allows(self, writer: &Writer) -> bool {
        match self {
            Self::EventLog => *writer == Writer::EventLog,
            Self::Controller => *writer == Writer::Controller,
            Self::Scheduler => *writer == Writer::Scheduler,
            Self::Health => *writer == Writer::Health,
            Self::Agent => matches!(writer, Writer::Agent(_)),
            Self::Leader => *writer != Writer::EventLog,
        }
    }
}
