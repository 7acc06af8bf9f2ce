//! Append requests and their answers: how a writer gets a batch of events into the log.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::id::{CommandId, Series, Tenant, Writer};
use crate::place::{Basis, Place};

/// The most events in one request.
pub const EVENTS_MAX: usize = 500;

/// The largest request, in bytes.
pub const REQUEST_BYTES_MAX: usize = 512 * 1024;

/// The header that names where the answer goes.
pub const INBOX_HEADER: &str = "Muster-Inbox";

/// A batch of events that its writer wants recorded, whole or not at all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Who asks.
    pub writer: Writer,
    /// The writer's leadership. For a claim: the one it asks for.
    pub term: u64,
    /// The instance of the writer that asks; a claim is for this one.
    pub instance: String,
    /// A random id of one leadership, or of one spool.
    pub series: Series,
    /// 1, 2, 3 … within the series. At or below the last stored is a repeat.
    pub n: u64,
    /// What the writer had folded when it decided. An agent's facts carry none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// Entities that must have no event yet: the first writer wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<String>,
    /// The events, in order.
    pub events: Vec<Draft>,
}

/// An event as its writer states it. event-log adds what only it knows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Draft {
    /// When it happened, by the writer's clock, in ms since 1970 UTC.
    pub time_ms: u64,
    /// Whose it is.
    pub tenant: Tenant,
    /// Who is behind it: a person, or the writer itself.
    pub actor: String,
    /// The command at its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CommandId>,
    /// The position of the event that came right before it in the chain of causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<u64>,
    /// The type of event.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its data.
    pub data: Box<RawValue>,
}

/// What event-log says to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Answer {
    /// The request's series.
    pub series: Series,
    /// The request's number.
    pub n: u64,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is on disk and published; its last event is at this place.
    Published(Place),
    /// It, or a later one of its series, was published before.
    Duplicate {
        /// The last number of the series that is stored.
        last_n: u64,
        /// Where that one's last event is.
        place: Place,
    },
    /// It can never become right. Its number never carries other content: go on in a fresh series.
    Refused {
        /// Why.
        code: Code,
        /// The writer's current term.
        term: u64,
        /// What is wrong, in words.
        detail: String,
        /// The entity that was there already, when that is why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        entity: Option<String>,
    },
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is not what this release understands, or says what it must not.
    Invalid,
    /// The writer may not state one of the events.
    NotPermitted,
    /// Its number does not follow the last one of its series.
    Gap,
    /// Another leadership than the current one.
    StaleTerm,
    /// The leadership is held by another instance, which has not released it.
    Held,
    /// The basis is not a place of this history, or lies before the writer's own last event.
    StaleBasis,
    /// An entity that had to be absent is there.
    Exists,
    /// More than a request may hold.
    TooLarge,
}
