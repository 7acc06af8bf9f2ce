//! A long history asked as people ask it: the command line, a real event-log and a real nats-server,
//! each question a process of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::testing::Server;
use event_log::store::{FjallStore, Store as _};
use event_log::testing::keep_snapshots;
use event_log::witness::{Heads, Witness};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::subject;

use super::{bytes_in, head};
use crate::Args;
use crate::clock::Since;
use crate::cluster::binary;
use crate::figure::{Goal, Row, Spread, Unit, percentile};

/// How many moments, and how many replicas, are asked for in each repetition: all over the history.
const ASKED: u64 = 20;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a question may take.
const GOAL: Goal = Goal::AtMost(200_000);

pub(super) async fn measure(args: &Args, state_dir: &Path) -> Result<Vec<Row>, Failure> {
    let folder = event_log::config::folder(state_dir);
    let mut rows = Vec::new();
    let (end, replicas, before) = {
        let store = FjallStore::open(&folder)?;
        let before = bytes_in(&folder)?;
        keep_snapshots(&store)?;
        let end = head(&store)?;
        witness(&store, &folder)?;
        (end, replicas(&store, end)?, before)
    };
    rows.push(bytes("disk of all kept snapshots", bytes_in(&folder)?.saturating_sub(before)));
    let server = Server::start();
    let mut started = Vec::new();
    let mut asked: [Vec<u64>; 4] = Default::default();
    for _ in 0..args.repeat {
        args.goes_on()?;
        let since = Since::now();
        let _log = Log::start(&server, state_dir, end).await?;
        started.push(since.us());
        let samples = questions(args, &server.url(), end, &replicas)?;
        for (all, mut sample) in asked.iter_mut().zip(samples) {
            sample.sort_unstable();
            all.push(percentile(&sample, 50));
            all.push(percentile(&sample, 100));
        }
    }
    let row = |what: String, us: Vec<u64>, goal| Row {
        what: format!("{what}, of {end} events"),
        unit: Unit::Microseconds,
        ours: Spread::of(us),
        beside: None,
        goal,
    };
    rows.push(row("event-log from its start until it answers".to_owned(), started, None));
    let named = [
        ("muster --version, for comparison", None),
        ("muster state --at", Some(GOAL)),
        ("muster why, of a replica", Some(GOAL)),
        ("muster log, of a replica", Some(GOAL)),
    ];
    for ((name, goal), us) in named.into_iter().zip(asked) {
        for (which, skip) in [("median", 0), ("slowest", 1)] {
            let us = us.iter().skip(skip).step_by(2).copied().collect();
            rows.push(row(format!("{name}, {which} of {ASKED}"), us, goal));
        }
    }
    Ok(rows)
}

/// Remembers that all of the log was published, as the service does.
fn witness(store: &FjallStore, folder: &Path) -> Result<(), Failure> {
    let heads =
        Heads { stored: store.head()?, published: store.head()?, genesis: store.genesis()? };
    let mut witness = Witness::open(folder)?;
    // Both slots.
    for _ in 0..2 {
        witness.write(&heads)?;
    }
    Ok(())
}

/// Replicas that ran at moments all over the history.
fn replicas(store: &FjallStore, end: u64) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for at in moments(end) {
        for position in at..=end {
            let row = store.row(position)?.ok_or("a gap in the log")?;
            if let Event::RunStarted(started) = Envelope::decode(&row.bytes)?.event {
                found.push(started.replica.to_string());
                break;
            }
        }
    }
    Ok(found)
}

/// Positions all over the history, each as far from the snapshot before it as chance has it.
fn moments(end: u64) -> impl Iterator<Item = u64> {
    (0..ASKED).map(move |n| 1 + (end - 1) * (2 * n + 1) / (2 * ASKED))
}

/// How long each of the questions took: none, the state of then, why, the history of one.
fn questions(
    args: &Args,
    url: &str,
    end: u64,
    replicas: &[String],
) -> Result<[Vec<u64>; 4], Failure> {
    let mut took: [Vec<u64>; 4] = Default::default();
    for (at, replica) in moments(end).zip(replicas) {
        args.goes_on()?;
        took[0].push(ask(url, &["--version"])?);
        took[1].push(ask(url, &["state", "--at", &format!("r{at}"), "-o", "json"])?);
        took[2].push(ask(url, &["why", replica])?);
        took[3].push(ask(url, &["log", replica])?);
    }
    Ok(took)
}

/// Microseconds that one run of the command line takes.
fn ask(url: &str, words: &[&str]) -> Result<u64, Failure> {
    let mut muster = Command::new(binary("muster")?);
    muster.args(words).env("MUSTER_NATS_URL", url).stdin(Stdio::null());
    let since = Since::now();
    let output = muster.output()?;
    let us = since.us();
    if !output.status.success() || output.stdout.is_empty() {
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("`muster {}` failed: {error}", words.join(" ")).into());
    }
    Ok(us)
}

/// A running event-log; it ends when this is dropped.
struct Log(Child);

impl Log {
    /// Starts one, and waits until it answers for all of its history.
    async fn start(server: &Server, state_dir: &Path, end: u64) -> Result<Self, Failure> {
        let child = Command::new(binary("muster-event-log")?)
            .args(["--nats-url", &server.url(), "--scrub-per-second", "0", "--state-dir"])
            .arg(state_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut log = Self(child);
        let bus = server.bus("bench").await;
        let since = Since::now();
        while since.elapsed() < PATIENCE {
            if let Some(ended) = log.0.try_wait()? {
                return Err(format!("event-log ended: {ended}").into());
            }
            let asked = bus.request(&subject::api("head"), b"{}".to_vec(), PATIENCE).await;
            if let Ok(answer) = asked {
                let head: schemas::read::Head = serde_json::from_slice(&answer)?;
                if head.place.position >= end {
                    return Ok(log);
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(format!("event-log does not answer after {PATIENCE:?}").into())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn bytes(what: &str, bytes: u64) -> Row {
    Row {
        what: what.to_owned(),
        unit: Unit::Bytes,
        ours: Spread::of([bytes]),
        beside: None,
        goal: None,
    }
}
