//! The pump: carries messages between the bus, the engine, the disk and the agent's machine.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::Bus;
use decider::Now;
use futures_util::StreamExt as _;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, clock, entropy, files};
use schemas::append::{Answer, INBOX_HEADER};
use schemas::document::{NodeDocument, SpecDocument};
use schemas::event::NodeDescription;
use schemas::id::{Digest, ReplicaId};
use schemas::registry::Role;
use schemas::report::UsageReport;
use schemas::{stream, subject};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::agent::{Agent, Input, Kept, Output, Runner};
use crate::config::Config;
use crate::engine::{Engine, Reading};
use crate::live::{self, Asks};

/// How many messages may wait for the machine.
const QUEUE: usize = 4_096;

/// How many messages the machine takes in at once.
const AT_ONCE: usize = 256;

/// How often the document is read again, in case its republishing was missed.
const READ_AGAIN: Duration = Duration::from_secs(60);

/// How often usage is sampled.
const USAGE: Duration = Duration::from_secs(5);

/// How long whoever tries again waits.
const RETRY: Duration = Duration::from_millis(500);

/// How long a clean stop may take to be told.
const RELEASE: Duration = Duration::from_secs(1);

/// The file with what the agent keeps.
const KEPT: &str = "kept.json";

/// Runs a node's agent until it is asked to stop.
///
/// # Errors
///
/// When its folder cannot be used, or what is kept there does not decode.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    let name = format!("node-agent {}", config.node);
    let folder = config.folder();
    let kept = read_kept(&folder)?;
    let instance = entropy::kept_id(&folder, "instance")?;
    admin.readiness.set(&name, Some("the engine".to_owned()));
    let Some(engine) = connect_engine(&config, &shutdown).await else { return Ok(()) };
    let agent = Agent::new(config.node.clone(), instance, kept, &entropy::hex());
    let agent = agent.with_image_mark(config.image_gc_percent);
    let open = live::Open::default();
    let (queue, arrived) = channel(QUEUE);
    let mut tasks = Tasks::default();
    tasks.spawn("engine events", read_engine(engine.clone(), queue.clone()));
    tasks.spawn("description", describe(config.clone(), engine.clone(), queue.clone()));
    let (link, linked) = tokio::sync::watch::channel(None);
    let talking = talk(config.clone(), queue.clone(), open.clone(), link, shutdown.clone());
    tasks.spawn("bus", talking);
    let pump = Pump { config, folder, engine, agent, queue, open, linked, admin, name };
    tasks.spawn("machine", pump.run(arrived, shutdown));
    match tasks.ended().await {
        Some((task, Err(error))) => {
            Err(format!("{task}: {}", runtime::process::chain(error.as_ref())).into())
        }
        _ => Ok(()),
    }
}

/// Writes what an agent that has not run yet is to know of the replicas on its node.
///
/// # Errors
///
/// When it cannot be written.
pub fn remember(
    folder: &std::path::Path,
    runners: BTreeMap<ReplicaId, Runner>,
) -> std::io::Result<()> {
    let kept = Kept { runners, ..Kept::default() };
    files::write_atomically(&folder.join(KEPT), &serde_json::to_vec(&kept)?)
}

fn read_kept(folder: &std::path::Path) -> Result<Kept, Failure> {
    let path = folder.join(KEPT);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| {
            format!(
                "{} does not decode: {error}; what runs here would be forgotten without it",
                path.display()
            )
            .into()
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::default()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display()).into()),
    }
}

