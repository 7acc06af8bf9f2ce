//! Two event-logs as processes of their own on one real nats-server that syncs before it
//! acknowledges: whoever leads is killed, stopped in its tracks, or asked to end, under load, and
//! the other takes over. What was answered must be in both logs and in the stream, once, whole and
//! in order; and whoever led comes back without hands.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bus::Bus;
use bus::testing::Server;
use cluster::Fold;
use event_log::store::{FjallStore, Store as _, rows};
use schemas::append::{Answer, Draft, INBOX_HEADER, Request, Verdict};
use schemas::event::{Event, LeadershipTaken, NoteAdded};
use schemas::id::{Series, Tenant, Writer};
use schemas::place::Place;
use schemas::subject;
use serde_json::value::RawValue;

use crate::cluster::{PATIENCE, free_port, get, program};

/// How many instances there are.
const INSTANCES: usize = 2;

/// How long a request waits for its answer before it is offered again.
const AGAIN: Duration = Duration::from_millis(100);

/// How many notes a batch has: one that is torn shows.
const BATCH: u32 = 3;

/// What happens to the one that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL: its connection closes.
    Killed,
    /// SIGSTOP, and SIGCONT after the other has taken: its connection stays.
    Paused,
    /// SIGTERM.
    Ended,
}

const FAULTS: [Fault; 3] = [Fault::Killed, Fault::Paused, Fault::Ended];

/// What was measured: from each fault until the next answer.
#[derive(Debug, Default)]
pub struct Report {
    times: BTreeMap<Fault, Vec<Duration>>,
    /// How many batches were answered.
    pub answered: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} batches answered", self.answered)?;
        for (fault, times) in &self.times {
            let mut sorted = times.clone();
            sorted.sort();
            let (median, longest) = (sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
            write!(f, "; {fault:?}: {} take-overs, ", sorted.len())?;
            write!(
                f,
                "{} ms at the median, {} ms at most",
                median.as_millis(),
                longest.as_millis()
            )?;
        }
        Ok(())
    }
}

/// A process of event-log and its folder.
struct Instance {
    folder: PathBuf,
    admin: String,
    child: Option<Child>,
}

