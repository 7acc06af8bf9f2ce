//! How keys and rows are as bytes, and which rows a commit is.

use bytes::Bytes;
use schemas::place::{Hash, Place};

use serde::Serialize;

use super::{Commit, Row, SnapshotMeta, StoreError};

/// What a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Entries by position.
    Log,
    /// How far each series has got.
    Series,
    /// Leaderships by writer.
    Writers,
    /// Positions by entity.
    Entities,
}

/// The rows of a commit.
#[cfg(any(test, feature = "testing"))]
pub(super) fn rows_of(commit: &Commit) -> Vec<(Part, Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    each_row(commit, &mut |part, key, value| rows.push((part, key.to_owned(), value.to_owned())));
    rows
}

/// Hands the rows of a commit on, by part and key.
pub(super) fn each_row(commit: &Commit, each: &mut impl FnMut(Part, &[u8], &[u8])) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    for row in &commit.rows {
        value.clear();
        write_row(row, &mut value);
        each(Part::Log, &row.position().to_be_bytes(), &value);
    }
    for (series, row) in &commit.series {
        each(Part::Series, series.as_str().as_bytes(), &json(row));
    }
    for (writer, row) in &commit.writers {
        each(Part::Writers, writer.to_string().as_bytes(), &json(row));
    }
    for (entity, position) in commit.entities.iter() {
        key.clear();
        write_entity_key(entity, position, &mut key);
        each(Part::Entities, &key, &[]);
    }
}

pub(super) fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("an index row has string keys only")
}

pub(super) fn position_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// Entities hold no control characters, so the zero keeps one from being the beginning of another.
pub(super) fn entity_key(entity: &str, position: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(entity.len() + 9);
    write_entity_key(entity, position, &mut key);
    key
}

fn write_entity_key(entity: &str, position: u64, key: &mut Vec<u8>) {
    key.extend_from_slice(entity.as_bytes());
    key.push(0);
    key.extend_from_slice(&position.to_be_bytes());
}

pub(super) fn meta_key(meta: &SnapshotMeta) -> Vec<u8> {
    let SnapshotMeta { place, fold_version, .. } = meta;
    [b"meta/", &place.position.to_be_bytes()[..], &fold_version.to_be_bytes(), &place.hash.0]
        .concat()
}

pub(super) fn piece_key(meta: &SnapshotMeta, index: usize) -> Vec<u8> {
    let SnapshotMeta { place, fold_version, .. } = meta;
    let mut key = b"piece/".to_vec();
    key.extend(place.position.to_be_bytes());
    key.extend(fold_version.to_be_bytes());
    key.extend(place.hash.0);
    key.extend((index as u64).to_be_bytes());
    key
}

/// A row: hash, epoch, whether it ends a batch, the subject with its length, the bytes.
pub(super) fn encode_row(row: &Row) -> Vec<u8> {
    let mut value = Vec::with_capacity(43 + row.subject.len() + row.bytes.len());
    write_row(row, &mut value);
    value
}

fn write_row(row: &Row, value: &mut Vec<u8>) {
    let subject = row.subject.as_bytes();
    let len = u16::try_from(subject.len()).expect("a subject has at most some hundred bytes");
    value.extend_from_slice(&row.place.hash.0);
    value.extend_from_slice(&row.place.epoch.to_be_bytes());
    value.push(u8::from(row.ends));
    value.extend_from_slice(&len.to_be_bytes());
    value.extend_from_slice(subject);
    value.extend_from_slice(&row.bytes);
}

pub(super) fn decode_row(position: u64, value: &[u8]) -> Result<Row, StoreError> {
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
