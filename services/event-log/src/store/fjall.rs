//! The store on fjall: the only file that names the engine, but for the bare one that benchmarks measure
//! it beside.
//!
//! Every commit asks for a full sync, because fjall's own default only reaches the page cache. A
//! key is written once in a commit: two writes of one key in one batch have no order. Nothing is
//! ever cleared; what is moved aside is kept.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use schemas::id::{Series, Writer};
use schemas::place::{Hash, Place};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Commit, Rollback, Row, SeriesRow, SnapshotMeta, Store, StoreError, WriterRow};

/// The folder of the database, in the folder of the log.
const FOLDER: &str = "store";

/// The database while it is being made. A crash in there leaves something fjall does not open.
const MAKING: &str = "store.making";

/// Snapshots are stored in pieces, so that a commit of the log never waits long behind one.
const PIECE_BYTES: usize = 256 * 1024;

/// What the store keeps in memory to read the log back.
const CACHE_BYTES: u64 = 64 * 1024 * 1024;

/// The log's database. Clones share it.
#[derive(Clone)]
pub struct FjallStore {
    database: Database,
    log: Keyspace,
    series: Keyspace,
    writers: Keyspace,
    entities: Keyspace,
    orphans: Keyspace,
    snapshots: Keyspace,
    meta: Keyspace,
    shared: Arc<Mutex<Heads>>,
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
    /// When another process has it open, or it does not open.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
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

    fn last(&self) -> Result<Option<Row>, StoreError> {
        self.log.last_key_value().map(entry).transpose()
    }

    fn meta_of<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        get(&self.meta, key.as_bytes())
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
        let value = self.log.get(position.to_be_bytes()).map_err(engine("read an entry"))?;
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
        for guard in self.log.range(from.to_be_bytes()..=to.to_be_bytes()) {
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

    fn genesis(&self) -> Result<Option<String>, StoreError> {
        Ok(self.heads().genesis)
    }

    fn epoch(&self) -> Result<u64, StoreError> {
        Ok(self.heads().epoch)
    }

    fn append(&self, commit: &Commit) -> Result<(), StoreError> {
        let Some(last) = commit.rows.last() else { return Ok(()) };
        let mut heads = self.heads();
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        for row in &commit.rows {
            batch.insert(&self.log, row.position().to_be_bytes(), encode_row(row));
        }
        for (series, row) in &commit.series {
            batch.insert(&self.series, series.as_str(), json(row));
        }
        for (writer, row) in &commit.writers {
            batch.insert(&self.writers, writer.to_string(), json(row));
        }
        for (entity, position) in &commit.entities {
            batch.insert(&self.entities, entity_key(entity, *position), []);
        }
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
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
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
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
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

fn engine(doing: &'static str) -> impl Fn(fjall::Error) -> StoreError {
    move |source| StoreError::Engine { doing, source: source.into() }
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("an index row has string keys only")
}

fn decode_json<T: DeserializeOwned>(position: u64, value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::Damaged {
        position,
        what: format!("a row that belongs to it does not decode: {error}"),
    })
}

fn get<T: DeserializeOwned>(keyspace: &Keyspace, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value = keyspace.get(key).map_err(engine("read an index"))?;
    value.map(|value| decode_json(0, &value)).transpose()
}

fn position_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// Entities hold no control characters, so the zero keeps one from being the beginning of another.
fn entity_key(entity: &str, position: u64) -> Vec<u8> {
    [entity.as_bytes(), &[0], &position.to_be_bytes()].concat()
}

fn meta_key(meta: &SnapshotMeta) -> Vec<u8> {
    let SnapshotMeta { place, fold_version, .. } = meta;
    [b"meta/", &place.position.to_be_bytes()[..], &fold_version.to_be_bytes(), &place.hash.0]
        .concat()
}

fn piece_key(meta: &SnapshotMeta, index: usize) -> Vec<u8> {
    let SnapshotMeta { place, fold_version, .. } = meta;
    let mut key = b"piece/".to_vec();
    key.extend(place.position.to_be_bytes());
    key.extend(fold_version.to_be_bytes());
    key.extend(place.hash.0);
    key.extend((index as u64).to_be_bytes());
    key
}

fn entry(guard: Guard) -> Result<Row, StoreError> {
    let (key, value) = guard.into_inner().map_err(engine("read the log"))?;
    decode_row(position_of(&key), &value)
}

/// A row: hash, epoch, whether it ends a batch, the subject with its length, the bytes.
fn encode_row(row: &Row) -> Vec<u8> {
    let subject = row.subject.as_bytes();
    let len = u16::try_from(subject.len()).expect("a subject has at most some hundred bytes");
    let mut value = Vec::with_capacity(43 + subject.len() + row.bytes.len());
    value.extend(row.place.hash.0);
    value.extend(row.place.epoch.to_be_bytes());
    value.push(u8::from(row.ends));
    value.extend(len.to_be_bytes());
    value.extend(subject);
    value.extend(&row.bytes);
    value
}

fn decode_row(position: u64, value: &[u8]) -> Result<Row, StoreError> {
    let row = || {
        let (hash, rest) = value.split_first_chunk::<32>()?;
        let (epoch, rest) = rest.split_first_chunk::<8>()?;
        let (ends, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (subject, bytes) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        let place = Place { epoch: u64::from_be_bytes(*epoch), position, hash: Hash(*hash) };
        Some(Row {
            place,
            ends: *ends == 1,
            subject: std::str::from_utf8(subject).ok()?.to_owned(),
            bytes: Bytes::copy_from_slice(bytes),
        })
    };
    row().ok_or_else(|| StoreError::Damaged { position, what: "its row is cut short".to_owned() })
}
