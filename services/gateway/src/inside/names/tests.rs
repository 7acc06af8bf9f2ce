//! What the name server says, to whom.

use std::net::Ipv4Addr;

use cluster::history::{app, node};
use hickory_proto::rr::DNSClass;
use proptest::prelude::*;
use schemas::spec::Open;

use super::*;
use crate::inside::map::tests::{deploy, run, three};

fn range() -> Range {
    Range::DEFAULT.parse().expect("the default is one")
}

/// Two apps; the first is closed.
fn map() -> Map {
    let mut history = three();
    deploy(&mut history, "shop", Open::No);
    deploy(&mut history, "tools", Open::All);
    Map::of(history.fold.state(), &node("n1"))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn asked(message: &Message, from: Option<&str>) -> Option<Message> {
    let from = from.map(app);
    let bytes = message.to_vec().expect("it encodes");
    match answer(&bytes, By::Stream, from.as_ref(), &map(), range()) {
        Said::Answer(bytes) => Some(Message::from_vec(&bytes).expect("it decodes")),
        Said::Elsewhere => None,
        Said::Nothing => panic!("nothing is said to {message}"),
    }
}

/// The code and the addresses.
fn told(name: &str, kind: RecordType, from: &str) -> (ResponseCode, Vec<Ipv4Addr>) {
    let answer = asked(&question(name, kind), Some(from)).expect("it is about the inside");
    assert_eq!(answer.metadata.id, 4711);
    assert_eq!(answer.metadata.message_type, MessageType::Response);
    let address = |record: &Record| match record.data {
        RData::A(A(address)) => Some(address),
        _ => None,
    };
    let found: Vec<_> = answer.answers.iter().filter_map(address).collect();
    assert_eq!(answer.authorities.is_empty(), !found.is_empty(), "how long nothing holds is said");
    (answer.metadata.response_code, found)
}

fn address(name: &str) -> Ipv4Addr {
    let (of, map) = ((app(name), WorkloadName::new("web").expect("a name")), map());
    range().address(map.workloads[&of].number)
}

#[test]
fn a_workload_has_one_address_by_every_name_of_it_for_those_who_may_reach_it() {
    let found = (ResponseCode::NoError, vec![address("shop")]);
    for name in ["web.shop.muster.internal.", "WEB.Shop.Muster.INTERNAL.", "web."] {
        assert_eq!(told(name, RecordType::A, "shop"), found, "{name}");
    }
    let open = (ResponseCode::NoError, vec![address("tools")]);
    assert_eq!(told("web.tools.muster.internal.", RecordType::A, "shop"), open);
    assert_eq!(told("web.", RecordType::A, "tools"), open, "a bare name is the asker's own");
}

#[test]
fn there_is_no_name_for_what_is_not_there_or_closed_and_nothing_more_than_an_address() {
    let (nothing, no_name) =
        ((ResponseCode::NoError, Vec::new()), (ResponseCode::NXDomain, Vec::new()));
    for name in ["web.shop.muster.internal.", "shop.muster.internal.", "muster.internal.", "web."] {
        assert_eq!(told(name, RecordType::AAAA, "shop"), nothing, "{name}");
    }
    assert_eq!(told("web.shop.muster.internal.", RecordType::A, "tools"), no_name, "it is closed");
    for name in [
        "db.shop.muster.internal.",
        "web.none.muster.internal.",
        "none.muster.internal.",
        "a.web.shop.muster.internal.",
        "db.",
        "localhost.",
        "3.2.201.10.in-addr.arpa.",
    ] {
        assert_eq!(told(name, RecordType::A, "shop"), no_name, "{name}");
    }
}

#[test]
fn the_outside_is_asked_for_all_else_and_never_for_one_whom_nobody_knows() {
    for name in ["example.com.", "xmuster.internal.", "internal.", "3.2.202.10.in-addr.arpa."] {
        let elsewhere = asked(&question(name, RecordType::A), Some("shop"));
        if name != "internal." {
            assert_eq!(elsewhere, None, "{name}");
        }
        let refused = asked(&question(name, RecordType::A), None).expect("an answer");
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "{name}");
    }
}

