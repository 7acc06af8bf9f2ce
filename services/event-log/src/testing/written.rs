//! A log that is written row by row, as a sequencer would.

use bytes::Bytes;
use schemas::append::{Draft, Request};
use schemas::event::{Event, SequencerTaken};
use schemas::id::{CommandId, Series, Tenant, Writer};
use serde_json::value::RawValue;

use crate::entry::{Entry, Stated, Tip};
use crate::index::Indexer;
use crate::store::{Commit, Row, Store};

/// Writes batches to a store.
pub(crate) struct Written<S> {
    pub(crate) store: S,
    /// What was written, one by one.
    pub(crate) commits: Vec<Commit>,
    tip: Tip,
    indexer: Indexer,
    n: u64,
}

impl<S: Store> Written<S> {
    /// Begins a history.
    pub(crate) fn new(store: S) -> Self {
        let (tip, indexer) = (Tip::default(), Indexer::default());
        let mut written = Self { store, commits: Vec::new(), tip, indexer, n: 0 };
        let genesis = Some("history".to_owned());
        let instance = "log-0".to_owned();
        let taken = SequencerTaken { instance, after: 0, genesis, accept_loss: None };
        let entry = Entry::taken(&written.tip, 1, taken, 0);
        let mut commit = Commit { genesis: Some("history".to_owned()), ..Commit::default() };
        written.add(&mut commit, entry);
        written.write(commit);
        written
    }

    /// A batch, recorded at a time, by an actor, for a command.
    pub(crate) fn batch(
        &mut self,
        ms: u64,
        actor: &str,
        correlation: Option<&CommandId>,
        events: &[Event],
    ) {
        self.n += 1;
        let draft = |event: &Event| Draft {
            time_ms: ms,
            tenant: Tenant::new(event.tenant()).expect("a name"),
            actor: actor.to_owned(),
            correlation: correlation.cloned(),
            causation: None,
            kind: event.kind().to_owned(),
            data: RawValue::from_string(event.data()).expect("JSON"),
        };
        let request = Request {
            writer: Writer::Controller,
            term: 1,
            instance: "c".to_owned(),
            series: Series::derive("written", 0),
            n: self.n,
            basis: None,
            absent: Vec::new(),
            events: events.iter().map(draft).collect(),
        };
        let mut commit = Commit::default();
        for (i, event) in (0..).zip(events) {
            let draft = &request.events[i as usize];
            let stated = Stated::new(&draft.tenant, event.clone());
            let entry = Entry::of(&request, i, draft, stated, &self.tip, ms);
            self.add(&mut commit, entry);
        }
        self.write(commit);
    }

    fn write(&mut self, commit: Commit) {
        self.store.append(&commit).expect("the store is writable");
        self.commits.push(commit);
    }

    fn add(&mut self, commit: &mut Commit, entry: Entry) {
        let Entry { header, event, subject, bytes, tip, .. } = entry;
        let step = self.indexer.push(&header, event.as_ref());
        self.tip = tip;
        commit.rows.push(Row {
            place: tip.place,
            ends: step.ends,
            subject,
            bytes: Bytes::clone(&bytes),
        });
        if let Some(effects) = step.effects {
            let stored = &self.store;
            effects.apply(commit, &mut |writer| stored.writer(writer)).expect("readable");
        }
    }
}
