//! Requests of HTTP/1.1.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::backend::{Backend, Client, Manner, read};
use super::*;

/// A gateway with one port that leads to replicas of these manners.
async fn serving(manners: &[Manner]) -> (Gateway, u16, Vec<Backend>) {
    let mut gateway = Gateway::speaking(AppProtocol::Http);
    let mut backends = Vec::new();
    for manner in manners {
        backends.push(Backend::start(&mut gateway, *manner).await);
    }
    let port = free().port();
    lead(&gateway, port, &backends).await;
    (gateway, port, backends)
}

async fn lead(gateway: &Gateway, port: u16, backends: &[Backend]) {
    let at: Vec<SocketAddr> = backends.iter().map(|backend| backend.at).collect();
    gateway.lead(Protocol::Tcp, &[(port, &at)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_go_to_all_and_travel_on_connections_that_are_kept() {
    let (gateway, port, backends) = serving(&[Manner::Well, Manner::Well, Manner::Well]).await;
    let mut client = Client::connect(port).await;
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..90 {
        let answer = client.get("/a?b=c").await.expect("it is answered");
        assert_eq!(answer.status(), 200);
        *counts.entry(answer.text()).or_default() += 1;
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    for backend in &backends {
        assert_eq!(backend.connections(), 1, "one request after the other needs one");
        let request = &backend.requests()[0];
        assert!(request.head.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.header("host"), Some("shop.example"));
        assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    }
    let told = || gateway.admin.metrics.text();
    gateway.until("they are told of", |text| text.contains("code=\"2xx\"} 90")).await;
    assert!(told().contains("muster_gateway_answer_seconds_count"), "{}", told());
    let traffic = gateway.shared.tally.tell(&gateway.shared.open);
    assert_eq!(traffic.iter().map(|replica| replica.requests).sum::<u64>(), 90);
    assert!(traffic.iter().all(|replica| replica.failed == 0 && replica.p50_us > 0), "{traffic:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_go_through_whole_with_a_length_and_in_pieces() {
    let answer = "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\nx-a: b\r\nconnection: x-secret\r\n\
                  x-secret: 1\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n";
    let (_gateway, port, backends) = serving(&[Manner::Says(answer)]).await;
    let mut client = Client::connect(port).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\n";
    client.send(&format!("{head}content-length: 300000\r\n\r\n{}", "x".repeat(300_000))).await;
    let answer = client.answer().await.expect("it is answered");
    assert_eq!((answer.status(), answer.text()), (201, "abcdefg".to_owned()));
    assert_eq!((answer.header("x-a"), answer.header("x-secret")), (Some("b"), None));
    client
        .send(&format!(
            "{head}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        ))
        .await;
    let second = client.answer().await;
    let requests = backends[0].requests();
    assert_eq!(requests[0].body.len(), 300_000);
    // Two lengths are one too many: either it is refused, or one of them is not believed anywhere.
    if second.expect("it is answered").status() == 201 {
        assert_eq!(requests[1].text(), "hi");
        assert_eq!(requests[1].header("content-length"), None);
    }
    let mut client = Client::connect(port).await;
    let expecting = format!("{head}expect: 100-continue\r\ncontent-length: 2\r\n\r\n");
    client.send(&expecting).await;
    assert_eq!(client.answer().await.expect("it may go on").status(), 100);
    client.send("ok").await;
    assert_eq!(client.answer().await.expect("it is answered").status(), 201);
    let last = backends[0].requests().pop().expect("it arrived");
    assert_eq!((last.text(), last.header("expect")), ("ok".to_owned(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_answers_without_a_body_leave_the_connection_usable() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
    let (_gateway, port, backends) = serving(&[Manner::Says(answer)]).await;
    let mut client = Client::connect(port).await;
    for _ in 0..3 {
        let answer = client.head().await.expect("it is answered");
        assert_eq!((answer.status(), answer.header("content-length")), (200, Some("5")));
    }
    backends[0].becomes(Manner::Says("HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n"));
    assert_eq!(client.get("/").await.expect("it is answered").status(), 304);
    backends[0].becomes(Manner::Well);
    assert_eq!(client.get("/").await.expect("it is answered").status(), 200);
    assert_eq!(backends[0].connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_or_closes_costs_no_request_that_may_be_repeated() {
    for manner in [Manner::Dies, Manner::DiesOnSecond, Manner::ClosesAfter] {
        let (gateway, port, backends) = serving(&[manner, Manner::Well]).await;
        let mut client = Client::connect(port).await;
        for _ in 0..100 {
            let answer = client.get("/").await.expect("it is answered");
            assert_eq!(answer.status(), 200, "{manner:?}: {answer:?}");
        }
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nbody").await;
        assert_eq!(client.answer().await.expect("it is answered").status(), 200);
        let put = |backend: &Backend| backend.requests().iter().any(|r| r.text() == "body");
        assert!(backends.iter().any(put), "the body went along");
        drop(gateway);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_closes_one_connection_after_the_other_is_found_out_by_one_request_once() {
    let (_gateway, port, backends) = serving(&[Manner::Slow(300)]).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Client::connect(port).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.expect("it is answered").status(), 200);
    }
    assert_eq!(backends[0].connections(), 6, "all of them are kept");
    backends[0].becomes(Manner::DiesOnSecond);
    assert_eq!(clients[0].get("/").await.expect("it is answered").status(), 200);
    assert_eq!(
        backends[0].requests().len(),
        6 + 2,
        "it travelled on one that was kept, then on a new one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_repeated_is_not_and_the_client_is_told() {
    let (gateway, port, backends) = serving(&[Manner::Dies]).await;
    let mut client = Client::connect(port).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
    let answer = client.answer().await.expect("it is answered");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(answer.text().contains("broke off"), "{answer:?}");
    assert_eq!(backends[0].requests().len(), 1);
    // One that closed meanwhile is found out before anything is sent on it.
    backends[0].becomes(Manner::ClosesAfter);
    for _ in 0..20 {
        client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi").await;
        assert_eq!(client.answer().await.expect("it is answered").status(), 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    gateway.until("it is counted", |text| text.contains("code=\"5xx\"} 1")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_breaks_off_for_the_client() {
    let (gateway, port, _backends) = serving(&[Manner::DiesWithin]).await;
    let mut client = Client::connect(port).await;
    assert!(client.get("/").await.is_none(), "half of an answer is none");
    let failed = || gateway.shared.tally.tell(&gateway.shared.open)[0].failed;
    assert_eq!(failed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_for_a_replica_and_is_told_when_none_comes() {
    let (mut gateway, port, _) = serving(&[]).await;
    let mut client = Client::connect(port).await;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let backend = Backend::start(&mut gateway, Manner::Well).await;
    lead(&gateway, port, &[backend]).await;
    assert_eq!(client.answer().await.expect("it is answered").status(), 200);
    lead(&gateway, port, &[]).await;
    let answer = client.get("/").await.expect("it is answered");
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leaves_finishes_what_it_has_and_gets_nothing_new() {
    let (mut gateway, port, backends) = serving(&[Manner::Slow(400)]).await;
    let (old, new) = (backends[0].clone(), Backend::start(&mut gateway, Manner::Well).await);
    let mut waiting = Client::connect(port).await;
    assert_eq!(waiting.get("/").await.expect("it is answered").text(), old.port().to_string());
    waiting.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let open = || gateway.shared.open.counts().values().sum::<u64>();
    for _ in 0..LOOKS {
        if old.requests().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(open(), 1, "a request is under way");
    lead(&gateway, port, std::slice::from_ref(&new)).await;
    let mut other = Client::connect(port).await;
    for _ in 0..20 {
        assert_eq!(other.get("/").await.expect("it is answered").text(), new.port().to_string());
    }
    let answer = waiting.answer().await.expect("it is answered");
    assert_eq!(answer.text(), old.port().to_string());
    assert_eq!(waiting.get("/").await.expect("it is answered").text(), new.port().to_string());
    assert_eq!((old.requests().len(), open()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_replica_holds_nobody_up_but_its_own_and_busy_ones_get_less() {
    let (_gateway, port, backends) = serving(&[Manner::Silent, Manner::Well]).await;
    let mut stuck = Vec::new();
    let mut answered = 0;
    for _ in 0..40 {
        let mut client = Client::connect(port).await;
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        match tokio::time::timeout(Duration::from_millis(200), client.answer()).await {
            Ok(answer) => {
                assert_eq!(answer.expect("it is answered").status(), 200);
                answered += 1;
            }
            Err(_) => stuck.push(client),
        }
    }
    assert!(answered >= 30, "{answered} of 40");
    assert_eq!(backends[0].requests().len(), stuck.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_through_both_ways() {
    let mut gateway = Gateway::start();
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let at = listener.local_addr().expect("it has an address");
    gateway.tasks.spawn("socket", async move {
        let (mut stream, _) = listener.accept().await?;
        let mut buffer = Vec::new();
        let request = read(&mut stream, &mut buffer, true).await.expect("it arrives");
        assert_eq!(request.header("connection"), Some("upgrade"));
        assert_eq!(request.header("upgrade"), Some("websocket"));
        assert_eq!(request.header("sec-websocket-key"), Some("abc"));
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await?;
        let (mut from, mut to) = stream.split();
        tokio::io::copy(&mut from, &mut to).await?;
        to.shutdown().await?;
        Ok(())
    });
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    let mut client = Client::connect(port).await;
    client
        .send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n")
        .await;
    let answer = client.answer().await.expect("it is answered");
    assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("websocket")));
    client.send(" second").await;
    let mut bytes = std::mem::take(&mut client.buffer);
    while bytes.len() < 12 {
        client.stream.read_buf(&mut bytes).await.expect("it is there");
    }
    assert_eq!(bytes, b"first second");
    assert_eq!(gateway.shared.open.counts().values().sum::<u64>(), 1, "it is under way");
    client.stream.shutdown().await.expect("it is there");
    assert_eq!(client.stream.read(&mut [0; 9]).await.expect("it is there"), 0);
    for _ in 0..LOOKS {
        if gateway.shared.open.counts().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still under way");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_answers_once_more_and_says_that_it_closes() {
    let (gateway, port, _backends) = serving(&[Manner::Slow(200)]).await;
    let mut busy = Client::connect(port).await;
    let mut idle = Client::connect(port).await;
    assert_eq!(idle.get("/").await.expect("it is answered").header("connection"), None);
    busy.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    gateway.stopper.stop();
    // The idle one asks after the stop: whoever was about to must not be cut off.
    tokio::time::sleep(Duration::from_millis(20)).await;
    idle.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for client in [&mut busy, &mut idle] {
        let answer = client.answer().await.expect("it is answered");
        assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
        assert!(client.answer().await.is_none(), "then it is closed");
    }
    let refused = tokio::net::TcpStream::connect((HERE, port)).await;
    refused.expect_err("nobody listens any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_a_cookie_stay_and_equal_headers_go_the_same_way() {
    let mut gateway = Gateway::speaking(AppProtocol::Http);
    gateway.balance = Balance::Cookie("stay".to_owned());
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(Backend::start(&mut gateway, Manner::Well).await);
    }
    let port = free().port();
    lead(&gateway, port, &backends).await;
    let mut client = Client::connect(port).await;
    let first = client.get("/").await.expect("it is answered");
    let cookie = first.header("set-cookie").expect("it is given one");
    let cookie = cookie.split(';').next().expect("a value").to_owned();
    for _ in 0..20 {
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n")).await;
        let answer = client.answer().await.expect("it is answered");
        assert_eq!((answer.text(), answer.header("set-cookie")), (first.text(), None));
    }
    gateway.balance = Balance::Header("x-user".to_owned());
    lead(&gateway, port, &backends).await;
    let mut places: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for nth in 0..60 {
        let user = nth % 12;
        client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-user: u{user}\r\n\r\n")).await;
        let answer = client.answer().await.expect("it is answered");
        places.entry(user).or_default().push(answer.text());
    }
    assert!(places.values().all(|at| at.iter().all(|one| *one == at[0])), "{places:?}");
    let used: std::collections::BTreeSet<_> = places.values().map(|at| &at[0]).collect();
    assert!(used.len() > 1, "{places:?}");
}
