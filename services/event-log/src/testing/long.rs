//! A log as a cluster's life leaves it: leaderships that change hands, batches of several events,
//! large and small ones, tables and journal, entries that were moved aside, snapshots, a witness.

use std::collections::BTreeMap;
use std::path::Path;

use schemas::append::{Draft, Request};
use schemas::event::{
    Event, LeadershipReleased, LeadershipTaken, NodeDescribed, NodeDescription, NoteAdded,
    SequencerTaken,
};
use schemas::id::{NodeName, Series, Tenant, Writer};
use schemas::place::Place;
use serde_json::value::RawValue;

use crate::entry::{Entry, Stated, Tip};
use crate::index::{self, Indexer};
use crate::sequencer::Group;
use crate::store::{FjallStore, Store as _};
use crate::view::{View, write_snapshot};
use crate::witness::{Heads, Witness};

/// How many requests are stored with one sync.
const GROUP: u64 = 40;

/// A log that grows on a disk.
pub struct LongLog {
    store: FjallStore,
    tip: Tip,
    indexer: Indexer,
    terms: BTreeMap<Writer, (u64, Series, u64)>,
    view: View,
    requests: u64,
}

impl LongLog {
    /// Begins one in a folder without a log.
    ///
    /// # Panics
    ///
    /// When the disk does not take it.
    #[must_use]
    pub fn begin(folder: &Path) -> Self {
        let store = FjallStore::open(folder).expect("the folder takes a store");
        let mut log = Self {
            store,
            tip: Tip::default(),
            indexer: Indexer::default(),
            terms: BTreeMap::new(),
            view: View::default(),
            requests: 0,
        };
        let genesis = Some("0f0e0d0c0b0a09080706050403020100".to_owned());
        let instance = "log-1".to_owned();
        let taken = SequencerTaken { instance, after: 0, genesis, accept_loss: None };
        let taken = Entry::taken(&log.tip, 1, taken, 1);
        log.add(vec![vec![taken]]);
        log
    }

    #[cfg(test)]
    pub(crate) fn store(&self) -> FjallStore {
        self.store.clone()
    }

    /// Its end.
    #[must_use]
    pub fn place(&self) -> Place {
        self.tip.place
    }

    /// Adds so many requests, in groups.
    pub fn grow(&mut self, requests: u64) {
        let mut group = Vec::new();
        for _ in 0..requests {
            self.requests += 1;
            let entries = self.request(self.requests, &group);
            group.push(entries);
            if group.len() as u64 >= GROUP {
                self.add(std::mem::take(&mut group));
            }
        }
        self.add(group);
    }

    /// Moves everything from the journal into tables.
    pub fn flush(&self) {
        self.store.flush();
    }

    /// Stores something and moves it aside again, as after a foreign message.
    ///
    /// # Panics
    ///
    /// When the disk does not take it.
    pub fn set_aside(&mut self) {
        let kept = self.tip.place.position;
        let (tip, indexer) = (self.tip, self.indexer.clone());
        let entry = Entry::voided(&self.tip, schemas::id::Digest::of(b"a foreign message"));
        self.add(vec![vec![entry]]);
        let rollback = index::rollback(&self.store, kept).expect("the log is readable");
        self.store.set_aside(&rollback).expect("it can be moved aside");
        (self.tip, self.indexer) = (tip, indexer);
    }

    /// Writes a snapshot of its state.
    ///
    /// # Panics
    ///
    /// When the disk does not take it.
    pub fn snapshot(&self) {
        self.view.advance(&self.store, self.tip.place).expect("the log folds");
        write_snapshot(&self.store, &self.view.fold()).expect("the snapshot is written");
    }

    /// Writes the witness, and closes it.
    ///
    /// # Panics
    ///
    /// When the disk does not take it.
    pub fn end(self, folder: &Path) {
        let genesis = self.store.genesis().expect("it is readable");
        let heads = Heads { stored: self.tip.place, published: self.tip.place, genesis };
        let mut witness = Witness::open(folder).expect("the folder takes a file");
        // Both slots.
        let before = Heads { published: Place::START, ..heads.clone() };
        witness.write(&before).expect("it is written");
        witness.write(&heads).expect("it is written");
    }

