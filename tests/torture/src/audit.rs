//! What must hold after a fault: the store against the ledger of the writers, and the stream against
//! the store.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bus::Bus;
use cluster::Fold;
use event_log::store::{FjallStore, Row, Store as _, rows};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::id::{Series, Writer};
use schemas::place::Place;
use schemas::stream;

use crate::load::Load;
use crate::run::Checked;

/// The most messages that are read at once.
const PART: usize = 4_096;

/// A request, by its series and number.
type Key = (Series, u64);

/// A log as far as it was read from stores that nobody served. It goes on where it stopped, so that
/// a scenario of many rounds reads each entry twice: when it is new, and at the end.
#[derive(Default)]
pub(crate) struct Audit {
    fold: Fold,
    /// The place of every entry.
    places: Vec<Place>,
    /// Where the last event of each request stands.
    requests: BTreeMap<Key, u64>,
    /// What the events of requests say that were not compared with the ledger yet.
    says: BTreeMap<Key, Vec<String>>,
    /// The last number of each series.
    numbers: BTreeMap<Series, u64>,
    open: Vec<String>,
    /// The answers that were found.
    found: BTreeSet<Key>,
    /// How far the stream was compared.
    streamed: u64,
}

impl Audit {
    /// Opens the store in `folder`, and reads what is new in it: it must follow from what was read
    /// before, the chain and the batches must be whole, no request may be there twice, and nothing
    /// may be impossible.
    pub(crate) fn read(&mut self, folder: &Path) -> Result<(), Failure> {
        let store = FjallStore::open(folder)?;
        let (head, known) = (store.head()?, self.fold.cursor());
        let found = if known.position == 0 { None } else { store.row(known.position)? };
        if known.position > 0 && found.is_none_or(|row| row.place != known) {
            return Err(format!("what stood at {known} is not there any more").into());
        }
        for row in rows(&store, known.position + 1, head.position)? {
            self.push(&row)?;
        }
        if self.fold.cursor().position != head.position {
            let end = self.fold.cursor();
            return Err(format!("the log ends at {end}, and its head is {head}").into());
        }
        match self.fold.state().anomalies() {
            0 => Ok(()),
            _ => Err("something impossible is in the log".into()),
        }
    }

    fn push(&mut self, row: &Row) -> Result<(), Failure> {
        self.fold.push(&row.bytes)?;
        let at = row.position();
        if self.fold.cursor() != row.place || (self.fold.cursor() == self.fold.place()) != row.ends
        {
            return Err(format!("position {at} is stored as another").into());
        }
        self.places.push(row.place);
        let Envelope { header, event } = Envelope::decode(&row.bytes)?;
        if header.batch.i == 0 {
            self.open.clear();
        }
        self.open.push(event.data());
        if !header.batch.ends() || header.writer == Writer::EventLog {
            return Ok(());
        }
        let key = (header.batch.series, header.batch.n);
        let before = self.numbers.insert(key.0.clone(), key.1).unwrap_or(0);
        if key.1 != before + 1 {
            return Err(format!("number {} of series {} follows {before}", key.1, key.0).into());
        }
        self.says.insert(key.clone(), std::mem::take(&mut self.open));
        self.requests.insert(key, at);
        Ok(())
    }

    /// How many entries it has.
    pub(crate) fn len(&self) -> u64 {
        self.places.len() as u64
    }

    /// What is there of the writers is what they offered.
    pub(crate) fn is_of(&mut self, load: &Load) -> Result<(), Failure> {
        let ledger = load.ledger();
        for ((series, n), says) in std::mem::take(&mut self.says) {
            let offered = ledger.offered.get(&(series.clone(), n));
            if offered.is_some_and(|offered| *offered != says) {
                return Err(format!("number {n} of {series} does not say what was offered").into());
            }
        }
        Ok(())
    }

