//! Connecting: which servers are refused and why, and what is known of the connection afterwards.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, BusError, Connect, Security};

/// A file that says how to be let in.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/users").join(name)
}

fn to(url: &str) -> Connect {
    Connect {
        url: url.to_owned(),
        name: "test".to_owned(),
        credentials: None,
        inbox_prefix: "_INBOX.test".to_owned(),
    }
}

/// Something that says what a nats-server of a version says, to one client.
fn pretender(version: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let url = format!("nats://{}", listener.local_addr().expect("loopback works"));
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("loopback works");
        let info = format!(
            "INFO {{\"server_id\":\"X\",\"version\":\"{version}\",\"max_payload\":1048576,\
             \"headers\":true,\"jetstream\":true}}\r\n"
        );
        client.write_all(info.as_bytes()).expect("loopback works");
        let mut heard = [0; 4096];
        while client.read(&mut heard).is_ok_and(|count| count > 0) {
            let _ = client.write_all(b"PONG\r\n");
        }
    });
    url
}

#[tokio::test]
async fn an_old_server_is_refused_by_name_and_number() {
    for version in ["2.9.10", "2.14.3"] {
        let error = Bus::connect(&to(&pretender(version))).await.unwrap_err();
        assert!(matches!(error, BusError::TooOld { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(version) && text.contains("2.14.4"), "{text}");
    }
}

#[tokio::test]
async fn a_server_elsewhere_needs_a_user() {
    let error = Bus::connect(&to("nats://192.0.2.1:4222")).await.unwrap_err();
    assert!(matches!(error, BusError::NoAuthentication { .. }), "{error}");
    assert!(error.to_string().contains("--nats-user"), "{error}");
}

#[tokio::test]
async fn nobody_there_says_where() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let url = format!("nats://{}", listener.local_addr().expect("loopback works"));
    drop(listener);
    let error = Bus::connect(&to(&url)).await.unwrap_err();
    assert!(matches!(error, BusError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&url), "{error}");
}

#[tokio::test]
async fn a_wrong_password_is_not_taken_for_an_absent_server() {
    let server =
        Server::start_with("authorization { users = [ { user: alice, password: right } ] }");
    let mut connect = to(&server.url());
    for (password, welcome) in [("right", true), ("wrong", false)] {
        connect.credentials = Some(("alice".to_owned(), password.to_owned()));
        match Bus::connect(&connect).await {
            Ok(_) => assert!(welcome, "{password}"),
            Err(error) => {
                assert!(!welcome && matches!(error, BusError::Denied { .. }), "{error}");
                assert!(error.to_string().contains("alice"), "{error}");
                assert!(!error.to_string().contains("wrong"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn connections_are_counted_and_told() {
    let mut server = Server::start();
    let bus = server.bus("counted").await;
    assert!(bus.connected());
    assert!(bus.server_version().starts_with("2."), "{}", bus.server_version());
    bus.flush().await.expect("loopback works");
    let mut connections = bus.connections();
    let limit = Duration::from_secs(5);
    let first = *tokio::time::timeout(limit, connections.wait_for(|count| *count > 0))
        .await
        .expect("the first connection is told")
        .expect("loopback works");
    server.kill();
    let gone = async {
        while bus.connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, gone).await.expect("the loss is noticed");
    server.launch();
    let second = *tokio::time::timeout(limit, connections.wait_for(|count| *count > first))
        .await
        .expect("the next connection is told")
        .expect("loopback works");
    assert_eq!((first, second), (1, 2));
    assert!(bus.connected());
    bus.flush().await.expect("loopback works");
}

#[tokio::test]
async fn answers_arrive_under_the_connections_own_prefix() {
    let server = Server::start();
    let bus = server.bus("asker").await;
    let other = server.bus("answerer").await;
    let (subject, mut inbox) = bus.inbox().await.expect("loopback works");
    assert!(subject.starts_with("_INBOX.asker."), "{subject}");
    other
        .publish_with_header(&subject, b"here".to_vec(), ("Muster-Inbox", "x.y"))
        .await
        .expect("loopback works");
    let message = tokio::time::timeout(Duration::from_secs(5), inbox.next())
        .await
        .expect("loopback works")
        .unwrap();
    assert_eq!(message.payload.as_ref(), b"here");
    assert_eq!((message.header("Muster-Inbox"), message.header("Other")), (Some("x.y"), None));
}

#[tokio::test]
async fn a_key_or_a_signed_user_is_let_in() {
    let key = Security { nkey: Some(file("ana.nk")), ..Security::default() };
    let signed = Security { creds: Some(file("ana.creds")), ..Security::default() };
    let cases = [
        (include_str!("users/nkeys.conf"), &key, &signed),
        (include_str!("users/accounts.conf"), &signed, &key),
    ];
    for (config, welcome, stranger) in cases {
        let server = Server::start_with(config);
        let bus = Bus::connect_secured(&to(&server.url()), welcome).await.expect("it is let in");
        bus.flush().await.expect("it is heard");
        let refused = Bus::connect_secured(&to(&server.url()), stranger).await.unwrap_err();
        assert!(matches!(refused, BusError::Denied { .. }), "{refused}");
    }
}

#[tokio::test]
async fn a_file_that_lets_nobody_in_is_named() {
    let nowhere = to("nats://127.0.0.1:1");
    let missing = Security { nkey: Some(file("none.nk")), ..Security::default() };
    // A key's seed alone is no signed user.
    let wrong = Security { creds: Some(file("ana.nk")), ..Security::default() };
    for (security, name) in [(missing, "none.nk"), (wrong, "ana.nk")] {
        let error = Bus::connect_secured(&nowhere, &security).await.unwrap_err();
        assert!(matches!(error, BusError::Credentials { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
