//! The streams, their limits, and why each is as it is. Created once, checked at every start.

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// On disk.
    File,
    /// In memory: lost when the server stops.
    Memory,
}

/// Everything about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// Its name.
    pub name: &'static str,
    /// What it captures.
    pub subjects: &'static [&'static str],
    /// Where it keeps messages.
    pub storage: Storage,
    /// Whether a full stream refuses what is new, rather than forget what is old.
    pub discard_new: bool,
    /// How long it keeps a message; 0 for ever.
    pub max_age_s: u64,
    /// How many bytes it keeps; -1 for no bound.
    pub max_bytes: i64,
    /// How many messages it keeps; -1 for no bound.
    pub max_messages: i64,
    /// How many messages it keeps of one subject; -1 for no bound.
    pub max_messages_per_subject: i64,
    /// The largest message it takes, in bytes.
    pub max_message_bytes: i32,
    /// How many consumers it may have. Always said: servers cap what is left open.
    pub max_consumers: i32,
    /// Whether any client may read single messages directly.
    pub allow_direct: bool,
    /// What is published again to plain subscribers: from, to.
    pub republish: Option<(&'static str, &'static str)>,
    /// Whether single messages cannot be deleted.
    pub deny_delete: bool,
    /// Why it is like this.
    pub why: &'static str,
}

const MIB: i64 = 1024 * 1024;

/// Commands. Never a work queue, so that subscribers can listen in.
pub const COMMANDS: StreamSpec = StreamSpec {
    name: "MUSTER_COMMANDS",
    subjects: &["muster.v1.cmd.>"],
    storage: Storage::File,
    discard_new: true,
    max_age_s: 24 * 3600,
    max_bytes: 1024 * MIB,
    max_messages: -1,
    max_messages_per_subject: -1,
    max_message_bytes: 768 * 1024,
    max_consumers: 1_000,
    allow_direct: true,
    republish: None,
    deny_delete: true,
    why: "a day of commands; a full stream refuses new ones, so an accepted one is never lost",
};

/// Append requests. Emptied as they are read.
pub const APPEND: StreamSpec = StreamSpec {
    name: "MUSTER_APPEND",
    subjects: &["muster.v1.append.>"],
    storage: Storage::Memory,
    discard_new: true,
    max_age_s: 60,
    max_bytes: 256 * MIB,
    max_messages: -1,
    max_messages_per_subject: -1,
    max_message_bytes: 640 * 1024,
    max_consumers: 100,
    allow_direct: false,
    republish: None,
    deny_delete: false,
    why: "a way to event-log, not a store: writers offer again until they are answered",
};

/// Events. Bounded: the log keeps the rest.
pub const EVENTS: StreamSpec = StreamSpec {
    name: "MUSTER_EVENTS",
    subjects: &["muster.v1.evt.>"],
    storage: Storage::File,
    discard_new: false,
    max_age_s: 0,
    max_bytes: 4096 * MIB,
    max_messages: 4_000_000,
    max_messages_per_subject: -1,
    max_message_bytes: 1024 * 1024,
    max_consumers: 1_000,
    allow_direct: true,
    republish: None,
    deny_delete: true,
    why: "a window on the log; sequences are positions, so nothing in it is ever deleted singly",
};

/// Node documents and the specs they refer to: the newest of each.
pub const NODES: StreamSpec = StreamSpec {
    name: "MUSTER_NODES",
    subjects: &["muster.v1.node.>"],
    storage: Storage::File,
    discard_new: false,
    max_age_s: 0,
    max_bytes: 4096 * MIB,
    max_messages: -1,
    max_messages_per_subject: 1,
    max_message_bytes: 1024 * 1024,
    max_consumers: 1_000,
    allow_direct: true,
    republish: Some(("muster.v1.node.>", "muster.v1.live.node.>")),
    deny_delete: false,
    why: "agents need no consumer: they subscribe to the republished document and read it directly",
};

/// Reports: the newest of each, in memory.
pub const REPORTS: StreamSpec = StreamSpec {
    name: "MUSTER_REPORTS",
    subjects: &["muster.v1.rpt.>"],
    storage: Storage::Memory,
    discard_new: false,
    max_age_s: 3600,
    max_bytes: 256 * MIB,
    max_messages: -1,
    max_messages_per_subject: 1,
    max_message_bytes: 256 * 1024,
    max_consumers: 1_000,
    allow_direct: true,
    republish: None,
    deny_delete: false,
    why: "only the newest observation of a thing is worth keeping",
};

/// Certificates that gateways ordered, sealed, and how orders go: the newest of each.
pub const TLS: StreamSpec = StreamSpec {
    name: "MUSTER_TLS",
    subjects: &["muster.v1.tls.>"],
    storage: Storage::File,
    discard_new: false,
    max_age_s: 0,
    max_bytes: 256 * MIB,
    max_messages: -1,
    max_messages_per_subject: 1,
    max_message_bytes: 256 * 1024,
    max_consumers: 1_000,
    allow_direct: true,
    republish: None,
    deny_delete: false,
    why: "private keys are for gateways and no part of history; what is lost is ordered again",
};

/// Every stream.
pub const ALL: [&StreamSpec; 6] = [&COMMANDS, &APPEND, &EVENTS, &NODES, &REPORTS, &TLS];