    fn add(&mut self, batches: Vec<Vec<Entry>>) {
        let mut group = Group::new(&self.store, self.tip, self.indexer.clone());
        group.push(batches.into_iter().flatten()).expect("the indexes are readable");
        let (commit, tip, indexer) = group.done();
        self.store.append(&commit).expect("the disk takes it");
        (self.tip, self.indexer) = (tip, indexer);
    }

    /// The next request's entries: behind those of its group.
    fn request(&mut self, i: u64, group: &[Vec<Entry>]) -> Vec<Entry> {
        let writer = match i % 5 {
            0 => Writer::Controller,
            1 => Writer::Scheduler,
            2 => Writer::Health,
            _ => Writer::Agent(node(i % 7)),
        };
        let (term, series, n) =
            self.terms.remove(&writer).unwrap_or_else(|| (0, Series::derive("none", 0), 0));
        let claims = term == 0 || i.is_multiple_of(97);
        let (term, series, n) = if claims {
            (term + 1, Series::derive(&format!("{writer}"), i), 1)
        } else {
            (term, series, n + 1)
        };
        let events = if claims { claim(&writer, term) } else { facts(&writer, term, i) };
        let before = group.last().and_then(|entries| entries.last()).map_or(self.tip, |e| e.tip);
        let request = Request {
            writer: writer.clone(),
            term,
            instance: format!("{writer}-{term}"),
            series: series.clone(),
            n,
            basis: None,
            absent: Vec::new(),
            events: events.iter().map(draft).collect(),
        };
        self.terms.insert(writer, (term, series, n));
        let mut tip = before;
        let mut entries = Vec::new();
        for ((index, event), draft) in (0..).zip(events).zip(&request.events) {
            let stated = Stated::new(&draft.tenant, event);
            let entry = Entry::of(&request, index, draft, stated, &tip, i * 10);
            tip = entry.tip;
            entries.push(entry);
        }
        entries
    }
}

fn node(i: u64) -> NodeName {
    NodeName::new(&format!("n{i}")).expect("a name")
}

fn claim(writer: &Writer, term: u64) -> Vec<Event> {
    let instance = format!("{writer}-{term}");
    let mut events = vec![LeadershipTaken { writer: writer.clone(), term, instance }.into()];
    if let Writer::Agent(node) = writer {
        let description = NodeDescription {
            address: "127.0.0.1".to_owned(),
            arch: "amd64".to_owned(),
            os: "linux".to_owned(),
            engine: "20.10".to_owned(),
            agent: "0.1.0".to_owned(),
            cpu_millis: 4_000,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            pids: 10_000,
            labels: BTreeMap::new(),
        };
        events.push(NodeDescribed { node: node.clone(), description }.into());
    }
    events
}

fn facts(writer: &Writer, term: u64, i: u64) -> Vec<Event> {
    if i.is_multiple_of(53) {
        return vec![LeadershipReleased { writer: writer.clone(), term }.into()];
    }
    let long = if i.is_multiple_of(31) { 9_000 } else { 20 };
    let note = |k| {
        let text = format!("request {i}, {k}: {}", "so it was ".repeat(long / 10));
        NoteAdded { object: format!("app/main/a{}", i % 40), text, fields: BTreeMap::new() }.into()
    };
    (0..1 + i % 3).map(note).collect()
}

fn draft(event: &Event) -> Draft {
    Draft {
        time_ms: 1,
        tenant: Tenant::new(event.tenant()).expect("a name"),
        actor: "test".to_owned(),
        correlation: None,
        causation: None,
        kind: event.kind().to_owned(),
        data: RawValue::from_string(event.data()).expect("an event's data is JSON"),
    }
}
