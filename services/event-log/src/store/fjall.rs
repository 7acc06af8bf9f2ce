//! The store on fjall: the only file that names the engine, but for the bare one that benchmarks measure
//! it beside.
//!
//! Every commit asks for a full sync, because fjall's own default only reaches the page cache. A
//! key is written once in a commit: two writes of one key in one batch have no order. Nothing is
//! ever cleared; what is moved aside is kept.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use schemas::id::{Series, Writer};
use schemas::place::Place;
use serde::de::DeserializeOwned;

use super::files;
use super::frozen::Frozen;
use super::keys::{
    Part, decode_row, each_row, encode_row, entity_key, json, meta_key, piece_key, position_of,
};
use super::{Commit, Rollback, Row, SeriesRow, SnapshotMeta, Store, StoreError, WriterRow};

/// The folder of the database, in the folder of the log.
pub(crate) const FOLDER: &str = "store";

/// The file that is locked while the folder is in use.
pub(super) const LOCK: &str = "lock";

/// The database while it is being made. A crash in there leaves something fjall does not open.
const MAKING: &str = "store.making";

/// Snapshots are stored in pieces, so that a commit of the log never waits long behind one.
const PIECE_BYTES: usize = 256 * 1024;

/// What the store keeps in memory to read the log back.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// The log's database. Clones share it.
#[derive(Clone)]
pub struct FjallStore {
    pub(super) database: Database,
    pub(super) log: Keyspace,
    pub(super) series: Keyspace,
    pub(super) writers: Keyspace,
    pub(super) entities: Keyspace,
    pub(super) orphans: Keyspace,
    snapshots: Keyspace,
    pub(super) meta: Keyspace,
    shared: Arc<Mutex<Heads>>,
    /// How often entries were moved aside.
    rollbacks: Arc<AtomicU64>,
    path: PathBuf,
    _lock: Arc<File>,
}

/// What is asked for with every request.
#[derive(Clone, Debug)]
struct Heads {
    head: Place,
    epoch: u64,
    genesis: Option<String>,
}

