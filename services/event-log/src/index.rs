//! What the indexes hold, as it follows from the entries alone.
//!
//! One code makes it when entries are stored, when they are read back from the stream, and when the
//! indexes are put back. A batch counts when its last event is there; one that was left unfinished
//! and followed by `SequencerTaken` never counts: its number was not used, its entities do not
//! exist.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

use schemas::envelope::{Batch, Header};
use schemas::event::Event;
use schemas::id::{NodeName, Series, Writer};
use schemas::place::Place;

use crate::entry;
use crate::store::{Commit, Rollback, Row, SeriesRow, Store, StoreError, WriterRow};

/// The version of what is indexed. A store of an older one is filled from its log at its start.
pub(crate) const INDEXED: u32 = 1;

/// How many entries are indexed in one commit when a store is filled.
const FILL: u64 = 10_000;

/// How many entries are read at once on the way back.
const LOOK_BACK: u64 = 1_024;

/// The names under which an event is found by what is in its header, beside its entities. No entity
/// begins with a control character, so none is ever taken for one of these.
pub(crate) mod by {
    use schemas::id::CommandId;

    pub(crate) fn command(id: &CommandId) -> String {
        ["\u{1}c/", id.as_str()].concat()
    }

    pub(crate) fn actor(name: &str) -> String {
        ["\u{1}a/", name].concat()
    }

    pub(crate) fn kind(name: &str) -> String {
        ["\u{1}k/", name].concat()
    }
}

/// What a finished batch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effects {
    writer: Writer,
    series: Series,
    n: u64,
    position: u64,
    entities: Vec<(String, u64)>,
    leads: Vec<Lead>,
}

/// What an event says about a leadership.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lead {
    Taken {
        writer: Writer,
        term: u64,
        instance: String,
    },
    Released {
        writer: Writer,
    },
    /// The node is lost: any instance may claim its agent's leadership.
    Lost(NodeName),
    /// The node is one of the cluster's, or not any more: then nobody would ever find it lost, and
    /// any instance may claim its agent's leadership.
    Known(NodeName, bool),
    /// The node is heard again: the holder keeps it.
    Returned(NodeName),
}

/// Reads entries in order and says what each finished batch changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indexer {
    open: Option<(Batch, Effects)>,
}

/// What an entry did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Whether its place is the end of a batch.
    pub(crate) ends: bool,
    /// What the batch it finished changes.
    pub(crate) effects: Option<Effects>,
}

impl Indexer {
    /// Whether an entry may come next, by its batch.
    pub(crate) fn fits(&self, header: &Header, event: Option<&Event>) -> bool {
        let batch = &header.batch;
        match (event, &self.open) {
            (Some(Event::SequencerTaken(_)), _) => batch.i == 0 && batch.of == 1,
            (Some(Event::PositionVoided(_)), _) => true,
            (_, None) => batch.i == 0 && batch.of > 0,
            (_, Some((open, _))) => {
                (&open.series, open.n, open.of) == (&batch.series, batch.n, batch.of)
                    && batch.i == open.i + 1
            }
        }
    }

    /// Reads the next entry.
    pub(crate) fn push(&mut self, header: &Header, event: Option<&Event>) -> Step {
        self.push_named(
            header,
            event,
            event.map(|event| event.about().entities).unwrap_or_default(),
        )
    }

    /// The same, for one who knows already which entities the event concerns.
    pub(crate) fn push_named(
        &mut self,
        header: &Header,
        event: Option<&Event>,
        entities: Vec<String>,
    ) -> Step {
        match event {
            Some(Event::PositionVoided(_)) => {
                return Step { ends: self.open.is_none(), effects: None };
            }
            Some(Event::SequencerTaken(_)) => self.open = None,
            _ => {}
        }
        let (_, mut effects) =
            self.open.take().unwrap_or_else(|| (header.batch.clone(), Effects::none(header)));
        effects.add(header, event, entities);
        if header.batch.ends() {
            return Step { ends: true, effects: Some(effects) };
        }
        self.open = Some((header.batch.clone(), effects));
        Step { ends: false, effects: None }
    }

    /// The indexer as it is behind the entry at `position`.
    pub(crate) fn behind<S: Store>(store: &S, position: u64) -> Result<Self, StoreError> {
        let mut from = position;
        while from > 0 && store.row(from)?.is_some_and(|row| !row.ends) {
            from -= 1;
        }
        let mut indexer = Self::default();
        replay(store, from + 1, position, &mut |_, header, event| {
            indexer.push(header, event);
        })?;
        Ok(indexer)
    }
}

impl Effects {
    fn none(header: &Header) -> Self {
        Self {
            writer: header.writer.clone(),
            series: header.batch.series.clone(),
            n: header.batch.n,
            position: header.position,
            entities: Vec::new(),
            leads: Vec::new(),
        }
    }

