//! Making a log anew from its entries: the same checks and the same indexes as when they were
//! recorded, whatever they are read from.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use cluster::Fold;
use runtime::Failure;
use schemas::place::Place;
use schemas::subject;

use crate::entry::{self, Tip};
use crate::index::Indexer;
use crate::sequencer::{Group, Met, Streamed, meet};
use crate::store::{self, FjallStore, Store as _};
use crate::view;
use crate::witness::{Heads, Witness};

/// How many entries are stored with one sync, and how many bytes of them.
const GROUP: usize = 4_000;
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Where a log is until it is whole, in the folder that it is for.
const MAKING: &str = "making";

/// A log that is being made.
#[derive(Debug)]
pub(crate) struct Rebuild {
    folder: PathBuf,
    store: FjallStore,
    tip: Tip,
    indexer: Indexer,
    fold: Fold,
    waiting: Vec<Streamed>,
    /// The bytes of these.
    bytes: usize,
}

impl Rebuild {
    /// Begins a log in a folder that holds none.
    pub(crate) fn begin(folder: &Path) -> Result<Self, Failure> {
        for name in [store::FOLDER, crate::witness::FILE] {
            if folder.join(name).exists() {
                let text =
                    format!("{} holds a log already: it is not overwritten", folder.display());
                return Err(text.into());
            }
        }
        let making = folder.join(MAKING);
        if making.exists() {
            std::fs::remove_dir_all(&making)?;
        }
        Ok(Self {
            folder: folder.to_owned(),
            store: FjallStore::open(&making)?,
            tip: Tip::default(),
            indexer: Indexer::default(),
            fold: Fold::new(),
            waiting: Vec::new(),
            bytes: 0,
        })
    }

    /// Where the log ends with everything that was taken.
    pub(crate) fn place(&self) -> Place {
        self.fold.cursor()
    }

    /// The state there.
    pub(crate) fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Takes the next entry, if it is that.
    pub(crate) fn take(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let (header, event) = entry::decode(&bytes)?;
        let Some(event) = event else {
            let text = format!("position {} is of a newer release: use that", header.position);
            return Err(text.into());
        };
        self.fold.push(&bytes)?;
        let subject = subject::event(&header.tenant, &event.about());
        self.bytes += bytes.len();
        self.waiting.push(Streamed { sequence: header.position, subject, bytes });
        let full = self.waiting.len() >= GROUP || self.bytes >= GROUP_BYTES;
        if full { self.store_waiting() } else { Ok(()) }
    }

    /// The end that the next entry follows, everything stored.
    pub(crate) fn tip(&mut self) -> Result<Tip, Failure> {
        self.store_waiting()?;
        Ok(self.tip)
    }

    fn store_waiting(&mut self) -> Result<(), Failure> {
        self.bytes = 0;
        let mut group = Group::new(&self.store, self.tip, self.indexer.clone());
        for message in std::mem::take(&mut self.waiting) {
            let at = message.sequence;
            match meet(&group, message)? {
                Met::Next(entry) => group.push([*entry])?,
                Met::Event | Met::Junk => {
                    return Err(format!("position {at} is not the next entry of this log").into());
                }
            }
        }
        let (commit, tip, indexer) = group.done();
        self.store.append(&commit)?;
        (self.tip, self.indexer) = (tip, indexer);
        Ok(())
    }

    /// Ends it: with a snapshot of its state, and a witness that saw at least all of it.
    pub(crate) fn finish(mut self, seen: Option<Heads>) -> Result<Place, Failure> {
        self.store_waiting()?;
        let place = self.tip.place;
        if self.fold.place().position > 0 {
            view::write_snapshot(&self.store, &self.fold)?;
        }
        let genesis = self.store.genesis()?;
        let mine = Heads { stored: place, published: self.fold.place(), genesis };
        let seen = seen.filter(|seen| seen.published.position > mine.published.position);
        let Self { folder, store, .. } = self;
        drop(store);
        let making = folder.join(MAKING);
        Witness::open(&making)?.write(&seen.unwrap_or(mine))?;
        // The witness first: a store without one would be taken for a whole log.
        for name in [crate::witness::FILE, store::FOLDER] {
            std::fs::rename(making.join(name), folder.join(name))?;
            std::fs::File::open(&folder)?.sync_all()?;
        }
        std::fs::remove_dir_all(&making)?;
        Ok(place)
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::History;

    use super::*;
    use crate::testing::Folder;

    #[test]
    fn what_is_of_a_newer_release_is_not_in_the_log_that_is_made() {
        let mut history = History::default();
        history.node("n1", 2, 4).node("n2", 2, 4);
        let mut entries = history.entries.clone();
        let newer = entries.pop().expect("there are some");
        let newer = String::from_utf8(newer).expect("JSON is UTF-8");
        let newer = newer.replace("NodeDescribed", "NodeAdmired");
        let newer = newer.replacen("\"ignorable\":false", "\"ignorable\":true", 1);
        let folder = Folder::new();
        let mut rebuild = Rebuild::begin(folder.path()).expect("it is empty");
        for entry in entries {
            rebuild.take(Bytes::from(entry)).expect("it follows");
        }
        let before = rebuild.place();
        let refused = rebuild.take(Bytes::from(newer)).expect_err("it is not known");
        assert!(refused.to_string().contains("newer release"), "{refused}");
        assert_eq!(rebuild.place(), before);
        assert_eq!(rebuild.finish(None).expect("it is written"), before);
        let witness = Witness::open(folder.path()).expect("it is there");
        assert_eq!(witness.heads().expect("it saw some").published, before);
    }
}
