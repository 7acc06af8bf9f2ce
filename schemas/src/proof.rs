//! Proofs that an event is in the log: a Merkle tree over the published bytes, and its signed root.
//!
//! The tree is that of RFC 6962: a leaf is an event, every root of a longer log contains every root of
//! a shorter one. Who holds a signed head can check a proof without asking anybody.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::place::{Hash, Place};

/// So many leaves make a tile: a whole subtree whose root is kept.
pub const TILE: u64 = 256;

/// The end of the log at a moment, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedHead {
    /// The id of the history.
    pub genesis: String,
    /// Where the log ended. Its position is the number of leaves.
    pub place: Place,
    /// The root of the tree over all events up to there.
    pub root: Hash,
    /// When it was signed, in ms since 1970.
    pub signed_ms: u64,
    /// The public key, Ed25519, in hex.
    pub key: String,
    /// The signature over [`SignedHead::message`], in hex.
    pub signature: String,
}

impl SignedHead {
    /// What is signed.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        let Self { genesis, place, root, signed_ms, .. } = self;
        let Place { epoch, position, hash } = place;
        format!("muster head 1\n{genesis}\n{epoch}\n{position}\n{hash}\n{root}\n{signed_ms}\n")
            .into_bytes()
    }
}

/// `proof`: the signed head, and the way from an event to it if one is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProofRequest {
    /// The event's position.
    pub position: Option<u64>,
}

/// That an event is in the log.
#[derive(Debug, Serialize, Deserialize)]
pub struct Proof {
    /// The end of the log that it is in.
    pub head: SignedHead,
    /// The event, as it was published, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Box<RawValue>>,
    /// The event's position.
    #[serde(default)]
    pub position: u64,
    /// The hashes beside the way from the event up to the root, from the lowest on.
    #[serde(default)]
    pub path: Vec<Hash>,
}

/// The hash of an event as a leaf.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(bytes).finalize().into())
}

/// The hash of two subtrees.
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Hash(
        Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0)
            .finalize()
            .into(),
    )
}

/// Where the hashes of subtrees come from.
pub trait Leaves {
    /// Why one cannot be had.
    type Error;

    /// The hash of the leaf of that number, from 0.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn leaf(&self, index: u64) -> Result<Hash, Self::Error>;

    /// The root of the tile of that number, from 0, if it is kept.
    fn tile(&self, index: u64) -> Option<Hash>;
}

/// The root of the subtree of `count` leaves from `start` on. At least one.
///
/// # Errors
///
/// When a leaf cannot be read.
pub fn root<L: Leaves>(leaves: &L, start: u64, count: u64) -> Result<Hash, L::Error> {
    if count <= 1 {
        return leaves.leaf(start);
    }
    if count == TILE
        && start.is_multiple_of(TILE)
        && let Some(tile) = leaves.tile(start / TILE)
    {
        return Ok(tile);
    }
    let left = split(count);
    Ok(node(&root(leaves, start, left)?, &root(leaves, start + left, count - left)?))
}

/// The hashes beside the way from a leaf up to the root of the first `count` leaves.
///
/// # Errors
///
/// When a leaf cannot be read.
pub fn path<L: Leaves>(leaves: &L, index: u64, count: u64) -> Result<Vec<Hash>, L::Error> {
    let (mut start, mut count, mut path) = (0, count, Vec::new());
    while count > 1 {
        let left = split(count);
        if index < start + left {
            path.push(root(leaves, start + left, count - left)?);
            count = left;
        } else {
            path.push(root(leaves, start, left)?);
            (start, count) = (start + left, count - left);
        }
    }
    path.reverse();
    Ok(path)
}