    fn add(&mut self, header: &Header, event: Option<&Event>, entities: Vec<String>) {
        let position = header.position;
        self.position = position;
        // Beside those: the actor, the type, and a command.
        self.entities.reserve(entities.len() + 3);
        self.entities.push((by::actor(&header.actor), position));
        self.entities.extend(header.correlation.iter().map(|id| (by::command(id), position)));
        let Some(event) = event else { return };
        self.entities.push((by::kind(event.kind()), position));
        self.entities.extend(entities.into_iter().map(|name| (name, position)));
        let lead = match event {
            Event::LeadershipTaken(e) => {
                Lead::Taken { writer: e.writer.clone(), term: e.term, instance: e.instance.clone() }
            }
            Event::LeadershipReleased(e) => Lead::Released { writer: e.writer.clone() },
            Event::NodeLost(e) => Lead::Lost(e.node.clone()),
            Event::NodeDeclaredLost(e) => Lead::Lost(e.node.clone()),
            Event::NodeDescribed(e) => Lead::Known(e.node.clone(), true),
            Event::NodeRemoved(e) => Lead::Known(e.node.clone(), false),
            Event::NodeReturned(e) => Lead::Returned(e.node.clone()),
            _ => return,
        };
        self.leads.push(lead);
    }

    /// Writes the changes into a commit. `stored` is asked for what the commit does not hold yet.
    pub(crate) fn apply<E>(
        self,
        commit: &mut Commit,
        stored: &mut dyn FnMut(&Writer) -> Result<Option<WriterRow>, E>,
    ) -> Result<(), E> {
        let Self { writer, series, n, position, entities, leads } = self;
        commit.entities.extend(entities);
        for lead in leads {
            lead.apply(commit, stored)?;
        }
        if writer != Writer::EventLog
            && let Some(row) = row_of(&writer, commit, stored)?
        {
            row.position = position;
        }
        commit.series.insert(series, SeriesRow { writer, n, position });
        Ok(())
    }
}

impl Lead {
    fn apply<E>(
        self,
        commit: &mut Commit,
        stored: &mut dyn FnMut(&Writer) -> Result<Option<WriterRow>, E>,
    ) -> Result<(), E> {
        match self {
            Self::Taken { writer, term, instance } => {
                let known = row_of(&writer, commit, stored)?.is_some_and(|row| row.known);
                let (released, lost, position) = (false, false, 0);
                let row = WriterRow { term, instance, released, lost, known, position };
                commit.writers.insert(writer, row);
            }
            Self::Released { writer } => {
                if let Some(row) = row_of(&writer, commit, stored)? {
                    row.released = true;
                }
            }
            Self::Lost(node) => {
                if let Some(row) = row_of(&Writer::Agent(node), commit, stored)? {
                    row.lost = true;
                }
            }
            Self::Known(node, known) => {
                if let Some(row) = row_of(&Writer::Agent(node), commit, stored)? {
                    row.known = known;
                    // One that was lost and is removed comes back as any new one does.
                    row.lost &= known;
                }
            }
            Self::Returned(node) => {
                if let Some(row) = row_of(&Writer::Agent(node), commit, stored)? {
                    row.lost = false;
                }
            }
        }
        Ok(())
    }
}

fn row_of<'a, E>(
    writer: &Writer,
    commit: &'a mut Commit,
    stored: &mut dyn FnMut(&Writer) -> Result<Option<WriterRow>, E>,
) -> Result<Option<&'a mut WriterRow>, E> {
    if !commit.writers.contains_key(writer)
        && let Some(row) = stored(writer)?
    {
        commit.writers.insert(writer.clone(), row);
    }
    Ok(commit.writers.get_mut(writer))
}

impl Effects {
    /// Every writer whose leadership they change.
    fn writers(&self) -> BTreeSet<Writer> {
        let mut writers = BTreeSet::from([self.writer.clone()]);
        for lead in &self.leads {
            writers.insert(match lead {
                Lead::Taken { writer, .. } | Lead::Released { writer } => writer.clone(),
                Lead::Lost(node) | Lead::Known(node, _) | Lead::Returned(node) => {
                    Writer::Agent(node.clone())
                }
            });
        }
        writers.remove(&Writer::EventLog);
        writers
    }
}

/// Fills the indexes of a store whose log was written before there were all of them, and says whether
/// they are whole: not when it is not to go on. Then the next one goes on where it was.
pub(crate) fn fill<S: Store>(store: &S, goes_on: &dyn Fn() -> bool) -> Result<bool, StoreError> {
    let head = store.head()?.position;
    let (version, mut done) = store.indexed()?;
    if version == INDEXED && done >= head {
        return Ok(true);
    }
    if version != INDEXED {
        done = 0;
    }
    let mut indexer = Indexer::behind(store, done)?;
    while done < head {
        if !goes_on() {
            return Ok(false);
        }
        tracing::info!(done, of = head, "indexing the log: once, since this release finds more");
        let to = head.min(done + FILL);
        let mut rows = BTreeSet::new();
        replay(store, done + 1, to, &mut |_, header, event| {
            let step = indexer.push(header, event);
            rows.extend(step.effects.into_iter().flat_map(|effects| effects.entities));
        })?;
        // A batch that is open here counts with its last event: it is read again after a crash.
        store.fill(&rows, (INDEXED, to))?;
        done = to;
    }
    // From here on, every commit indexes what it stores.
    store.fill(&BTreeSet::new(), (INDEXED, u64::MAX))?;
    Ok(true)
}

