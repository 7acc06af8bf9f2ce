//! The engine without a log on it: what a benchmark measures the log beside.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::keys::{Part, rows_of};
use super::{Commit, FjallStore, Store as _, StoreError};
use crate::entry;
use crate::index::Indexer;

/// A row of the log or of an index.
#[derive(Clone, Debug)]
pub struct BareRow {
    part: Part,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl BareRow {
    /// What it says.
    #[must_use]
    pub fn into_value(self) -> Vec<u8> {
        self.value
    }
}

/// The log's keyspaces, and groups of rows with one sync each.
pub struct Bare {
    database: Database,
    parts: [(Part, Keyspace); 4],
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When the engine fails.
    pub fn open(folder: &Path) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let database = Database::builder(folder).open()?;
        let part = |part, name| -> Result<_, fjall::Error> {
            Ok((part, database.keyspace(name, KeyspaceCreateOptions::default)?))
        };
        let parts = [
            part(Part::Log, "log")?,
            part(Part::Series, "series")?,
            part(Part::Writers, "writers")?,
            part(Part::Entities, "entities")?,
        ];
        Ok(Self { database, parts })
    }

    /// Stores a group, durably.
    ///
    /// # Errors
    ///
    /// When the engine fails.
    pub fn write(
        &mut self,
        rows: &[BareRow],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for BareRow { part, key, value } in rows {
            for (_, keyspace) in self.parts.iter().filter(|(other, _)| other == part) {
                batch.insert(keyspace, key.as_slice(), value.as_slice());
            }
        }
        Ok(batch.commit()?)
    }
}

/// The rows that the entries from one position to another are in a store, indexes included.
///
/// # Errors
///
/// When the store cannot be read.
pub fn rows_between(store: &FjallStore, from: u64, to: u64) -> Result<Vec<BareRow>, StoreError> {
    let mut indexer = Indexer::behind(store, from - 1)?;
    let mut commit = Commit::default();
    for row in super::rows(store, from, to)? {
        let (header, event) = entry::decode(&row.bytes).map_err(|error| StoreError::Damaged {
            position: row.position(),
            what: error.to_string(),
        })?;
        if let Some(effects) = indexer.push(&header, event.as_ref()).effects {
            effects.apply(&mut commit, &mut |writer| store.writer(writer))?;
        }
        commit.rows.push(row);
    }
    let rows = rows_of(&commit).into_iter();
    Ok(rows.map(|(part, key, value)| BareRow { part, key, value }).collect())
}
