//! Proofs: the tree over everything published, and its signed root.
//!
//! What is published never changes, so the root of every tile is computed once and kept in a file
//! beside the store. The file is derived: a record that does not fit its check is computed again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use runtime::{clock, entropy};
use schemas::place::{Hash, Place};
use schemas::proof::{self, Leaves, Proof, SignedHead, TILE};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::store::{self, Store, StoreError};

/// The file of the tiles, in the folder of the log.
const TILES: &str = "tiles";

/// The file of the secret key, there too.
const KEY: &str = "audit-key";

/// A record: a root, and a check over the history's id, its number and itself.
const RECORD_BYTES: usize = 40;

/// How many tiles a call computes at most, so that nobody waits long.
const AT_ONCE: usize = 512;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot use {path}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the log ends at {published}: there is nothing at {position}")]
    NotThere { position: u64, published: u64 },
    #[error("the tree is being built: {done} of {of} events")]
    Building { done: u64, of: u64 },
}

/// Makes proofs. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Prover<S> {
    store: S,
    folder: PathBuf,
    key: Arc<Ed25519KeyPair>,
    tiles: Arc<Mutex<Option<Tiles>>>,
}

impl<S: Store> Prover<S> {
    /// Reads the key, or makes one.
    ///
    /// # Errors
    ///
    /// When its file can be neither read nor written.
    pub(crate) fn open(store: S, folder: &Path) -> io::Result<Self> {
        let seed = entropy::kept_seed(folder, KEY)?;
        let key = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| io::Error::other(format!("{KEY} holds no key")))?;
        let (folder, tiles) = (folder.to_owned(), Arc::default());
        Ok(Self { store, folder, key: Arc::new(key), tiles })
    }

    /// Computes some of the tiles that are missing. Says whether more are. `published` is asked under
    /// the lock that [`Self::give_up`] takes: a head of before that never makes tiles after it.
    pub(crate) fn catch_up(&self, published: impl FnOnce() -> Place) -> Result<bool, ProofError> {
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let published = published();
        let tiles = match &mut *tiles {
            Some(tiles) => tiles,
            none => {
                let Some(genesis) = self.store.genesis()? else { return Ok(false) };
                let path = self.folder.join(TILES);
                let opened = Tiles::open(&path, genesis);
                let mut opened = opened.map_err(|source| ProofError::File { path, source })?;
                self.drop_stale(&mut opened)?;
                none.insert(opened)
            }
        };
        for _ in 0..AT_ONCE {
            let next = tiles.roots.len() as u64;
            if (next + 1) * TILE > published.position {
                return Ok(false);
            }
            let root = self.tile(next)?;
            let path = self.folder.join(TILES);
            tiles.add(root).map_err(|source| ProofError::File { path, source })?;
        }
        Ok(true)
    }

    /// Forgets tiles at the end that are not of these events: an operator may have given up what they
    /// were made from.
    fn drop_stale(&self, tiles: &mut Tiles) -> Result<(), StoreError> {
        while let Some(kept) = tiles.roots.last() {
            let index = tiles.roots.len() as u64 - 1;
            let there = self.store.head()?.position >= (index + 1) * TILE;
            if there && self.tile(index)? == *kept {
                return Ok(());
            }
            tiles.roots.pop();
        }
        Ok(())
    }

    /// The root of a tile, from its events.
    fn tile(&self, index: u64) -> Result<Hash, StoreError> {
        let first = index * TILE + 1;
        let rows = store::rows(&self.store, first, first + TILE - 1)?;
        let hashes: Vec<Hash> = rows.iter().map(|row| proof::leaf(&row.bytes)).collect();
        proof::root(
            &Kept { store: &self.store, tiles: &[], from: first - 1, hashes },
            first - 1,
            TILE,
        )
    }

    /// The signed head, and the way to it from an event if one is named.
    pub(crate) fn prove(
        &self,
        published: impl Fn() -> Place,
        genesis: String,
        position: Option<u64>,
    ) -> Result<Proof, ProofError> {
        let more = self.catch_up(&published)?;
        let tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let tiles = tiles.as_ref().map_or(&[][..], |tiles| &tiles.roots);
        let published = published();
        let of = published.position;
        let missing = position.filter(|position| !(1..=of).contains(position));
        if let Some(position) = missing.or((of == 0).then_some(1)) {
            return Err(ProofError::NotThere { position, published: of });
        }
        if more {
            return Err(ProofError::Building { done: tiles.len() as u64 * TILE, of });
        }
        let kept = Kept { store: &self.store, tiles, from: 0, hashes: Vec::new() };
        let head = self.sign(genesis, published, proof::root(&kept, 0, of)?);
        let Some(position) = position else {
            return Ok(Proof { head, event: None, position: 0, path: Vec::new() });
        };
        let path = proof::path(&kept, position - 1, of)?;
        let bytes = row(&self.store, position)?.bytes;
        let event = RawValue::from_string(String::from_utf8_lossy(&bytes).into_owned());
        Ok(Proof { head, event: event.ok(), position, path })
    }

    /// What was published behind `end` was given up, and so were the tiles of it.
    ///
    /// # Errors
    ///
    /// When their file cannot be cut.
    pub(crate) fn give_up(&self, end: Place) -> io::Result<()> {
        let mut tiles = self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *tiles {
            Some(tiles) => tiles.cut(end.position / TILE),
            None => Ok(()),
        }
    }

    fn sign(&self, genesis: String, place: Place, root: Hash) -> SignedHead {
        let key = hex(self.key.public_key().as_ref());
        let (signed_ms, signature) = (clock::utc_ms(), String::new());
        let mut head = SignedHead { genesis, place, root, signed_ms, key, signature };
        head.signature = hex(self.key.sign(&head.message()).as_ref());
        head
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn row<S: Store>(store: &S, position: u64) -> Result<store::Row, StoreError> {
    let damaged = || StoreError::Damaged { position, what: "it is not there".to_owned() };
    store.row(position)?.ok_or_else(damaged)
}

/// The leaves: some at hand, the others in the store, and the tiles that are kept.
struct Kept<'a, S> {
    store: &'a S,
    tiles: &'a [Hash],
    from: u64,
    hashes: Vec<Hash>,
}