    /// Everything that was answered is there once, where the answer said. How many that were not
    /// found before.
    pub(crate) fn holds(&mut self, answered: &BTreeMap<Key, Place>) -> Result<u64, Failure> {
        let mut count = 0;
        for (key, place) in answered {
            if self.found.contains(key) {
                continue;
            }
            let (series, n) = key;
            let Some(at) = self.requests.get(key) else {
                let what = format!("lost: number {n} of series {series}, answered at {place}");
                return Err(what.into());
            };
            if self.place(*at) != Some(*place) {
                let what = format!("number {n} of series {series} is at {at}, not at {place}");
                return Err(what.into());
            }
            self.found.insert(key.clone());
            count += 1;
        }
        Ok(count)
    }

    /// Everything in the stream is in the store, byte for byte. How many messages that were not
    /// compared before.
    pub(crate) fn covers(&mut self, stream: &BTreeMap<u64, Vec<u8>>) -> Result<u64, Failure> {
        let mut count = 0;
        for (sequence, bytes) in stream.range(self.streamed + 1..) {
            let before = match sequence - 1 {
                0 => Some(Place::START),
                before => self.place(before),
            };
            // The hash of an entry is that of its bytes behind the hash before it.
            let hash = before.map(|before| before.hash.extend(bytes));
            if hash.is_none() || self.place(*sequence).map(|place| place.hash) != hash {
                return Err(format!("position {sequence} is published and not in the store").into());
            }
            self.streamed = *sequence;
            count += 1;
        }
        Ok(count)
    }

    /// Where what was not compared yet begins in the stream.
    pub(crate) fn next(&self) -> u64 {
        self.streamed + 1
    }

    /// Reads a log that nobody serves, and checks it against everything: what was answered, what was
    /// offered, and what is published.
    pub(crate) async fn dead(
        &mut self,
        folder: &Path,
        load: &Load,
        bus: Option<&Bus>,
        checked: &mut Checked,
    ) -> Result<(), Failure> {
        let published = match bus {
            Some(bus) => stream(bus, self.next()).await?,
            None => BTreeMap::new(),
        };
        tokio::task::block_in_place(|| self.read(folder))?;
        let answered = load.ledger().answered.clone();
        checked.add("answers found in a dead store", self.holds(&answered)?);
        self.is_of(load)?;
        checked.add("published messages found in it", self.covers(&published)?);
        Ok(())
    }

    fn place(&self, position: u64) -> Option<Place> {
        let at = usize::try_from(position.checked_sub(1)?).ok()?;
        self.places.get(at).copied()
    }
}

/// Every message of the events stream from a sequence on, as it is now.
pub(crate) async fn stream(bus: &Bus, from: u64) -> Result<BTreeMap<u64, Vec<u8>>, Failure> {
    let mut messages = BTreeMap::new();
    let state = bus.stream_state(stream::EVENTS.name).await?.ok_or("there is no events stream")?;
    let from = from.max(state.first);
    if state.messages == 0 || from > state.last {
        return Ok(messages);
    }
    let mut follow = bus.follow(stream::EVENTS.name, from, None);
    while follow.position() <= state.last {
        for message in follow.next_batch(PART).await? {
            messages.insert(message.sequence, message.payload.to_vec());
        }
    }
    Ok(messages)
}

/// Reads a log at its end, all of it once more: it holds everything that was answered, each once, and
/// the stream is the same from its first message to the last.
pub(crate) async fn whole(
    folder: &Path,
    load: &Load,
    stream: &BTreeMap<u64, Vec<u8>>,
    checked: &mut Checked,
) -> Result<(), Failure> {
    let mut audit = Audit::default();
    tokio::task::block_in_place(|| audit.read(folder))?;
    let answered = load.ledger().answered.clone();
    audit.is_of(load)?;
    checked.add("answered requests there once at the end", audit.holds(&answered)?);
    let compared = audit.covers(stream)?;
    let first = stream.first_key_value().map_or(0, |(first, _)| *first);
    if audit.next() != audit.len() + 1 || first + compared != audit.len() + 1 {
        let what = format!("the stream has {compared} from {first}, the log {}", audit.len());
        return Err(what.into());
    }
    checked.add("events in a whole chain", audit.len());
    Ok(())
}
