//! Streams that outlive a rollout's patience: WebSocket and gRPC go on until the time that their replica
//! has, and what ends before that is not cut.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::http::{Request, Version};
use runtime::clock;
use serde_json::{Value, json};
use tests::cluster::{Cluster, free_port, text};
use tokio::task::JoinSet;

use super::cli::json;

/// How long a replica may finish what it has.
const DRAIN_MS: u64 = 6_000;

/// Longer than that.
const FOR_EVER: u32 = 10_000;

/// How often something is said on a stream.
const EVERY: Duration = Duration::from_millis(50);

/// What came of a stream: when it was last heard, and how it ended.
#[derive(Debug)]
struct Heard {
    last_ms: u64,
    messages: Vec<(u64, String)>,
    /// The status of gRPC, if it came to that.
    status: Option<String>,
}

/// A client of WebSocket that says something and hears it, until the connection breaks.
fn websocket(port: u16) -> JoinHandle<Heard> {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("it is served");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it can be set");
    let mut reader = BufReader::new(stream.try_clone().expect("it can be shared"));
    let mut writer = stream;
    // The key and its answer are those of the standard's own example.
    let asked = "GET /echo HTTP/1.1\r\nhost: shop.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    writer.write_all(asked.as_bytes()).expect("it is sent");
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("it is answered"), 0, "{head}");
    }
    assert!(
        head.starts_with("HTTP/1.1 101") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    std::thread::spawn(move || {
        let mut heard = Heard { last_ms: 0, messages: Vec::new(), status: None };
        for number in 0_u64.. {
            let said = format!("message {number}");
            if said_back(&mut reader, &mut writer, &said).is_err() {
                break;
            }
            heard.last_ms = clock::utc_ms();
            heard.messages.push((number, said));
            std::thread::sleep(EVERY);
        }
        heard
    })
}

fn said_back(
    reader: &mut impl std::io::Read,
    writer: &mut impl std::io::Write,
    said: &str,
) -> std::io::Result<()> {
    let length = u8::try_from(said.len()).expect("it is short");
    let mask = [7, 11, 13, 17];
    let masked = said.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let frame: Vec<u8> = [0x81, 0x80 | length].into_iter().chain(mask).chain(masked).collect();
    writer.write_all(&frame)?;
    let mut back = vec![0; 2 + said.len()];
    reader.read_exact(&mut back)?;
    assert_eq!((back[0], back[1], text(&back[2..])), (0x81, length, said.to_owned()));
    Ok(())
}

/// A client of gRPC that asks for so many messages, and hears them. The other end tells of the first one.
fn grpc(port: u16, count: u32) -> (JoinHandle<Heard>, Receiver<()>) {
    let (begun, first) = channel();
    let client = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let mut heard = Heard { last_ms: 0, messages: Vec::new(), status: None };
        let watched = runtime.expect("a runtime can be made").block_on(async {
            watch(port, count, &mut heard, || begun.send(()).unwrap_or(())).await
        });
        if let Err(error) = watched {
            println!("the stream ended: {error}");
        }
        heard
    });
    (client, first)
}

async fn watch(
    port: u16,
    count: u32,
    heard: &mut Heard,
    mut begun: impl FnMut(),
) -> Result<(), Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    let (client, connection) = h2::client::handshake(stream).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { connection.await.unwrap_or(()) });
    let request = Request::post("http://shop.example/shop.Ticks/Watch")
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let (answer, mut body) = client.ready().await?.send_request(request, false)?;
    let every_ms = u32::try_from(EVERY.as_millis())?;
    let message = [varint(0x08), varint(count), varint(0x10), varint(every_ms)].concat();
    body.send_data(framed(&message)?, true)?;
    let mut body = answer.await?.into_body();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
        while let Some(tick) = tick(&mut bytes) {
            heard.messages.push(tick);
            heard.last_ms = clock::utc_ms();
            begun();
        }
    }
    let trailers = body.trailers().await?;
    let status = trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    heard.status = status.and_then(|status| Some(status.to_str().ok()?.to_owned()));
    Ok(())
}

fn varint(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let seven = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        bytes.push(if number > 0 { seven | 0x80 } else { seven });
        if number == 0 {
            return bytes;
        }
    }
}

