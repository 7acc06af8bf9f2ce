//! What must hold after a fault: the store against the ledger of the writers, and the stream against
//! the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bus::Bus;
use cluster::Fold;
use event_log::store::{FjallStore, Row, Store as _, rows};
use event_log::testing::stands_for;
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::id::{Series, Writer};
use schemas::place::Place;
use schemas::stream;

use crate::load::Ledger;
use crate::run::Checked;

/// The most messages that are read at once.
const PART: usize = 4_096;

/// Where each request stands in a log: its last position, and what its events say.
type Requests = BTreeMap<(Series, u64), (u64, Vec<String>)>;

/// A whole log, read from a store that nobody serves.
pub(crate) struct Whole {
    rows: Vec<Row>,
    requests: Requests,
}

impl Whole {
    /// Opens the store in `folder`, and reads all of it: the chain and the batches must be whole, no
    /// request may be there twice, and nothing may be impossible.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let store = FjallStore::open(folder)?;
        let head = store.head()?;
        let rows = rows(&store, 1, head.position)?;
        let mut fold = Fold::new();
        for row in &rows {
            fold.push(&row.bytes)?;
            if fold.cursor() != row.place || (fold.cursor() == fold.place()) != row.ends {
                return Err(format!("position {} is stored as another", row.position()).into());
            }
        }
        if fold.cursor().position != head.position {
            let end = fold.cursor();
            return Err(format!("the log ends at {end}, and its head is {head}").into());
        }
        if fold.state().anomalies() > 0 {
            return Err("something impossible is in the log".into());
        }
        let requests = requests(&rows)?;
        Ok(Self { rows, requests })
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Everything that was answered is there, where the answer said, and says what was offered; what
    /// is there was offered.
    pub(crate) fn holds(&self, answered: &BTreeMap<(Series, u64), Place>) -> Result<u64, Failure> {
        for ((series, n), place) in answered {
            let found = self.requests.get(&(series.clone(), *n));
            let Some((at, _)) = found else {
                let what = format!("lost: number {n} of series {series}, answered at {place}");
                return Err(what.into());
            };
            if *at != place.position || self.place(*at) != Some(*place) {
                let what = format!("number {n} of series {series} is at {at}, not at {place}");
                return Err(what.into());
            }
        }
        Ok(answered.len() as u64)
    }

    /// What is there of the writers is what they offered.
    pub(crate) fn is_of(&self, ledger: &Ledger) -> Result<(), Failure> {
        for ((series, n), (at, says)) in &self.requests {
            if ledger.offered.get(&(series.clone(), *n)).is_some_and(|offered| offered != says) {
                return Err(format!("position {at} does not say what was offered").into());
            }
        }
        Ok(())
    }

    /// Everything in the stream is in the store, byte for byte. How many messages.
    pub(crate) fn covers(&self, stream: &BTreeMap<u64, Vec<u8>>) -> Result<u64, Failure> {
        for (sequence, bytes) in stream {
            let at = usize::try_from(sequence - 1).unwrap_or(usize::MAX);
            if self.rows.get(at).is_none_or(|row| !stands_for(&row.bytes, bytes)) {
                return Err(format!("position {sequence} is published and not in the store").into());
            }
        }
        Ok(stream.len() as u64)
    }

    fn place(&self, position: u64) -> Option<Place> {
        let at = usize::try_from(position.checked_sub(1)?).ok()?;
        self.rows.get(at).map(|row| row.place)
    }
}

/// The requests of a log, by series and number. Unfinished batches do not count.
fn requests(rows: &[Row]) -> Result<Requests, Failure> {
    let mut found = Requests::new();
    let mut open: Vec<String> = Vec::new();
    let mut last: BTreeMap<Series, u64> = BTreeMap::new();
    for row in rows {
        let Envelope { header, event } = Envelope::decode(&row.bytes)?;
        if header.batch.i == 0 {
            open.clear();
        }
        open.push(event.data());
        if !header.batch.ends() {
            continue;
        }
        let key = (header.batch.series.clone(), header.batch.n);
        if header.writer != Writer::EventLog {
            let before = last.insert(key.0.clone(), key.1).unwrap_or(0);
            if key.1 != before + 1 {
                let what = format!("number {} of series {} follows {before}", key.1, key.0);
                return Err(what.into());
            }
            if found.insert(key, (row.position(), std::mem::take(&mut open))).is_some() {
                return Err(format!("position {} is there twice", row.position()).into());
            }
        }
    }
    Ok(found)
}

/// Every message of the events stream, as it is now.
pub(crate) async fn stream(bus: &Bus) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
    let mut messages = BTreeMap::new();
    let state = bus.stream_state(stream::EVENTS.name).await?.ok_or("there is no events stream")?;
    if state.messages == 0 {
        return Ok(messages);
    }
    let mut follow = bus.follow(stream::EVENTS.name, state.first, None);
    while follow.position() <= state.last {
        for message in follow.next_batch(PART).await? {
            messages.insert(message.sequence, message.payload.to_vec());
        }
    }
    Ok(messages)
}

/// Checks a log that nobody serves against everything: what was answered, what was offered, and
/// what is published.
pub(crate) async fn dead(
    folder: &Path,
    ledger: &crate::load::Load,
    bus: Option<&Bus>,
    checked: &mut Checked,
) -> Result<Whole, Failure> {
    let published = match bus {
        Some(bus) => stream(bus).await?,
        None => BTreeMap::new(),
    };
    let whole = tokio::task::block_in_place(|| Whole::read(folder))?;
    let ledger = ledger.ledger();
    checked.add("answers found in the store", whole.holds(&ledger.answered)?);
    whole.is_of(&ledger)?;
    drop(ledger);
    checked.add("published messages found in the store", whole.covers(&published)?);
    Ok(whole)
}

/// Stream and log are the same from the stream's first message on, and end at the same position.
pub(crate) fn same(whole: &Whole, stream: &BTreeMap<u64, Vec<u8>>) -> Result<(), Failure> {
    whole.covers(stream)?;
    let (first, last) = match (stream.first_key_value(), stream.last_key_value()) {
        (Some((first, _)), Some((last, _))) => (*first, *last),
        _ => return Err("the stream is empty".into()),
    };
    let has: BTreeSet<u64> = stream.keys().copied().collect();
    if last != whole.len() || (first..=last).any(|sequence| !has.contains(&sequence)) {
        let len = whole.len();
        return Err(format!("the stream has {first} to {last}, the log ends at {len}").into());
    }
    Ok(())
}
