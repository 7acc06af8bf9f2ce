//! A cluster of real processes: a nats-server with role users, each service on its own, and one
//! engine for all nodes, or hosts of their own.
//!
//! Every cluster has names of its own, and takes its containers, networks and folders with it when
//! it goes, also after a failure.

mod next;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bus::Connect;
use bus::testing::Server;
use runtime::inside::Range;
use schemas::id::NodeName;
use schemas::registry::{Role, nats_users, permissions};

use crate::engines::Host;
use crate::resolver;

/// The password of every user: these servers listen on loopback, for minutes.
const PASSWORD: &str = "test";

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// This machine's engine.
const ENGINE: &str = "unix:///var/run/docker.sock";

const SHOP: &str = r#"{"name":"APP","workloads":{"web":{
    "image":"muster/web:1","replicas":3,"ports":[{"container":8080}],
    "probe":{"check":{"http":{"port":8080,"path":"/healthz"}},"interval_ms":500},
    "resources":{"cpu_millis":100,"memory_limit_bytes":67108864},
    "update":{"parallelism":1,"healthy_for_ms":100,"deadline_ms":20000}}}}"#;

/// A cluster.
pub struct Cluster {
    /// Its nats-server.
    pub server: Server,
    folder: PathBuf,
    app: String,
    nodes: Vec<NodeName>,
    /// Those of the nodes, in their order; none when this machine's engine serves all.
    hosts: Vec<Host>,
    /// Where its gateways serve workloads by name: its own, because machines are shared.
    range: Range,
    /// Who answers for names outside.
    resolver: SocketAddr,
    running: BTreeMap<String, Child>,
    /// What services are given besides, from their next start on.
    given: BTreeMap<String, Vec<String>>,
    /// Where its programs are; none for those that cargo built.
    programs: Option<PathBuf>,
    /// Whether each service that may stand by has one that does.
    pairs: bool,
}

/// A range that no other cluster of this run has, and that no engine uses by itself.
fn own_range(count: u32) -> Range {
    let number = (std::process::id() * 8 + count) % 80 + 170;
    format!("10.{number}.0.0/16").parse().expect("a range")
}

/// What there is one of: event-log, the deciding services, and the gateway of the first node.
pub const SERVICES: [&str; 6] =
    ["event-log", "controller", "scheduler", "autoscaler", "health", "gateway"];

/// The second ones of a cluster of pairs, which stand by.
pub const STANDBYS: [&str; 5] =
    ["event-log-2", "controller-2", "scheduler-2", "autoscaler-2", "health-2"];

/// How many users there are who may append as nodes that have no agent, in a cluster of pairs.
const WRITERS: usize = 5;

/// A program of the workspace, as cargo built it.
///
/// # Panics
///
/// When it is not built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let mut folder = std::env::current_exe().expect("this runs from a file");
    folder.pop();
    // A test lies one folder below the programs.
    if folder.ends_with("deps") {
        folder.pop();
    }
    let found = folder.join(name);
    assert!(found.exists(), "there is no {}: run `cargo build --workspace`", found.display());
    found
}

/// The same users, and one who may read and not send commands.
fn with_viewer(users: &str) -> String {
    let may = permissions(&Role::User("viewer".to_owned()));
    let list = |subjects: Vec<String>| {
        subjects.iter().map(|subject| format!("{subject:?}")).collect::<Vec<_>>().join(", ")
    };
    let publish = may.publish.into_iter().filter(|subject| !subject.starts_with("muster.v1.cmd."));
    let viewer = format!(
        "    {{ user: viewer, password: {PASSWORD:?}, permissions: {{ publish: {{ allow: [{}] }}, \
         subscribe: {{ allow: [{}] }} }} }}\n  ]\n}}\n",
        list(publish.collect()),
        list(may.subscribe),
    );
    let rest = users.strip_suffix("  ]\n}\n").expect("the list of users ends it");
    format!("{rest}{viewer}")
}

fn outside(nodes: &[NodeName], number: usize) -> NodeName {
    let first = nodes.first().expect("there is a node");
    NodeName::new(&format!("{first}-outside{number}")).expect("a name")
}

impl Cluster {
    /// Starts one with so many nodes, and waits until all are there.
    #[must_use]
    pub fn start(nodes: usize) -> Self {
        Self::begin(nodes, Vec::new(), None)
    }

    /// Starts one with a node on each of these hosts, and waits until all are there.
    #[must_use]
    pub fn start_on(hosts: &[Host]) -> Self {
        Self::begin(hosts.len(), hosts.to_vec(), None)
    }

    /// Starts one of the programs in a folder, those of another release, with two of each service that
    /// may stand by.
    #[must_use]
    pub fn start_from(programs: &Path, nodes: usize) -> Self {
        Self::begin(nodes, Vec::new(), Some(programs.to_owned()))
    }

