//! The log of the simulated world: it orders, checks what deciders and agents rely on, and remembers.

use std::collections::{BTreeMap, BTreeSet};

use cluster::Fold;
use schemas::append::{Answer, Code, Request, Verdict};
use schemas::envelope::{Batch, Envelope, Header, SCHEMA};
use schemas::event::{Event, LeadershipTaken};
use schemas::id::{Series, Writer};

/// The log as its users see it: checks, orders, remembers. Its disk is always there.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) fold: Fold,
    pub(crate) entries: Vec<Vec<u8>>,
    series: BTreeMap<Series, (u64, u64)>,
    writers: BTreeMap<Writer, (u64, String, u64)>,
    entities: BTreeSet<String>,
}

impl Ledger {
    pub(crate) fn push(&mut self, request: &Request, events: &[Event], now_ms: u64) {
        let Request { writer, series, n, .. } = request;
        let of = u32::try_from(events.len()).expect("a batch is small");
        for (i, event) in (0..of).zip(events) {
            let at = self.fold.cursor();
            let takes = matches!(event, Event::SequencerTaken(_));
            let draft = request.events.get(usize::try_from(i).unwrap_or(0));
            let header = Header {
                id: format!("{series}-{n}-{i}"),
                epoch: if takes { at.epoch + 1 } else { at.epoch },
                position: at.position + 1,
                time_ms: now_ms,
                recorded_ms: now_ms,
                tenant: draft.map_or_else(|| "main".parse().expect("a name"), |d| d.tenant.clone()),
                actor: writer.to_string(),
                writer: writer.clone(),
                term: request.term,
                basis: request.basis,
                batch: Batch { series: series.clone(), n: *n, i, of },
                correlation: draft.and_then(|draft| draft.correlation.clone()),
                causation: draft.and_then(|draft| draft.causation),
                schema: SCHEMA,
                ignorable: false,
                prev_hash: at.hash,
            };
            self.entities.extend(event.about().entities);
            let bytes = Envelope { header, event: event.clone() }.encode();
            self.fold.push(&bytes).expect("it is the next entry");
            self.entries.push(bytes);
        }
    }

    /// The checks of event-log that deciders and agents rely on.
    pub(crate) fn append(&mut self, request: &Request, now_ms: u64) -> Answer {
        let verdict = self.judge(request, now_ms);
        Answer { series: request.series.clone(), n: request.n, verdict }
    }

    fn judge(&mut self, request: &Request, now_ms: u64) -> Verdict {
        let refused =
            |code, term, entity| Verdict::Refused { code, term, detail: String::new(), entity };
        let last = self.series.get(&request.series).copied().unwrap_or((0, 0));
        let (term, holder, position) =
            self.writers.get(&request.writer).cloned().unwrap_or((0, String::new(), 0));
        if request.n <= last.0 {
            return Verdict::Duplicate { last_n: last.0, place: self.fold.place() };
        }
        if request.n != last.0 + 1 {
            return refused(Code::Gap, term, None);
        }
        let events: Vec<Event> = request
            .events
            .iter()
            .map(|draft| {
                Event::decode(&draft.kind, draft.data.get()).expect("known").expect("it decodes")
            })
            .collect();
        let claims = matches!(events.first(), Some(Event::LeadershipTaken(LeadershipTaken { .. })));
        let fits = if claims {
            request.term == term + 1
        } else {
            request.term == term && request.instance == holder
        };
        if !fits {
            return refused(Code::StaleTerm, term, None);
        }
        if request.basis.is_some_and(|basis| basis.position < position) {
            return refused(Code::StaleBasis, term, None);
        }
        if let Some(there) = request.absent.iter().find(|entity| self.entities.contains(*entity)) {
            return refused(Code::Exists, term, Some(there.clone()));
        }
        self.push(request, &events, now_ms);
        let position = self.fold.place().position;
        self.series.insert(request.series.clone(), (request.n, position));
        let instance = if claims { request.instance.clone() } else { holder };
        self.writers.insert(request.writer.clone(), (request.term, instance, position));
        Verdict::Published(self.fold.place())
    }
}