/// What it takes to put the log back to `keep`.
///
/// What a series or a writer was before the tail stands only in the log. As long as the tail changes
/// no leadership, the last batch of each tells it, and that is near the end; else the rows are read
/// from the beginning.
pub(crate) fn rollback<S: Store>(store: &S, keep: u64) -> Result<Rollback, StoreError> {
    let head = store.head()?.position;
    let kept = store.row(keep)?.map_or(Place::START, |row| row.place);
    let mut rollback = Rollback { head: kept, ..Rollback::default() };
    let mut tail = Indexer::behind(store, keep)?;
    let (mut begun, mut leads) = (BTreeSet::new(), false);
    replay(store, keep + 1, head, &mut |row, header, event| {
        rollback.forgets_genesis |= event.and_then(entry::genesis_of).is_some();
        if let Some(effects) = tail.push(header, event).effects {
            leads |= !effects.leads.is_empty();
            rollback.writers.extend(effects.writers().into_iter().map(|writer| (writer, None)));
            rollback.entities.extend(effects.entities);
            if effects.n == 1 {
                begun.insert(effects.series.clone());
            }
            rollback.series.insert(effects.series, None);
        }
        rollback.rows.push(row.clone());
    })?;
    match leads {
        true => from_the_beginning(store, keep, &mut rollback)?,
        false => from_the_end(store, keep, &begun, &mut rollback)?,
    }
    Ok(rollback)
}

fn from_the_beginning<S: Store>(
    store: &S,
    keep: u64,
    rollback: &mut Rollback,
) -> Result<(), StoreError> {
    let mut kept = Leaderships::default();
    let mut indexer = Indexer::default();
    replay(store, 1, keep, &mut |_, header, event| {
        if let Some(effects) = indexer.push(header, event).effects {
            let (series, row, _) = kept.take(effects);
            rollback.series.entry(series).and_modify(|before| *before = Some(row));
        }
    })?;
    for (writer, before) in &mut rollback.writers {
        *before = kept.0.remove(writer);
    }
    Ok(())
}

/// `begun` are the series that the tail began: there is nothing before it.
fn from_the_end<S: Store>(
    store: &S,
    keep: u64,
    begun: &BTreeSet<Series>,
    rollback: &mut Rollback,
) -> Result<(), StoreError> {
    let mut series: BTreeSet<Series> = rollback.series.keys().cloned().collect();
    series.retain(|series| !begun.contains(series));
    let mut writers = BTreeMap::new();
    for writer in rollback.writers.keys() {
        if let Some(row) = store.writer(writer)? {
            writers.insert(writer.clone(), row);
        }
    }
    let mut to = keep;
    while to > 0 && !(series.is_empty() && writers.is_empty()) {
        let from = to.saturating_sub(LOOK_BACK - 1).max(1);
        let mut ends = Vec::new();
        replay(store, from, to, &mut |row, header, _| {
            if row.ends {
                let (series, n) = (header.batch.series.clone(), header.batch.n);
                ends.push((header.writer.clone(), series, n, row.position()));
            }
        })?;
        for (writer, name, n, position) in ends.into_iter().rev() {
            if let Some(row) = writers.remove(&writer) {
                rollback.writers.insert(writer.clone(), Some(WriterRow { position, ..row }));
            }
            if series.remove(&name) {
                rollback.series.insert(name, Some(SeriesRow { writer, n, position }));
            }
        }
        to = from - 1;
    }
    Ok(())
}

/// Reads stored entries and hands each to `each`, decoded. The event is none when its type is
/// unknown and may be skipped.
pub(crate) fn replay<S: Store>(
    store: &S,
    from: u64,
    to: u64,
    each: &mut dyn FnMut(&Row, &Header, Option<&Event>),
) -> Result<(), StoreError> {
    let mut failed = None;
    store.scan(from, to, &mut |row| match entry::decode(&row.bytes) {
        Ok((header, event)) => {
            each(&row, &header, event.as_ref());
            ControlFlow::Continue(())
        }
        Err(error) => {
            let what = error.to_string();
            failed = Some(StoreError::Damaged { position: row.position(), what });
            ControlFlow::Break(())
        }
    })?;
    failed.map_or(Ok(()), Err)
}

/// The leaderships as they follow from the log.
#[derive(Debug, Default)]
pub(crate) struct Leaderships(pub(crate) BTreeMap<Writer, WriterRow>);

impl Leaderships {
    /// Takes in a finished batch, and gives back the other rows that it writes.
    pub(crate) fn take(
        &mut self,
        effects: Effects,
    ) -> (Series, SeriesRow, BTreeSet<(String, u64)>) {
        let mut commit = Commit { writers: std::mem::take(&mut self.0), ..Commit::default() };
        let (series, entities) = (effects.series.clone(), effects.entities.clone());
        let row =
            SeriesRow { writer: effects.writer.clone(), n: effects.n, position: effects.position };
        let Ok(()) = effects.apply(&mut commit, &mut |_| Ok::<_, Infallible>(None));
        self.0 = commit.writers;
        (series, row, entities.into_iter().collect())
    }
}
