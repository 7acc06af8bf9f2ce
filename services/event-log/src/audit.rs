//! Whether a log is what it should be: every entry, every index row, the snapshots and the witness.
//!
//! It goes on behind what is wrong, so that one look names all damage, each by its position. Entries
//! are checked against the chain, indexes against the entries in both directions: what an entry says
//! is in the index, and nothing else is.
//!
//! Not here: the files below (`store/files.rs`), and when and how fast it is done (`verify`, `scrub`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use cluster::{FOLD_VERSION, Fold};
use schemas::envelope::Header;
use schemas::event::Event;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::subject;

use crate::entry;
use crate::index::{Indexer, Leaderships};
use crate::store::{FjallStore, Frozen, Row, SnapshotMeta, Store as _, StoreError, WriterRow};
use crate::witness::Heads;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where, when it belongs to a position.
    pub(crate) position: Option<u64>,
    /// What.
    pub(crate) what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "position {position}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl From<StoreError> for Damage {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged { position: 0, what } => Self { position: None, what },
            StoreError::Damaged { position, what } => Self { position: Some(position), what },
            error => Self { position: None, what: runtime::process::chain(&error) },
        }
    }
}

/// Which checks are made. Without one of them some damage is silent, which tests hold against it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Checks {
    pub(crate) chain: bool,
    pub(crate) indexes: bool,
    /// Fold everything, and compare snapshots with that.
    pub(crate) state: bool,
}

impl Checks {
    pub(crate) const ALL: Self = Self { chain: true, indexes: true, state: true };
}

/// A look at a whole log, in steps.
pub(crate) struct Audit<'a> {
    store: &'a FjallStore,
    checks: Checks,
    /// The next position.
    next: u64,
    /// The last entry. None behind something that is missing: the next one is taken at its word.
    before: Option<Place>,
    /// The batches; none until the next one begins.
    indexer: Option<Indexer>,
    leaderships: Leaderships,
    fold: Option<Fold>,
    snapshots: BTreeMap<u64, Vec<SnapshotMeta>>,
    genesis: Option<String>,
    epoch: u64,
    /// How many rows the index of entities must have.
    entities: u64,
    /// Whether something could not be read.
    holes: bool,
    found: Vec<Damage>,
}

impl<'a> Audit<'a> {
    pub(crate) fn new(store: &'a FjallStore, checks: Checks) -> Self {
        let mut audit = Self {
            store,
            checks,
            next: 1,
            before: Some(Place::START),
            indexer: Some(Indexer::default()),
            leaderships: Leaderships::default(),
            fold: checks.state.then(Fold::new),
            snapshots: BTreeMap::new(),
            genesis: None,
            epoch: 0,
            entities: 0,
            holes: false,
            found: Vec::new(),
        };
        match store.snapshots() {
            Ok(metas) => {
                for meta in metas {
                    audit.snapshots.entry(meta.place.position).or_default().push(meta);
                }
            }
            Err(error) => audit.damage(error),
        }
        audit
    }

    /// A look at the newest entries only, the first of which is taken at its word.
    fn of_newest(store: &'a FjallStore, count: u64) -> Result<Self, StoreError> {
        let next = store.head()?.position.saturating_sub(count) + 1;
        let mut audit = Self::new(store, Checks { state: false, ..Checks::ALL });
        if next > 1 {
            (audit.next, audit.before, audit.indexer, audit.holes) = (next, None, None, true);
        }
        Ok(audit)
    }

    /// What was found since this was asked last.
    pub(crate) fn found(&mut self) -> Vec<Damage> {
        std::mem::take(&mut self.found)
    }

    /// The last position that was looked at.
    pub(crate) fn reached(&self) -> u64 {
        self.next - 1
    }

    /// The state at the end, when everything folded.
    pub(crate) fn fold(&self) -> Option<&Fold> {
        self.fold.as_ref()
    }

    fn damage(&mut self, damage: impl Into<Damage>) {
        self.found.push(damage.into());
    }

    fn wrong(&mut self, position: u64, what: impl Into<String>) {
        self.damage(Damage { position: Some(position), what: what.into() });
    }

    /// Looks at entries up to a position.
    pub(crate) fn step(&mut self, to: u64) {
        let store = self.store;
        self.entries(to, &mut |from, each| store.scan(from, to, each));
    }

