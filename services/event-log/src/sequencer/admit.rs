//! The checks of an append request, in their order, and the group that is being made of those that
//! pass.
//!
//! A refusal is only what can never become right. Whatever may pass is no refusal: it ends the
//! machine, and the writer offers again.

use std::borrow::Cow;

use schemas::append::{Answer, Code, Draft, EVENTS_MAX, REQUEST_BYTES_MAX, Request, Verdict};
use schemas::envelope::Header;
use schemas::event::{Event, LeadershipTaken};
use schemas::id::{NodeName, ReplicaId, Series, Writer};
use schemas::place::{Basis, Place};
use schemas::subject;
use serde::Deserialize;

use super::ahead::Ahead;
use super::{Asked, Bindings, FRAME_BYTES, Window};
use crate::entry::{Entry, Stated, Tip, genesis_of};
use crate::index::Indexer;
use crate::store::{Commit, Row, SeriesRow, Store, StoreError, WriterRow};

/// The longest subject, entity or instance id, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// What becomes of a message on the append stream.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is no request: nobody can be answered.
    Junk,
    /// It is answered, in its turn.
    Answer(Answer),
}

/// A group of requests that is being made: what it adds to the log and to the indexes. Each request
/// is checked against the store, what is on its way there, and the group before it.
pub(crate) struct Group<'a, S> {
    store: &'a S,
    ahead: Option<&'a Ahead>,
    commit: Commit,
    tip: Tip,
    indexer: Indexer,
}

impl<'a, S: Store> Group<'a, S> {
    /// A group behind what is stored.
    pub(crate) fn new(store: &'a S, tip: Tip, indexer: Indexer) -> Self {
        Self { store, ahead: None, commit: Commit::default(), tip, indexer }
    }

    /// A group behind what is ordered.
    pub(super) fn behind(store: &'a S, ahead: &'a Ahead, tip: Tip, indexer: Indexer) -> Self {
        Self { ahead: Some(ahead), ..Self::new(store, tip, indexer) }
    }

    /// The end of the log with the group.
    pub(crate) fn tip(&self) -> Tip {
        self.tip
    }

    /// Whether an entry may come next, by its batch.
    pub(crate) fn fits(&self, header: &Header, event: Option<&Event>) -> bool {
        self.indexer.fits(header, event)
    }

    /// Adds entries that follow from the tip.
    pub(crate) fn push(
        &mut self,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Result<(), StoreError> {
        let (store, ahead) = (self.store, self.ahead);
        let mut known = |writer: &Writer| stored_writer(store, ahead, writer);
        for entry in entries {
            let event = entry.event.as_ref();
            let step = self.indexer.push_named(&entry.header, event, entry.entities);
            if let Some(effects) = step.effects {
                effects.apply(&mut self.commit, &mut known)?;
            }
            if let Some(genesis) = entry.event.as_ref().and_then(genesis_of) {
                self.commit.genesis = Some(genesis.to_owned());
            }
            self.tip = entry.tip;
            self.commit.rows.push(Row {
                place: entry.tip.place,
                ends: step.ends,
                subject: entry.subject,
                bytes: entry.bytes,
            });
        }
        Ok(())
    }

    pub(crate) fn done(self) -> (Commit, Tip, Indexer) {
        (self.commit, self.tip, self.indexer)
    }

    fn series(&self, series: &Series) -> Result<Option<Cow<'_, SeriesRow>>, StoreError> {
        let known = self.commit.series.get(series);
        match known.or_else(|| self.ahead.and_then(|ahead| ahead.series(series))) {
            Some(row) => Ok(Some(Cow::Borrowed(row))),
            None => Ok(self.store.series(series)?.map(Cow::Owned)),
        }
    }

    fn writer(&self, writer: &Writer) -> Result<Option<Cow<'_, WriterRow>>, StoreError> {
        let known = self.commit.writers.get(writer);
        match known.or_else(|| self.ahead.and_then(|ahead| ahead.writer(writer))) {
            Some(row) => Ok(Some(Cow::Borrowed(row))),
            None => Ok(self.store.writer(writer)?.map(Cow::Owned)),
        }
    }

    fn exists(&self, entity: &str) -> Result<bool, StoreError> {
        if self.commit.names(entity) || self.ahead.is_some_and(|ahead| ahead.names(entity)) {
            return Ok(true);
        }
        Ok(!self.store.history(entity, 0, u64::MAX, 1, false)?.is_empty())
    }

    /// The place of an entry, and whether it ends a batch.
    fn at(&self, position: u64) -> Result<Option<(Place, bool)>, StoreError> {
        let first = self.commit.rows.first().map_or(u64::MAX, Row::position);
        if position < first {
            if let Some(known) = self.ahead.and_then(|ahead| ahead.at(position)) {
                return Ok(Some(known));
            }
            let row = self.store.row(position)?;
            return Ok(row.map(|row| (row.place, row.ends)));
        }
        let index = usize::try_from(position - first).unwrap_or(usize::MAX);
        Ok(self.commit.rows.get(index).map(|row| (row.place, row.ends)))
    }
}

