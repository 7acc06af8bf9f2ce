//! What the name server says. Pure: a question, who asks, and the map; an answer.
//!
//! `<workload>.<app>.muster.internal` has the workload's address, for those who may reach it; before it, the name of a
//! replica has that one's, `tasks` those of all that get traffic, and `_<port>._tcp` says which they are. A workload's
//! bare name is that of the asker's own app. All else is for somebody outside to answer, except what only we could know.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use runtime::inside::{Range, ZONE};
use schemas::id::{AppKey, AppName, ReplicaId, WorkloadName};
use schemas::spec::Protocol;

use super::map::{Map, Served};
use crate::table::{Endpoint, Published};

/// For how long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// The longest answer by datagram that is announced, in bytes.
const PAYLOAD: u16 = 1_232;

/// The longest to one who announced nothing: RFC 1035, section 4.2.1.
const PLAIN: u16 = 512;

/// The longest part of a name, in bytes.
const LABEL: usize = 63;

/// What stands for all replicas of a workload.
const TASKS: &str = "tasks";

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A longer answer is asked for again by stream.
    Datagram,
    /// There is room.
    Stream,
}

/// What is to be done about a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// This is sent back.
    Answer(Vec<u8>),
    /// It is about the outside.
    Elsewhere,
    /// It is no question, and is left unanswered.
    Nothing,
}

/// What is said to a message from a container of an app; none: nobody knows whose it is.
#[must_use]
pub fn answer(bytes: &[u8], by: By, from: Option<&AppKey>, map: &Map, range: Range) -> Said {
    let Ok(asked) = Message::from_vec(bytes) else { return malformed(bytes) };
    let say = |code| said(&asked, by, code, Found::default());
    if asked.metadata.message_type != MessageType::Query {
        return Said::Nothing;
    }
    if asked.metadata.op_code != OpCode::Query {
        return say(ResponseCode::NotImp);
    }
    let [query] = asked.queries.as_slice() else { return say(ResponseCode::FormErr) };
    let Some(from) = from else { return say(ResponseCode::Refused) };
    let asker = Asker { query, from, map, range };
    match asker.known() {
        Known::Found(mut found) => {
            // Who takes the first of them is not always to take the same.
            let turn = usize::from(asked.metadata.id) % found.answers.len().max(1);
            found.answers.rotate_left(turn);
            said(&asked, by, ResponseCode::NoError, found)
        }
        Known::NoName => say(ResponseCode::NXDomain),
        Known::Elsewhere => Said::Elsewhere,
    }
}

/// What is said when nobody outside could be asked.
#[must_use]
pub fn failed(bytes: &[u8]) -> Said {
    match Message::from_vec(bytes) {
        Ok(asked) => said(&asked, By::Stream, ResponseCode::ServFail, Found::default()),
        Err(_) => malformed(bytes),
    }
}

/// What is known of a name.
enum Known {
    /// There is such a name; nothing in it: nothing of the kind that was asked for.
    Found(Found),
    NoName,
    Elsewhere,
}

/// Records.
#[derive(Default)]
struct Found {
    answers: Vec<Record>,
    /// What whoever asked would ask next.
    more: Vec<Record>,
}

/// Who asks what.
struct Asker<'a> {
    query: &'a Query,
    from: &'a AppKey,
    map: &'a Map,
    range: Range,
}

/// A workload that was found, by what it is called.
struct Called<'a> {
    app: &'a AppName,
    workload: &'a WorkloadName,
    served: &'a Served,
}

