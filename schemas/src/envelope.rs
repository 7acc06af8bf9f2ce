//! The frame of every event: what is hashed, stored and published is one JSON object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::Event;
use crate::id::{CommandId, Series, Tenant, Writer};
use crate::place::{Basis, Hash};

/// The version of the envelope of this release.
pub const SCHEMA: u32 = 1;

/// Everything about an event but what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Unique for ever: `<series>-<n>-<i>`, or `log-<epoch>-<position>` for event-log's own.
    pub id: String,
    /// The leadership of event-log that wrote it.
    pub epoch: u64,
    /// Its number in the log, and its sequence in the events stream.
    pub position: u64,
    /// When it happened, by the writer's clock, in ms since 1970 UTC.
    pub time_ms: u64,
    /// When it was recorded, by event-log's clock; never decreasing. What `--at` means.
    pub recorded_ms: u64,
    /// Whose it is.
    pub tenant: Tenant,
    /// Who is behind it.
    pub actor: String,
    /// Who wrote it.
    pub writer: Writer,
    /// The writer's leadership.
    pub term: u64,
    /// What its writer had folded when it decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basis: Option<Basis>,
    /// The batch it belongs to. Readers apply a batch whole.
    pub batch: Batch,
    /// The command at its root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<CommandId>,
    /// The position of the event that came right before it in the chain of causes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation: Option<u64>,
    /// The version of this envelope.
    pub schema: u32,
    /// Whether a reader that does not know the type may skip it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ignorable: bool,
    /// The hash of the log before it.
    pub prev_hash: Hash,
}

/// A batch, and an event's place in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Batch {
    /// The series of the request.
    pub series: Series,
    /// The number of the request in its series.
    pub n: u64,
    /// The event's index in the batch, from 0.
    pub i: u32,
    /// How many events the batch has.
    pub of: u32,
}

impl Batch {
    /// Whether this is the batch's last event.
    #[must_use]
    pub fn ends(&self) -> bool {
        self.i + 1 >= self.of
    }
}

/// An event in its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Everything about it.
    pub header: Header,
    /// What it says.
    pub event: Event,
}

/// Why bytes are not an event that this release can read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not an envelope at all.
    #[error("not an event: {0}")]
    Malformed(#[source] serde_json::Error),
    /// A type this release does not know.
    #[error("event {position} is of type {kind:?}, which needs a newer release than this one")]
    UnknownType {
        /// The type.
        kind: String,
        /// Where it stands.
        position: u64,
        /// Whether it may be skipped.
        ignorable: bool,
    },
    /// A known type whose data does not fit it.
    #[error("event {position} of type {kind} does not decode: {source}")]
    Data {
        /// The type.
        kind: String,
        /// Where it stands.
        position: u64,
        /// What does not fit.
        source: serde_json::Error,
    },
    /// An envelope of another version.
    #[error("event {position} has envelope version {schema}; this release reads {SCHEMA}")]
    Schema {
        /// Its version.
        schema: u32,
        /// Where it stands.
        position: u64,
    },
}