    fn begin(nodes: usize, hosts: Vec<Host>, programs: Option<PathBuf>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{count}", std::process::id());
        let nodes: Vec<NodeName> =
            (1..=nodes).map(|i| NodeName::new(&format!("t{tag}-{i}")).expect("a name")).collect();
        let mut roles = vec![Role::EventLog, Role::User("tester".to_owned())];
        roles.extend(Role::DECIDERS.map(Role::Decider));
        roles.extend(nodes.iter().cloned().map(Role::Agent));
        roles.extend(nodes.iter().cloned().map(Role::Gateway));
        let pairs = programs.is_some();
        if pairs {
            roles.extend((1..=WRITERS).map(|number| Role::Agent(outside(&nodes, number))));
        }
        let users: Vec<_> = roles.into_iter().map(|role| (role, PASSWORD.to_owned())).collect();
        let folder = std::env::temp_dir().join(format!("muster-cluster-{tag}"));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let listen = hosts.first().map_or("127.0.0.1", |host| &host.gateway);
        let server = Server::start_on(listen, &with_viewer(&nats_users(&users)));
        let app = format!("shop{tag}");
        let (range, resolver) = (own_range(count), resolver::start(listen));
        let mut cluster = Self {
            server,
            folder,
            app,
            nodes,
            hosts,
            range,
            resolver,
            running: BTreeMap::new(),
            given: BTreeMap::new(),
            programs,
            pairs,
        };
        for service in SERVICES {
            cluster.run(service);
        }
        for standby in STANDBYS.iter().filter(|_| pairs) {
            cluster.run(standby);
        }
        for gateway in cluster.gateways().into_iter().skip(1) {
            cluster.run(&gateway);
        }
        for node in cluster.nodes.clone() {
            cluster.run(node.as_str());
        }
        let count = cluster.nodes.len();
        cluster.until("every node is ready", |cluster| {
            let nodes = cluster.muster(&["nodes", "-o", "json"]);
            let text = String::from_utf8_lossy(&nodes.stdout).into_owned();
            text.matches("\"state\": \"ready\"").count() == count
        });
        cluster
    }

    /// The name of the app that its tests deploy. Engines are shared; names must not be.
    #[must_use]
    pub fn app(&self) -> &str {
        &self.app
    }

    /// A web app of three replicas, under this cluster's own name for it.
    #[must_use]
    pub fn shop(&self) -> String {
        SHOP.replace("APP", &self.app)
    }

    /// The names of its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The folder of everything its services keep.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its gateways serve workloads by name.
    #[must_use]
    pub fn range(&self) -> Range {
        self.range
    }

    /// Its gateways: that of the first node, which serves all that share its machine, and those of
    /// hosts.
    #[must_use]
    pub fn gateways(&self) -> Vec<String> {
        let others = self.nodes.iter().skip(1).take(self.hosts.len().saturating_sub(1));
        let others = others.map(|node| format!("gateway-{node}"));
        std::iter::once("gateway".to_owned()).chain(others).collect()
    }

    /// Waits until its gateways serve workloads by name.
    pub fn await_names(&self) {
        for gateway in self.gateways() {
            let log = self.folder.join(format!("{gateway}.log"));
            self.until(&format!("{gateway} serves names"), |_| {
                std::fs::read_to_string(&log)
                    .is_ok_and(|log| log.contains("names inside are served"))
            });
        }
    }