impl Asker<'_> {
    fn known(&self) -> Known {
        let text = self.query.name().to_lowercase().to_ascii();
        let text = text.trim_end_matches('.');
        if text == ZONE {
            return Known::Found(Found::default());
        }
        let within = text.strip_suffix(ZONE).and_then(|below| below.strip_suffix('.'));
        let labels: Vec<&str> = within.unwrap_or(text).split('.').collect();
        match (within, labels.as_slice()) {
            (Some(_), [app]) => {
                let there = |(key, _): &(AppKey, WorkloadName)| {
                    key.tenant == self.from.tenant && key.name.as_str() == *app
                };
                let known = self.map.workloads.keys().any(there);
                if known { Known::Found(Found::default()) } else { Known::NoName }
            }
            (Some(_), [workload, app]) => self.of(workload, Some(app), |c| Some(self.workload(c))),
            (Some(_), [one, workload, app]) => {
                self.of(workload, Some(app), |called| self.replica(one, called))
            }
            (Some(_), [port, protocol, workload, app]) => {
                self.of(workload, Some(app), |called| self.service(port, protocol, called))
            }
            (Some(_), _) => Known::NoName,
            (None, [workload]) => self.of(workload, None, |called| Some(self.workload(called))),
            // Who has an address of the range, nobody outside knows.
            (None, [.., b, a, "in-addr", "arpa"])
                if self.range.to_string().starts_with(&format!("{a}.{b}.")) =>
            {
                Known::NoName
            }
            (None, [TASKS, workload]) => self.own(workload, |called| self.replica(TASKS, called)),
            (None, [port, protocol, workload]) => {
                self.own(workload, |called| self.service(port, protocol, called))
            }
            (None, _) => Known::Elsewhere,
        }
    }

    /// Something of a workload of an app; of the asker's own when none is named.
    fn of<'a>(
        &'a self,
        workload: &str,
        app: Option<&str>,
        find: impl FnOnce(&Called<'a>) -> Option<Found>,
    ) -> Known {
        let name = app.map_or_else(|| Ok(self.from.name.clone()), AppName::new);
        let (Ok(name), Ok(workload)) = (name, WorkloadName::new(workload)) else {
            return Known::NoName;
        };
        let workload = (AppKey { tenant: self.from.tenant.clone(), name }, workload);
        let Some((key, served)) = self.map.workloads.get_key_value(&workload) else {
            return Known::NoName;
        };
        if self.map.reached(self.from, key).is_none() {
            return Known::NoName;
        }
        let called = Called { app: &key.0.name, workload: &key.1, served };
        find(&called).map_or(Known::NoName, Known::Found)
    }

    /// The same of the asker's own app, where there is such a thing: the name may be one of the outside.
    fn own<'a>(&'a self, workload: &str, find: impl FnOnce(&Called<'a>) -> Option<Found>) -> Known {
        match self.of(workload, None, find) {
            Known::NoName => Known::Elsewhere,
            known => known,
        }
    }

    fn workload(&self, called: &Called<'_>) -> Found {
        self.addresses([called.served.number])
    }

    /// One replica, by its id or by the end of it, or all of them.
    fn replica(&self, one: &str, called: &Called<'_>) -> Option<Found> {
        let replicas = &called.served.replicas;
        if one == TASKS {
            let numbers = called.served.led_to().into_iter();
            return Some(self.addresses(numbers.filter_map(|id| Some(replicas.get(id)?.number))));
        }
        let found = replicas.iter().find(|(id, _)| id.as_str() == one || tail(id) == one);
        found.map(|(_, single)| self.addresses([single.number]))
    }

    /// Where a port is served: by which replicas, where each has an address; else by the workload.
    fn service(&self, port: &str, protocol: &str, called: &Called<'_>) -> Option<Found> {
        let protocol = match protocol {
            "_tcp" => Protocol::Tcp,
            "_udp" => Protocol::Udp,
            _ => return None,
        };
        let port = Published { protocol, port: port.strip_prefix('_')?.parse().ok()? };
        let route = called.served.ports.get(&port)?;
        if self.query.query_type() != RecordType::SRV {
            return Some(Found::default());
        }
        let whole = format!("{}.{}.{ZONE}.", called.workload, called.app);
        let own = |endpoint: &Endpoint| {
            let single = called.served.replicas.get(&endpoint.replica)?;
            single.ports.contains_key(&port).then_some(single.number)
        };
        let numbers: Option<Vec<u16>> = route.endpoints.iter().map(own).collect();
        let targets = match numbers {
            Some(numbers) => {
                let single = |(endpoint, number): (&Endpoint, u16)| {
                    (endpoint.weight, format!("{}.{whole}", label(&endpoint.replica)), number)
                };
                route.endpoints.iter().zip(numbers).map(single).collect()
            }
            None => vec![(1, whole, called.served.number)],
        };
        let mut found = Found::default();
        for (weight, target, number) in targets {
            let target = Name::from_ascii(target).ok()?;
            let weight = u16::try_from(weight).unwrap_or(u16::MAX);
            let srv = SRV::new(0, weight, port.port, target.clone());
            found.answers.push(self.record(RData::SRV(srv)));
            let address = RData::A(A(self.range.address(number)));
            found.more.push(Record::from_rdata(target, TTL, address));
        }
        Some(found)
    }

    fn addresses(&self, numbers: impl IntoIterator<Item = u16>) -> Found {
        let address = |number| self.record(RData::A(A(self.range.address(number))));
        let asked = self.query.query_type() == RecordType::A;
        let answers = numbers.into_iter().filter(|_| asked).map(address).collect();
        Found { answers, more: Vec::new() }
    }

    fn record(&self, data: RData) -> Record {
        Record::from_rdata(self.query.name().clone(), TTL, data)
    }
}