impl FjallStore {
    /// Opens the database in `folder`, or makes it.
    ///
    /// # Errors
    ///
    /// When another process has it open, or a file of it is damaged, or it does not open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let lock = files::lock(folder)?;
        let path = folder.join(FOLDER);
        if path.exists() {
            let unreadable = |source: std::io::Error| StoreError::Unreadable {
                path: path.clone(),
                source: source.into(),
            };
            let (broken, torn) = files::check(folder).map_err(unreadable)?;
            if let Some(broken) = broken.into_iter().next() {
                return Err(broken.into());
            }
            if let Some(torn) = torn {
                let kept = files::cut(folder, &torn).map_err(unreadable)?;
                tracing::warn!(
                    journal = %torn.path.display(), at = torn.at, what = torn.what,
                    kept = %kept.display(),
                    "the last batch of the journal is not whole and was cut off: nothing of it \
                     was promised, unless the witness says that more was published"
                );
            }
        }
        Self::open_as_is(folder, lock)
    }

    /// Opens the database as the engine itself would, which may cut off what is damaged.
    pub(crate) fn open_as_is(folder: &Path, lock: File) -> Result<Self, StoreError> {
        let path = folder.join(FOLDER);
        // The engine panics on some kinds of damage.
        let opened = catch_unwind(AssertUnwindSafe(|| Self::open_engine(folder, lock)));
        opened.unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Err(StoreError::Unreadable { path, source: said.to_owned().into() })
        })
    }

    fn open_engine(folder: &Path, lock: File) -> Result<Self, StoreError> {
        let path = folder.join(FOLDER);
        let failed = |source: fjall::Error| match source {
            fjall::Error::Locked => StoreError::Locked { path: path.clone() },
            source => StoreError::Unreadable { path: path.clone(), source: source.into() },
        };
        if !path.exists() {
            make(folder).map_err(failed)?;
        }
        let database = Database::builder(&path).cache_size(CACHE_BYTES).open().map_err(failed)?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        let store = Self {
            log: keyspace("log").map_err(failed)?,
            series: keyspace("series").map_err(failed)?,
            writers: keyspace("writers").map_err(failed)?,
            entities: keyspace("entities").map_err(failed)?,
            orphans: keyspace("orphans").map_err(failed)?,
            snapshots: keyspace("snapshots").map_err(failed)?,
            meta: keyspace("meta").map_err(failed)?,
            shared: Arc::new(Mutex::new(Heads { head: Place::START, epoch: 0, genesis: None })),
            rollbacks: Arc::default(),
            path: path.clone(),
            _lock: Arc::new(lock),
            database,
        };
        let heads = Heads {
            head: store.last()?.map_or(Place::START, |row| row.place),
            epoch: store.meta_of("epoch")?.unwrap_or(0),
            genesis: store.meta_of("genesis")?,
        };
        store.set(heads);
        Ok(store)
    }

    /// The store as it is now, while it goes on.
    pub(crate) fn frozen(&self) -> Frozen<'_> {
        Frozen::new(self)
    }

    /// Whether an entity is indexed at a position.
    pub(crate) fn is_indexed(&self, entity: &str, position: u64) -> Result<bool, StoreError> {
        let reading = "read an index";
        self.entities.contains_key(entity_key(entity, position)).map_err(engine(reading))
    }

    /// How often entries were moved aside since it was opened.
    pub(crate) fn rollbacks(&self) -> u64 {
        self.rollbacks.load(Ordering::Acquire)
    }

    /// Its tables as files, to be compared with their checksums.
    pub(crate) fn tables(&self) -> files::Tables {
        files::Tables::of(&self.path)
    }

    /// Where the snapshots are.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn snapshots_path(&self) -> &Path {
        self.snapshots.path()
    }

    /// Puts another entry in the place of one, checksums and all: damage that no file shows.
    #[cfg(test)]
    pub(crate) fn replace(&self, row: &Row) {
        let key = row.position().to_be_bytes();
        self.log.insert(key, encode_row(row)).expect("it can be written");
    }

    /// Makes indexes wrong in every way; what must be said of it.
    #[cfg(test)]
    pub(crate) fn spoil_indexes(&self) -> Vec<String> {
        let wrote = "it can be written";
        let first = |keyspace: &Keyspace| {
            let guard = keyspace.first_key_value().expect("there is one");
            guard.into_inner().expect("it can be read")
        };
        let (key, value) = first(&self.series);
        let row: SeriesRow = decode_json(0, &value).expect("a row");
        let behind = SeriesRow { n: row.n - 1, ..row.clone() };
        self.series.insert(key.to_vec(), json(&behind)).expect(wrote);
        let ahead = Series::derive("nobody's", 1);
        self.series.insert(ahead.as_str(), json(&row)).expect(wrote);
        let (key, value) = first(&self.writers);
        let mut writer: WriterRow = decode_json(0, &value).expect("a row");
        writer.released = !writer.released;
        self.writers.insert(key.to_vec(), json(&writer)).expect(wrote);
        let (key, _) = first(&self.entities);
        self.entities.remove(key.to_vec()).expect(wrote);
        self.entities.insert(entity_key("app/main/nowhere", 3), []).expect(wrote);
        self.entities.insert(entity_key("app/main/nowhere", 4), []).expect(wrote);
        self.meta.insert("epoch", json(&99)).expect(wrote);
        vec![
            format!("the index has number {} for series", row.n - 1),
            format!("the index says that series {ahead} got to {} here", row.n),
            "the index of leaderships has Some(".to_owned(),
            "it is missing in the index of".to_owned(),
            "position 4: the index says that app/main/nowhere is meant there".to_owned(),
            "epoch 99 is stored as the last one".to_owned(),
        ]
    }

    /// What all kept snapshots take on disk, in bytes, once they were moved into tables.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn disk_of_snapshots(&self) -> u64 {
        self.snapshots.disk_space()
    }

    /// Moves everything out of memory and journal into tables, as a long life does.
    #[cfg(any(test, feature = "testing"))]
    pub fn flush(&self) {
        let all = [
            &self.log,
            &self.series,
            &self.writers,
            &self.entities,
            &self.orphans,
            &self.snapshots,
            &self.meta,
        ];
        for keyspace in all {
            keyspace.rotate_memtable_and_wait().expect("it can be written");
        }
    }

    fn last(&self) -> Result<Option<Row>, StoreError> {
        self.log.last_key_value().map(entry).transpose()
    }

    fn meta_of<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        get(&self.meta, key.as_bytes())
    }

    fn part(&self, part: Part) -> &Keyspace {
        match part {
            Part::Log => &self.log,
            Part::Series => &self.series,
            Part::Writers => &self.writers,
            Part::Entities => &self.entities,
        }
    }

    fn heads(&self) -> Heads {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, heads: Heads) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = heads;
    }
}

impl std::fmt::Debug for FjallStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FjallStore").field("heads", &self.heads()).finish_non_exhaustive()
    }
}

/// How far a commit goes before it returns.
#[cfg(not(any(test, feature = "testing")))]
fn durability() -> PersistMode {
    PersistMode::SyncAll
}

#[cfg(any(test, feature = "testing"))]
static UNSYNCED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

