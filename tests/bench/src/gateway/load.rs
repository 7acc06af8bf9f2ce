//! Load from the other core: requests by h2load, connections by this program itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use runtime::Failure;
use runtime::tasks::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::configs::Door;
use super::world::{HOST, LARGE, OTHER_CORE, World};
use crate::clock::{Since, per_second};
use crate::figure::percentile;

/// How long each measurement lasts, in seconds.
const SECONDS: u64 = 1;

/// How many requests tell how long one takes.
const TIMED: u64 = 4_000;

/// How many connections are made at a time.
const AT_ONCE: usize = 32;

/// How many connections requests travel on, and how many at a time on each.
const H1: [&str; 2] = ["64", "1"];
const H2: [&str; 2] = ["8", "16"];

/// What is asked for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http1,
    Http2,
    Https,
    Large,
    Connections,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Http1, Self::Http2, Self::Https, Self::Large, Self::Connections];

    /// Whether it is requests that are counted.
    pub(super) fn is_requests(self) -> bool {
        matches!(self, Self::Http1 | Self::Http2 | Self::Https)
    }

    fn arguments(self, door: &Door, [clients, streams]: [&str; 2]) -> Vec<String> {
        let (port, url, h1) = match self {
            Self::Http2 => (door.http2, format!("http://{HOST}/"), false),
            Self::Https => (door.https, format!("https://{HOST}/"), true),
            Self::Large => (door.tcp, format!("http://{HOST}/large"), true),
            Self::Http1 | Self::Connections => (door.http, format!("http://{HOST}/"), true),
        };
        let mut all: Vec<String> = ["-c", clients, "-m", streams].map(str::to_owned).into();
        all.extend(h1.then(|| "--h1".to_owned()));
        all.extend([format!("--connect-to=127.0.0.1:{port}"), url]);
        all
    }
}

/// What a proxy gets done in a second: answers, bytes or connections; and how busy its core was, in
/// thousandths.
pub(super) fn rate(kind: Kind, door: &Door) -> Result<[u64; 2], Failure> {
    let before = core()?;
    let rate = match kind {
        Kind::Connections => connections(door.tcp)?,
        Kind::Large => requests(kind, door, ["8", "1"])? * u64::try_from(LARGE)?,
        Kind::Http2 => requests(kind, door, H2)?,
        Kind::Http1 | Kind::Https => requests(kind, door, H1)?,
    };
    let after = core()?;
    let (idle, all) = (after[0] - before[0], (after[1] - before[1]).max(1));
    Ok([rate, 1_000 - (idle * 1_000 / all).min(1_000)])
}

fn requests(kind: Kind, door: &Door, at_once: [&str; 2]) -> Result<u64, Failure> {
    let mut arguments = kind.arguments(door, at_once);
    arguments.extend([format!("-D{SECONDS}"), "--warm-up-time=200ms".to_owned()]);
    h2load(&arguments)
}

/// How long one request takes when it is the only one: the median, and what 99 of 100 do not exceed.
pub(super) fn times(kind: Kind, door: &Door, world: &World) -> Result<[u64; 2], Failure> {
    let log = world.file("times");
    let _ = std::fs::remove_file(&log);
    let mut arguments = kind.arguments(door, ["1", "1"]);
    arguments.extend([format!("-n{TIMED}"), format!("--log-file={}", log.display())]);
    h2load(&arguments)?;
    let text = std::fs::read_to_string(&log)?;
    let took = |line: &str| line.split('\t').nth(2)?.parse::<u64>().ok();
    let mut times: Vec<u64> = text.lines().filter_map(took).collect();
    // The first ones make connections.
    times.drain(..times.len().min(50));
    times.sort_unstable();
    if times.is_empty() {
        return Err("h2load wrote down no times".into());
    }
    Ok([percentile(&times, 50), percentile(&times, 99)])
}

/// Answers a second. An error when any was not what was asked for.
fn h2load(arguments: &[String]) -> Result<u64, Failure> {
    let ran =
        Command::new("taskset").args(["-c", OTHER_CORE, "h2load"]).args(arguments).output()?;
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    let said = |what: &str| -> Failure {
        let complaint = String::from_utf8_lossy(&ran.stderr);
        format!("h2load {}: {what}\n{text}{complaint}", arguments.join(" ")).into()
    };
    let rate = text.lines().find_map(|line| {
        let (_, rest) = line.strip_prefix("finished in ")?.split_once(", ")?;
        rest.split('.').next()?.parse::<u64>().ok()
    });
    let fine = text.lines().any(|line| {
        line.starts_with("requests:") && line.contains(" 0 failed, 0 errored, 0 timeout")
    }) && text
        .lines()
        .any(|line| line.starts_with("status codes:") && line.ends_with("0 3xx, 0 4xx, 0 5xx"));
    match rate {
        Some(rate) if fine && rate > 0 => Ok(rate),
        _ => Err(said("not every request was answered well")),
    }
}

/// Idle and all time of the proxy's core so far, in ticks.
fn core() -> Result<[u64; 2], Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let name = format!("cpu{}", super::world::PROXY_CORE);
    let line = stat.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '));
    let ticks = line.ok_or("no such core in /proc/stat")?.split_whitespace();
    let ticks: Vec<u64> = ticks.map_while(|ticks| ticks.parse().ok()).take(8).collect();
    Ok([ticks.iter().skip(3).take(2).sum(), ticks.iter().sum()])
}

/// Connections a second, each with a short request and its answer to the end, from the other core.
fn connections(port: u16) -> Result<u64, Failure> {
    let program = std::env::current_exe()?;
    let ran = Command::new("taskset")
        .args(["-c", OTHER_CORE])
        .arg(program)
        .arg(format!("--connect={port}"))
        .output()?;
    let text = String::from_utf8_lossy(&ran.stdout);
    text.trim().parse().map_err(|_| {
        let complaint = String::from_utf8_lossy(&ran.stderr);
        format!("making connections to port {port}: {complaint}").into()
    })
}

/// What `--connect` does: makes connections as fast as it can, and prints how many a second.
pub(crate) async fn connect(port: u16) -> Result<(), Failure> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (since, over) = (Since::now(), Duration::from_secs(SECONDS));
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut tasks = Tasks::default();
    for _ in 0..AT_ONCE {
        let count = count.clone();
        tasks.spawn("connections", async move {
            let mut answer = Vec::with_capacity(1_024);
            while since.elapsed() < over {
                let mut stream = TcpStream::connect(address).await?;
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
                answer.clear();
                stream.read_to_end(&mut answer).await?;
                if !answer.starts_with(b"HTTP/1.1 200 ") {
                    return Err("an answer that is none".into());
                }
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            Ok(())
        });
    }
    tasks.all().await?;
    println!("{}", per_second(count.load(std::sync::atomic::Ordering::Relaxed), since.us()));
    Ok(())
}