    fn entries(&mut self, to: u64, scan: &mut Scan<'_>) {
        while self.next <= to {
            let from = self.next;
            let scanned = scan(from, &mut |row| {
                self.entry(&row);
                ControlFlow::Continue(())
            });
            match scanned {
                Ok(()) if self.next <= to => self.missing(to),
                Ok(()) => {}
                Err(error) => {
                    self.damage(error);
                    self.torn(self.next);
                    // What is behind it may be whole: blocks fail one by one.
                    self.next = self.readable_after(self.next + 1, to);
                }
            }
        }
    }

    fn readable_after(&self, from: u64, to: u64) -> u64 {
        (from..=to).find(|at| matches!(self.store.row(*at), Ok(Some(_)))).unwrap_or(to + 1)
    }

    /// Positions from the next one to this are not there.
    fn missing(&mut self, to: u64) {
        let what = match to - self.next {
            0 => "it is not there".to_owned(),
            _ => format!("it is not there, nor is anything up to position {to}"),
        };
        self.wrong(self.next, what);
        self.torn(self.next);
        self.next = to + 1;
    }

    /// What follows does not follow from what was read.
    fn torn(&mut self, at: u64) {
        self.before = None;
        self.indexer = None;
        self.holes = true;
        self.no_state(at);
    }

    fn no_state(&mut self, at: u64) {
        if self.fold.take().is_some() {
            let what = "the state and the snapshots from here on cannot be checked".to_owned();
            self.wrong(at, what);
        }
    }

