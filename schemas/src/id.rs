//! One type per kind of identifier, and one alphabet for all names.
//!
//! A name becomes a subject token, a container name and a path, so the alphabet is what all three
//! can carry: `[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The pattern every name matches, as it is printed in errors and in JSON Schema.
pub const NAME_PATTERN: &str = "[a-z0-9]([-_a-z0-9]{0,61}[a-z0-9])?";

/// The tenant of everything that is not declared under another one.
pub const DEFAULT_TENANT: &str = "main";

/// The tenant of nodes and leaderships, which no user's app can be in.
pub const CLUSTER_TENANT: &str = "cluster";

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {got:?} is not valid: {valid}")]
pub struct BadId {
    /// What it should have been: `app name`, `node name`.
    pub kind: &'static str,
    /// The text, cut to 80 characters.
    pub got: String,
    /// What would have been valid.
    pub valid: &'static str,
}

fn bad(kind: &'static str, got: &str, valid: &'static str) -> BadId {
    BadId { kind, got: got.chars().take(80).collect(), valid }
}

/// Whether `text` fits the alphabet of names.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: &u8| edge(b) || *b == b'-' || *b == b'_';
    matches!(bytes.len(), 1..=63)
        && bytes.first().is_some_and(edge)
        && bytes.last().is_some_and(edge)
        && bytes.iter().all(inner)
}

/// Reads a text and makes something of it, without a copy in between.
pub(crate) fn from_text<'de, D: Deserializer<'de>, T, E: fmt::Display>(
    deserializer: D,
    make: fn(&str) -> Result<T, E>,
) -> Result<T, D::Error> {
    struct Text<T, E>(fn(&str) -> Result<T, E>);

    impl<T, E: fmt::Display> serde::de::Visitor<'_> for Text<T, E> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<X: serde::de::Error>(self, text: &str) -> Result<T, X> {
            (self.0)(text).map_err(X::custom)
        }
    }

    deserializer.deserialize_str(Text(make))
}

/// Declares an identifier: a checked text, cheap to clone.
macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $valid:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text.
            ///
            /// # Errors
            ///
            /// Names the kind of identifier, the text and what would be valid.
            pub fn new(text: &str) -> Result<Self, BadId> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok(Self(text.into())) } else { Err(bad($kind, text, $valid)) }
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, Self::new)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $kind })
            }
        }
    };
}

const VALID_NAME: &str = "use 1 to 63 of a-z, 0-9, - and _, with a letter or digit at both ends";

identifier!(
    /// The name of a tenant. Apps of different tenants never meet.
    Tenant, "tenant name", VALID_NAME, is_name
);
identifier!(
    /// The name a user gives to an app, without its tenant.
    AppName, "app name", VALID_NAME, is_name
);
identifier!(
    /// The name of a workload within its app.
    WorkloadName, "workload name", VALID_NAME, is_name
);
identifier!(
    /// The name of a node.
    NodeName, "node name", VALID_NAME, is_name
);
identifier!(
    /// The name of a volume.
    VolumeName, "volume name", VALID_NAME, is_name
);
identifier!(
    /// A replica: `<app>-<workload>-<5 base32>`.
    ReplicaId, "replica id", "an app, a workload and five characters, joined by -", |text| {
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        matches!(text.len(), 1..=134)
            && text.bytes().all(|b| edge(b) || b == b'-' || b == b'_')
            && text.bytes().next().is_some_and(edge)
            && text.bytes().last().is_some_and(edge)
    }
);
identifier!(
    /// The id of a command: what its publisher chose, or what the controller derived from the message.
    CommandId, "command id", "use 1 to 64 of A-Z, a-z, 0-9, - and _", |text| {
        matches!(text.len(), 1..=64)
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }
);
identifier!(
    /// The id of a series of append requests: one leadership, or one spool. 32 hex digits.
    Series, "series", "32 hex digits, lower case", |text| is_hex(text, 32)
);
identifier!(
    /// SHA-256 of a content, as 64 hex digits.
    Digest, "digest", "64 hex digits, lower case", |text| is_hex(text, 64)
);

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Lower-case hex of some bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

impl Digest {
    /// The digest of some bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)).into())
    }
}

impl Series {
    /// The series that a seed gives as its `index`-th. A machine has no entropy of its own: it is
    /// handed a random seed once, and every series it ever uses follows from that.
    #[must_use]
    pub fn derive(seed: &str, index: u64) -> Self {
        let digest = Sha256::digest(format!("{seed}/{index}").as_bytes());
        Self(hex(&digest[..16]).into())
    }
}

