//! Those who append, and what they were promised.

use std::collections::BTreeMap;

use schemas::append::{Answer, Code, Request, Verdict};
use schemas::event::{Event, LeadershipTaken};
use schemas::id::{Series, Writer};
use schemas::place::{Basis, Place};
use schemas::subject;

use super::Storm;
use crate::entry;
use crate::sequencer::tests::storm::described;
use crate::sequencer::tests::world::{draft, note};
use crate::sequencer::{Asked, Input};

/// A service that decides, or an agent: one batch in flight, offered until it is answered.
pub(super) struct Client {
    pub(super) writer: Writer,
    pub(super) life: u64,
    pub(super) term: u64,
    pub(super) series: u64,
    pub(super) n: u64,
    pub(super) basis: Basis,
    pub(super) flight: Option<Request>,
}

impl Storm {
    pub(super) fn answer(&mut self, answer: &Answer) {
        let key = (answer.series.clone(), answer.n);
        match &answer.verdict {
            Verdict::Published(place) => {
                let before = self.answered.insert(key, *place);
                assert!(before.is_none_or(|before| before == *place), "answered twice: {answer:?}");
            }
            Verdict::Refused { code: Code::Gap, .. } => panic!("refused wrongly: {answer:?}"),
            _ => {}
        }
        let end = self.end;
        for client in &mut self.clients {
            let Some(request) = &client.flight else { continue };
            if (&request.series, request.n) != (&answer.series, answer.n) {
                continue;
            }
            match &answer.verdict {
                Verdict::Published(place) | Verdict::Duplicate { place, .. } => {
                    if request.events[0].kind == "LeadershipTaken" {
                        client.term = request.term;
                    }
                    client.basis = place.basis();
                    client.flight = None;
                }
                Verdict::Refused { code, .. } => {
                    if *code == Code::StaleTerm {
                        client.term = 0;
                    }
                    client.basis = end;
                    client.series += 1;
                    client.n = 0;
                    client.flight = None;
                }
            }
        }
    }

    /// A client offers what it has in flight, or something new.
    pub(super) fn offer(&mut self) {
        let c = self.dice.below(self.clients.len());
        if self.clients[c].flight.is_none() {
            let request = self.request(c);
            self.clients[c].flight = Some(request);
        }
        let request = self.clients[c].flight.clone().expect("it has one");
        let key = (request.series.clone(), request.n);
        self.offered.entry(key).or_insert_with(|| request.clone());
        self.asked += 1;
        self.appends.push_back(Asked {
            sequence: self.asked,
            subject: subject::append(&request.writer),
            inbox: Some(format!("inbox-{}", self.asked)),
            bytes: serde_json::to_vec(&request).expect("string keys").into(),
        });
    }

    pub(super) fn request(&mut self, c: usize) -> Request {
        let of = 1 + self.dice.below(4);
        let claims = self.clients[c].term == 0 || self.dice.once_in(40);
        let client = &mut self.clients[c];
        let writer = client.writer.clone();
        let instance = match writer {
            Writer::Controller => client.life.to_string(),
            _ => "a".to_owned(),
        };
        if claims {
            client.series += 1;
            client.n = 0;
        }
        client.n += 1;
        let series = Series::derive(&format!("{writer}/{}", client.life), client.series);
        let (term, events) = if claims {
            let term = self.terms.get(&writer).copied().unwrap_or(0) + 1;
            let (writer, instance) = (writer.clone(), instance.clone());
            (term, vec![draft(LeadershipTaken { writer, term, instance })])
        } else {
            let text = |i| format!("{series}/{}/{i}", client.n);
            let event = |i| match &writer {
                Writer::Agent(node) => described(node, &text(i)),
                _ => note(&text(i)),
            };
            (client.term, (0..of).map(event).collect())
        };
        let basis = (writer == Writer::Controller).then(|| client.basis.max(self.end));
        let (n, absent) = (client.n, Vec::new());
        Request { writer, term, instance, series, n, basis, absent, events }
    }

    /// A client loses its memory: what it had in flight is never repeated by it.
    pub(super) fn restart_client(&mut self) {
        let c = self.dice.below(self.clients.len());
        let client = &mut self.clients[c];
        (client.life, client.series, client.n, client.term) = (client.life + 1, 0, 0, 0);
        client.basis = Basis::default();
        client.flight = None;
    }

    /// Hands append requests to an instance that listens, as a group.
    pub(super) fn listen(&mut self, i: usize) {
        let many = 1 + self.dice.below(6);
        let one = &mut self.instances[i];
        if !one.listening {
            return;
        }
        let unread = self.appends.iter().filter(|asked| asked.sequence > one.read);
        let group: Vec<Asked> = unread.take(many).cloned().collect();
        let Some(last) = group.last() else { return };
        one.read = last.sequence;
        one.arrived.push_back(Input::Requests(group));
    }

    /// What was published behind this place is given up; nobody remembers it.
    pub(super) fn forget_after(&mut self, end: Place) {
        self.seen.split_off(&(end.position + 1));
        self.answered.retain(|_, place| place.position <= end.position);
        self.end = Basis::default();
        self.terms.clear();
        for row in self.seen.values() {
            if row.ends {
                self.end = row.place.basis();
            }
            if let Ok((_, Some(Event::LeadershipTaken(taken)))) = entry::decode(&row.bytes) {
                self.terms.insert(taken.writer, taken.term);
            }
        }
        for client in &mut self.clients {
            (client.life, client.series, client.n, client.term) = (client.life + 1, 0, 0, 0);
            (client.basis, client.flight) = (Basis::default(), None);
        }
        self.appends.clear();
    }

    /// Every answered batch is there exactly once, whole, with what was offered, where it was said.
    pub(super) fn check_answers(&self) {
        let mut batches: BTreeMap<(Series, u64), (Place, Vec<String>)> = BTreeMap::new();
        let mut fold = cluster::Fold::new();
        for row in self.seen.values() {
            let Some(applied) = fold.push(&row.bytes).expect("the chain holds") else { continue };
            let Some(first) = applied.events.first() else { continue };
            let key = (first.header.batch.series.clone(), first.header.batch.n);
            let data = applied.events.iter().map(|e| e.event.data()).collect();
            let before = batches.insert(key, (row.place, data));
            assert!(before.is_none(), "a batch is there twice");
        }
        for (key, place) in &self.answered {
            let (at, data) = batches.get(key).expect("an answered batch is there");
            assert_eq!(at, place);
            let offered: Vec<&str> =
                self.offered[key].events.iter().map(|e| e.data.get()).collect();
            assert_eq!(data, &offered);
        }
    }
}