    /// Starts a service, or the agent of a node.
    pub fn run(&mut self, name: &str) {
        let node = self.nodes.iter().position(|node| node.as_str() == name);
        let gateway = self.gateways().iter().position(|gateway| gateway == name);
        let host = node.or(gateway).and_then(|node| self.hosts.get(node));
        let service = match (node, gateway) {
            (Some(_), _) => "node-agent",
            (_, Some(_)) => "gateway",
            _ => name.strip_suffix("-2").unwrap_or(name),
        };
        let log = self.folder.join(format!("{name}.log"));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log);
        let log = log.expect("the folder takes files");
        let program = self.program(&format!("muster-{service}"));
        let mut command = match host {
            Some(host) => host.command(&program),
            None => Command::new(&program),
        };
        command
            .args(["--nats-url", &self.server.url(), "--nats-password", PASSWORD])
            .args(["--state-dir", &self.state(name).display().to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        if node.is_some() {
            command.args(["--node", name, "--cpu-millis", "2000"]);
            // None of this machine's own credentials.
            command.env("DOCKER_CONFIG", self.folder.join("docker"));
        }
        if self.pairs && service == "event-log" {
            command.arg("--one-of-several").args((name == service).then_some("--begin"));
        }
        if node.or(gateway).is_some() && self.knows(&program, "--service-range") {
            command.args(["--service-range", &self.range.to_string()]);
        }
        if let Some(gateway) = gateway {
            let listen = host.map_or("127.0.0.1", |host| &host.address);
            command.args(["--node", self.nodes[gateway].as_str(), "--listen", listen]);
            if self.knows(&program, "--resolver") {
                command.args(["--resolver", &self.resolver.to_string()]);
            }
        }
        if let Some(host) = host.filter(|_| node.is_some()) {
            command.args(["--docker-host", &host.engine, "--address", &host.address]);
        }
        command.args(self.given.get(name).into_iter().flatten());
        self.running.insert(name.to_owned(), command.spawn().expect("it starts"));
    }

    /// Gives a service more arguments, from its next start on.
    pub fn give(&mut self, name: &str, arguments: &[&str]) {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self.given.insert(name.to_owned(), arguments);
    }

    /// Starts another gateway on this machine, under a name of its own, as that of a node.
    pub fn run_gateway(&mut self, name: &str, node: usize) {
        let log = std::fs::File::create(self.folder.join(format!("{name}.log")));
        let log = log.expect("the folder takes files");
        let mut command = Command::new(program("muster-gateway"));
        command
            .args(["--nats-url", &self.server.url(), "--nats-password", PASSWORD])
            .args(["--state-dir", &self.folder.display().to_string(), "--no-names"])
            .args(["--node", self.nodes[node].as_str(), "--listen", "127.0.0.1"])
            .args(self.given.get(name).into_iter().flatten())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        self.running.insert(name.to_owned(), command.spawn().expect("it starts"));
    }

    /// Who answers for names outside.
    #[must_use]
    pub fn resolver(&self) -> SocketAddr {
        self.resolver
    }

    /// Where a service keeps its state.
    #[must_use]
    pub fn state(&self, name: &str) -> PathBuf {
        match STANDBYS.contains(&name) {
            true => self.folder.join("second"),
            false => self.folder.clone(),
        }
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.as_ref().map_or_else(|| program(name), |folder| folder.join(name))
    }

    /// Whether a program has an option: one of another release may not.
    fn knows(&self, program: &Path, option: &str) -> bool {
        self.programs.is_none() || {
            let help = Command::new(program).arg("--help").stdin(Stdio::null()).output();
            text(&help.expect("it starts").stdout).contains(option)
        }
    }

    /// From now on, what is started is of the workspace, as cargo built it.
    pub fn upgrade(&mut self) {
        self.programs = None;
    }

    /// Asks a service to end, as an operator does, and waits until it has.
    pub fn end(&mut self, name: &str) {
        self.signal(name, "TERM");
        let mut child = self.running.remove(name).expect("it runs");
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{name} ended with {status}{}", self.logs());
    }

    /// A node without an agent, in whose name somebody may append: of a cluster of pairs.
    #[must_use]
    pub fn outside(&self, number: usize) -> NodeName {
        outside(&self.nodes, number)
    }

    /// A connection as a role.
    #[must_use]
    pub fn connect_as(&self, role: &Role) -> Connect {
        let (name, credentials) = (role.user(), Some((role.user(), PASSWORD.to_owned())));
        Connect { url: self.server.url(), name, credentials, inbox_prefix: role.inbox_prefix() }
    }

    /// Kills a service without warning.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Sends a signal to a service: STOP, CONT.
    pub fn signal(&self, name: &str, signal: &str) {
        let child = self.running.get(name).expect("it runs");
        let sent =
            Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        assert!(sent.expect("kill is there").success());
    }

    /// Everything that runs, by name.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        self.running.keys().cloned().collect()
    }

    /// Runs the command line.
    #[must_use]
    pub fn muster(&self, args: &[&str]) -> Output {
        self.command("tester", args).output().expect("muster runs")
    }

