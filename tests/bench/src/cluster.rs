//! A `muster dev` of one's own, and a client that commands it and follows what happens.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::{Bus, Connect, Follow};
use runtime::Failure;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::{CommandId, NodeName};
use schemas::read::{StatePage, StateRequest};
use schemas::registry::Role;
use schemas::{stream, subject};
use serde_json::{Value, json};

use crate::Args;
use crate::clock::Since;
use crate::engine::Engine;

/// The nodes of a cluster.
pub(crate) const NODES: u16 = 3;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a cluster may take to stop.
const STOP: Duration = Duration::from_secs(10);

/// The user of the command line.
const USER: &str = "dev";

/// A cluster of one process with several nodes.
pub(crate) struct Cluster {
    dev: Child,
    agent: Option<Child>,
    folder: PathBuf,
    prefix: String,
    url: String,
    bus: Bus,
    events: Follow,
    engine: Engine,
}

impl Cluster {
    /// Starts one, hands it to what measures, and takes everything away again, whatever came of it.
    pub(crate) async fn with<T>(
        args: &Args,
        measure: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut cluster = Self::start(args).await?;
        let measured = tokio::select! {
            measured = measure(&mut cluster) => measured,
            () = args.interrupted() => Err("interrupted".into()),
        };
        let cleaned = cluster.clean_up().await;
        let measured = measured?;
        cleaned.map(|()| measured)
    }

