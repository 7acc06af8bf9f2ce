//! Where something stands in history: epoch, position and hash, never a position alone.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::id::{from_text, hex};

/// The hash of the log up to and including one entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash before the first entry.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash after an entry: SHA-256 over the hash before it and its exact published bytes.
    #[must_use]
    pub fn extend(&self, bytes: &[u8]) -> Self {
        let mut sha = Sha256::new();
        sha.update(self.0);
        sha.update(bytes);
        Self(sha.finalize().into())
    }

    /// Reads 64 hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |b: u8| match b {
            b'0'..=b'9' => Some(b - b'0'),
            b'a'..=b'f' => Some(b - b'a' + 10),
            b'A'..=b'F' => Some(b - b'A' + 10),
            _ => None,
        };
        let bytes = text.as_bytes();
        let mut hash = [0; 32];
        if bytes.len() != 64 {
            return None;
        }
        for (out, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
            *out = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0[..6]))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, |text| Self::parse(text).ok_or("a hash is 64 hex digits"))
    }
}

impl JsonSchema for Hash {
    fn schema_name() -> Cow<'static, str> {
        "Hash".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
    }
}

/// A place in one history. Always the end of a batch.
///
/// Two places compare by epoch before position; the hash only tells whether they are places of the
/// same history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The leadership of event-log under which the entry at `position` was written.
    pub epoch: u64,
    /// The number of the entry in the log, and its sequence in the events stream. 0 is before all.
    pub position: u64,
    /// The hash of the log up to and including that entry.
    pub hash: Hash,
}

impl Place {
    /// Before the first entry of any history.
    pub const START: Self = Self { epoch: 0, position: 0, hash: Hash::ZERO };

    /// The place without its hash, as a decision names what it was based on.
    #[must_use]
    pub fn basis(&self) -> Basis {
        Basis { epoch: self.epoch, position: self.position }
    }

    /// Whether this place lies after `other`, epoch before position.
    #[must_use]
    pub fn after(&self, other: &Self) -> bool {
        self.basis().cmp(&other.basis()) == Ordering::Greater
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.position, self.epoch)
    }
}

/// What a decision was based on: the place its writer had folded.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// The epoch of the entry at `position`.
    pub epoch: u64,
    /// The position of the last entry that was folded.
    pub position: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_print_and_parse_back() {
        let hash = Hash::ZERO.extend(b"one");
        assert_eq!(Hash::parse(&hash.to_string()), Some(hash));
        assert_eq!(Hash::parse("abc"), None);
        assert_ne!(hash, Hash::ZERO.extend(b"two"));
    }

    #[test]
    fn epoch_comes_before_position() {
        let early = Place { epoch: 1, position: 90, hash: Hash::ZERO };
        let late = Place { epoch: 2, position: 10, hash: Hash::ZERO };
        assert!(late.after(&early) && !early.after(&late) && !early.after(&early));
    }
}