/// A writer's leadership before a group.
fn stored_writer<S: Store>(
    store: &S,
    ahead: Option<&Ahead>,
    writer: &Writer,
) -> Result<Option<WriterRow>, StoreError> {
    match ahead.and_then(|ahead| ahead.writer(writer)) {
        Some(row) => Ok(Some(row.clone())),
        None => store.writer(writer),
    }
}

/// Why a request is refused.
struct No {
    code: Code,
    detail: String,
    entity: Option<String>,
}

fn no<T>(code: Code, detail: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::No(No { code, detail: detail.into(), entity: None }))
}

/// Why the checks ended early.
enum Refused {
    No(No),
    Store(StoreError),
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is left of a request that does not decode: enough to answer it.
#[derive(Deserialize)]
struct Named {
    series: Series,
    n: u64,
}

/// Judges one message of the append stream, and adds its events to the group when they pass.
pub(super) fn admit<S: Store, B: Bindings>(
    asked: &Asked,
    group: &mut Group<'_, S>,
    bindings: &B,
    window: &Window,
    now_ms: u64,
) -> Result<Decision, StoreError> {
    let Some(writer) = subject::parse_append(&asked.subject) else { return Ok(Decision::Junk) };
    let (series, n, request) = match serde_json::from_slice::<Request>(&asked.bytes) {
        Ok(request) => (request.series.clone(), request.n, Ok(request)),
        Err(error) => match serde_json::from_slice::<Named>(&asked.bytes) {
            Ok(Named { series, n }) => (series, n, Err(error)),
            Err(_) => return Ok(Decision::Junk),
        },
    };
    let verdict = match request {
        Ok(request) => check(&request, asked, &writer, group, bindings, window, now_ms),
        Err(error) => no(Code::Invalid, format!("the request does not decode: {error}")),
    };
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(Refused::Store(error)) => return Err(error),
        Err(Refused::No(No { code, detail, entity })) => {
            let term = group.writer(&writer)?.map_or(0, |row| row.term);
            Verdict::Refused { code, term, detail, entity }
        }
    };
    Ok(Decision::Answer(Answer { series, n, verdict }))
}

#[allow(clippy::too_many_arguments, reason = "everything a request is judged by")]
fn check<S: Store, B: Bindings>(
    request: &Request,
    asked: &Asked,
    subject_writer: &Writer,
    group: &mut Group<'_, S>,
    bindings: &B,
    window: &Window,
    now_ms: u64,
) -> Result<Verdict, Refused> {
    let writer = &request.writer;
    if writer != subject_writer || *writer == Writer::EventLog {
        let what = format!("{writer} may not append on the subject {}", asked.subject);
        return no(Code::NotPermitted, what);
    }
    if let Some(duplicate) = check_number(request, group)? {
        return Ok(duplicate);
    }
    check_size(request, asked.bytes.len())?;
    let leads = group.writer(writer)?;
    check_leadership(request, leads.as_deref())?;
    check_basis(request, leads.as_deref(), group)?;
    check_absent(request, group)?;
    let events = request
        .events
        .iter()
        .map(|draft| check_event(request, draft, bindings))
        .collect::<Result<Vec<_>, _>>()?;
    let entries = entries(request, events, group.tip(), window, now_ms)?;
    group.push(entries)?;
    Ok(Verdict::Published(group.tip().place))
}

/// A repeat is answered as one, whatever else it says. The next number is taken.
fn check_number<S: Store>(
    request: &Request,
    group: &Group<'_, S>,
) -> Result<Option<Verdict>, Refused> {
    let Request { writer, series, n, .. } = request;
    let row = group.series(series)?;
    if let Some(row) = &row
        && row.writer != *writer
    {
        return no(Code::NotPermitted, format!("series {series} is {}'s", row.writer));
    }
    let last_n = row.as_ref().map_or(0, |row| row.n);
    match &row {
        _ if *n == 0 => no(Code::Invalid, "numbers in a series begin at 1"),
        Some(row) if *n <= last_n => {
            let Some((place, _)) = group.at(row.position)? else {
                let what = format!("series {series} names it, and it is not there");
                return Err(StoreError::Damaged { position: row.position, what }.into());
            };
            Ok(Some(Verdict::Duplicate { last_n, place }))
        }
        _ if *n > last_n + 1 => {
            no(Code::Gap, format!("number {n} of series {series} does not follow {last_n}"))
        }
        _ => Ok(None),
    }
}