impl Instance {
    fn start(&mut self, server: &Server, begins: bool) {
        std::fs::create_dir_all(&self.folder).expect("the temporary folder takes folders");
        let log = self.folder.join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("a file can be made");
        let mut command = Command::new(program("muster-event-log"));
        command.args(["--nats-url", &server.url(), "--admin-address", &self.admin]);
        command.arg("--state-dir").arg(&self.folder).arg("--one-of-several");
        if begins {
            command.arg("--begin");
        }
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("it can be started"));
    }

    fn signal(&mut self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal}");
    }

    /// Waits until it has ended by itself.
    fn ended(&mut self) {
        if let Some(mut child) = self.child.take() {
            let status = child.wait().expect("it can be waited for");
            assert!(status.success(), "event-log ended with {status}:\n{}", self.told());
        }
    }

    fn page(&self, path: &str) -> (u16, String) {
        get(&self.admin, path).unwrap_or((0, String::new()))
    }

    fn metric(&self, name: &str) -> Option<u64> {
        let (_, text) = self.page("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{} "))?;
        line.trim().parse().ok()
    }

    fn leads(&self) -> bool {
        self.metric("muster_log_leads") == Some(1)
    }

    fn ready(&self) -> bool {
        self.page("/readyz").0 == 200
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the writer was told.
#[derive(Debug, Default)]
struct Told {
    answered: Vec<Place>,
    wrong: Option<String>,
    stops: bool,
}

type Shared = Arc<Mutex<Told>>;

fn told(shared: &Shared) -> MutexGuard<'_, Told> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A service that decides, with one batch in flight, as fast as it is answered.
async fn write(bus: Bus, shared: Shared) {
    let writer = Writer::Controller;
    let (inbox, mut answers) = bus.inbox().await.expect("the server is there");
    let mut basis = Place::START.basis();
    for n in 0_u64.. {
        let request = request(&writer, n, basis);
        let payload = serde_json::to_vec(&request).expect("string keys");
        let place = loop {
            if told(&shared).stops {
                return;
            }
            let header = (INBOX_HEADER, inbox.as_str());
            let _ =
                bus.publish_with_header(&subject::append(&writer), payload.clone(), header).await;
            let answer = async {
                while let Some(message) = answers.next().await {
                    let answer: Answer =
                        serde_json::from_slice(&message.payload).expect("an answer");
                    if (&answer.series, answer.n) == (&request.series, request.n) {
                        return answer.verdict;
                    }
                }
                panic!("the connection is gone for good");
            };
            match tokio::time::timeout(AGAIN, answer).await {
                Ok(Verdict::Published(place) | Verdict::Duplicate { place, .. }) => break place,
                Ok(refused @ Verdict::Refused { .. }) => {
                    told(&shared).wrong = Some(format!("batch {n}: {refused:?}"));
                    return;
                }
                Err(_) => {}
            }
        };
        basis = place.basis();
        told(&shared).answered.push(place);
    }
}

/// The claim, then batch after batch of one series.
fn request(writer: &Writer, n: u64, basis: schemas::place::Basis) -> Request {
    let instance = "writer".to_owned();
    let draft = |event: Event| Draft {
        time_ms: 1,
        tenant: Tenant::new(event.tenant()).expect("a name"),
        actor: "test".to_owned(),
        correlation: None,
        causation: None,
        kind: event.kind().to_owned(),
        data: RawValue::from_string(event.data()).expect("JSON"),
    };
    let note = |i| {
        let object = "app/main/shop".to_owned();
        draft(NoteAdded { object, text: format!("{n}/{i}"), fields: BTreeMap::new() }.into())
    };
    let claim = LeadershipTaken { writer: writer.clone(), term: 1, instance: instance.clone() };
    let (series, number, events) = match n {
        0 => (Series::derive("claim", 0), 1, vec![draft(claim.into())]),
        n => (Series::derive("notes", 0), n, (0..BATCH).map(note).collect()),
    };
    Request {
        writer: writer.clone(),
        term: 1,
        instance,
        series,
        n: number,
        basis: Some(basis),
        absent: Vec::new(),
        events,
    }
}

/// The whole of it.
struct Pair {
    server: Server,
    folder: PathBuf,
    instances: Vec<Instance>,
    shared: Shared,
}

impl Pair {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("muster-takeover-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let server = Server::start_synced();
        let instance = |i: usize| Instance {
            folder: folder.join(format!("log-{i}")),
            admin: format!("127.0.0.1:{}", free_port()),
            child: None,
        };
        let instances = (0..INSTANCES).map(instance).collect();
        let mut pair = Self { server, folder, instances, shared: Shared::default() };
        for i in 0..INSTANCES {
            pair.instances[i].start(&pair.server, i == 0);
        }
        pair
    }

    #[expect(clippy::disallowed_methods, reason = "a test waits by the clock, with a bound")]
    fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !so(self) {
            if let Some(wrong) = &told(&self.shared).wrong {
                panic!("{wrong}\n{}", self.logs());
            }
            let late = began.elapsed() > PATIENCE;
            assert!(!late, "not so after {PATIENCE:?}: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn logs(&self) -> String {
        let told = |one: &Instance| format!("--- {}\n{}", one.folder.display(), one.told());
        self.instances.iter().map(told).collect()
    }

    /// One leads and the other has all that it published.
    fn until_whole(&self) -> usize {
        self.until("one leads, the other follows", |pair| {
            let leading = pair.instances.iter().filter(|one| one.leads()).count();
            leading == 1 && pair.instances.iter().all(Instance::ready)
        });
        self.instances.iter().position(Instance::leads).unwrap_or(0)
    }

    fn answered(&self) -> usize {
        told(&self.shared).answered.len()
    }

    fn until_answered(&self, more: usize) {
        let wanted = self.answered() + more;
        self.until("batches are answered", |pair| pair.answered() >= wanted);
    }

    /// The one that leads goes, and comes back. How long nothing was answered.
    #[expect(clippy::disallowed_methods, reason = "how long it takes is measured")]
    fn round(&mut self, fault: Fault) -> Duration {
        let leader = self.until_whole();
        self.until_answered(20);
        let epoch = told(&self.shared).answered.last().map_or(0, |place| place.epoch);
        let began = Instant::now();
        match fault {
            Fault::Killed => {
                let mut child = self.instances[leader].child.take().expect("it runs");
                child.kill().expect("it can be killed");
                child.wait().expect("it has ended");
            }
            Fault::Paused => self.instances[leader].signal("-STOP"),
            Fault::Ended => {
                self.instances[leader].signal("-TERM");
                self.instances[leader].ended();
            }
        }
        self.until("the other takes over", |pair| {
            told(&pair.shared).answered.last().is_some_and(|place| place.epoch > epoch)
        });
        let took = began.elapsed();
        match fault {
            Fault::Paused => self.instances[leader].signal("-CONT"),
            Fault::Killed | Fault::Ended => self.instances[leader].start(&self.server, false),
        }
        self.until_answered(20);
        took
    }

    /// Both end; what each has, and what the stream has, is one history with all that was answered.
    fn check(&mut self, stream: &[(u64, Vec<u8>)]) {
        for one in &mut self.instances {
            one.signal("-TERM");
        }
        self.instances.iter_mut().for_each(Instance::ended);
        let logs: Vec<_> = self
            .instances
            .iter()
            .map(|one| {
                let store = FjallStore::open(&one.folder.join("event-log")).expect("it opens");
                let head = store.head().expect("readable").position;
                rows(&store, 1, head).expect("readable")
            })
            .collect();
        let [first, second] = &logs[..] else { panic!("there are two") };
        let both = first.len().min(second.len());
        assert_eq!(first[..both], second[..both], "the logs differ");
        let answered = told(&self.shared).answered.clone();
        let last = answered.last().map_or(0, |place| place.position);
        assert!(both as u64 >= last, "a log ends at {both}, {last} was answered");
        for (sequence, bytes) in stream {
            let index = usize::try_from(*sequence - 1).expect("small");
            let same = first.get(index).or(second.get(index)).map(|row| &row.bytes[..] == bytes);
            assert_eq!(same, Some(true), "the stream differs at {sequence}");
        }
        let mut fold = Fold::new();
        let mut batches = Vec::new();
        for row in first {
            let Some(applied) = fold.push(&row.bytes).expect("the chain holds") else { continue };
            let notes = applied.events.iter().filter_map(|event| match &event.event {
                Event::NoteAdded(note) => Some(note.text.clone()),
                _ => None,
            });
            let notes: Vec<String> = notes.collect();
            if !notes.is_empty() {
                batches.push((row.place, notes));
            }
        }
        assert_eq!(fold.state().anomalies(), 0, "{:?}", fold.state().cluster.anomalous);
        for (n, (place, notes)) in (1_u64..).zip(&batches) {
            let whole: Vec<String> = (0..BATCH).map(|i| format!("{n}/{i}")).collect();
            assert_eq!(*notes, whole, "batch {n} is torn, missing, doubled or out of order");
            let index = usize::try_from(n).expect("small");
            if let Some(answered) = answered.get(index) {
                assert_eq!(place, answered, "batch {n} was answered at another place");
            }
        }
        assert!(batches.len() + 1 >= answered.len(), "an answered batch is missing");
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.instances.clear();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Everything that the events stream has.
async fn stream(bus: &Bus) -> Vec<(u64, Vec<u8>)> {
    let mut follow = bus.follow(schemas::stream::EVENTS.name, 0, None);
    let mut all = Vec::new();
    loop {
        let batch = follow.next_batch(1_000).await.expect("it can be read");
        if batch.is_empty() {
            return all;
        }
        all.extend(batch.into_iter().map(|message| (message.sequence, message.payload.to_vec())));
    }
}

/// So many times: whoever leads goes in one of three ways, under load, and the other takes over.
///
/// # Panics
///
/// When anything that must hold does not.
#[must_use]
pub fn takeover(rounds: usize) -> Report {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let mut pair = Pair::start();
    let bus = runtime.block_on(pair.server.bus("tester"));
    pair.until_whole();
    let writing = runtime.spawn(write(bus.clone(), Arc::clone(&pair.shared)));
    let mut report = Report::default();
    for fault in FAULTS.into_iter().cycle().take(rounds) {
        let took = pair.round(fault);
        report.times.entry(fault).or_default().push(took);
    }
    pair.until_whole();
    told(&pair.shared).stops = true;
    runtime.block_on(writing).expect("the writer does not fail");
    // What was under way when the writer stopped gets to both.
    let heads = |pair: &Pair| -> Vec<_> {
        pair.instances.iter().map(|one| one.metric("muster_log_published_position")).collect()
    };
    pair.until("both have published the same", |pair| {
        let heads = heads(pair);
        heads[0].is_some() && heads.windows(2).all(|two| two[0] == two[1])
    });
    let streamed = runtime.block_on(stream(&bus));
    pair.check(&streamed);
    report.answered = told(&pair.shared).answered.len();
    report
}
