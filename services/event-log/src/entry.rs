//! The bytes of entries: what the log writes for a draft, for its own leadership, and in the place
//! of something it never wrote.

use bytes::Bytes;
use schemas::append::{Draft, Request};
use schemas::envelope::{Batch, DecodeError, Envelope, Header, SCHEMA};
use schemas::event::{Event, PositionVoided, SequencerTaken};
use schemas::id::{CLUSTER_TENANT, Digest, Series, Tenant, Writer};
use schemas::place::Place;
use schemas::subject;
use serde_json::value::RawValue;

/// The actor of what event-log states itself.
pub(crate) const ACTOR: &str = "event-log";

/// The end of the log, as far as the next entry depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tip {
    /// The last entry's place.
    pub(crate) place: Place,
    /// When it was recorded. No entry is recorded before the one before it.
    pub(crate) recorded_ms: u64,
}

/// An event, and what follows from it.
#[derive(Clone, Debug)]
pub(crate) struct Stated {
    pub(crate) event: Event,
    /// The entities that it concerns.
    pub(crate) entities: Vec<String>,
    /// Where it is published.
    pub(crate) subject: String,
}

impl Stated {
    pub(crate) fn new(tenant: &Tenant, event: Event) -> Self {
        let about = event.about();
        let subject = subject::event(tenant, &about);
        Self { event, entities: about.entities, subject }
    }
}

/// An entry, made or read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Its frame.
    pub(crate) header: Header,
    /// What it says; none when this release does not know its type and may skip it.
    pub(crate) event: Option<Event>,
    /// The entities that it concerns.
    pub(crate) entities: Vec<String>,
    /// Where it is published.
    pub(crate) subject: String,
    /// Its exact bytes.
    pub(crate) bytes: Bytes,
    /// The log's end behind it.
    pub(crate) tip: Tip,
}

impl Entry {
    fn new(header: Header, stated: Stated, data: &RawValue) -> Self {
        let Stated { event, entities, subject } = stated;
        let bytes = Bytes::from(header.encode(event.kind(), data));
        let tip = tip_behind(&header, &bytes);
        Self { header, event: Some(event), entities, subject, bytes, tip }
    }

    fn of_event(header: Header, event: Event) -> Self {
        let data = RawValue::from_string(event.data()).expect("an event's data is JSON");
        let stated = Stated::new(&header.tenant, event);
        Self::new(header, stated, &data)
    }

    /// An entry as it was read from the stream.
    pub(crate) fn read(
        header: Header,
        event: Option<Event>,
        subject: String,
        bytes: Bytes,
    ) -> Self {
        let tip = tip_behind(&header, &bytes);
        let entities = event.as_ref().map(|event| event.about().entities).unwrap_or_default();
        Self { header, event, entities, subject, bytes, tip }
    }

    /// The `i`-th event of a request.
    pub(crate) fn of(
        request: &Request,
        i: u32,
        draft: &Draft,
        stated: Stated,
        before: &Tip,
        now_ms: u64,
    ) -> Self {
        let of = u32::try_from(request.events.len()).unwrap_or(u32::MAX);
        let batch = Batch { series: request.series.clone(), n: request.n, i, of };
        let header = Header {
            id: id_of(&batch),
            epoch: before.place.epoch,
            position: before.place.position + 1,
            time_ms: draft.time_ms,
            recorded_ms: now_ms.max(before.recorded_ms),
            tenant: draft.tenant.clone(),
            actor: draft.actor.clone(),
            writer: request.writer.clone(),
            term: request.term,
            basis: request.basis,
            batch,
            correlation: draft.correlation.clone(),
            causation: draft.causation,
            schema: SCHEMA,
            ignorable: Event::is_ignorable(&draft.kind),
            prev_hash: before.place.hash,
        };
        Self::new(header, stated, &draft.data)
    }

    /// The entry that begins an epoch.
    pub(crate) fn taken(before: &Tip, epoch: u64, event: SequencerTaken, now_ms: u64) -> Self {
        let series = Series::derive(&format!("{}/sequencer", event.instance), epoch);
        let now_ms = now_ms.max(before.recorded_ms);
        Self::own(before, epoch, series, now_ms, event.into())
    }

    /// Something that event-log itself states.
    pub(crate) fn stated(before: &Tip, event: Event, now_ms: u64) -> Self {
        let series = Series::derive(&format!("stated/{}", event.kind()), before.place.position + 1);
        let now_ms = now_ms.max(before.recorded_ms);
        Self::own(before, before.place.epoch, series, now_ms, event)
    }

    /// The entry for a position at which something stands that the log never wrote. Its bytes
    /// follow from the entry before, the position and the sha256 of what stands there: whoever
    /// meets the same writes the same.
    pub(crate) fn voided(before: &Tip, sha256: Digest) -> Self {
        let series = Series::derive(&format!("voided/{sha256}"), before.place.position + 1);
        let event = PositionVoided { sha256 };
        Self::own(before, before.place.epoch, series, before.recorded_ms, event.into())
    }