    fn entry(&mut self, row: &Row) {
        let at = row.position();
        if at > self.next {
            self.missing(at - 1);
        }
        self.next = at + 1;
        let (header, event) = match entry::decode(&row.bytes) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.wrong(at, error.to_string());
                self.torn(at);
                // Its own row says where it stands: what follows is compared with that.
                self.before = Some(row.place);
                return;
            }
        };
        if self.checks.chain {
            self.chain(row, &header, event.as_ref());
        }
        self.before = Some(row.place);
        self.epoch = self.epoch.max(header.epoch);
        if let Some(genesis) = event.as_ref().and_then(entry::genesis_of) {
            self.genesis = Some(genesis.to_owned());
        }
        self.batch(row, &header, event.as_ref());
        self.state(row);
    }

    fn chain(&mut self, row: &Row, header: &Header, event: Option<&Event>) {
        let at = row.position();
        if header.position != at {
            self.wrong(at, format!("it holds the event of position {}", header.position));
        }
        if header.prev_hash.extend(&row.bytes) != row.place.hash {
            self.wrong(at, "it does not have its hash");
        }
        if header.epoch != row.place.epoch {
            self.wrong(at, format!("it is of epoch {} and not {}", header.epoch, row.place.epoch));
        }
        if let Some(event) = event
            && row.subject != subject::event(&header.tenant, &event.about())
        {
            self.wrong(at, format!("it is stored for another subject, {:?}", row.subject));
        }
        let Some(before) = self.before else { return };
        if header.prev_hash != before.hash {
            self.wrong(at, "it does not follow from the one before it: its hash differs");
        }
        let takes = matches!(event, Some(Event::SequencerTaken(_)));
        let fits = if takes { header.epoch > before.epoch } else { header.epoch == before.epoch };
        if !fits {
            self.wrong(at, format!("epoch {} after epoch {}", header.epoch, before.epoch));
        }
    }

    fn batch(&mut self, row: &Row, header: &Header, event: Option<&Event>) {
        let at = row.position();
        if self.indexer.is_none() && header.batch.i == 0 {
            self.indexer = Some(Indexer::default());
        }
        let Some(indexer) = &mut self.indexer else { return };
        if !indexer.fits(header, event) {
            self.indexer = None;
            return self.wrong(at, "it is torn out of its batch");
        }
        let step = indexer.push(header, event);
        if self.checks.chain && step.ends != row.ends {
            self.wrong(at, "its row does not say right whether its batch ends");
        }
        let Some(effects) = step.effects else { return };
        let (series, expected, entities) = self.leaderships.take(effects);
        if !self.checks.indexes {
            return;
        }
        self.entities += entities.len() as u64;
        match self.store.series(&series) {
            Ok(Some(row)) if row.n >= expected.n && row.writer == expected.writer => {}
            Ok(row) => {
                let n = row.map_or(0, |row| row.n);
                let what = format!(
                    "the index has number {n} for series {series} of {}, which got to {} here",
                    expected.writer, expected.n
                );
                self.wrong(at, what);
            }
            Err(error) => self.damage(error),
        }
        for (entity, position) in entities {
            match self.store.is_indexed(&entity, position) {
                Ok(true) => {}
                Ok(false) => {
                    self.wrong(position, format!("it is missing in the index of {entity}"));
                }
                Err(error) => self.damage(error),
            }
        }
    }

    fn state(&mut self, row: &Row) {
        let Some(fold) = &mut self.fold else { return };
        if let Err(error) = fold.push(&row.bytes) {
            self.wrong(row.position(), error.to_string());
            return self.no_state(row.position());
        }
        if fold.place() != row.place {
            return;
        }
        for meta in self.snapshots.remove(&row.position()).unwrap_or_default() {
            if let Err(what) = self.snapshot(&meta) {
                self.wrong(row.position(), format!("its snapshot is damaged: {what}"));
            }
        }
    }

    fn snapshot(&self, meta: &SnapshotMeta) -> Result<(), String> {
        let len = usize::try_from(meta.bytes).unwrap_or(usize::MAX);
        let bytes = self.store.snapshot_bytes(meta, 0, len).map_err(|error| error.to_string())?;
        let Some(fold) = self.fold.as_ref().filter(|_| meta.fold_version == FOLD_VERSION) else {
            // It can be read; what it says only another release knows.
            return Ok(());
        };
        let restored = Fold::restore(&bytes).map_err(|error| error.to_string())?;
        let hash = fold.state().hash();
        if restored.place() != fold.place() || meta.place != fold.place() {
            return Err(format!("it is of {} and not of {}", restored.place(), fold.place()));
        }
        if restored.state().hash() != hash || meta.state_hash != hash {
            return Err(format!("it does not have the state's hash {hash}"));
        }
        Ok(())
    }

    /// Looks at the rest, and at everything that only the whole log can be compared with.
    pub(crate) fn finish(&mut self) {
        let frozen = self.store.frozen();
        match frozen.head() {
            Ok(head) => self.entries(head, &mut |from, each| frozen.scan(from, head, each)),
            Err(error) => self.damage(error),
        }
        if let Err(error) = self.orphans(&frozen) {
            self.damage(error);
        }
        if self.checks.state && self.fold.is_some() {
            for (position, metas) in std::mem::take(&mut self.snapshots) {
                for _ in metas {
                    self.wrong(position, "there is a snapshot of it, and no batch ends there");
                }
            }
        }
        // Behind a hole nobody knows what the indexes must say.
        if self.checks.indexes
            && !self.holes
            && let Err(error) = self.indexes(&frozen)
        {
            self.damage(error);
        }
    }

    fn orphans(&mut self, frozen: &Frozen<'_>) -> Result<(), StoreError> {
        frozen.orphans(&mut |row| {
            let at = row.position();
            self.epoch = self.epoch.max(row.place.epoch);
            match Header::decode(&row.bytes) {
                Ok((header, _)) if header.prev_hash.extend(&row.bytes) == row.place.hash => {}
                Ok(_) => self.wrong(at, "what was moved aside there does not have its hash"),
                Err(error) => self.wrong(at, format!("what was moved aside there: {error}")),
            }
        })
    }

    /// Nothing is in the indexes but what the entries say.
    fn indexes(&mut self, frozen: &Frozen<'_>) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        frozen.series(&mut |series, row| rows.push((series, row)))?;
        for (series, row) in rows {
            let at = row.position;
            let entry = frozen.row(at)?.and_then(|row| Header::decode(&row.bytes).ok());
            let fits = entry.is_some_and(|(header, _)| {
                header.batch.series == series
                    && header.batch.n == row.n
                    && header.writer == row.writer
                    && header.batch.ends()
            });
            if !fits {
                let what = format!("the index says that series {series} got to {} here", row.n);
                self.wrong(at, what);
            }
        }
        self.writers(frozen.writers()?);
        let mut count = 0;
        frozen.entities(&mut |_, _| count += 1)?;
        if count != self.entities {
            self.surplus(frozen, count)?;
        }
        let (epoch, genesis) = frozen.meta()?;
        if epoch != self.epoch {
            let what = format!("epoch {epoch} is stored as the last one, not {}", self.epoch);
            self.damage(Damage { position: None, what });
        }
        if genesis != self.genesis {
            let what = format!("{genesis:?} is stored as the history, not {:?}", self.genesis);
            self.damage(Damage { position: None, what });
        }
        Ok(())
    }

    fn writers(&mut self, stored: Vec<(Writer, WriterRow)>) {
        let mut stored: BTreeMap<_, _> = stored.into_iter().collect();
        let expected: Vec<_> =
            self.leaderships.0.iter().map(|(writer, row)| (writer.clone(), row.clone())).collect();
        for (writer, expected) in expected {
            let got = stored.remove(&writer);
            if got.as_ref() != Some(&expected) {
                let what =
                    format!("the index of leaderships has {got:?} for {writer}, not {expected:?}");
                self.wrong(expected.position, what);
            }
        }
        for (writer, row) in stored {
            let what = format!("the index of leaderships has {writer}, which the log has not");
            self.wrong(row.position, what);
        }
    }

    /// Names rows of the index of entities that no entry asks for.
    fn surplus(&mut self, frozen: &Frozen<'_>, count: u64) -> Result<(), StoreError> {
        let what = format!("the index of entities has {count} rows, not {}", self.entities);
        self.damage(Damage { position: None, what });
        let mut wrong = Vec::new();
        frozen.entities(&mut |entity, position| {
            let row = self.store.row(position).ok().flatten();
            let event = row.and_then(|row| entry::decode(&row.bytes).ok()).and_then(|(_, e)| e);
            if !event.is_some_and(|event| event.about().entities.iter().any(|name| name == entity))
            {
                wrong.push((position, format!("the index says that {entity} is meant there")));
            }
        })?;
        for (position, what) in wrong {
            self.wrong(position, what);
        }
        Ok(())
    }
}

