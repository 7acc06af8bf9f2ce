//! Connections.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A server that repeats every byte at once, each after its own port.
async fn echo(gateway: &mut Gateway) -> SocketAddr {
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let at = listener.local_addr().expect("it has an address");
    gateway.tasks.spawn("echo", async move {
        let mut connections = Tasks::default();
        loop {
            let (mut stream, _) = listener.accept().await?;
            connections.spawn("connection", async move {
                stream.write_all(&at.port().to_be_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await?;
                Ok(())
            });
        }
    });
    at
}

/// Connects to a published port; the connection, and the port of the server behind it.
async fn connect(port: u16) -> std::io::Result<(TcpStream, u16)> {
    let mut stream = TcpStream::connect((HERE, port)).await?;
    let who = stream.read_u16().await?;
    Ok((stream, who))
}

async fn still_echoes(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.expect("it is sent");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"ping");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_has_its_turn_and_a_closed_half_leaves_the_other_open() {
    let mut gateway = Gateway::start();
    let servers = [echo(&mut gateway).await, echo(&mut gateway).await, echo(&mut gateway).await];
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &servers)]).await;
    let mut counts: BTreeMap<u16, u32> = BTreeMap::new();
    let long = vec![7; 300_000];
    for _ in 0..30 {
        let (mut stream, who) = connect(port).await.expect("it is served");
        *counts.entry(who).or_default() += 1;
        let (mut from, mut to) = stream.split();
        let send = async {
            to.write_all(&long).await?;
            to.shutdown().await
        };
        let mut answer = Vec::new();
        let (sent, received) = tokio::join!(send, from.read_to_end(&mut answer));
        sent.expect("it is sent");
        received.expect("the answer comes after our end");
        assert!(answer == long, "{} bytes came back", answer.len());
    }
    assert_eq!(counts.len(), 3, "{counts:?}");
    assert!(counts.values().all(|count| *count >= 5), "{counts:?}");
    let sent = || gateway.number("sent_bytes_total");
    gateway.until("all are over", |_| sent() == 9_000_060 && gateway.number("open") == 0).await;
    assert_eq!(gateway.number("connections_total"), 30);
    assert_eq!(gateway.number("received_bytes_total"), 9_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_reached_is_passed_over_and_put_aside() {
    let mut gateway = Gateway::start();
    let (dead, live) = (free(), echo(&mut gateway).await);
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[dead, live])]).await;
    for _ in 0..40 {
        let (_, who) = connect(port).await.expect("the next endpoint takes it");
        assert_eq!(who, live.port());
    }
    gateway.until("it failed", |_| gateway.number("connect_failures_total") > 0).await;
    assert!(gateway.number("connect_failures_total") < 20, "it was put aside");
    assert_eq!(gateway.number("unserved_total"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_live_on_when_the_table_changes() {
    let mut gateway = Gateway::start();
    let (one, other) = (echo(&mut gateway).await, echo(&mut gateway).await);
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[one])]).await;
    let (mut first, who) = connect(port).await.expect("it is served");
    assert_eq!(who, one.port());
    gateway.lead(Protocol::Tcp, &[(port, &[other])]).await;
    for _ in 0..5 {
        assert_eq!(connect(port).await.expect("it is served").1, other.port());
    }
    still_echoes(&mut first).await;
    gateway.lead(Protocol::Tcp, &[]).await;
    let refused = TcpStream::connect((HERE, port)).await.expect_err("nobody listens any more");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    still_echoes(&mut first).await;
    gateway.lead(Protocol::Tcp, &[(port, &[other])]).await;
    assert_eq!(connect(port).await.expect("it is served again").1, other.port());
    still_echoes(&mut first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_harms_no_other_and_is_served_when_it_is_free() {
    let mut gateway = Gateway::start();
    let server = echo(&mut gateway).await;
    let taken = std::net::TcpListener::bind((HERE, 0)).expect("there are ports");
    let taken_port = taken.local_addr().expect("it has an address").port();
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(taken_port, &[server]), (port, &[server])]).await;
    assert_eq!(connect(port).await.expect("it is served").1, server.port());
    assert_eq!(gateway.number("unbound_ports"), 1);
    drop(taken);
    gateway.until("the port is tried again", |_| gateway.number("unbound_ports") == 0).await;
    assert_eq!(connect(taken_port).await.expect("it is served").1, server.port());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_nobody_can_take_is_let_go_and_counted() {
    let gateway = Gateway::start();
    let (port, dead) = (free().port(), free());
    for endpoints in [&[][..], &[dead]] {
        gateway.lead(Protocol::Tcp, &[(port, endpoints)]).await;
        connect(port).await.expect_err("there is nobody");
    }
    gateway.until("they are counted", |_| gateway.number("unserved_total") == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_is_counted_by_replica_wherever_the_port_leads() {
    let mut gateway = Gateway::start();
    let (one, other) = (echo(&mut gateway).await, echo(&mut gateway).await);
    let (port, second) = (free().port(), free().port());
    gateway.lead(Protocol::Tcp, &[(port, &[one]), (second, &[one])]).await;
    let (first, _) = connect(port).await.expect("it is served");
    let (beside, _) = connect(second).await.expect("it is served");
    assert_eq!(gateway.open.counts(), [(replica(&one), 2)].into());
    gateway.lead(Protocol::Tcp, &[(port, &[other])]).await;
    let (newer, _) = connect(port).await.expect("it is served");
    assert_eq!(gateway.open.counts(), [(replica(&one), 2), (replica(&other), 1)].into());
    gateway.open.await_end(|on| *on == replica(&one));
    let mut emptied = gateway.open.emptied();
    drop((first, beside));
    emptied.changed().await.expect("the counts are there");
    assert_eq!(gateway.open.counts(), [(replica(&other), 1)].into());
    drop(newer);
}

/// How many connections are opened to see how they are split.
const MANY: u32 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_split_as_a_canary_is_weighed_and_stay_where_they_are() {
    for balance in [Balance::LeastLoaded, Balance::RoundRobin] {
        let mut gateway =
            Gateway { balance: balance.clone(), ..Gateway::speaking(AppProtocol::Tcp) };
        let [old, other, canary] =
            [echo(&mut gateway).await, echo(&mut gateway).await, echo(&mut gateway).await];
        let port = free().port();
        let weighed = |stable: u32, new: u32| {
            vec![(port, vec![(old, stable), (other, stable), (canary, new)])]
        };
        // One in ten of what comes, of which it alone has a tenth.
        gateway.weigh(Protocol::Tcp, &weighed(9, 2)).await;
        let mut kept = Vec::new();
        let mut to_canary = 0;
        for i in 0..MANY {
            let (stream, who) = connect(port).await.expect("it is served");
            to_canary += u32::from(who == canary.port());
            if i % 10 == 0 || who == canary.port() && kept.len() < 80 {
                kept.push((stream, who));
            }
        }
        let expected = MANY / 10;
        let near = expected / 2..=expected * 2;
        assert!(near.contains(&to_canary), "{balance:?}: {to_canary} of {MANY}");
        assert!(kept.iter().any(|(_, who)| *who == canary.port()));

        // Taken back: nothing new goes there, and what is open there is not cut.
        gateway.weigh(Protocol::Tcp, &[(port, vec![(old, 1), (other, 1)])]).await;
        for _ in 0..60 {
            assert_ne!(connect(port).await.expect("it is served").1, canary.port());
        }
        for (stream, _) in &mut kept {
            still_echoes(stream).await;
        }
    }
}
