//! A packed form of the log's older part, for fast replay: derived from the record, never the record.
//!
//! A segment holds what the fold looks at of some ten thousand events of finished batches, and the
//! places before and behind them. It is used when its own checksum holds and the store has that
//! place, whose hash stands for every entry before it. A segment that is missing, damaged or of
//! another history costs time: it and what follows are read from the store, and packed again.

mod reading;
mod value;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use cluster::Fold;
use schemas::envelope::{Envelope, Header};
use schemas::event::Event;
use schemas::id::Digest;
use schemas::place::Place;
use serde::{Deserialize, Serialize};

use self::reading::{Piece, Reading};
use self::value::Packer;
use crate::store::{Row, Store, StoreError};

/// The folder of the segments, in the folder of the log.
const FOLDER: &str = "packed";

/// The form that is described here. Segments of another one are packed again.
const FORM: u32 = 1;

/// How many events a segment has, or a few more: it ends where a batch does.
const SEGMENT_EVENTS: u64 = 65_536;

/// How many events are unpacked before they are handed on, and how often before they are folded.
const PIECE_EVENTS: usize = 512;
const PIECES_AHEAD: usize = 8;

/// What a segment says of itself, as a line of JSON before its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    form: u32,
    /// The place before its first event.
    from: Place,
    /// The place of its last event.
    to: Place,
    /// SHA-256 of the content.
    sha256: Digest,
}

/// The packed segments beside a store.
#[derive(Clone, Debug)]
pub struct Packed {
    folder: PathBuf,
    segment_events: u64,
}

impl Packed {
    /// Those in the folder of a log.
    #[must_use]
    pub fn of(log: &Path) -> Self {
        Self { folder: log.join(FOLDER), segment_events: SEGMENT_EVENTS }
    }

    /// Packs every whole segment up to a position that is not there yet. What a segment lacks to be
    /// whole, and everything from a type on that only a newer release knows, stays in the store.
    ///
    /// # Errors
    ///
    /// When the store cannot be read or the folder not be written.
    pub fn catch_up(&self, store: &impl Store, to: u64) -> Result<(), StoreError> {
        let mut place = Place::START;
        loop {
            if let Some(head) = self.head_behind(store, place)? {
                place = head.to;
                continue;
            }
            let Some((head, body)) = self.pack(store, place, to)? else { return Ok(()) };
            self.write(&head, &body).map_err(failed("write a packed segment"))?;
            place = head.to;
        }
    }