/// The root that a leaf and the hashes beside its way lead to; none when their number does not fit.
#[must_use]
pub fn climb(leaf: Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    if index >= count {
        return None;
    }
    let (mut start, mut count, mut on_the_left) = (0, count, Vec::new());
    while count > 1 {
        let left = split(count);
        let goes_left = index < start + left;
        on_the_left.push(goes_left);
        (start, count) = if goes_left { (start, left) } else { (start + left, count - left) };
    }
    if path.len() != on_the_left.len() {
        return None;
    }
    let steps = on_the_left.into_iter().rev().zip(path);
    Some(steps.fold(
        leaf,
        |hash, (left, beside)| {
            if left { node(&hash, beside) } else { node(beside, &hash) }
        },
    ))
}

impl Proof {
    /// Whether the event leads to the root of the head. The head's signature is another question.
    #[must_use]
    pub fn holds(&self) -> bool {
        let Some(event) = &self.event else { return false };
        let index = self.position.checked_sub(1);
        let leaf = leaf(event.get().as_bytes());
        let climbed =
            index.and_then(|index| climb(leaf, index, self.head.place.position, &self.path));
        climbed == Some(self.head.root)
    }
}

/// The greatest power of two below `count`, which is at least 2.
fn split(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    struct Events {
        tiles: bool,
    }

    impl Leaves for Events {
        type Error = Infallible;

        fn leaf(&self, index: u64) -> Result<Hash, Infallible> {
            Ok(leaf(format!("event {index}").as_bytes()))
        }

        fn tile(&self, index: u64) -> Option<Hash> {
            let start = index * TILE;
            let of = |from: u64, count: u64| root(&Events { tiles: false }, from, count);
            self.tiles.then(|| {
                let (Ok(left), Ok(right)) = (of(start, TILE / 2), of(start + TILE / 2, TILE / 2));
                node(&left, &right)
            })
        }
    }

    #[test]
    fn every_event_leads_to_the_root_and_no_other_does() {
        for count in [1, 2, 3, 7, 8, 255, 256, 257, 700] {
            let events = Events { tiles: true };
            let Ok(whole) = root(&events, 0, count);
            assert_eq!(root(&Events { tiles: false }, 0, count), Ok(whole), "tiles change nothing");
            for index in (0..count).step_by(5).chain([count - 1]) {
                let (Ok(path), Ok(leaf)) = (path(&events, index, count), events.leaf(index));
                assert_eq!(climb(leaf, index, count, &path), Some(whole), "{index} of {count}");
                let Ok(other) = events.leaf(index + 1);
                assert_ne!(climb(other, index, count, &path), Some(whole));
                if index + 1 < count {
                    assert_ne!(climb(leaf, index + 1, count, &path), Some(whole));
                }
                assert_eq!(climb(leaf, index, count, &[&path[..], &[leaf]].concat()), None);
            }
        }
        assert_eq!(climb(Hash::ZERO, 3, 3, &[]), None);
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        // Its example over one empty leaf, and the shape of three.
        let empty = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(leaf(b"").to_string(), empty);
        let events = Events { tiles: false };
        let hash = |index| events.leaf(index).unwrap_or_else(|never| match never {});
        let three = node(&node(&hash(0), &hash(1)), &hash(2));
        assert_eq!(root(&events, 0, 3), Ok(three));
    }

    #[test]
    fn a_changed_byte_is_no_proof() {
        let event = RawValue::from_string("{\"n\":1}".to_owned()).expect("JSON");
        let root = leaf(event.get().as_bytes());
        let place = Place { epoch: 1, position: 1, hash: Hash::ZERO };
        let head = SignedHead {
            genesis: "g".to_owned(),
            place,
            root,
            signed_ms: 5,
            key: String::new(),
            signature: String::new(),
        };
        let proof = |text: &str| {
            let event = RawValue::from_string(text.to_owned()).expect("JSON");
            Proof { head: head.clone(), event: Some(event), position: 1, path: Vec::new() }
        };
        assert!(proof("{\"n\":1}").holds());
        assert!(!proof("{\"n\": 1}").holds() && !proof("{\"n\":2}").holds());
        assert!(!Proof { position: 2, ..proof("{\"n\":1}") }.holds());
        assert!(!Proof { event: None, ..proof("{\"n\":1}") }.holds());
    }
}
