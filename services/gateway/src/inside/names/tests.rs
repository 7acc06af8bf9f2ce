//! What the name server says, to whom.

use cluster::history::{app, node};
use hickory_proto::rr::DNSClass;
use proptest::prelude::*;
use schemas::spec::Open;

use super::*;
use crate::inside::map::tests::{deploy, three};

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
    match answer(&bytes, from.as_ref(), &map(), range()) {
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
    assert_eq!(answer(&said, None, &Map::default(), range()), Said::Nothing);
    let mut wide = question("web.", RecordType::A);
    wide.set_edns(Edns::new());
    assert!(asked(&wide, Some("shop")).expect("an answer").edns.is_some());
    let bytes = question("example.com.", RecordType::A).to_vec().expect("it encodes");
    let Said::Answer(failed) = failed(&bytes) else { panic!("it is answered") };
    let failed = Message::from_vec(&failed).expect("it decodes");
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
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
        let _ = answer(&bytes, Some(&from), &map, range());
        // Close to a real one as well.
        let mut real = question("web.shop.muster.internal.", RecordType::A).to_vec().expect("it encodes");
        real.truncate(real.len().saturating_sub(cut));
        if let Some(byte) = real.get_mut(at) {
            *byte ^= flip;
        }
        let _ = answer(&real, Some(&from), &map, range());
    }
}