impl ReplicaId {
    /// The id of the `serial`-th replica that was ever requested of a workload.
    #[must_use]
    pub fn derive(app: &AppKey, workload: &WorkloadName, serial: u64) -> Self {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let digest = Sha256::digest(format!("{app}/{workload}/{serial}").as_bytes());
        let tail: String =
            digest[..5].iter().map(|b| char::from(BASE32[usize::from(b & 31)])).collect();
        Self(format!("{}-{workload}-{tail}", app.name).into())
    }
}

/// An app, everywhere: `<tenant>/<name>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey {
    /// Whose app it is.
    pub tenant: Tenant,
    /// What its owner calls it.
    pub name: AppName,
}

impl AppKey {
    /// Reads `<tenant>/<name>`, or a name alone for the default tenant.
    ///
    /// # Errors
    ///
    /// When either half is not a name.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let (tenant, name) = text.split_once('/').unwrap_or((DEFAULT_TENANT, text));
        Ok(Self { tenant: Tenant::new(tenant)?, name: AppName::new(name)? })
    }
}

impl AppKey {
    /// As people write it: the name alone where the tenant is the default one.
    #[must_use]
    pub fn short(&self) -> String {
        if self.tenant.as_str() == DEFAULT_TENANT {
            self.name.to_string()
        } else {
            self.to_string()
        }
    }
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for AppKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AppKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, Self::parse)
    }
}

impl JsonSchema for AppKey {
    fn schema_name() -> Cow<'static, str> {
        "AppKey".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "<tenant>/<app name>" })
    }
}

/// Who wrote an event: one of our services, or the agent of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Writer {
    /// The sequencer itself.
    EventLog,
    /// Commands, rollouts, which replicas must exist.
    Controller,
    /// Placement.
    Scheduler,
    /// Replica counts.
    Autoscaler,
    /// Node silence.
    Health,
    /// What happened on one node.
    Agent(NodeName),
}

impl Writer {
    /// The services that fold everything and decide, in the order of the design.
    pub const DECIDERS: [Self; 4] =
        [Self::Controller, Self::Scheduler, Self::Autoscaler, Self::Health];

    /// Reads `scheduler` or `agent/<node>`.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        Ok(match text {
            "event-log" => Self::EventLog,
            "controller" => Self::Controller,
            "scheduler" => Self::Scheduler,
            "autoscaler" => Self::Autoscaler,
            "health" => Self::Health,
            _ => match text.strip_prefix("agent/") {
                Some(node) => Self::Agent(NodeName::new(node)?),
                None => return Err(bad("writer", text, "a service's name or agent/<node>")),
            },
        })
    }

    /// The writer as one token of a subject: the service, or the node's agent as `agent:<node>`.
    #[must_use]
    pub fn token(&self) -> String {
        self.to_string().replace('/', ":")
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EventLog => f.write_str("event-log"),
            Self::Controller => f.write_str("controller"),
            Self::Scheduler => f.write_str("scheduler"),
            Self::Autoscaler => f.write_str("autoscaler"),
            Self::Health => f.write_str("health"),
            Self::Agent(node) => write!(f, "agent/{node}"),
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Writer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Writer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, Self::parse)
    }
}

impl JsonSchema for Writer {
    fn schema_name() -> Cow<'static, str> {
        "Writer".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "a service's name, or agent/<node>" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_alphabet() {
        for good in ["a", "a1", "a-b_c", &"x".repeat(63)] {
            assert!(is_name(good), "{good}");
        }
        for wrong in ["", "-a", "a-", "A", "a.b", "a b", "ä", "a*", "a>", &"x".repeat(64)] {
            assert!(!is_name(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_replica_id_names_its_app_and_workload_and_parses_back() {
        let app = AppKey::parse("shop").expect("a name");
        let workload = WorkloadName::new("web").expect("a name");
        let id = ReplicaId::derive(&app, &workload, 7);
        assert!(id.as_str().starts_with("shop-web-"), "{id}");
        assert_eq!(ReplicaId::new(id.as_str()), Ok(id.clone()));
        assert_ne!(ReplicaId::derive(&app, &workload, 8), id);
    }

    #[test]
    fn writers_print_and_parse_back() {
        let agent = Writer::Agent(NodeName::new("n1").expect("a name"));
        for writer in Writer::DECIDERS.into_iter().chain([Writer::EventLog, agent]) {
            assert_eq!(Writer::parse(&writer.to_string()), Ok(writer));
        }
        assert!(Writer::parse("nobody").is_err());
    }
}