    async fn start(args: &Args) -> Result<Self, Failure> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let tag = format!("bench{}-{count}", std::process::id());
        let engine = Engine::connect(&args.socket, &args.image).await?;
        let folder = std::env::temp_dir().join(format!("muster-{tag}"));
        std::fs::create_dir_all(&folder)?;
        let prefix = format!("{tag}-");
        let log = std::fs::File::create(folder.join("dev.log"))?;
        let mut dev = Command::new(binary("muster")?)
            .args(["dev", "--nodes", &NODES.to_string(), "--node-prefix", &prefix])
            .args(["--docker-host", &format!("unix://{}", args.socket.display())])
            .arg("--data-dir")
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let (url, bus) = match connected(&folder, &mut dev).await {
            Ok(connected) => connected,
            Err(error) => {
                let log = std::fs::read_to_string(folder.join("dev.log")).unwrap_or_default();
                let _ = (dev.kill(), dev.wait(), std::fs::remove_dir_all(&folder));
                return Err(format!("{error}\n{log}").into());
            }
        };
        let events = bus.follow(stream::EVENTS.name, 1, None);
        let cluster = Self { dev, agent: None, folder, prefix, url, bus, events, engine };
        match cluster.nodes_ready(usize::from(NODES)).await {
            Ok(()) => Ok(cluster),
            Err(error) => {
                let _ = cluster.clean_up().await;
                Err(error)
            }
        }
    }

    async fn clean_up(mut self) -> Result<(), Failure> {
        self.stop_agent();
        let asked = Command::new("kill").arg(self.dev.id().to_string()).status();
        let since = Since::now();
        while asked.is_ok() && since.elapsed() < STOP && self.dev.try_wait()?.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let _ = (self.dev.kill(), self.dev.wait());
        for node in self.node_names(NODES + 1) {
            self.engine.remove_labelled(&format!("io.muster.node={node}")).await?;
            self.engine.remove_networks(&format!("muster-{node}-")).await?;
        }
        self.engine.clean_up().await?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }

    fn node_names(&self, count: u16) -> Vec<String> {
        (1..=count).map(|number| format!("{}{number}", self.prefix)).collect()
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Where it keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process.
    pub(crate) fn process(&self) -> u32 {
        self.dev.id()
    }

    /// The nats-server, which is its child.
    pub(crate) fn nats_server(&self) -> Result<u32, Failure> {
        for process in std::fs::read_dir("/proc")? {
            let status = std::fs::read_to_string(process?.path().join("status"));
            let status = status.unwrap_or_default();
            let of = |key: &str| {
                status.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
            };
            if let (Some(parent), Some(pid)) = (of("PPid:"), of("Pid:"))
                && parent == self.dev.id()
            {
                return Ok(pid);
            }
        }
        Err("`muster dev` has no nats-server".into())
    }

    /// Runs one more node as a process of its own, and waits until it is there. Its name.
    pub(crate) async fn add_agent(&mut self) -> Result<NodeName, Failure> {
        let node = NodeName::new(&format!("{}{}", self.prefix, NODES + 1))?;
        let users: Value = serde_json::from_slice(&std::fs::read(self.folder.join("users.json"))?)?;
        let password = users[Role::Agent(node.clone()).user()].as_str().unwrap_or_default();
        let log = std::fs::File::create(self.folder.join("agent.log"))?;
        let agent = Command::new(binary("muster-node-agent")?)
            .args(["--node", node.as_str(), "--nats-url", &self.url, "--nats-password", password])
            .args(["--docker-host", &format!("unix://{}", self.engine.socket().display())])
            .arg("--state-dir")
            .arg(self.folder.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.agent = Some(agent);
        self.nodes_ready(usize::from(NODES) + 1).await?;
        Ok(node)
    }

    /// Sends a signal to that process.
    pub(crate) fn signal_agent(&self, signal: &str) -> Result<(), Failure> {
        let agent = self.agent.as_ref().ok_or("no agent was added")?;
        let sent = Command::new("kill").args([signal, &agent.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill {signal} failed").into()) }
    }

    fn stop_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = (agent.kill(), agent.wait());
        }
    }

    /// A connection of its own.
    pub(crate) fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes a command; returns its id when the server has it.
    pub(crate) async fn command(&self, verb: &str, body: &Value) -> Result<CommandId, Failure> {
        let id = CommandId::new(&runtime::entropy::hex())?;
        let subject = subject::command_as(USER, verb);
        let headers = [("Nats-Msg-Id", id.as_str())];
        self.bus.publish_command(&subject, serde_json::to_vec(body)?, &headers).await?;
        Ok(id)
    }

    /// Declares an app of one workload without a probe, and one port.
    pub(crate) async fn deploy(
        &self,
        args: &Args,
        app: &str,
        replicas: u32,
    ) -> Result<(), Failure> {
        let web = json!({
            "image": args.image, "replicas": replicas, "ports": [{ "container": 8080 }],
            "update": { "deadline_ms": 120_000 },
        });
        let app = json!({ "app": { "name": app, "workloads": { "web": web } } });
        self.command("app.deploy", &app).await.map(|_| ())
    }

    /// Ends an app, and waits until nothing of it is left.
    pub(crate) async fn delete(&mut self, app: &str) -> Result<(), Failure> {
        self.command("app.delete", &json!({ "app": app })).await?;
        self.until("the app is gone", |event| matches!(event, Event::AppDeleted(_)).then_some(()))
            .await
    }

    /// Goes on through history until something is found in it.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut found: impl FnMut(&Event) -> Option<T>,
    ) -> Result<T, Failure> {
        let searched = async {
            loop {
                let event = self.next().await?;
                match &event {
                    Event::CommandRejected(e) => {
                        return Err(format!("refused: {}", e.problem).into());
                    }
                    Event::AppStalled(e) => return Err(format!("stalled: {}", e.reason).into()),
                    _ => {}
                }
                if let Some(found) = found(&event) {
                    return Ok(found);
                }
            }
        };
        let late = |_| Err(format!("not so after {PATIENCE:?}: {what}").into());
        tokio::time::timeout(PATIENCE, searched).await.unwrap_or_else(late)
    }

    async fn next(&mut self) -> Result<Event, Failure> {
        // One at a time, so that what comes after is still there for who asks next.
        let [message] = loop {
            let batch = self.events.next_batch(1).await?;
            if let Ok(one) = <[bus::Message; 1]>::try_from(batch) {
                break one;
            }
        };
        Ok(Envelope::decode(&message.payload)?.event)
    }

    /// The whole state of a small cluster.
    pub(crate) async fn state(&self) -> Result<StatePage, Failure> {
        let request = serde_json::to_vec(&StateRequest::default())?;
        let answer = self.bus.request(&subject::api("state"), request, PATIENCE).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// Waits until so many nodes are ready.
    pub(crate) async fn nodes_ready(&self, count: usize) -> Result<(), Failure> {
        let since = Since::now();
        while since.elapsed() < PATIENCE {
            // Until event-log answers, nobody does.
            if let Ok(state) = self.state().await
                && state.nodes.iter().filter(|node| node.status == "ready").count() >= count
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let log = std::fs::read_to_string(self.folder.join("dev.log")).unwrap_or_default();
        Err(format!("{count} nodes are not ready after {PATIENCE:?}:\n{log}").into())
    }
}

/// Waits until the nats-server is there.
async fn connected(folder: &Path, dev: &mut Child) -> Result<(String, Bus), Failure> {
    let since = Since::now();
    let mut last: Failure = "nothing was tried".into();
    while since.elapsed() < PATIENCE {
        if let Some(ended) = dev.try_wait()? {
            return Err(format!("`muster dev` ended: {ended}").into());
        }
        match connect(folder).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("`muster dev` is not there after {PATIENCE:?}: {last}").into())
}

/// As the context that `muster dev` leaves for the command line says.
async fn connect(folder: &Path) -> Result<(String, Bus), Failure> {
    let context: Value = serde_json::from_slice(&std::fs::read(folder.join("context.json"))?)?;
    let of = |key: &str| context[key].as_str().unwrap_or_default().to_owned();
    let to = Connect {
        url: of("url"),
        name: "muster-bench".to_owned(),
        credentials: Some((of("user"), of("password"))),
        inbox_prefix: Role::User(of("user")).inbox_prefix(),
    };
    Ok((of("url"), Bus::connect(&to).await?))
}

/// A program of the same build as this one.
pub(crate) fn binary(name: &str) -> Result<PathBuf, Failure> {
    let mut path = std::env::current_exe()?;
    path.set_file_name(name);
    if !path.exists() {
        return Err(format!("there is no {}: build the workspace", path.display()).into());
    }
    Ok(path)
}
