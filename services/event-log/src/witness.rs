//! The witness: a small file beside the store that remembers how far the log had got.
//!
//! A store can lose its end without noticing: a flipped byte in its journal opens without an error.
//! The witness is what notices. It holds both heads and the id of the history in two slots, each
//! with a checksum; one slot is written at a time, so a torn write leaves the other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use schemas::place::Place;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The name of the file.
pub const FILE: &str = "witness";

/// A slot has a disk sector of its own, so that writing one cannot tear the other.
const SLOT_BYTES: usize = 4096;

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// The last entry that was stored. Above the published head it is provisional.
    pub stored: Place,
    /// The last entry that anyone may have seen.
    pub published: Place,
    /// The id of the history.
    pub genesis: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Slot {
    update: u64,
    heads: Heads,
}

/// The open file.
#[derive(Debug)]
pub struct Witness {
    file: File,
    path: PathBuf,
    update: u64,
    heads: Option<Heads>,
    torn: bool,
}

/// Why the witness cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The file system failed.
    #[error("cannot {doing} the witness file {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// Neither slot is whole, and the file was written before.
    #[error(
        "neither slot of the witness file {path} is whole; run `muster-event-log verify`, and if \
         the log is as it should be, delete the file: it is made anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
}

impl Witness {
    /// Opens the file in `folder`, or makes it.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or was written and is not whole.
    pub fn open(folder: &Path) -> Result<Self, WitnessError> {
        let path = folder.join(FILE);
        let failed = |doing| {
            let path = path.clone();
            move |source| WitnessError::Io { doing, path, source }
        };
        let made = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("open"))?;
        if made {
            // The file's own name must survive a power cut as well.
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("make"))?;
        }
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        read_whole(&file, &mut bytes).map_err(failed("read"))?;
        let used = |bytes: &&[u8]| bytes.iter().any(|byte| *byte != 0);
        let used = bytes.chunks_exact(SLOT_BYTES).filter(used).count();
        let slots: Vec<Slot> = bytes.chunks_exact(SLOT_BYTES).filter_map(decode).collect();
        let torn = slots.len() < used;
        let newest = slots.into_iter().max_by_key(|slot| slot.update);
        if newest.is_none() && used > 0 {
            return Err(WitnessError::Damaged { path });
        }
        let update = newest.as_ref().map_or(0, |slot| slot.update);
        Ok(Self { file, path, update, heads: newest.map(|slot| slot.heads), torn })
    }

    /// Opens the file in `folder`; none when there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or was written and is not whole.
    pub fn open_if_there(folder: &Path) -> Result<Option<Self>, WitnessError> {
        if folder.join(FILE).exists() { Self::open(folder).map(Some) } else { Ok(None) }
    }

    /// What is to be said of a slot that was written and is not whole.
    #[must_use]
    pub fn notice(&self) -> Option<String> {
        self.torn.then(|| {
            format!(
                "one slot of the witness file {} is not whole: a power cut while it was written \
                 does that, or damage; the other one is used",
                self.path.display()
            )
        })
    }

    /// What is remembered; none when nothing was ever.
    #[must_use]
    pub fn heads(&self) -> Option<&Heads> {
        self.heads.as_ref()
    }

    /// Remembers, durably.
    ///
    /// # Errors
    ///
    /// When it may not be on disk. What was remembered before still is.
    pub fn write(&mut self, heads: &Heads) -> Result<(), WitnessError> {
        let update = self.update + 1;
        let slot = encode(&Slot { update, heads: heads.clone() });
        let offset = if update.is_multiple_of(2) { 0 } else { SLOT_BYTES as u64 };
        let written = self.file.write_all_at(&slot, offset).and_then(|()| self.file.sync_data());
        written.map_err(|source| WitnessError::Io {
            doing: "write",
            path: self.path.clone(),
            source,
        })?;
        self.update = update;
        self.heads = Some(heads.clone());
        self.torn = false;
        Ok(())
    }
}

fn read_whole(file: &File, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < bytes.len() {
        match file.read_at(&mut bytes[len..], len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

/// A slot: checksum, length, JSON, zeroes.
fn encode(slot: &Slot) -> Vec<u8> {
    let body = serde_json::to_vec(slot).expect("a slot has string keys only");
    let len = u32::try_from(body.len()).expect("a slot is some hundred bytes").to_be_bytes();
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    bytes.extend(Sha256::new().chain_update(len).chain_update(&body).finalize());
    bytes.extend(len);
    bytes.extend(body);
    bytes.resize(SLOT_BYTES, 0);
    bytes
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let (sum, rest) = bytes.split_at_checked(32)?;
    let (len, rest) = rest.split_first_chunk::<4>()?;
    let body = rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    let whole = Sha256::new().chain_update(len).chain_update(body).finalize();
    (sum == whole.as_slice()).then(|| serde_json::from_slice(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use schemas::place::Hash;

    use super::*;
    use crate::testing::Folder;

    fn heads(position: u64) -> Heads {
        let place = Place { epoch: 1, position, hash: Hash::ZERO.extend(b"x") };
        Heads { stored: place, published: place, genesis: Some("g".to_owned()) }
    }

    fn damage(folder: &Folder, offset: u64) {
        let options = OpenOptions::new().write(true).open(folder.path().join(FILE));
        options.and_then(|file| file.write_all_at(b"torn", offset)).expect("the file is there");
    }

    #[test]
    fn the_last_heads_are_remembered() {
        let folder = Folder::new();
        let mut witness = Witness::open(folder.path()).expect("it opens");
        assert_eq!(witness.heads(), None);
        for position in 1..=5 {
            witness.write(&heads(position)).expect("it writes");
        }
        let witness = Witness::open(folder.path()).expect("it opens");
        assert_eq!(witness.heads(), Some(&heads(5)));
    }

    #[test]
    fn a_torn_slot_falls_back_to_the_other() {
        let folder = Folder::new();
        let mut witness = Witness::open(folder.path()).expect("it opens");
        witness.write(&heads(1)).expect("it writes"); // the second slot
        witness.write(&heads(2)).expect("it writes"); // the first
        damage(&folder, 40);
        let mut witness = Witness::open(folder.path()).expect("it opens");
        assert_eq!(witness.heads(), Some(&heads(1)));
        // What is written next must not overwrite the only whole slot.
        witness.write(&heads(3)).expect("it writes");
        damage(&folder, SLOT_BYTES as u64 + 40);
        let witness = Witness::open(folder.path()).expect("it opens");
        assert_eq!(witness.heads(), Some(&heads(3)));
    }

    #[test]
    fn two_torn_slots_are_an_error() {
        let folder = Folder::new();
        let mut witness = Witness::open(folder.path()).expect("it opens");
        witness.write(&heads(1)).expect("it writes");
        damage(&folder, SLOT_BYTES as u64 + 40);
        let error = Witness::open(folder.path()).expect_err("nothing is whole");
        assert!(error.to_string().contains("neither slot"), "{error}");
    }
}
