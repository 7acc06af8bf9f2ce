//! Ports on which nothing is declared, and those that want to know the client.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::backend::{Backend, Client, Manner};
use super::*;

/// A server that says back what it hears, and nothing before.
async fn echo(gateway: &mut Gateway) -> SocketAddr {
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let at = listener.local_addr().expect("it has an address");
    gateway.tasks.spawn("echo", async move {
        let mut connections = Tasks::default();
        loop {
            let (mut stream, _) = listener.accept().await?;
            connections.spawn("connection", async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                Ok(())
            });
        }
    });
    at
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_found_out_however_late_and_in_how_small_pieces_it_comes() {
    let mut gateway = Gateway::start();
    gateway.balance = Balance::RoundRobin;
    let backends = [
        Backend::start(&mut gateway, Manner::Well).await,
        Backend::start(&mut gateway, Manner::Well).await,
    ];
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[backends[0].at, backends[1].at])]).await;
    for (silent_ms, pieces) in [(0, 1), (0, 4), (300, 1), (300, 4)] {
        let mut client = Client::connect(port).await;
        tokio::time::sleep(Duration::from_millis(silent_ms)).await;
        let request = "GET /where HTTP/1.1\r\nhost: a\r\n\r\n";
        for piece in request.as_bytes().chunks(request.len().div_ceil(pieces)) {
            client.stream.write_all(piece).await.expect("it is sent");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(client.answer().await.expect("it is answered").status(), 200);
        let before: Vec<usize> = backends.iter().map(|backend| backend.requests().len()).collect();
        for _ in 0..20 {
            assert_eq!(client.get("/").await.expect("it is answered").status(), 200);
        }
        for (backend, before) in backends.iter().zip(before) {
            assert!(backend.requests().len() > before, "requests of one connection go to both");
        }
    }
    for backend in &backends {
        let seen = backend.requests();
        assert!(seen.iter().all(|request| request.header("x-forwarded-for").is_some()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_begins_like_http_goes_through_as_it_is() {
    let mut gateway = Gateway::start();
    let at = echo(&mut gateway).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    for said in
        ["GET key\r\n", "\u{16}\u{3}\u{1}", "*1\r\n$4\r\nPING\r\n", "PRI * HTTP/2.0\r\n\r\nno"]
    {
        for silent_ms in [0, 150] {
            let mut client = TcpStream::connect((HERE, port)).await.expect("it is served");
            tokio::time::sleep(Duration::from_millis(silent_ms)).await;
            client.write_all(said.as_bytes()).await.expect("it is sent");
            client.shutdown().await.expect("it is there");
            let mut back = String::new();
            client.read_to_string(&mut back).await.expect("it comes back");
            assert_eq!(back, said);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_bytes_does_not_look_at_them() {
    let mut gateway = Gateway::speaking(AppProtocol::Tcp);
    let at = echo(&mut gateway).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    let mut client = TcpStream::connect((HERE, port)).await.expect("it is served");
    let said = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(said.as_bytes()).await.expect("it is sent");
    let mut back = vec![0; said.len()];
    client.read_exact(&mut back).await.expect("it comes back");
    assert_eq!(back, said.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_know_is_told_of_the_client_first() {
    let mut gateway = Gateway::speaking(AppProtocol::Proxy);
    let at = echo(&mut gateway).await;
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[at])]).await;
    let mut client = TcpStream::connect((HERE, port)).await.expect("it is served");
    client.write_all(b"hi").await.expect("it is sent");
    let mut back = vec![0; 30];
    client.read_exact(&mut back).await.expect("it comes back");
    let own = client.local_addr().expect("it has an address").port();
    assert_eq!(&back[..12], b"\r\n\r\n\0\r\nQUIT\n");
    assert_eq!(&back[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(back[24..26], own.to_be_bytes());
    assert_eq!(back[26..28], port.to_be_bytes());
    assert_eq!(&back[28..], b"hi");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_keeps_nobody_from_leaving() {
    let mut gateway = Gateway::start();
    let (one, other) = (echo(&mut gateway).await, echo(&mut gateway).await);
    let port = free().port();
    gateway.lead(Protocol::Tcp, &[(port, &[one])]).await;
    let mut client = TcpStream::connect((HERE, port)).await.expect("it is served");
    let on = |at: &SocketAddr| gateway.open.counts().get(&replica(at)).copied();
    let until = async |at: &SocketAddr| {
        for _ in 0..LOOKS {
            if on(at) == Some(1) {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        panic!("not so in time: {:?}", gateway.open.counts());
    };
    until(&one).await;
    gateway.lead(Protocol::Tcp, &[(port, &[other])]).await;
    until(&other).await;
    assert_eq!(on(&one), None);
    client.write_all(b"hi").await.expect("it is sent");
    let mut back = [0; 2];
    client.read_exact(&mut back).await.expect("it comes back");
    assert_eq!(&back, b"hi");
}