#[cfg(any(test, feature = "testing"))]
fn durability() -> PersistMode {
    match UNSYNCED.load(std::sync::atomic::Ordering::Relaxed) {
        true => PersistMode::Buffer,
        false => PersistMode::SyncAll,
    }
}

/// Leaves what is committed from now on in the page cache. For the control of a test that cuts the
/// power: it must notice. Only code can call it, no setting.
#[cfg(any(test, feature = "testing"))]
pub fn write_without_sync() {
    UNSYNCED.store(true, std::sync::atomic::Ordering::Relaxed);
}

/// Makes an empty database under another name first: it is there whole or not at all.
fn make(folder: &Path) -> Result<(), fjall::Error> {
    let making = folder.join(MAKING);
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    std::fs::create_dir_all(folder)?;
    drop(Database::builder(&making).open()?);
    std::fs::rename(&making, folder.join(FOLDER))?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

impl Store for FjallStore {
    fn head(&self) -> Result<Place, StoreError> {
        Ok(self.heads().head)
    }

    fn row(&self, position: u64) -> Result<Option<Row>, StoreError> {
        let value =
            self.log.get(position.to_be_bytes()).map_err(|error| damaged(position, &error))?;
        value.map(|value| decode_row(position, &value)).transpose()
    }

    fn scan(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from > to {
            return Ok(());
        }
        scanned(self.log.range(from.to_be_bytes()..=to.to_be_bytes()), from, each)
    }

    fn scan_back(
        &self,
        from: u64,
        to: u64,
        each: &mut dyn FnMut(Row) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if from > to {
            return Ok(());
        }
        for guard in self.log.range(from.to_be_bytes()..=to.to_be_bytes()).rev() {
            if each(entry(guard)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn series(&self, series: &Series) -> Result<Option<SeriesRow>, StoreError> {
        get(&self.series, series.as_str().as_bytes())
    }

    fn writer(&self, writer: &Writer) -> Result<Option<WriterRow>, StoreError> {
        get(&self.writers, writer.to_string().as_bytes())
    }

    fn history(
        &self,
        entity: &str,
        from: u64,
        to: u64,
        limit: usize,
        newest: bool,
    ) -> Result<Vec<u64>, StoreError> {
        if from > to {
            return Ok(Vec::new());
        }
        let range = self.entities.range(entity_key(entity, from)..=entity_key(entity, to));
        let position = |guard: Guard| {
            let key = guard.key().map_err(engine("read an index"))?;
            Ok(position_of(&key[key.len().saturating_sub(8)..]))
        };
        if newest {
            let mut found: Vec<u64> =
                range.rev().take(limit).map(position).collect::<Result<_, _>>()?;
            found.reverse();
            return Ok(found);
        }
        range.take(limit).map(position).collect()
    }

    fn indexed(&self) -> Result<(u32, u64), StoreError> {
        Ok(self.meta_of("indexed")?.unwrap_or_default())
    }

    fn fill(&self, rows: &BTreeSet<(String, u64)>, indexed: (u32, u64)) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for (entity, position) in rows {
            batch.insert(&self.entities, entity_key(entity, *position), []);
        }
        batch.insert(&self.meta, "indexed", json(&indexed));
        batch.commit().map_err(engine("fill an index"))
    }

    fn genesis(&self) -> Result<Option<String>, StoreError> {
        Ok(self.heads().genesis)
    }

    fn epoch(&self) -> Result<u64, StoreError> {
        Ok(self.heads().epoch)
    }

    fn append(&self, commit: &Commit) -> Result<(), StoreError> {
        let Some(last) = commit.rows.last() else { return Ok(()) };
        let mut heads = self.heads();
        let mut batch = self.database.batch().durability(Some(durability()));
        each_row(commit, &mut |part, key, value| batch.insert(self.part(part), key, value));
        heads.head = last.place;
        if last.place.epoch > heads.epoch {
            heads.epoch = last.place.epoch;
            batch.insert(&self.meta, "epoch", json(&heads.epoch));
        }
        if let Some(genesis) = &commit.genesis {
            heads.genesis = Some(genesis.clone());
            batch.insert(&self.meta, "genesis", json(genesis));
        }
        batch.commit().map_err(engine("store a group"))?;
        self.set(heads);
        Ok(())
    }

    fn set_aside(&self, rollback: &Rollback) -> Result<(), StoreError> {
        let mut heads = self.heads();
        let mut batch = self.database.batch().durability(Some(durability()));
        for row in &rollback.rows {
            let key = [&row.position().to_be_bytes()[..], &row.place.hash.0].concat();
            batch.insert(&self.orphans, key, encode_row(row));
            batch.remove(&self.log, row.position().to_be_bytes());
        }
        for (series, row) in &rollback.series {
            match row {
                Some(row) => batch.insert(&self.series, series.as_str(), json(row)),
                None => batch.remove(&self.series, series.as_str()),
            }
        }
        for (writer, row) in &rollback.writers {
            match row {
                Some(row) => batch.insert(&self.writers, writer.to_string(), json(row)),
                None => batch.remove(&self.writers, writer.to_string()),
            }
        }
        for (entity, position) in &rollback.entities {
            batch.remove(&self.entities, entity_key(entity, *position));
        }
        if rollback.forgets_genesis {
            heads.genesis = None;
            batch.remove(&self.meta, "genesis");
        }
        heads.head = rollback.head;
        self.rollbacks.fetch_add(1, Ordering::AcqRel);
        batch.commit().map_err(engine("move entries aside"))?;
        self.set(heads);
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<SnapshotMeta>, StoreError> {
        // The description of a snapshot is stored last, under a key that sorts apart from pieces.
        let described = self.snapshots.prefix(b"meta/");
        let mut metas: Vec<SnapshotMeta> = described
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(engine("read a snapshot"))?;
                decode_json(position_of(&key[5..13.min(key.len())]), &value)
            })
            .collect::<Result<_, _>>()?;
        metas.sort_by_key(|meta| std::cmp::Reverse(meta.place.position));
        Ok(metas)
    }

    fn snapshot_bytes(
        &self,
        meta: &SnapshotMeta,
        offset: u64,
        len: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let whole = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(whole);
        let to = from.saturating_add(len).min(whole);
        let mut bytes = Vec::with_capacity(to - from);
        while from + bytes.len() < to {
            let at = from + bytes.len();
            let key = piece_key(meta, at / PIECE_BYTES);
            let piece = self.snapshots.get(key).map_err(engine("read a snapshot"))?;
            let piece = piece.as_deref().and_then(|piece| piece.get(at % PIECE_BYTES..));
            let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
                let what = format!("its snapshot ends at byte {at} of {whole}");
                return Err(StoreError::Damaged { position: meta.place.position, what });
            };
            bytes.extend_from_slice(&piece[..piece.len().min(to - at)]);
        }
        Ok(bytes)
    }

    fn put_snapshot(&self, meta: &SnapshotMeta, bytes: &[u8]) -> Result<(), StoreError> {
        for (index, piece) in bytes.chunks(PIECE_BYTES).enumerate() {
            let key = piece_key(meta, index);
            self.snapshots.insert(key, piece).map_err(engine("store a snapshot"))?;
        }
        // The journal is one file in order: once this is on disk, the pieces are.
        let mut batch = self.database.batch().durability(Some(durability()));
        batch.insert(&self.snapshots, meta_key(meta), json(meta));
        batch.commit().map_err(engine("store a snapshot"))
    }

    fn drop_snapshot(&self, meta: &SnapshotMeta) -> Result<(), StoreError> {
        let mut batch = self.database.batch();
        batch.remove(&self.snapshots, meta_key(meta));
        let whole = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        for index in 0..whole.div_ceil(PIECE_BYTES) {
            batch.remove(&self.snapshots, piece_key(meta, index));
        }
        batch.commit().map_err(engine("forget a snapshot"))
    }
}

/// Hands on what a range of the log holds; what cannot be read is named by its position.
pub(super) fn scanned(
    range: impl Iterator<Item = Guard>,
    from: u64,
    each: &mut dyn FnMut(Row) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut next = from;
    for guard in range {
        let (key, value) = guard.into_inner().map_err(|error| damaged(next, &error))?;
        let row = decode_row(position_of(&key), &value)?;
        next = row.position() + 1;
        if each(row).is_break() {
            break;
        }
    }
    Ok(())
}

fn damaged(position: u64, error: &fjall::Error) -> StoreError {
    StoreError::Damaged { position, what: format!("it cannot be read: {error}") }
}

pub(super) fn engine(doing: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |source| StoreError::Engine { doing, source: source.into() }
}

pub(super) fn decode_json<T: DeserializeOwned>(
    position: u64,
    value: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Damaged {
        position,
        what: format!("a row that belongs to it does not decode: {error}"),
    })
}

fn get<T: DeserializeOwned>(keyspace: &Keyspace, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = keyspace.get(key).map_err(engine("read an index"))?;
    value.map(|value| decode_json(0, &value)).transpose()
}

fn entry(guard: Guard) -> Result<Row, StoreError> {
    let (key, value) = guard.into_inner().map_err(engine("read the log"))?;
    decode_row(position_of(&key), &value)
}