fn check_size(request: &Request, bytes: usize) -> Result<(), Refused> {
    let events = request.events.len();
    if bytes > REQUEST_BYTES_MAX || events > EVENTS_MAX {
        let what = format!(
            "{bytes} bytes and {events} events; a request holds at most {REQUEST_BYTES_MAX} bytes \
             and {EVENTS_MAX} events"
        );
        return no(Code::TooLarge, what);
    }
    if events == 0 {
        return no(Code::Invalid, "a request without events");
    }
    Ok(())
}

fn check_leadership(request: &Request, row: Option<&WriterRow>) -> Result<(), Refused> {
    let Request { writer, term, instance, events, .. } = request;
    let claims = |draft: &Draft| draft.kind == "LeadershipTaken";
    if events.iter().any(claims) {
        return check_claim(request, row);
    }
    match row {
        Some(row) if row.term == *term && !row.released && row.instance == *instance => Ok(()),
        Some(row) => {
            let how = if row.released { "was released by" } else { "is held by" };
            let what = format!(
                "term {} of {writer} {how} instance {}; this came under term {term} of instance \
                 {instance}",
                row.term, row.instance
            );
            no(Code::StaleTerm, what)
        }
        None => no(Code::StaleTerm, format!("{writer} has not taken its leadership yet")),
    }
}

fn check_claim(request: &Request, row: Option<&WriterRow>) -> Result<(), Refused> {
    let Request { writer, term, instance, events, .. } = request;
    let [claim] = events.as_slice() else {
        return no(Code::Invalid, "a claim is a request of its own");
    };
    match serde_json::from_str::<LeadershipTaken>(claim.data.get()) {
        Ok(taken)
            if taken.writer == *writer && taken.term == *term && taken.instance == *instance => {}
        Ok(_) => return no(Code::Invalid, "the claim differs from the request that carries it"),
        Err(error) => return no(Code::Invalid, format!("the claim does not decode: {error}")),
    }
    if instance.is_empty() || instance.len() > NAME_BYTES_MAX {
        return no(Code::Invalid, format!("an instance id has 1 to {NAME_BYTES_MAX} bytes"));
    }
    if let (Writer::Agent(_), Some(row)) = (writer, row)
        && row.instance != *instance
        && !row.released
        && !row.lost
        && row.known
    {
        let what = format!(
            "{writer} is instance {}, which has not released it; wait until its node is lost, or \
             remove the node",
            row.instance
        );
        return no(Code::Held, what);
    }
    let next = row.map_or(0, |row| row.term) + 1;
    if *term != next {
        return no(Code::StaleTerm, format!("the next term of {writer} is {next}, not {term}"));
    }
    Ok(())
}

fn check_basis<S: Store>(
    request: &Request,
    row: Option<&WriterRow>,
    group: &Group<'_, S>,
) -> Result<(), Refused> {
    let Request { writer, basis, .. } = request;
    let basis = match (writer, basis) {
        (Writer::Agent(_), None) => return Ok(()),
        (Writer::Agent(_), Some(_)) => {
            return no(Code::Invalid, "an agent states facts, which have no basis");
        }
        (_, None) => return no(Code::Invalid, format!("{writer} decides, and must say on what")),
        (_, Some(basis)) => *basis,
    };
    let fits = basis == Place::START.basis()
        || group.at(basis.position)?.is_some_and(|(place, ends)| ends && place.basis() == basis);
    let Basis { epoch, position } = basis;
    if !fits {
        let what = format!("{position}@{epoch} is not a place of this history");
        return no(Code::StaleBasis, what);
    }
    match row {
        Some(row) if position < row.position => {
            let what =
                format!("{position} lies before {writer}'s own last event, {}", row.position);
            no(Code::StaleBasis, what)
        }
        _ => Ok(()),
    }
}