/// Whether the newest entries and what the indexes say of them are whole: what a start relies on
/// before anything else has read them.
///
/// # Errors
///
/// The first damage.
pub(crate) fn newest(store: &FjallStore, count: u64) -> Result<(), StoreError> {
    let mut audit = Audit::of_newest(store, count)?;
    audit.step(store.head()?.position);
    match audit.found().into_iter().next() {
        Some(Damage { position, what }) => {
            Err(StoreError::Damaged { position: position.unwrap_or(0), what })
        }
        None => Ok(()),
    }
}

type Scan<'s> =
    dyn FnMut(u64, &mut dyn FnMut(Row) -> ControlFlow<()>) -> Result<(), StoreError> + 's;

/// What the witness has against a log.
pub(crate) fn against_witness(
    store: &FjallStore,
    seen: Option<&Heads>,
) -> Result<Vec<Damage>, StoreError> {
    let head = store.head()?;
    let Some(Heads { published, genesis, .. }) = seen else {
        if head.position == 0 {
            return Ok(Vec::new());
        }
        let what = "there is no witness: that the log has lost its end would not show".to_owned();
        return Ok(vec![Damage { position: None, what }]);
    };
    let mut found = Vec::new();
    let mut wrong = |position, what| found.push(Damage { position: Some(position), what });
    if published.position > head.position {
        let what = format!(
            "the log ends at {head}, and the witness saw {published} published: the events from \
             here on are missing"
        );
        wrong(head.position + 1, what);
    } else if published.position > 0 {
        let place = store.row(published.position)?.map(|row| row.place);
        if place != Some(*published) {
            let what = format!("the witness saw another event published (hash {})", published.hash);
            wrong(published.position, what);
        }
    }
    let mine = store.genesis()?;
    if let (Some(mine), Some(witnessed)) = (&mine, genesis)
        && mine != witnessed
    {
        wrong(1, format!("the log is history {mine}, the witness is of {witnessed}"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;
    use crate::testing::flip::Original;

    #[test]
    fn a_start_looks_at_the_newest_entries_and_their_indexes() {
        let folder = Folder::new();
        let _original = Original::make(folder.path(), 300);
        let store = FjallStore::open(folder.path()).expect("it opens");
        newest(&store, 1_000_000).expect("all of it is whole");
        newest(&store, 100).expect("the end is whole");
        let head = store.head().expect("readable").position;
        let row = store.row(head - 200).expect("readable").expect("there");
        store.replace(&Row { subject: "muster.v1.evt.other".to_owned(), ..row });
        newest(&store, 100).expect("the damage lies before that");
        let error = newest(&store, 1_000).expect_err("it is among these").to_string();
        assert!(error.contains(&format!("damaged at position {}", head - 200)), "{error}");
    }
}
