//! What the name server says. Pure: a question, who asks, and the map; an answer.
//!
//! `<workload>.<app>.muster.internal` has the workload's address, for those who may reach it. A
//! workload's bare name is that of the asker's own app. All else is for somebody outside to answer,
//! except what only we could know.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use runtime::inside::{Range, ZONE};
use schemas::id::{AppKey, AppName, WorkloadName};

use super::map::Map;

/// For how long an answer may be kept, in seconds.
const TTL: u32 = 5;

/// The longest answer by datagram that is announced, in bytes.
const PAYLOAD: u16 = 1_232;

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
pub fn answer(bytes: &[u8], from: Option<&AppKey>, map: &Map, range: Range) -> Said {
    let Ok(asked) = Message::from_vec(bytes) else { return malformed(bytes) };
    if asked.metadata.message_type != MessageType::Query {
        return Said::Nothing;
    }
    if asked.metadata.op_code != OpCode::Query {
        return said(&asked, ResponseCode::NotImp, None);
    }
    let [query] = asked.queries.as_slice() else {
        return said(&asked, ResponseCode::FormErr, None);
    };
    let Some(from) = from else { return said(&asked, ResponseCode::Refused, None) };
    match known(query, from, map, range) {
        Known::Address(address) => said(&asked, ResponseCode::NoError, Some(address)),
        Known::Nothing => said(&asked, ResponseCode::NoError, None),
        Known::NoName => said(&asked, ResponseCode::NXDomain, None),
        Known::Elsewhere => Said::Elsewhere,
    }
}

/// What is said when nobody outside could be asked.
#[must_use]
pub fn failed(bytes: &[u8]) -> Said {
    match Message::from_vec(bytes) {
        Ok(asked) => said(&asked, ResponseCode::ServFail, None),
        Err(_) => malformed(bytes),
    }
}

/// What is known of a name.
enum Known {
    Address(Ipv4Addr),
    /// There is such a name, and nothing of the kind that was asked for.
    Nothing,
    NoName,
    Elsewhere,
}

fn known(query: &Query, from: &AppKey, map: &Map, range: Range) -> Known {
    let text = query.name().to_lowercase().to_ascii();
    let text = text.trim_end_matches('.');
    if text == ZONE {
        return Known::Nothing;
    }
    let within = text.strip_suffix(ZONE).and_then(|below| below.strip_suffix('.'));
    let labels: Vec<&str> = within.unwrap_or(text).split('.').collect();
    match (within, labels.as_slice()) {
        (Some(_), [app]) => {
            let there = |(key, _): &(AppKey, WorkloadName)| {
                key.tenant == from.tenant && key.name.as_str() == *app
            };
            if map.workloads.keys().any(there) { Known::Nothing } else { Known::NoName }
        }
        (Some(_), [workload, app]) => of(query, workload, Some(app), from, map, range),
        (Some(_), _) => Known::NoName,
        (None, [workload]) => of(query, workload, None, from, map, range),
        // Who has an address of the range, nobody outside knows.
        (None, [.., b, a, "in-addr", "arpa"])
            if range.to_string().starts_with(&format!("{a}.{b}.")) =>
        {
            Known::NoName
        }
        (None, _) => Known::Elsewhere,
    }
}

/// A workload of an app; of the asker's own when none is named.
fn of(
    query: &Query,
    workload: &str,
    app: Option<&str>,
    from: &AppKey,
    map: &Map,
    range: Range,
) -> Known {
    let name = app.map_or_else(|| Ok(from.name.clone()), AppName::new);
    let (Ok(name), Ok(workload)) = (name, WorkloadName::new(workload)) else {
        return Known::NoName;
    };
    let workload = (AppKey { tenant: from.tenant.clone(), name }, workload);
    match map.reached(from, &workload) {
        Some(served) if query.query_type() == RecordType::A => {
            Known::Address(range.address(served.number))
        }
        Some(_) => Known::Nothing,
        None => Known::NoName,
    }
}

fn said(asked: &Message, code: ResponseCode, address: Option<Ipv4Addr>) -> Said {
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
    match (address, asked.queries.first()) {
        (Some(address), Some(query)) => {
            answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(A(address))));
        }
        // Says for how long it may be kept that there is nothing.
        _ if answer.metadata.authoritative => {
            answer.authorities.extend(authority());
        }
        _ => {}
    }
    answer.to_vec().map_or(Said::Nothing, Said::Answer)
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
