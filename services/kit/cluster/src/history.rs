//! Histories made by hand: what the tests of everything that folds begin from.

use schemas::envelope::{Batch, Envelope, Header, SCHEMA};
use schemas::event::{Event, LeadershipTaken, NodeDescribed, NodeDescription, SequencerTaken};
use schemas::id::{AppKey, CommandId, NodeName, ReplicaId, Series, Tenant, WorkloadName, Writer};
use schemas::place::Basis;

use crate::Fold;

/// A history with a first sequencer, and its fold. Panics where a test is wrong.
#[derive(Clone, Debug)]
pub struct History {
    /// Its fold.
    pub fold: Fold,
    /// Every entry as it would be published.
    pub entries: Vec<Vec<u8>>,
    /// What the next events are said to have been recorded at.
    pub now_ms: u64,
    batches: u64,
}

impl Default for History {
    fn default() -> Self {
        let mut history =
            Self { fold: Fold::new(), entries: Vec::new(), now_ms: 1_000, batches: 0 };
        let genesis = Some("00000000000000000000000000000000".to_owned());
        let taken =
            SequencerTaken { instance: "log-1".to_owned(), after: 0, genesis, accept_loss: None };
        history.batch(&Writer::EventLog, vec![taken.into()]);
        for writer in Writer::DECIDERS {
            let term = 1;
            let taken =
                LeadershipTaken { writer: writer.clone(), term, instance: format!("{writer}-1") };
            history.batch(&writer, vec![taken.into()]);
        }
        history
    }
}

impl History {
    /// Records one event.
    pub fn add(&mut self, writer: &Writer, event: impl Into<Event>) -> &mut Self {
        self.batch(writer, vec![event.into()])
    }

    /// Records the events of one decision.
    pub fn batch(&mut self, writer: &Writer, events: Vec<Event>) -> &mut Self {
        self.caused(writer, events, None)
    }

    /// Records the events of one decision that goes back to a command.
    pub fn caused(
        &mut self,
        writer: &Writer,
        events: Vec<Event>,
        correlation: Option<CommandId>,
    ) -> &mut Self {
        self.batches += 1;
        let basis = self.fold.place().basis();
        let of = u32::try_from(events.len()).expect("a batch is small");
        for (i, event) in (0..of).zip(events) {
            let bytes = self.entry(writer, event, i, of, basis, correlation.clone());
            self.fold.push(&bytes).expect("it is the next entry");
            self.entries.push(bytes);
        }
        self
    }

    fn entry(
        &self,
        writer: &Writer,
        event: Event,
        i: u32,
        of: u32,
        basis: Basis,
        correlation: Option<CommandId>,
    ) -> Vec<u8> {
        let cursor = self.fold.cursor();
        let takes = matches!(event, Event::SequencerTaken(_));
        let series = Series::derive("history", 0);
        let header = Header {
            id: format!("{series}-{}-{i}", self.batches),
            epoch: if takes { cursor.epoch + 1 } else { cursor.epoch },
            position: cursor.position + 1,
            time_ms: self.now_ms,
            recorded_ms: self.now_ms,
            tenant: Tenant::new(event.tenant()).expect("a name"),
            actor: writer.to_string(),
            writer: writer.clone(),
            term: self.fold.state().term(writer),
            basis: Some(basis),
            batch: Batch { series, n: self.batches, i, of },
            correlation,
            causation: None,
            schema: SCHEMA,
            ignorable: false,
            prev_hash: cursor.hash,
        };
        Envelope { header, event }.encode()
    }

    /// A node joins, with cores and GiB of memory.
    pub fn node(&mut self, name: &str, cores: u64, gib: u64) -> &mut Self {
        let node = node(name);
        let writer = Writer::Agent(node.clone());
        let term = self.fold.state().term(&writer) + 1;
        let instance = format!("{name}-1");
        self.add(&writer, LeadershipTaken { writer: writer.clone(), term, instance });
        let description = NodeDescription {
            address: "127.0.0.1".to_owned(),
            arch: "amd64".to_owned(),
            os: "linux".to_owned(),
            engine: "20.10".to_owned(),
            agent: "0.1.0".to_owned(),
            cpu_millis: cores * 1_000,
            memory_bytes: gib << 30,
            disk_bytes: 100 << 30,
            pids: 10_000,
            labels: Default::default(),
        };
        self.add(&writer, NodeDescribed { node, description })
    }
}

/// A node's name.
#[must_use]
pub fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// An app's key, of the default tenant.
#[must_use]
pub fn app(name: &str) -> AppKey {
    AppKey::parse(name).expect("a name")
}

/// A workload's name.
#[must_use]
pub fn workload(name: &str) -> WorkloadName {
    WorkloadName::new(name).expect("a name")
}

/// A replica's id.
#[must_use]
pub fn replica(id: &str) -> ReplicaId {
    ReplicaId::new(id).expect("an id")
}