impl<S: Store> Leaves for Kept<'_, S> {
    type Error = StoreError;

    fn leaf(&self, index: u64) -> Result<Hash, StoreError> {
        let at_hand = index.checked_sub(self.from).and_then(|i| usize::try_from(i).ok());
        if let Some(hash) = at_hand.and_then(|i| self.hashes.get(i)) {
            return Ok(*hash);
        }
        Ok(proof::leaf(&row(self.store, index + 1)?.bytes))
    }

    fn tile(&self, index: u64) -> Option<Hash> {
        usize::try_from(index).ok().and_then(|index| self.tiles.get(index)).copied()
    }
}

/// The roots of whole tiles, in order, and the file they are in.
#[derive(Debug)]
struct Tiles {
    file: File,
    genesis: String,
    roots: Vec<Hash>,
}

impl Tiles {
    /// Reads those that fit their check, up to the first that does not.
    fn open(path: &Path, genesis: String) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap_or(0)];
        file.read_exact_at(&mut bytes, 0)?;
        let mut tiles = Self { file, genesis, roots: Vec::new() };
        for record in bytes.as_chunks::<RECORD_BYTES>().0 {
            let (root, check) = record.split_at(32);
            let Ok(root) = <[u8; 32]>::try_from(root).map(Hash) else { break };
            if tiles.check(&root)[..] != *check {
                tracing::warn!(tile = tiles.roots.len(), "computing tiles again from here on");
                break;
            }
            tiles.roots.push(root);
        }
        Ok(tiles)
    }

    fn add(&mut self, root: Hash) -> io::Result<()> {
        let record = [&root.0[..], &self.check(&root)].concat();
        // Not synced: what is lost is computed again.
        self.file.write_all_at(&record, (self.roots.len() * RECORD_BYTES) as u64)?;
        self.roots.push(root);
        Ok(())
    }

    /// Forgets all but the first so many.
    fn cut(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.roots.len());
        self.file.set_len((len * RECORD_BYTES) as u64)?;
        self.roots.truncate(len);
        Ok(())
    }

    /// That a root is that of the next tile of this history.
    fn check(&self, root: &Hash) -> [u8; 8] {
        let hash = Sha256::new()
            .chain_update(&self.genesis)
            .chain_update((self.roots.len() as u64).to_be_bytes())
            .chain_update(root.0)
            .finalize();
        let mut check = [0; 8];
        check.copy_from_slice(&hash[..8]);
        check
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;
    use crate::store::fake::FakeStore;
    use crate::store::{Commit, Row};
    use crate::testing::Folder;

    fn append(store: &FakeStore, positions: std::ops::RangeInclusive<u64>) -> Place {
        let rows = positions.map(|position| Row {
            place: Place { epoch: 1, position, hash: Hash::ZERO },
            ends: true,
            subject: "muster.v1.evt.main.app.shop.deployed".to_owned(),
            bytes: Bytes::from(format!("{{\"n\":{position}}}")),
        });
        let rows: Vec<Row> = rows.collect();
        let place = rows.last().expect("there are some").place;
        let commit = Commit { rows, genesis: Some("g".to_owned()), ..Commit::default() };
        store.append(&commit).expect("it stores");
        place
    }

    fn prover(store: &FakeStore, folder: &Folder) -> Prover<FakeStore> {
        Prover::open(store.clone(), folder.path()).expect("it opens")
    }

    #[test]
    fn every_event_is_proven_under_one_signature() {
        let (store, folder) = (FakeStore::default(), Folder::new());
        let place = append(&store, 1..=700);
        let prover = prover(&store, &folder);
        for position in [1, 256, 257, 512, 513, 700] {
            let proof =
                prover.prove(|| place, "g".to_owned(), Some(position)).expect("it is there");
            assert!(proof.holds(), "{position}");
            let key: Vec<u8> = (0..64)
                .step_by(2)
                .map(|i| u8::from_str_radix(&proof.head.key[i..i + 2], 16).expect("hex"))
                .collect();
            let signature: Vec<u8> = (0..128)
                .step_by(2)
                .map(|i| u8::from_str_radix(&proof.head.signature[i..i + 2], 16).expect("hex"))
                .collect();
            let public = UnparsedPublicKey::new(&ED25519, key);
            assert!(public.verify(&proof.head.message(), &signature).is_ok());
        }
        let beyond = prover.prove(|| place, "g".to_owned(), Some(701));
        assert!(matches!(beyond, Err(ProofError::NotThere { position: 701, published: 700 })));
    }

    #[test]
    fn how_far_tiles_may_go_is_asked_while_nothing_can_be_given_up() {
        let (store, folder) = (FakeStore::default(), Folder::new());
        let place = append(&store, 1..=700);
        let prover = prover(&store, &folder);
        let locked = || {
            assert!(prover.tiles.try_lock().is_err());
            place
        };
        assert!(!prover.catch_up(locked).expect("it has all"));
        assert!(prover.prove(locked, "g".to_owned(), Some(3)).expect("it is there").holds());
    }

    #[test]
    fn what_was_given_up_is_in_no_proof_of_what_came_instead() {
        let (store, folder) = (FakeStore::default(), Folder::new());
        let place = append(&store, 1..=1_100);
        let prover = prover(&store, &folder);
        assert!(!prover.catch_up(|| place).expect("it has all"));
        // Entries that differ from those are published behind the 700th.
        let end = store.row(700).expect("it is read").expect("it is there").place;
        let rollback = crate::store::Rollback {
            head: end,
            rows: crate::store::rows(&store, 701, 1_100).expect("they are there"),
            ..Default::default()
        };
        store.set_aside(&rollback).expect("it is put back");
        prover.give_up(end).expect("the file is cut");
        let other = |position| Row {
            place: Place { epoch: 2, position, hash: Hash::ZERO },
            ends: true,
            subject: "muster.v1.evt.main.app.shop.deployed".to_owned(),
            bytes: Bytes::from(format!("{{\"other\":{position}}}")),
        };
        let rows: Vec<Row> = (701..=1_100).map(other).collect();
        let place = rows.last().expect("there are some").place;
        store.append(&Commit { rows, ..Commit::default() }).expect("it stores");
        for position in [10, 600, 900, 1_100] {
            let proof =
                prover.prove(|| place, "g".to_owned(), Some(position)).expect("it is there");
            assert!(proof.holds(), "{position}");
        }
    }

    #[test]
    fn tiles_are_kept_and_a_damaged_one_is_computed_again() {
        let (store, folder) = (FakeStore::default(), Folder::new());
        let place = append(&store, 1..=1_100);
        let head = |folder: &Folder| {
            let proof = prover(&store, folder).prove(|| place, "g".to_owned(), None);
            proof.expect("there is a head").head
        };
        let first = head(&folder);
        let path = folder.path().join(TILES);
        assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 4 * 40);
        let file = OpenOptions::new().write(true).open(&path).expect("it opens");
        file.write_all_at(b"torn", 45).expect("it is damaged");
        let again = head(&folder);
        assert_eq!((again.root, &again.key), (first.root, &first.key), "and the key is kept");
        // Whoever gave up what was published has other events there.
        let (forked, last) = (FakeStore::default(), append(&store, 1_101..=1_101));
        assert_eq!(last.position, 1_101);
        append(&forked, 1..=700);
        let other = |position| Row {
            place: Place { epoch: 2, position, hash: Hash::ZERO },
            ends: true,
            subject: "muster.v1.evt.main.app.shop.deployed".to_owned(),
            bytes: Bytes::from(format!("{{\"other\":{position}}}")),
        };
        let rows: Vec<Row> = (701..=1_100).map(other).collect();
        let end = rows.last().expect("there are some").place;
        forked.append(&Commit { rows, ..Commit::default() }).expect("it stores");
        let proof = prover(&forked, &folder).prove(|| end, "g".to_owned(), Some(900));
        assert!(proof.expect("it is there").holds(), "no stale tile is in its way");
        // The tiles of another history are not taken for those of this one.
        let other = Tiles::open(&path, "h".to_owned()).expect("it opens");
        assert_eq!(other.roots.len(), 0);
    }
}