/// The envelope as it is on the wire. Written out field by field, because flattening one struct into
/// another costs a third of the speed of decoding.
macro_rules! wire {
    ($($(#[$attr:meta])* $field:ident: $type:ty),* $(,)?) => {
        #[derive(Deserialize)]
        struct Wire<D> {
            $($(#[$attr])* $field: $type,)*
            #[serde(rename = "type")]
            kind: String,
            data: D,
        }

        /// The same, lent to be written.
        #[derive(Serialize)]
        struct Lent<'a> {
            $($(#[$attr])* $field: &'a $type,)*
            #[serde(rename = "type")]
            kind: &'a str,
            data: &'a RawValue,
        }

        impl<'a> Lent<'a> {
            fn new(header: &'a Header, kind: &'a str, data: &'a RawValue) -> Self {
                Self { $($field: &header.$field,)* kind, data }
            }
        }

        impl<D> Wire<D> {
            fn split(self) -> (Header, String, D) {
                (Header { $($field: self.$field),* }, self.kind, self.data)
            }
        }
    };
}

wire! {
    id: String,
    epoch: u64,
    position: u64,
    time_ms: u64,
    recorded_ms: u64,
    tenant: Tenant,
    actor: String,
    writer: Writer,
    term: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    basis: Option<Basis>,
    batch: Batch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<CommandId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation: Option<u64>,
    schema: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    ignorable: bool,
    prev_hash: Hash,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// About what a header takes as JSON.
const HEADER_BYTES: usize = 640;

impl Header {
    /// Reads the header alone, and the type.
    ///
    /// # Errors
    ///
    /// When the bytes are not an envelope.
    pub fn decode(bytes: &[u8]) -> Result<(Self, String), DecodeError> {
        let wire: Wire<serde::de::IgnoredAny> =
            serde_json::from_slice(bytes).map_err(DecodeError::Malformed)?;
        let (header, kind, _) = wire.split();
        Ok((header, kind))
    }

    /// The bytes of an event with this header. They are the record: what is hashed and published.
    #[must_use]
    pub fn encode(&self, kind: &str, data: &RawValue) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + data.get().len());
        serde_json::to_writer(&mut bytes, &Lent::new(self, kind, data))
            .expect("an envelope has string keys only, and memory takes it");
        bytes
    }
}

impl Envelope {
    /// Reads the header and the type, and leaves what it says as it is.
    ///
    /// # Errors
    ///
    /// When the bytes are not an envelope.
    pub fn frame(bytes: &[u8]) -> Result<(Header, String, &RawValue), DecodeError> {
        let wire: Wire<&RawValue> =
            serde_json::from_slice(bytes).map_err(DecodeError::Malformed)?;
        Ok(wire.split())
    }

    /// Reads an event.
    ///
    /// # Errors
    ///
    /// When the bytes are not an event that this release can read.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (header, kind, data) = Self::frame(bytes)?;
        let position = header.position;
        if header.schema != SCHEMA {
            return Err(DecodeError::Schema { schema: header.schema, position });
        }
        match Event::decode(&kind, data.get()) {
            Some(Ok(event)) => Ok(Self { header, event }),
            Some(Err(source)) => Err(DecodeError::Data { kind, position, source }),
            None => Err(DecodeError::UnknownType { kind, position, ignorable: header.ignorable }),
        }
    }

    /// The bytes of the event.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let data = RawValue::from_string(self.event.data()).expect("an event's data is JSON");
        self.header.encode(self.event.kind(), &data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::AppDeleted;
    use crate::id::AppKey;

    fn sample() -> Envelope {
        let series = Series::derive("test", 0);
        Envelope {
            header: Header {
                id: format!("{series}-1-0"),
                epoch: 1,
                position: 2,
                time_ms: 3,
                recorded_ms: 4,
                tenant: Tenant::new("main").expect("a name"),
                actor: "ana".to_owned(),
                writer: Writer::Controller,
                term: 1,
                basis: Some(Basis { epoch: 1, position: 1 }),
                batch: Batch { series, n: 1, i: 0, of: 1 },
                correlation: None,
                causation: Some(1),
                schema: SCHEMA,
                ignorable: false,
                prev_hash: Hash::ZERO,
            },
            event: AppDeleted { app: AppKey::parse("shop").expect("a name") }.into(),
        }
    }

    #[test]
    fn an_event_decodes_to_what_was_encoded() {
        let sample = sample();
        assert_eq!(Envelope::decode(&sample.encode()).expect("it decodes"), sample);
    }

    #[test]
    fn an_unknown_type_is_named_with_its_position() {
        let text = String::from_utf8(sample().encode()).expect("JSON is UTF-8");
        let error = Envelope::decode(text.replace("AppDeleted", "AppSung").as_bytes());
        let text = error.expect_err("it is unknown").to_string();
        assert!(text.contains("AppSung") && text.contains("event 2"), "{text}");
    }
}
