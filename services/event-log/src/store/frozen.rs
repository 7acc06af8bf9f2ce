//! The store as it was at one moment, for one who compares its parts while it goes on.

use std::ops::ControlFlow;

use fjall::{Guard, Readable as _, Snapshot};
use schemas::id::{Series, Writer};
use serde::de::DeserializeOwned;

use super::fjall::{FjallStore, decode_json, engine, scanned};
use super::keys::{decode_row, position_of};
use super::{Row, SeriesRow, StoreError, WriterRow};

/// A store at one moment.
pub(crate) struct Frozen<'a> {
    store: &'a FjallStore,
    at: Snapshot,
}

impl<'a> Frozen<'a> {
    pub(super) fn new(store: &'a FjallStore) -> Self {
        Self { store, at: store.database.snapshot() }
    }

    /// The last position.
    pub(crate) fn head(&self) -> Result<u64, StoreError> {
        let last = self.at.last_key_value(&self.store.log);
        let key = last.map(Guard::key).transpose().map_err(engine("read the log"))?;
        Ok(key.map_or(0, |key| position_of(&key)))
    }

    /// As the store's own.
    pub(crate) fn scan(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from > to {
            return Ok(());
        }
        let range = from.to_be_bytes()..=to.to_be_bytes();
        scanned(self.at.range(&self.store.log, range), from, each)
    }

    /// The entry at a position.
    pub(crate) fn row(&self, position: u64) -> Result<Option<Row>, StoreError> {
        let mut found = None;
        self.scan(position, position, &mut |row| {
            found = Some(row);
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// Every series.
    pub(crate) fn series(&self, each: &mut dyn FnMut(Series, SeriesRow)) -> Result<(), StoreError> {
        for guard in self.at.iter(&self.store.series) {
            let (key, value) = guard.into_inner().map_err(engine("read the index of series"))?;
            let name = text(&key)?;
            let series = Series::new(name).map_err(|error| wrong(&error.to_string()))?;
            each(series, decode_json(0, &value)?);
        }
        Ok(())
    }

    /// Every leadership.
    pub(crate) fn writers(&self) -> Result<Vec<(Writer, WriterRow)>, StoreError> {
        let mut found = Vec::new();
        for guard in self.at.iter(&self.store.writers) {
            let (key, value) = guard.into_inner().map_err(engine("read the index of writers"))?;
            let writer = Writer::parse(text(&key)?).map_err(|error| wrong(&error.to_string()))?;
            found.push((writer, decode_json(0, &value)?));
        }
        Ok(found)
    }

    /// Every row of the index of entities.
    pub(crate) fn entities(&self, each: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        for guard in self.at.iter(&self.store.entities) {
            let key = guard.key().map_err(engine("read the index of entities"))?;
            let (name, position) =
                key.split_at_checked(key.len().saturating_sub(8)).unwrap_or_default();
            let Some(name) = name.strip_suffix(&[0]) else {
                return Err(wrong("a row of the index of entities is cut short"));
            };
            each(text(name)?, position_of(position));
        }
        Ok(())
    }

    /// Everything that was moved aside.
    pub(crate) fn orphans(&self, each: &mut dyn FnMut(Row)) -> Result<(), StoreError> {
        for guard in self.at.iter(&self.store.orphans) {
            let (key, value) = guard.into_inner().map_err(engine("read what was moved aside"))?;
            each(decode_row(position_of(&key[..8.min(key.len())]), &value)?);
        }
        Ok(())
    }

    /// The highest epoch and the id of the history.
    pub(crate) fn meta(&self) -> Result<(u64, Option<String>), StoreError> {
        Ok((self.meta_of("epoch")?.unwrap_or(0), self.meta_of("genesis")?))
    }

    fn meta_of<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let value = self.at.get(&self.store.meta, key).map_err(engine("read an index"))?;
        value.map(|value| decode_json(0, &value)).transpose()
    }
}

fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| wrong("a name in an index is no text"))
}

fn wrong(what: &str) -> StoreError {
    StoreError::Damaged { position: 0, what: what.to_owned() }
}