impl Served {
    /// The replicas that get traffic, whatever port it is for.
    fn led_to(&self) -> std::collections::BTreeSet<&ReplicaId> {
        let endpoints = self.ports.values().flat_map(|route| &route.endpoints);
        endpoints.filter(|endpoint| endpoint.weight > 0).map(|e| &e.replica).collect()
    }
}

/// What tells a replica apart from others of its workload.
fn tail(id: &ReplicaId) -> &str {
    id.as_str().rsplit('-').next().unwrap_or_default()
}

/// A replica as a part of a name, shortened where it is too long for one.
fn label(id: &ReplicaId) -> &str {
    if id.as_str().len() <= LABEL { id.as_str() } else { tail(id) }
}

fn said(asked: &Message, by: By, code: ResponseCode, found: Found) -> Said {
    let mut answer = Message::error_msg(asked.metadata.id, asked.metadata.op_code, code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    answer.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        answer.set_edns(edns);
    }
    if found.answers.is_empty() && answer.metadata.authoritative {
        // Says for how long it may be kept that there is nothing.
        answer.authorities.extend(authority());
    }
    (answer.answers, answer.additionals) = (found.answers, found.more);
    let room = match by {
        By::Stream => usize::from(u16::MAX),
        By::Datagram => {
            let announced = asked.edns.as_ref().map_or(PLAIN, |edns| edns.max_payload());
            usize::from(announced.clamp(PLAIN, PAYLOAD))
        }
    };
    fitting(answer, room).map_or(Said::Nothing, Said::Answer)
}

/// The message, without what there is no room for: first what was not asked for, then the last of the answers, which
/// it then says.
fn fitting(mut answer: Message, room: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = answer.to_vec().ok()?;
        if bytes.len() <= room {
            return Some(bytes);
        }
        if !answer.additionals.is_empty() {
            answer.additionals.clear();
            continue;
        }
        let left =
            (answer.answers.len() * room / bytes.len()).min(answer.answers.len().checked_sub(1)?);
        answer.answers.truncate(left);
        answer.metadata.truncation = true;
    }
}

fn authority() -> Option<Record> {
    let zone = Name::from_ascii(format!("{ZONE}.")).ok()?;
    let (server, person) = (zone.prepend_label("ns").ok()?, zone.prepend_label("hostmaster").ok()?);
    let soa = SOA::new(server, person, 1, 60, 60, 600, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(soa)))
}

/// What does not decode is told so, when it has at least a number to answer to.
fn malformed(bytes: &[u8]) -> Said {
    let [a, b, flags, ..] = bytes else { return Said::Nothing };
    if bytes.len() < 12 || flags & 0x80 != 0 {
        return Said::Nothing;
    }
    let id = u16::from_be_bytes([*a, *b]);
    let answer = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    answer.to_vec().map_or(Said::Nothing, Said::Answer)
}

#[cfg(test)]
mod tests;
