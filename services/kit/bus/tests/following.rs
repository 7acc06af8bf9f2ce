//! Following a stream: every message once and in order, whatever happens to the server in between,
//! and an error rather than silence when the stream is not the one that was read.

use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, Expect, Follow, FollowError, Message};
use schemas::stream::{Storage, StreamSpec};

/// How long a reader may need to be going again once the server is back.
const RECOVERY: Duration = Duration::from_secs(5);

const SPEC: StreamSpec = StreamSpec {
    name: "FOLLOWED",
    subjects: &["followed.>"],
    storage: Storage::File,
    discard_new: false,
    max_age_s: 0,
    max_bytes: -1,
    max_messages: -1,
    max_messages_per_subject: -1,
    max_message_bytes: 1024 * 1024,
    max_consumers: 100,
    allow_direct: true,
    republish: None,
    deny_delete: false,
    why: "a test",
};

async fn publish(bus: &Bus, subject: &str, count: u64) -> u64 {
    let mut last = 0;
    for n in 0..count {
        let payload = n.to_string().into_bytes();
        let ack = bus
            .publish_checked(subject, payload, &Expect::default())
            .await
            .expect("loopback works");
        last = ack.outcome().await.expect("loopback works");
    }
    last
}

/// Reads until `last` has been seen.
async fn read_to(follow: &mut Follow, last: u64, limit: Duration) -> Vec<Message> {
    let mut read: Vec<Message> = Vec::new();
    let reading = async {
        while read.last().is_none_or(|message| message.sequence < last) {
            read.extend(follow.next_batch(64).await.expect("loopback works"));
        }
    };
    let outcome = tokio::time::timeout(limit, reading).await;
    let seen = read.last().map_or(0, |message| message.sequence);
    assert!(outcome.is_ok(), "reached {seen} of {last} in {limit:?}");
    read
}

fn sequences(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.sequence).collect()
}

/// The first error of a reader, for which it may take as long as it may take to recover.
async fn error_of(follow: &mut Follow) -> FollowError {
    let failing = async {
        loop {
            if let Err(error) = follow.next_batch(64).await {
                return error;
            }
        }
    };
    tokio::time::timeout(RECOVERY, failing).await.expect("the reader noticed nothing")
}

#[tokio::test]
async fn a_reader_gets_what_was_there_and_what_comes() {
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "followed.a", 5).await;
    let mut follow = bus.follow(SPEC.name, 0, None);
    let read = read_to(&mut follow, 5, RECOVERY).await;
    assert_eq!(sequences(&read), [1, 2, 3, 4, 5]);
    assert!(follow.caught_up());
    assert_eq!(follow.position(), 6);
    let first = &read[0];
    assert_eq!((first.subject.as_str(), first.payload.as_ref()), ("followed.a", b"0".as_slice()));
    assert!(first.time_ms > 1_600_000_000_000, "{}", first.time_ms);
    publish(&bus, "followed.b", 2).await;
    assert_eq!(sequences(&read_to(&mut follow, 7, RECOVERY).await), [6, 7]);
}

#[tokio::test]
async fn a_reader_that_cannot_look_is_not_at_the_end() {
    let mut server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "followed.a", 3).await;
    let mut follow = bus.follow(SPEC.name, 0, None);
    read_to(&mut follow, 3, RECOVERY).await;
    assert!(follow.caught_up());
    server.kill();
    let looking = async {
        while follow.caught_up() {
            assert!(follow.next_batch(64).await.expect("it is tried again").is_empty());
        }
    };
    tokio::time::timeout(4 * RECOVERY, looking).await.expect("it says that it has all");
    server.launch();
    let reading = async {
        while !follow.caught_up() {
            assert!(follow.next_batch(64).await.expect("it is back").is_empty());
        }
    };
    tokio::time::timeout(4 * RECOVERY, reading).await.expect("it never says so again");
}

#[tokio::test]
async fn a_filter_lets_other_subjects_pass_unread() {
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    for subject in ["followed.a", "followed.b", "followed.a", "followed.b"] {
        publish(&bus, subject, 1).await;
    }
    let mut follow = bus.follow(SPEC.name, 2, Some("followed.b"));
    assert_eq!(sequences(&read_to(&mut follow, 4, RECOVERY).await), [2, 4]);
}

#[tokio::test]
async fn more_than_one_request_can_carry_arrives_whole() {
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    let payload = vec![b'x'; 100 * 1024];
    let mut acks = Vec::new();
    for _ in 0..3_000_u32 {
        let bytes = if acks.len() % 10 == 0 { payload.clone() } else { vec![b'x'; 10] };
        acks.push(
            bus.publish_checked("followed.a", bytes, &Expect::default())
                .await
                .expect("loopback works"),
        );
    }
    for ack in acks {
        ack.outcome().await.expect("loopback works");
    }
    let mut follow = bus.follow(SPEC.name, 1, None);
    let read = read_to(&mut follow, 3_000, Duration::from_secs(30)).await;
    assert_eq!(sequences(&read), (1..=3_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_has_left_the_stream_is_an_error() {
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "followed.a", 10).await;
    bus.purge_below(SPEC.name, 6).await.expect("loopback works");
    let error = error_of(&mut bus.follow(SPEC.name, 3, None)).await;
    assert!(matches!(error, FollowError::Gone { first: 6, wanted: 3, .. }), "{error}");
    let mut follow = bus.follow(SPEC.name, 6, None);
    assert_eq!(sequences(&read_to(&mut follow, 10, RECOVERY).await), [6, 7, 8, 9, 10]);
}

#[tokio::test]
async fn a_stream_that_ends_before_what_was_read_is_an_error() {
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    publish(&bus, "followed.a", 3).await;
    let error = error_of(&mut bus.follow(SPEC.name, 9, None)).await;
    assert!(matches!(error, FollowError::Rewound { last: 3, read: 8, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_is_called_away_again_and_again_gets_there_all_the_same() {
    use futures_util::FutureExt as _;
    let server = Server::start();
    let bus = server.bus("reader").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    let last = publish(&bus, "followed.a", 3).await;
    let mut follow = bus.follow(SPEC.name, 1, None);
    let mut read = Vec::new();
    for _ in 0..5_000 {
        // Dropped at its first wait, as by a select in which something else is always ready.
        if let Some(batch) = follow.next_batch(64).now_or_never() {
            read.extend(batch.expect("loopback works"));
        }
        if read.last().is_some_and(|message: &Message| message.sequence == last) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(sequences(&read), [1, 2, 3]);
}