fn framed(message: &[u8]) -> Result<Bytes, std::num::TryFromIntError> {
    let length = u32::try_from(message.len())?.to_be_bytes();
    Ok([&[0], &length[..], message].concat().into())
}

/// The first whole message, taken away: its number, and who says it.
fn tick(bytes: &mut Vec<u8>) -> Option<(u64, String)> {
    let length = usize::try_from(u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?)).ok()?;
    let message = bytes.get(5..5 + length)?.to_vec();
    bytes.drain(..5 + length);
    let mut rest = &message[1..];
    let mut number = 0;
    for place in 0.. {
        let byte = rest.get_u8();
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((number, text(&rest[2..])))
}

/// The app in an edition: one replica of each, so that it is known which one goes.
fn shop(cluster: &Cluster, [web, ticks]: [u16; 2], edition: u32) -> Value {
    let workload = |port: u16, protocol: &str| {
        json!({
            "image": "muster/web:4", "env": {"GREETING": format!("edition{edition}")},
            "ports": [{"container": 8080, "published": port, "app": protocol}],
            "probe": {"check": {"http": {"port": 8080, "path": "/healthz"}}, "interval_ms": 500},
            "drain_ms": DRAIN_MS, "update": {"healthy_for_ms": 100},
        })
    };
    let workloads = json!({"web": workload(web, "detect"), "ticks": workload(ticks, "http2")});
    json!({"name": cluster.app(), "workloads": workloads})
}

/// When the replica of a workload was let go of, and what was under way then.
fn released(cluster: &Cluster, workload: &str) -> (u64, u64) {
    let of = format!("{}-{workload}-", cluster.app());
    let log = json(cluster, &["log", "--type", "ReplicasReleased"]);
    let found =
        log["items"].as_array().expect("a list").iter().find(|event| {
            event["data"]["replicas"][0].as_str().is_some_and(|id| id.starts_with(&of))
        });
    let event = found.unwrap_or_else(|| panic!("{workload} was not released: {log}"));
    (event["time"].as_u64().unwrap_or(0), event["data"]["open"].as_u64().unwrap_or(0))
}

#[test]
fn streams_go_on_through_a_rollout_until_their_replica_s_time_is_over() {
    let cluster = Cluster::start(2);
    let ports = [free_port(), free_port()];
    let deployed = cluster.deploy(&shop(&cluster, ports, 1).to_string());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    cluster.until("gRPC is served", |_| {
        grpc(ports[1], 1).0.join().is_ok_and(|heard| heard.status.is_some())
    });
    cluster.until("HTTP is served", |_| {
        tests::cluster::get(&format!("127.0.0.1:{}", ports[0]), "/")
            .is_ok_and(|(status, _)| status == 200)
    });

    let echo = websocket(ports[0]);
    let (long, long_begun) = grpc(ports[1], FOR_EVER);
    let (short, short_begun) = grpc(ports[1], 80);
    for begun in [long_begun, short_begun] {
        begun.recv_timeout(Duration::from_secs(20)).expect("the stream begins");
    }
    let next = cluster.deploy(&shop(&cluster, ports, 2).to_string());
    assert!(next.status.success(), "{}{}", text(&next.stderr), cluster.logs());
    let (after, _) = grpc(ports[1], 2);
    let after = after.join().expect("it ends");
    assert!(after.messages.iter().all(|(_, who)| who.starts_with("edition2 ")), "{after:?}");
    assert_eq!((after.messages.len(), after.status.as_deref()), (2, Some("0")));

    // What ends in time, ends well.
    let short = short.join().expect("it ends");
    let numbers: Vec<u64> = short.messages.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers, short.status.as_deref()), ((1..=80).collect(), Some("0")));
    assert!(short.messages.iter().all(|(_, who)| who.starts_with("edition1 ")));

    for (workload, stream) in [("web", echo), ("ticks", long)] {
        let heard = stream.join().expect("it ends");
        let (released_ms, open) = released(&cluster, workload);
        assert_eq!(open, 1, "{workload}: the stream was still there when its time was over");
        let last_ms = heard.last_ms;
        // It is said every 50 ms, or so.
        assert!(
            last_ms + 1_500 > released_ms,
            "{workload}: {last_ms} is long before {released_ms}"
        );
        assert!(heard.messages.len() > 80 && heard.status.as_deref() != Some("0"), "{workload}");
    }
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
}
