//! The engine without a log on it: what a benchmark measures the log beside.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

/// A key and a value.
pub type BareRow = ([u8; 8], Vec<u8>);

/// One keyspace, and groups of rows with one sync each.
pub struct Bare {
    database: Database,
    rows: Keyspace,
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
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        Ok(Self { database, rows })
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
        for (key, value) in rows {
            batch.insert(&self.rows, key, value.as_slice());
        }
        Ok(batch.commit()?)
    }
}
