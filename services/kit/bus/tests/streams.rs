//! Streams: made once, compared ever after, and moved only where that loses nothing.

use bus::testing::Server;
use bus::{Bus, BusError, Expect};
use schemas::stream::{ALL, Storage, StreamSpec};

const SPEC: StreamSpec = StreamSpec {
    name: "KEPT",
    subjects: &["kept.>"],
    storage: Storage::File,
    discard_new: false,
    max_age_s: 3600,
    max_bytes: 1024 * 1024,
    max_messages: 1_000,
    max_messages_per_subject: -1,
    max_message_bytes: 4 * 1024,
    max_consumers: 10,
    allow_direct: true,
    republish: Some(("kept.>", "again.kept.>")),
    deny_delete: true,
    why: "a test",
};

async fn publish(bus: &Bus, subject: &str, payload: &str) -> u64 {
    let payload = payload.as_bytes().to_vec();
    let ack =
        bus.publish_checked(subject, payload, &Expect::default()).await.expect("loopback works");
    ack.outcome().await.expect("loopback works")
}

#[tokio::test]
async fn every_stream_of_ours_is_taken_and_found_unchanged() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    for spec in ALL {
        bus.ensure_stream(spec).await.expect("loopback works");
        bus.ensure_stream(spec).await.expect("loopback works");
        assert_eq!(bus.stream_state(spec.name).await.expect("loopback works").unwrap().messages, 0);
    }
}

#[tokio::test]
async fn a_difference_is_named_and_left_alone() {
    static OTHER: StreamSpec = StreamSpec { max_bytes: 2048, deny_delete: false, ..SPEC };
    static ELSEWHERE: StreamSpec = StreamSpec { subjects: &["kept.a"], republish: None, ..SPEC };
    let server = Server::start();
    let bus = server.bus("maker").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "kept.a", "x").await;
    for (spec, fields) in [(&OTHER, ["max_bytes", "2048"]), (&ELSEWHERE, ["subjects", "kept.a"])] {
        let error = bus.ensure_stream(spec).await.unwrap_err();
        assert!(matches!(error, BusError::Drift { .. }), "{error}");
        let text = error.to_string();
        for part in fields.iter().chain(&["KEPT"]) {
            assert!(text.contains(part), "{part} is not in: {text}");
        }
    }
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    assert_eq!(bus.stream_state(SPEC.name).await.expect("loopback works").unwrap().messages, 1);
}

#[tokio::test]
async fn the_state_of_a_stream_that_is_not_there_is_nothing() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    assert_eq!(bus.stream_state("KEPT").await.expect("loopback works"), None);
}

#[tokio::test]
async fn purging_keeps_the_named_message_and_the_count() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    for n in 1..=10 {
        assert_eq!(publish(&bus, "kept.a", "x").await, n);
    }
    bus.purge_below(SPEC.name, 8).await.expect("loopback works");
    let state = bus.stream_state(SPEC.name).await.expect("loopback works").unwrap();
    assert_eq!((state.first, state.last, state.messages), (8, 10, 3));
    bus.purge_below(SPEC.name, 11).await.expect("loopback works");
    let state = bus.stream_state(SPEC.name).await.expect("loopback works").unwrap();
    assert_eq!((state.first, state.last, state.messages), (11, 10, 0));
    assert_eq!(publish(&bus, "kept.a", "x").await, 11);
}

#[tokio::test]
async fn only_an_empty_stream_can_be_seated() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    bus.purge_below(SPEC.name, 5_000).await.expect("loopback works");
    let state = bus.stream_state(SPEC.name).await.expect("loopback works").unwrap();
    assert_eq!((state.first, state.last), (5_000, 4_999));
    assert_eq!(publish(&bus, "kept.a", "x").await, 5_000);
    // Beyond the end of a stream with messages, the same call would delete them all and skip.
    let error = bus.purge_below(SPEC.name, 6_000).await.unwrap_err();
    assert!(error.to_string().contains("5000"), "{error}");
    assert_eq!(bus.stream_state(SPEC.name).await.expect("loopback works").unwrap().messages, 1);
}

#[tokio::test]
async fn messages_can_be_read_singly() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "kept.a", "one").await;
    publish(&bus, "kept.a", "two").await;
    publish(&bus, "kept.b", "three").await;
    let newest = bus.get_last(SPEC.name, "kept.a").await.expect("loopback works").unwrap();
    assert_eq!((newest.sequence, newest.payload.as_ref()), (2, b"two".as_slice()));
    assert_eq!(newest.subject, "kept.a");
    let first = bus.get(SPEC.name, 1).await.expect("loopback works").unwrap();
    assert_eq!((first.subject.as_str(), first.payload.as_ref()), ("kept.a", b"one".as_slice()));
    assert!(bus.get(SPEC.name, 4).await.expect("loopback works").is_none());
    assert!(bus.get_last(SPEC.name, "kept.c").await.expect("loopback works").is_none());
    assert!(bus.get("NONE", 1).await.is_err());
    assert!(bus.get_last("NONE", "kept.a").await.is_err());
}

#[tokio::test]
async fn what_is_republished_reaches_plain_subscribers() {
    let server = Server::start();
    let bus = server.bus("maker").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    let mut heard = bus.subscribe("again.kept.>").await.expect("loopback works");
    bus.flush().await.expect("loopback works");
    publish(&bus, "kept.a", "x").await;
    let limit = std::time::Duration::from_secs(5);
    let message = tokio::time::timeout(limit, heard.next()).await.expect("loopback works").unwrap();
    assert_eq!(message.subject, "again.kept.a");
    assert_eq!(message.header("Nats-Sequence"), Some("1"));
}