    /// The command line as a user, ready to run.
    #[must_use]
    pub fn command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.program("muster"));
        command
            .args(args)
            .env("MUSTER_NATS_URL", self.server.url())
            .env("MUSTER_NATS_USER", user)
            .env("MUSTER_NATS_PASSWORD", PASSWORD)
            .stdin(Stdio::null());
        command
    }

    /// Starts the command line, and does not wait for it.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command("tester", args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("muster runs")
    }

    /// Writes a file; its path.
    #[must_use]
    pub fn write(&self, name: &str, content: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, content).expect("the folder takes files");
        path.display().to_string()
    }

    /// Runs the command line, which must succeed; what it printed.
    #[must_use]
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.muster(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "muster {args:?}: {out}{err}{}", self.logs());
        out
    }

    /// Writes a file and deploys it; what was printed.
    #[must_use]
    pub fn deploy(&self, app: &str) -> Output {
        let path = self.write("app.json", app);
        self.muster(&["deploy", "-f", &path, "--timeout", "60s"])
    }

    /// Waits until something is so.
    #[expect(clippy::disallowed_methods, reason = "a test waits by the clock, with a bound")]
    pub fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !so(self) {
            assert!(began.elapsed() < PATIENCE, "not so in time: {what}{}", self.logs());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What a service's health page says: its status and its text.
    #[must_use]
    pub fn page(&self, service: &str, path: &str) -> (u16, String) {
        self.page_of(service, path).unwrap_or_else(|| panic!("{service} does not show {path}"))
    }

    /// The same, if it has one just now.
    #[must_use]
    pub fn page_of(&self, service: &str, path: &str) -> Option<(u16, String)> {
        let log = std::fs::read_to_string(self.folder.join(format!("{service}.log"))).ok()?;
        let address = log.lines().rev().find_map(|line| line.split_once("health page address="));
        get(address?.1.trim(), path).ok()
    }

    /// Its containers, by name: the engine's id.
    #[must_use]
    pub fn containers(&self) -> BTreeMap<String, String> {
        self.nodes.iter().flat_map(|node| self.containers_on(node)).collect()
    }

    /// The containers of one node, as its engine tells it.
    #[must_use]
    pub fn containers_on(&self, node: &NodeName) -> BTreeMap<String, String> {
        let filter = format!("label=io.muster.node={node}");
        let format = "{{.Names}} {{.ID}}";
        let args = ["ps", "--no-trunc", "--filter", &filter, "--format", format];
        let listed = docker_at(self.engine_of(node), &args);
        let pair = |line: &str| {
            let (name, id) = line.split_once(' ').expect("a name and an id");
            (name.to_owned(), id.to_owned())
        };
        listed.lines().map(pair).collect()
    }

    /// Kills a container of a node without warning.
    pub fn kill_container(&self, node: &str, name: &str) {
        let node = NodeName::new(node).expect("a name");
        let killed = docker_at(self.engine_of(&node), &["kill", "--signal", "KILL", name]);
        assert_eq!(killed.trim(), name, "it was there to be killed");
    }

    fn engine_of(&self, node: &NodeName) -> &str {
        let node = self.nodes.iter().position(|known| known == node);
        let host = node.and_then(|node| self.hosts.get(node));
        host.map_or(ENGINE, |host| &host.engine)
    }

    /// The last lines that its processes logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut logs = String::new();
        for path in crate::files(&self.folder, &[".log"]) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(8));
            logs.push_str(&format!("\n--- {}\n", path.display()));
            logs.extend(last.flat_map(|line| [*line, "\n"]));
        }
        logs
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.hosts.is_empty() {
            // What a gateway that was killed could not put back.
            let (table, range) = (self.range.token(), self.range.to_string());
            let quiet = |program: &str, args: &[&str]| {
                let _ = Command::new(program).args(args).output();
            };
            quiet("nft", &["delete", "table", "ip", &table]);
            quiet("ip", &["route", "delete", "local", &range, "dev", "lo"]);
        }
        // Engines of hosts go with all that they have.
        for node in self.nodes.iter().filter(|_| self.hosts.is_empty()) {
            let filter = format!("label=io.muster.node={node}");
            for id in docker(&["ps", "-aq", "--filter", &filter]).split_whitespace() {
                let _ = docker(&["rm", "-f", id]);
            }
            let prefix = format!("name=muster-{node}-");
            for id in docker(&["network", "ls", "-q", "--filter", &prefix]).split_whitespace() {
                let _ = docker(&["network", "rm", id]);
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks an HTTP server for a path, on a connection of its own: the status and the text.
///
/// # Errors
///
/// When it is not reached, or does not answer as it should within two seconds.
pub fn get(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    let patience = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no answer: {answer:?}")))?;
    Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, text)| text).to_owned()))
}

/// A port on which nobody listens, from where the engine and the system take none by themselves.
#[must_use]
pub fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 8_000).expect("it is below 8,000");
    loop {
        let number = first + 37 * TAKEN.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + number % 8_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Runs the client of this machine's engine; what it printed.
#[must_use]
pub fn docker(args: &[&str]) -> String {
    docker_at(ENGINE, args)
}

/// Runs the client of an engine; what it printed.
#[must_use]
pub fn docker_at(engine: &str, args: &[&str]) -> String {
    let output =
        Command::new("docker").args(["-H", engine]).args(args).stdin(Stdio::null()).output();
    text(&output.expect("docker is there: run `make setup`").stdout)
}

/// Bytes as text.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
