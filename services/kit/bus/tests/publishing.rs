//! Publishing under checks: what is refused, what it is called, and what cannot slip through.

use bus::testing::Server;
use bus::{Bus, Expect, PublishError};
use schemas::stream::{Storage, StreamSpec};

const SPEC: StreamSpec = StreamSpec {
    name: "CHECKED",
    subjects: &["checked.>"],
    storage: Storage::File,
    discard_new: true,
    max_age_s: 0,
    max_bytes: -1,
    max_messages: 1_000,
    max_messages_per_subject: -1,
    max_message_bytes: 4 * 1024,
    max_consumers: 10,
    allow_direct: true,
    republish: None,
    deny_delete: false,
    why: "a test",
};

fn last(last: u64) -> Expect {
    Expect { last: Some(last), ..Expect::default() }
}

fn on(subject: &str, last: u64) -> Expect {
    Expect { last_on: Some((subject.to_owned(), last)), ..Expect::default() }
}

fn fenced(expected: u64, taken: u64) -> Expect {
    Expect { last: Some(expected), last_on: Some(("checked.taken".to_owned(), taken)) }
}

async fn send(bus: &Bus, subject: &str, expect: &Expect) -> Result<u64, PublishError> {
    bus.publish_checked(subject, b"x".to_vec(), expect).await?.outcome().await
}

async fn ready(server: &Server) -> Bus {
    let bus = server.bus("writer").await;
    bus.ensure_stream(&SPEC).await.expect("loopback works");
    bus
}

#[tokio::test]
async fn a_message_is_taken_only_where_it_was_to_go() {
    let server = Server::start();
    let bus = ready(&server).await;
    assert_eq!(send(&bus, "checked.a", &last(0)).await, Ok(1));
    assert_eq!(send(&bus, "checked.a", &last(1)).await, Ok(2));
    let late = send(&bus, "checked.a", &last(1)).await.unwrap_err();
    assert!(matches!(&late, PublishError::WrongLast(text) if text.contains('2')), "{late}");
    assert_eq!(send(&bus, "checked.b", &on("checked.b", 0)).await, Ok(3));
    let again = send(&bus, "checked.b", &on("checked.b", 0)).await.unwrap_err();
    assert!(matches!(again, PublishError::WrongLast(_)), "{again}");
    assert_eq!(send(&bus, "checked.c", &on("checked.b", 3)).await, Ok(4));
}

#[tokio::test]
async fn nothing_of_a_leader_arrives_after_the_next_one_took() {
    let server = Server::start();
    let (a, b) = (ready(&server).await, server.bus("b").await);
    let taken = send(&a, "checked.taken", &last(0)).await.expect("loopback works");
    let mut sent = Vec::new();
    for n in 0..100 {
        let expect = fenced(taken + n, taken);
        sent.push(
            a.publish_checked("checked.a", b"x".to_vec(), &expect).await.expect("loopback works"),
        );
    }
    let mut head = taken;
    for ack in sent {
        head = ack.outcome().await.expect("loopback works");
    }
    assert_eq!(head, 101);
    // B takes; A does not know yet and pipelines three, of which the second and third name
    // positions that B's messages have made right again.
    let b_taken = send(&b, "checked.taken", &last(head)).await.expect("loopback works");
    for expected in [head, head + 1, head + 2] {
        let expect = fenced(expected, taken);
        let late = a
            .publish_checked("checked.a", b"late".to_vec(), &expect)
            .await
            .expect("loopback works");
        let error = late.outcome().await.unwrap_err();
        assert!(matches!(error, PublishError::WrongLast(_)), "{error}");
    }
    assert_eq!(send(&b, "checked.b", &fenced(b_taken, b_taken)).await, Ok(b_taken + 1));
    let state = b.stream_state(SPEC.name).await.expect("loopback works").unwrap();
    assert_eq!(state.last, b_taken + 1);
}

#[tokio::test]
async fn a_full_stream_says_so_and_keeps_what_it_has() {
    let server = Server::start();
    let bus = ready(&server).await;
    for _ in 0..SPEC.max_messages {
        bus.publish_checked("checked.a", Vec::new(), &Expect::default())
            .await
            .expect("loopback works");
    }
    let full = send(&bus, "checked.a", &Expect::default()).await.unwrap_err();
    assert!(matches!(full, PublishError::Full(_)), "{full}");
    assert_eq!(bus.stream_state(SPEC.name).await.expect("loopback works").unwrap().first, 1);
}

#[tokio::test]
async fn a_command_carries_its_headers() {
    let server = Server::start();
    let bus = ready(&server).await;
    let headers = [("Nats-Msg-Id", "one"), ("Muster-Inbox", "x")];
    let first =
        bus.publish_command("checked.a", b"x".to_vec(), &headers).await.expect("loopback works");
    // The same id again is the same command.
    assert_eq!(bus.publish_command("checked.a", b"x".to_vec(), &headers).await, Ok(first));
    let message = bus.get(SPEC.name, first).await.expect("loopback works").unwrap();
    assert_eq!(message.header("Nats-Msg-Id"), Some("one"));
    assert_eq!(message.header("Muster-Inbox"), Some("x"));
}