    /// An entry of a fork's own beginning: stated in the name of one who led where it comes from.
    pub(crate) fn forked(before: &Tip, writer: &Writer, term: u64, event: Event) -> Self {
        let position = before.place.position + 1;
        let header = Header {
            id: format!("fork-{position}"),
            tenant: Tenant::new(event.tenant()).expect("an event's tenant is a name"),
            writer: writer.clone(),
            term,
            basis: Some(before.place.basis()),
            ..alone(before, Series::derive(&format!("fork/{}", before.place.hash), position))
        };
        Self::of_event(header, event)
    }

    fn own(before: &Tip, epoch: u64, series: Series, now_ms: u64, event: Event) -> Self {
        let alone = alone(before, series);
        let header = Header {
            id: format!("log-{epoch}-{}", alone.position),
            epoch,
            time_ms: now_ms,
            recorded_ms: now_ms,
            term: epoch,
            ..alone
        };
        Self::of_event(header, event)
    }
}

/// `<series>-<n>-<i>`.
fn id_of(batch: &Batch) -> String {
    use std::fmt::Write as _;
    // A series has 32 digits; the numbers are mostly small.
    let mut id = String::with_capacity(48);
    let _ = write!(id, "{}-{}-{}", batch.series.as_str(), batch.n, batch.i);
    id
}

/// The frame of an event that event-log itself states next, as a batch of its own.
fn alone(before: &Tip, series: Series) -> Header {
    Header {
        id: String::new(),
        epoch: before.place.epoch,
        position: before.place.position + 1,
        time_ms: before.recorded_ms,
        recorded_ms: before.recorded_ms,
        tenant: Tenant::new(CLUSTER_TENANT).expect("the cluster's tenant is a name"),
        actor: ACTOR.to_owned(),
        writer: Writer::EventLog,
        term: before.place.epoch,
        basis: None,
        batch: Batch { series, n: 1, i: 0, of: 1 },
        correlation: None,
        causation: None,
        schema: SCHEMA,
        ignorable: false,
        prev_hash: before.place.hash,
    }
}

fn tip_behind(header: &Header, bytes: &[u8]) -> Tip {
    let place = Place {
        epoch: header.epoch,
        position: header.position,
        hash: header.prev_hash.extend(bytes),
    };
    Tip { place, recorded_ms: header.recorded_ms }
}

/// Reads an entry. The event is none when its type is unknown and may be skipped.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, Option<Event>), DecodeError> {
    match Envelope::decode(bytes) {
        Ok(Envelope { header, event }) => Ok((header, Some(event))),
        Err(DecodeError::UnknownType { ignorable: true, .. }) => {
            let (header, _) = Header::decode(bytes)?;
            Ok((header, None))
        }
        Err(error) => Err(error),
    }
}

/// The id of the history, in the entry that gives it one.
pub(crate) fn genesis_of(event: &Event) -> Option<&str> {
    match event {
        Event::SequencerTaken(taken) => taken.genesis.as_deref(),
        _ => None,
    }
}

/// Whether an entry stands for what is in the stream at its position: it is that, byte for byte, or
/// it says that there is something there which the log never wrote.
pub(crate) fn stands_for(stored: &[u8], streamed: &[u8]) -> bool {
    if stored == streamed {
        return true;
    }
    match decode(stored) {
        Ok((_, Some(Event::PositionVoided(voided)))) => voided.sha256 == Digest::of(streamed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_void_never_change() {
        let before = Tip {
            place: Place { epoch: 3, position: 41, hash: schemas::place::Hash::ZERO.extend(b"x") },
            recorded_ms: 1_700_000_000_000,
        };
        let entry = Entry::voided(&before, Digest::of(b"junk"));
        // Written out on purpose: a release that writes other bytes forks history.
        let expected = concat!(
            r#"{"id":"log-3-42","epoch":3,"position":42,"time_ms":1700000000000,"#,
            r#""recorded_ms":1700000000000,"tenant":"cluster","actor":"event-log","#,
            r#""writer":"event-log","term":3,"batch":{"series":"S","n":1,"i":0,"of":1},"#,
            r#""schema":1,"prev_hash":"H","type":"PositionVoided","data":{"sha256":"D"}}"#,
        )
        .replace('S', "9f63c95ec4d84e9be276b37927bb54ee")
        .replace('H', &before.place.hash.to_string())
        .replace('D', Digest::of(b"junk").as_str());
        assert_eq!(String::from_utf8_lossy(&entry.bytes), expected);
        assert_eq!(entry.subject, "muster.v1.evt.cluster.log.position.voided");
        assert!(stands_for(&entry.bytes, b"junk") && !stands_for(&entry.bytes, b"other"));
    }

    #[test]
    fn recorded_time_never_decreases() {
        let taken = |genesis| SequencerTaken {
            instance: "i".to_owned(),
            after: 0,
            genesis,
            accept_loss: None,
        };
        let first = Entry::taken(&Tip::default(), 1, taken(Some("g".to_owned())), 100);
        let second = Entry::taken(&first.tip, 2, taken(None), 50);
        assert_eq!(second.header.recorded_ms, 100);
        assert_eq!(first.event.as_ref().and_then(genesis_of), Some("g"));
    }
}