#[test]
fn an_odd_question_is_answered_so_and_an_answer_not_at_all() {
    let mut two = question("web.", RecordType::A);
    two.add_query(Query::query(Name::root(), RecordType::A));
    let answer_to_two = asked(&two, Some("shop")).expect("an answer");
    assert_eq!(answer_to_two.metadata.response_code, ResponseCode::FormErr);
    let mut update = question("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    update.queries[0].set_query_class(DNSClass::ANY);
    let answer_to_update = asked(&update, Some("shop")).expect("an answer");
    assert_eq!(answer_to_update.metadata.response_code, ResponseCode::NotImp);
    let said = question("web.", RecordType::A).into_response().to_vec().expect("it encodes");
    assert_eq!(answer(&said, By::Stream, None, &Map::default(), range()), Said::Nothing);
    let mut wide = question("web.", RecordType::A);
    wide.set_edns(Edns::new());
    assert!(asked(&wide, Some("shop")).expect("an answer").edns.is_some());
    let bytes = question("example.com.", RecordType::A).to_vec().expect("it encodes");
    let Said::Answer(failed) = failed(&bytes) else { panic!("it is answered") };
    let failed = Message::from_vec(&failed).expect("it decodes");
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}

/// So many replicas of each of two apps, on two machines; the first app is closed, and has no container here.
fn crowd(count: u8) -> Map {
    let mut history = three();
    for name in ["shop", "tools"] {
        deploy(&mut history, name, if name == "shop" { Open::No } else { Open::All });
        for i in 0..count {
            let on = if i == 0 && name == "tools" { "n1" } else { "n3" };
            run(
                &mut history,
                name,
                &format!("aaa{}{}", char::from(b'a' + i / 26), char::from(b'a' + i % 26)),
                on,
                &format!("172.18.0.{}/16", 2 + i),
            );
        }
    }
    Map::of(history.fold.state(), &node("n1"))
}

fn asked_of(map: &Map, name: &str, kind: RecordType, by: By, edns: bool) -> Message {
    let mut message = question(name, kind);
    if edns {
        let mut edns = Edns::new();
        edns.set_max_payload(4_096);
        message.set_edns(edns);
    }
    let bytes = message.to_vec().expect("it encodes");
    match answer(&bytes, by, Some(&app("tools")), map, range()) {
        Said::Answer(bytes) => {
            let answer = Message::from_vec(&bytes).expect("it decodes");
            let most = if by == By::Stream {
                65_535
            } else if edns {
                1_232
            } else {
                512
            };
            assert!(bytes.len() <= most, "{} bytes", bytes.len());
            answer
        }
        other => panic!("{name}: {other:?}"),
    }
}

fn addresses(records: &[Record]) -> std::collections::BTreeSet<Ipv4Addr> {
    let address = |record: &Record| match record.data {
        RData::A(A(address)) => Some(address),
        _ => None,
    };
    records.iter().filter_map(address).collect()
}

#[test]
fn each_replica_has_a_name_and_all_are_found_under_one_and_by_their_port() {
    let map = crowd(3);
    let of = (app("tools"), WorkloadName::new("web").expect("a name"));
    let replicas = &map.workloads[&of].replicas;
    let all: std::collections::BTreeSet<Ipv4Addr> =
        replicas.values().map(|single| range().address(single.number)).collect();
    assert_eq!(all.len(), 3, "each has an address of its own");
    let ask = |name: &str, kind| asked_of(&map, name, kind, By::Datagram, false);
    for name in ["tasks.web.", "tasks.web.tools.muster.internal."] {
        assert_eq!(addresses(&ask(name, RecordType::A).answers), all, "{name}");
    }
    for (id, single) in replicas {
        let own = [range().address(single.number)].into();
        for name in [id.as_str(), tail(id)] {
            let name = format!("{name}.web.tools.muster.internal.");
            assert_eq!(addresses(&ask(&name, RecordType::A).answers), own, "{name}");
            assert_eq!(ask(&name, RecordType::AAAA).metadata.response_code, ResponseCode::NoError);
        }
    }
    for name in ["_80._tcp.web.", "_80._TCP.web.tools.muster.internal."] {
        let answer = ask(name, RecordType::SRV);
        let mut targets = std::collections::BTreeSet::new();
        for record in &answer.answers {
            let RData::SRV(srv) = &record.data else { panic!("{record:?}") };
            assert_eq!((srv.priority, srv.weight, srv.port), (0, 1, 80));
            let found = ask(&srv.target.to_ascii(), RecordType::A);
            targets.extend(addresses(&found.answers));
        }
        assert_eq!((answer.answers.len(), &targets), (3, &all), "{name}");
        assert_eq!(addresses(&answer.additionals), all);
        assert!(ask(name, RecordType::A).answers.is_empty());
    }
    // UDP of one replica is not served, so it is the workload that is named.
    let answer = ask("_53._udp.web.tools.muster.internal.", RecordType::SRV);
    let [record] = answer.answers.as_slice() else { panic!("{answer}") };
    let RData::SRV(srv) = &record.data else { panic!("{record:?}") };
    assert_eq!(srv.target.to_ascii(), "web.tools.muster.internal.");
    for name in [
        "_81._tcp.none.tools.muster.internal.",
        "_82._tcp.web.tools.muster.internal.",
        "_80._sctp.web.tools.muster.internal.",
        "80._tcp.web.tools.muster.internal.",
        "zzzzz.web.tools.muster.internal.",
        // Closed, and its replicas with it.
        "tasks.web.shop.muster.internal.",
        "_80._tcp.web.shop.muster.internal.",
    ] {
        let code = ask(name, RecordType::SRV).metadata.response_code;
        assert_eq!(code, ResponseCode::NXDomain, "{name}");
    }
}

#[test]
fn what_does_not_fit_is_cut_short_and_says_so_and_who_is_first_differs() {
    let map = crowd(60);
    let (tasks, port) = ("tasks.web.tools.muster.internal.", "_80._tcp.web.tools.muster.internal.");
    for (name, kind) in [(tasks, RecordType::A), (port, RecordType::SRV)] {
        let whole = asked_of(&map, name, kind, By::Stream, false);
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (60, false), "{name}");
        let cut = asked_of(&map, name, kind, By::Datagram, false);
        assert!(cut.metadata.truncation && !cut.answers.is_empty(), "{cut}");
        let wide = asked_of(&map, name, kind, By::Datagram, true);
        assert!(wide.answers.len() > cut.answers.len(), "{wide}");
    }
    let first = |id: u16| {
        let mut message = question(tasks, RecordType::A);
        message.metadata.id = id;
        let bytes = message.to_vec().expect("it encodes");
        match answer(&bytes, By::Stream, Some(&app("tools")), &map, range()) {
            Said::Answer(bytes) => {
                let answer = Message::from_vec(&bytes).expect("it decodes");
                addresses(&answer.answers[..1]).first().copied()
            }
            other => panic!("{other:?}"),
        }
    };
    let firsts: std::collections::BTreeSet<_> = (0..26).map(first).collect();
    assert_eq!(firsts.len(), 26);
}

proptest! {
    #[test]
    fn nothing_breaks_it(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cut in 0_usize..60,
        at in 0_usize..40,
        flip in 1_u8..,
    ) {
        let (map, from) = (map(), app("shop"));
        let _ = answer(&bytes, By::Datagram, Some(&from), &map, range());
        // Close to a real one as well.
        let mut real = question("web.shop.muster.internal.", RecordType::A).to_vec().expect("it encodes");
        real.truncate(real.len().saturating_sub(cut));
        if let Some(byte) = real.get_mut(at) {
            *byte ^= flip;
        }
        let _ = answer(&real, By::Datagram, Some(&from), &map, range());
    }
}
