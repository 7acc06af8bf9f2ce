//! Datagrams.

use tokio::net::UdpSocket;

use super::*;

/// How long an answer may take. One that was lost is asked for again.
const ANSWER: Duration = Duration::from_secs(2);

async fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((HERE, 0)).await.expect("there are ports");
    let at = socket.local_addr().expect("it has an address");
    (socket, at)
}

/// A server that answers each datagram with its own port and what it was sent.
async fn echo(tasks: &mut Tasks) -> SocketAddr {
    let (socket, at) = bound().await;
    tasks.spawn("echo", async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (bytes, from) = socket.recv_from(&mut buffer).await?;
            let answer = [&at.port().to_be_bytes(), &buffer[..bytes]].concat();
            socket.send_to(&answer, from).await?;
        }
    });
    at
}

/// Asks until there is an answer: the port of the server that gave it.
async fn ask(client: &UdpSocket, port: u16, what: &[u8]) -> u16 {
    let mut buffer = vec![0; 65_535];
    for _ in 0..10 {
        client.send_to(what, (HERE, port)).await.expect("it is sent");
        let received = tokio::time::timeout(ANSWER, client.recv_from(&mut buffer)).await;
        let Ok(received) = received else { continue };
        let (bytes, from) = received.expect("it is received");
        assert_eq!(from.port(), port, "answers come from the published port");
        assert!(&buffer[2..bytes] == what, "{} bytes came back", bytes - 2);
        return u16::from_be_bytes([buffer[0], buffer[1]]);
    }
    panic!("no answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_stays_with_an_endpoint_and_clients_are_spread() {
    let mut gateway = Gateway::start();
    let servers = [echo(&mut gateway.tasks).await, echo(&mut gateway.tasks).await];
    let port = free().port();
    gateway.lead(Protocol::Udp, &[(port, &servers)]).await;
    let mut found = std::collections::BTreeSet::new();
    for _ in 0..8 {
        let (client, _) = bound().await;
        let first = ask(&client, port, b"one").await;
        assert_eq!(ask(&client, port, &[7; 20_000]).await, first);
        found.insert(first);
    }
    assert_eq!(found.len(), 2);
    gateway.until("they are counted", |_| gateway.number("open") == 8).await;
    assert_eq!(gateway.number("connections_total"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_elsewhere_when_its_endpoint_leaves_the_table_or_nobody_listens() {
    let mut gateway = Gateway::start();
    let mut mortal = Tasks::default();
    let (one, other) = (echo(&mut gateway.tasks).await, echo(&mut mortal).await);
    let port = free().port();
    gateway.lead(Protocol::Udp, &[(port, &[one])]).await;
    let (client, _) = bound().await;
    assert_eq!(ask(&client, port, b"a").await, one.port());
    gateway.lead(Protocol::Udp, &[(port, &[other])]).await;
    assert_eq!(ask(&client, port, b"b").await, other.port());
    // Both are in the table, and the one that the client is with goes without a word.
    gateway.lead(Protocol::Udp, &[(port, &[one, other])]).await;
    assert_eq!(ask(&client, port, b"c").await, other.port());
    mortal.shutdown().await;
    assert_eq!(ask(&client, port, b"d").await, one.port());
    gateway.until("it failed", |_| gateway.number("connect_failures_total") > 0).await;
    // The port is free when it is not served.
    gateway.lead(Protocol::Udp, &[]).await;
    UdpSocket::bind((HERE, port)).await.expect("nobody has it");
    assert_eq!(gateway.number("open"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_holds_nothing_for_long_once_its_port_leads_elsewhere() {
    let mut gateway = Gateway::start();
    let (one, other) = (echo(&mut gateway.tasks).await, echo(&mut gateway.tasks).await);
    let port = free().port();
    gateway.lead(Protocol::Udp, &[(port, &[one])]).await;
    let (client, _) = bound().await;
    assert_eq!(ask(&client, port, b"a").await, one.port());
    assert_eq!(gateway.open.counts(), [(replica(&one), 1)].into());
    gateway.open.await_end(|on| *on == replica(&one));
    let mut emptied = gateway.open.emptied();
    gateway.lead(Protocol::Udp, &[(port, &[other])]).await;
    emptied.changed().await.expect("the counts are there");
    assert_eq!(gateway.open.counts(), [].into());
    assert_eq!(ask(&client, port, b"b").await, other.port(), "it is not forgotten");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_split_as_a_canary_is_weighed() {
    let mut gateway = Gateway::start();
    let [stable, canary] = [echo(&mut gateway.tasks).await, echo(&mut gateway.tasks).await];
    let port = free().port();
    gateway.weigh(Protocol::Udp, &[(port, vec![(stable, 4), (canary, 1)])]).await;
    let (mut to_canary, many) = (0, 200);
    for _ in 0..many {
        let (client, _) = bound().await;
        to_canary += u32::from(ask(&client, port, b"who").await == canary.port());
    }
    assert!((many / 10..=many * 2 / 5).contains(&to_canary), "{to_canary} of {many}");
}