    /// Folds as much of the log as is packed, from its beginning on.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn fold(&self, store: &impl Store) -> Result<Fold, StoreError> {
        self.fold_to(store, u64::MAX)
    }

    /// The same, by no segment that ends behind a position.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn fold_to(&self, store: &impl Store, to: u64) -> Result<Fold, StoreError> {
        let mut heads = Vec::new();
        while let Some(head) =
            self.head_behind(store, heads.last().map_or(Place::START, |head: &Head| head.to))?
        {
            if head.to.position > to {
                break;
            }
            heads.push(head);
        }
        // One thread reads, checks and unpacks what comes next while the other folds.
        let (send, pieces) = sync_channel(PIECES_AHEAD);
        let folded = std::thread::scope(|scope| {
            scope.spawn(move || {
                for head in heads {
                    let piece = match self.unpack(&head, &send) {
                        Ok(true) => Piece::End(head.to),
                        Ok(false) => return,
                        Err(error) => Piece::Bad { from: head.from, error },
                    };
                    let bad = matches!(piece, Piece::Bad { .. });
                    if send.send(piece).is_err() || bad {
                        return;
                    }
                }
            });
            fold_pieces(&pieces)
        });
        Ok(folded.unwrap_or_else(|(from, error)| {
            tracing::warn!(error, %from, "the packed segment behind is bad and is taken away");
            let _ = fs::remove_file(self.path(from));
            // It may have been applied in part: all is read from the store.
            Fold::new()
        }))
    }

    /// Unpacks a segment, piece by piece. False when nobody takes them any more.
    fn unpack(&self, head: &Head, send: &SyncSender<Piece>) -> Result<bool, String> {
        let body = self.read(head).map_err(|error| error.to_string())?;
        let mut reading = Reading::new(&body, head.from.position);
        loop {
            let piece = reading.next(PIECE_EVENTS).map_err(|error| error.to_string())?;
            if piece.is_empty() {
                return Ok(true);
            }
            if send.send(Piece::Events(piece)).is_err() {
                return Ok(false);
            }
        }
    }

    fn path(&self, from: Place) -> PathBuf {
        self.folder.join(format!("{:020}", from.position + 1))
    }

    /// What the segment behind a place says of itself, if there is one of this history.
    fn head_behind(&self, store: &impl Store, from: Place) -> Result<Option<Head>, StoreError> {
        let Some(head) = read_head(&self.path(from)).filter(|head| head.from == from) else {
            return Ok(None);
        };
        let row = store.row(head.to.position)?;
        Ok(row.is_some_and(|row| row.ends && row.place == head.to).then_some(head))
    }

    fn read(&self, head: &Head) -> io::Result<Vec<u8>> {
        let mut bytes = fs::read(self.path(head.from))?;
        let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let body = bytes.split_off(line);
        if Digest::of(&body) != head.sha256 {
            return Err(io::Error::other("its checksum does not hold"));
        }
        Ok(body)
    }

    /// Written under another name first, so that it is there whole or not at all.
    fn write(&self, head: &Head, body: &[u8]) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let making = self.folder.join("making");
        let mut file = File::create(&making)?;
        serde_json::to_writer(&mut file, head)?;
        file.write_all(b"\n")?;
        file.write_all(body)?;
        file.sync_data()?;
        fs::rename(making, self.path(head.from))
    }

    /// The segment behind a place, when the log up to `to` fills one.
    fn pack(
        &self,
        store: &impl Store,
        from: Place,
        to: u64,
    ) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let mut packing = Packing { from, ..Packing::default() };
        let mut place = from;
        let mut outcome = Ok(());
        let mut whole = false;
        store.scan(from.position + 1, to, &mut |row| {
            outcome = packing.take(&row, place);
            place = row.place;
            whole =
                packing.open.is_empty() && place.position - from.position >= self.segment_events;
            if whole || outcome.is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        match outcome {
            Ok(()) if whole => {
                let body = packing.packer.bytes;
                let sha256 = Digest::of(&body);
                Ok(Some((Head { form: FORM, from, to: place, sha256 }, body)))
            }
            Ok(()) | Err(Unpackable::Newer) => Ok(None),
            Err(Unpackable::Damaged(what)) => {
                Err(StoreError::Damaged { position: place.position, what })
            }
        }
    }
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> StoreError {
    move |source| StoreError::Engine { doing, source: source.into() }
}

fn read_head(path: &Path) -> Option<Head> {
    use std::io::BufRead as _;
    let mut line = Vec::new();
    io::BufReader::new(File::open(path).ok()?).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok().filter(|head: &Head| head.form == FORM)
}

/// Why an entry is not packed.
enum Unpackable {
    /// A newer release may know what it says.
    Newer,
    /// It is not what it should be.
    Damaged(String),
}

/// A segment that is being made.
#[derive(Default)]
struct Packing {
    from: Place,
    packer: Packer,
    /// The entries of a batch that is not finished.
    open: Vec<Row>,
    recorded_ms: u64,
    position: u64,
}

impl Packing {
    /// Takes the entry behind `before`.
    fn take(&mut self, row: &Row, before: Place) -> Result<(), Unpackable> {
        let damaged = |what: String| Unpackable::Damaged(what);
        let (header, kind, _) = Envelope::frame(&row.bytes).map_err(|e| damaged(e.to_string()))?;
        if header.prev_hash != before.hash || before.hash.extend(&row.bytes) != row.place.hash {
            return Err(damaged("it does not follow from the entry before it".to_owned()));
        }
        if !Event::TYPES.iter().any(|(known, _)| *known == kind) {
            return Err(Unpackable::Newer);
        }
        match kind.as_str() {
            // It means nothing to the fold, and may stand inside a batch.
            "PositionVoided" => return Ok(()),
            // What was left unfinished before it is void.
            "SequencerTaken" => self.open.clear(),
            _ => {}
        }
        self.open.push(row.clone());
        if header.batch.ends() {
            for row in std::mem::take(&mut self.open) {
                let (header, kind, data) =
                    Envelope::frame(&row.bytes).map_err(|e| damaged(e.to_string()))?;
                self.write(&header, &kind, data.get()).map_err(|e| damaged(e.to_string()))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, header: &Header, kind: &str, data: &str) -> Result<(), serde_json::Error> {
        let packer = &mut self.packer;
        packer.number(header.position - self.from.position - self.position);
        self.position = header.position - self.from.position;
        packer.number(header.recorded_ms.saturating_sub(self.recorded_ms));
        self.recorded_ms = self.recorded_ms.max(header.recorded_ms);
        packer.text(&header.writer.to_string());
        packer.number(header.basis.map_or(0, |basis| basis.epoch + 1));
        if let Some(basis) = header.basis {
            packer.number(basis.position);
        }
        packer.number(u64::from(header.correlation.is_some()));
        if let Some(correlation) = &header.correlation {
            packer.text(correlation.as_str());
        }
        packer.text(kind);
        packer.json(data)
    }
}

/// Folds what is unpacked, to its end or to a bad segment: then where that begins, and why.
fn fold_pieces(pieces: &Receiver<Piece>) -> Result<Fold, (Place, String)> {
    let (mut replay, mut place) = (Fold::new().replay(), Place::START);
    for piece in pieces {
        match piece {
            Piece::Events(events) => {
                for read in &events {
                    replay.apply(&read.at(), &read.event);
                }
            }
            Piece::End(to) => place = to,
            Piece::Bad { from, error } => return Err((from, error)),
        }
    }
    Ok(replay.at(place))
}

#[cfg(test)]
mod tests;