async fn connect_engine(config: &Config, shutdown: &Shutdown) -> Option<Engine> {
    let mut told = false;
    loop {
        match Engine::connect(config).await {
            Ok(engine) => return Some(engine),
            Err(error) if !told => {
                tracing::warn!(error, "waiting for the engine");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = shutdown.requested() => return None,
        }
    }
}

/// What the bus is for the machine: a connection, and where answers arrive.
type Link = Option<(Bus, String)>;

struct Pump {
    config: Config,
    folder: std::path::PathBuf,
    engine: Engine,
    agent: Agent,
    queue: Sender<Input>,
    open: live::Open,
    linked: tokio::sync::watch::Receiver<Link>,
    admin: Admin,
    name: String,
}

impl Pump {
    async fn run(
        mut self,
        mut arrived: Receiver<Input>,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let mut work = Tasks::default();
        let mut usage = Sampler::default();
        let mut releasing = None;
        loop {
            let mut inputs = Vec::new();
            tokio::select! {
                () = clock::sleep_until(self.agent.next_ms(clock::now())) => inputs.push(Input::Tick),
                _ = arrived.recv_many(&mut inputs, AT_ONCE) => {}
                () = shutdown.requested(), if releasing.is_none() => {
                    releasing = Some(clock::mono_ms() + u64::try_from(RELEASE.as_millis()).unwrap_or(0));
                    self.open.end_all();
                    inputs.push(Input::Stop);
                }
                Some((task, ended)) = work.ended(), if !work.is_empty() => {
                    ended.map_err(|error| format!("{task}: {error}"))?;
                }
            }
            let now = clock::now();
            for output in self.agent.on(inputs, now) {
                self.carry_out(output, &mut work).await?;
            }
            if usage.due(now) {
                self.sample(&mut usage, &mut work, now);
            }
            self.tell();
            let over = releasing.is_some_and(|until| {
                now.mono_ms > until || self.agent.at_rest() || self.linked.borrow().is_none()
            });
            if over {
                return Ok(());
            }
        }
    }

    /// Says on the health page how it is.
    fn tell(&self) {
        self.admin.readiness.set(&self.name, self.agent.waits_for());
        let (dropped, refused) = self.agent.untold();
        let node = [("node", self.config.node.as_str())];
        let metrics = &self.admin.metrics;
        let text = "Facts dropped because too many waited.";
        metrics.set("muster_facts_dropped", text, &node, dropped);
        let text = "Facts that event-log refused for what they say.";
        metrics.set("muster_facts_refused", text, &node, refused);
    }

    async fn carry_out(&self, output: Output, work: &mut Tasks) -> Result<(), Failure> {
        match output {
            Output::Keep => {
                let text = serde_json::to_vec(self.agent.kept())?;
                let path = self.folder.join(KEPT);
                let written = tokio::task::block_in_place(|| files::write_atomically(&path, &text));
                written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
            Output::Engine(op) => {
                let (engine, queue) = (self.engine.clone(), self.queue.clone());
                work.spawn("operation", async move {
                    let done = engine.run(op.clone()).await;
                    for (image, id) in engine.take_pulled() {
                        let _ = queue.send(Input::Pulled(image, id)).await;
                    }
                    // Nobody there any more: the process ends.
                    let _ = queue.send(Input::Done(op, done)).await;
                    Ok(())
                });
            }
            Output::Append(request) => {
                let Some((bus, inbox)) = self.linked.borrow().clone() else { return Ok(()) };
                let payload = serde_json::to_vec(&request)?;
                let subject = subject::append(&request.writer);
                // What is not sent now is offered again.
                let _ = bus.publish_with_header(&subject, payload, (INBOX_HEADER, &inbox)).await;
            }
            Output::Heartbeat(heartbeat) => {
                let Some((bus, _)) = self.linked.borrow().clone() else { return Ok(()) };
                let payload = serde_json::to_vec(&heartbeat)?;
                let _ = bus.publish(&subject::heartbeat(&heartbeat.node), payload).await;
            }
            Output::Complain(what) => {
                tracing::error!(node = %self.config.node, what, "a fact is not of record");
            }
            Output::Open { asking, run } => {
                let session = asking.session.clone();
                let (engine, open, queue) =
                    (self.engine.clone(), self.open.clone(), self.queue.clone());
                let link = self.linked.borrow().clone();
                work.spawn("session", async move {
                    if let Some((bus, _)) = link {
                        live::serve(engine, bus, open, asking, run).await;
                    }
                    let _ = queue.send(Input::SessionOver(session)).await;
                    Ok(())
                });
            }
            Output::Refuse { session, reply, code, text } => {
                let link = self.linked.borrow().clone();
                if let Some((bus, _)) = link {
                    live::refuse(&bus, &session, &reply, code, text).await;
                }
            }
            Output::FetchSpec(digest) => {
                let Some((bus, _)) = self.linked.borrow().clone() else { return Ok(()) };
                let (node, queue) = (self.config.node.clone(), self.queue.clone());
                work.spawn("spec", async move {
                    if let Some(spec) = fetch_spec(&bus, &node, &digest).await {
                        let _ = queue.send(Input::Spec(spec)).await;
                    }
                    Ok(())
                });
            }
        }
        Ok(())
    }

    fn sample(&self, usage: &mut Sampler, work: &mut Tasks, now: Now) {
        let Some((bus, _)) = self.linked.borrow().clone() else { return };
        let (engine, node) = (self.engine.clone(), self.config.node.clone());
        let (running, before) = (self.agent.running(), usage.begin(now));
        work.spawn("usage", async move {
            let mut before = before.lock().await;
            let replicas = engine.usage(&running, &mut before).await;
            let report = UsageReport { node: node.clone(), time_ms: now.utc_ms, replicas };
            let _ = bus.publish(&subject::usage(&node), serde_json::to_vec(&report)?).await;
            Ok(())
        });
    }
}

type Before = std::sync::Arc<tokio::sync::Mutex<BTreeMap<String, Reading>>>;

/// When usage is sampled, and what was read the time before.
#[derive(Default)]
struct Sampler {
    at_ms: u64,
    before: Before,
}

impl Sampler {
    /// Not while the sample before is still being taken.
    fn due(&self, now: Now) -> bool {
        now.mono_ms >= self.at_ms && self.before.try_lock().is_ok()
    }

    fn begin(&mut self, now: Now) -> Before {
        self.at_ms = now.mono_ms + u64::try_from(USAGE.as_millis()).unwrap_or(u64::MAX);
        self.before.clone()
    }
}

async fn fetch_spec(
    bus: &Bus,
    node: &schemas::id::NodeName,
    digest: &Digest,
) -> Option<SpecDocument> {
    let found = bus.get_last(stream::NODES.name, &subject::spec(node, digest)).await;
    match found {
        Ok(Some(message)) => serde_json::from_slice(&message.payload).ok(),
        Ok(None) => None,
        Err(error) => {
            tracing::debug!(%error, %digest, "the spec cannot be read now");
            None
        }
    }
}

/// Hints of the engine. Its stream of events ends now and then, and is opened again.
async fn read_engine(engine: Engine, queue: Sender<Input>) -> Result<(), Failure> {
    loop {
        let mut events = engine.events();
        while let Some(died) = events.next().await {
            let hint = died.map_or(Input::EngineHint, Input::Died);
            if queue.send(hint).await.is_err() {
                return Ok(());
            }
        }
        tokio::time::sleep(RETRY).await;
        if queue.send(Input::EngineHint).await.is_err() {
            return Ok(());
        }
    }
}

/// What the node is and has, looked at now and then: an engine may be upgraded under us.
async fn describe(config: Config, engine: Engine, queue: Sender<Input>) -> Result<(), Failure> {
    loop {
        match engine.info().await {
            Ok(info) => {
                let memory = info.memory_bytes - info.memory_bytes / 10;
                let (disk_bytes, free) = disk(&info.data_dir).await.unwrap_or((0, 0));
                let description = NodeDescription {
                    address: config.address.clone(),
                    arch: info.arch,
                    os: info.os,
                    engine: info.version,
                    agent: env!("CARGO_PKG_VERSION").to_owned(),
                    cpu_millis: config.cpu_millis.unwrap_or(info.cores * 1_000 / config.shared_by),
                    memory_bytes: config.memory_bytes.unwrap_or(memory / config.shared_by),
                    disk_bytes,
                    pids: pids().unwrap_or(0),
                    labels: config.labels(),
                };
                let sent = queue.send(Input::Described(description)).await;
                if sent.is_err() || queue.send(Input::DiskFree(free)).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(error, "the engine does not describe itself"),
        }
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// The size and the free bytes of the file system a folder is on, as `df` tells them.
async fn disk(folder: &str) -> Option<(u64, u64)> {
    let output = tokio::process::Command::new("df")
        .args(["-B1", "--output=size,avail", folder])
        .output()
        .await;
    let text = String::from_utf8(output.ok()?.stdout).ok()?;
    let mut numbers = text.lines().nth(1)?.split_whitespace().map(|n| n.parse().unwrap_or(0));
    Some((numbers.next()?, numbers.next()?))
}

/// How many processes the machine may have.
fn pids() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()
}

/// Keeps the connection: the document as it is published again, answers, and what a reconnection
/// may have missed.
async fn talk(
    config: Config,
    queue: Sender<Input>,
    open: live::Open,
    link: tokio::sync::watch::Sender<Link>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let role = Role::Agent(config.node.clone());
    let Some(bus) = config.settings.connect(&role, &shutdown).await? else {
        shutdown.requested().await;
        return Ok(());
    };
    // First listen, then read: what is published in between is not missed.
    let mut documents = bus.subscribe(&subject::document_live(&config.node)).await?;
    let mut asks = Asks::listen(bus.clone(), config.node.clone(), open).await?;
    let (inbox, mut answers) = bus.inbox().await?;
    link.send_replace(Some((bus.clone(), inbox)));
    let mut connections = bus.connections();
    let mut again = tokio::time::interval(READ_AGAIN);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    if queue.send(Input::Connected).await.is_err() {
        return Ok(());
    }
    loop {
        let input = tokio::select! {
            // The machine has the last word; this task ends with it.
            () = queue.closed() => return Ok(()),
            Some(message) = documents.next() => decode::<NodeDocument>(&message.payload).map(Input::Document),
            Some(message) = answers.next() => decode::<Answer>(&message.payload).map(Input::Answer),
            Some(message) = asks.next() => asks.take(message).await,
            changed = connections.changed() => {
                changed?;
                again.reset_immediately();
                Some(Input::Connected)
            }
            _ = again.tick() => {
                let subject = subject::document(&config.node);
                match bus.get_last(stream::NODES.name, &subject).await {
                    Ok(found) => found.and_then(|message| decode(&message.payload)).map(Input::Document),
                    Err(error) => {
                        tracing::debug!(%error, "the document cannot be read now");
                        again.reset_after(RETRY);
                        None
                    }
                }
            }
        };
        if let Some(input) = input
            && queue.send(input).await.is_err()
        {
            return Ok(());
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Option<T> {
    match serde_json::from_slice(payload) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            tracing::warn!(%error, "a message that does not decode");
            None
        }
    }
}