fn check_absent<S: Store>(request: &Request, group: &Group<'_, S>) -> Result<(), Refused> {
    for entity in &request.absent {
        if !is_entity(entity) {
            return no(Code::Invalid, format!("{entity:?} is not an entity"));
        }
        if group.exists(entity)? {
            return Err(Refused::No(No {
                code: Code::Exists,
                detail: format!("{entity} is there already"),
                entity: Some(entity.clone()),
            }));
        }
    }
    Ok(())
}

fn check_event<B: Bindings>(
    request: &Request,
    draft: &Draft,
    bindings: &B,
) -> Result<Stated, Refused> {
    let Request { writer, term, .. } = request;
    let kind = &draft.kind;
    let event = match Event::decode(kind, draft.data.get()) {
        Some(Ok(event)) => event,
        Some(Err(error)) => return no(Code::Invalid, format!("{kind} does not decode: {error}")),
        None => return no(Code::Invalid, format!("{kind} is no event of this release")),
    };
    if !event.by().allows(writer) {
        return no(Code::NotPermitted, format!("{writer} may not state {kind}"));
    }
    if let Event::LeadershipReleased(released) = &event
        && (released.writer != *writer || released.term != *term)
    {
        return no(Code::Invalid, "the release differs from the request that carries it");
    }
    if let Writer::Agent(node) = writer {
        check_own(node, &event, bindings)?;
    }
    let stated = Stated::new(&draft.tenant, event);
    if !is_subject(&stated.subject) {
        let what = format!("{kind} would be published on {:?}", stated.subject);
        return no(Code::Invalid, what);
    }
    match stated.entities.iter().find(|entity| !is_entity(entity)) {
        Some(entity) => no(Code::Invalid, format!("{entity:?} is not an entity")),
        None => Ok(stated),
    }
}

/// An agent speaks for its own node.
fn check_own<B: Bindings>(node: &NodeName, event: &Event, bindings: &B) -> Result<(), Refused> {
    let about: Option<&NodeName> = match event {
        Event::NodeDescribed(e) => Some(&e.node),
        Event::StrayRemoved(e) => Some(&e.node),
        _ => None,
    };
    if let Some(about) = about.filter(|about| *about != node) {
        return no(Code::NotPermitted, format!("the agent of {node} speaks of {about}"));
    }
    let replica: Option<&ReplicaId> = match event {
        Event::RunFailed(e) => Some(&e.replica),
        Event::RunStarted(e) => Some(&e.replica),
        Event::RunEnded(e) => Some(&e.replica),
        Event::ReplicaReady(e) => Some(&e.replica),
        Event::ReplicaUnready(e) => Some(&e.replica),
        Event::ReplicaEnded(e) => Some(&e.replica),
        Event::ExecStarted(e) => Some(&e.replica),
        _ => None,
    };
    if let Some(replica) = replica
        && let Some(other) = bindings.node_of(replica).filter(|other| other != node)
    {
        let what = format!("the agent of {node} speaks of {replica}, which is on {other}");
        return no(Code::NotPermitted, what);
    }
    Ok(())
}

/// The entries of a request, and that NATS will take each.
fn entries(
    request: &Request,
    events: Vec<Stated>,
    mut tip: Tip,
    window: &Window,
    now_ms: u64,
) -> Result<Vec<Entry>, Refused> {
    let mut entries = Vec::with_capacity(events.len());
    for ((i, draft), stated) in (0..).zip(&request.events).zip(events) {
        let entry = Entry::of(request, i, draft, stated, &tip, now_ms);
        let size = entry.bytes.len() + entry.subject.len() + FRAME_BYTES;
        if size > window.message_bytes {
            let what = format!(
                "event {i} ({}) makes a message of {size} bytes; the stream takes {}",
                draft.kind, window.message_bytes
            );
            return no(Code::TooLarge, what);
        }
        tip = entry.tip;
        entries.push(entry);
    }
    Ok(entries)
}

fn is_subject(subject: &str) -> bool {
    let token = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>' | b'.'))
    };
    subject.len() <= NAME_BYTES_MAX
        && subject::parse_event(subject)
            .is_some_and(|s| [s.tenant, s.noun, s.id, s.verb].into_iter().all(token))
}

fn is_entity(entity: &str) -> bool {
    matches!(entity.len(), 1..=NAME_BYTES_MAX) && !entity.contains(char::is_control)
}

/// A code as a label.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Invalid => "invalid",
        Code::NotPermitted => "not_permitted",
        Code::Gap => "gap",
        Code::StaleTerm => "stale_term",
        Code::Held => "held",
        Code::StaleBasis => "stale_basis",
        Code::Exists => "exists",
        Code::TooLarge => "too_large",
    }
}
