//! The proxies on one core, the backends on another, and the history that the gateway serves by.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, Expect};
use cluster::history::{History, app, node, replica, workload};
use runtime::Failure;
use schemas::event::{
    AppDeployed, Endpoint, ReplicaReady, ReplicasPlaced, ReplicasRequested, ReplicasRetired,
    RequestedReplica, RetireReason, RunStarted,
};
use schemas::id::Writer;
use schemas::spec::{AppProtocol, AppSpec, Port, Protocol, WorkloadSpec};
use schemas::stream;

use super::configs::{self, Ports};
use crate::Args;
use crate::clock::Since;
use crate::cluster::binary;

/// The core of the proxy that is measured.
pub(super) const PROXY_CORE: &str = "0";

/// The core of clients and backends.
pub(super) const OTHER_CORE: &str = "1";

/// How long anything may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// How large what is fetched through layer 4 is.
pub(super) const LARGE: usize = 1 << 20;

/// The host of the certificate.
pub(super) const HOST: &str = "bench.example";

/// The app that is measured, and the one whose endpoint changes.
const APPS: [&str; 2] = ["steady", "moving"];

/// Everything that runs. It ends with it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) ports: Ports,
    folder: PathBuf,
    nginx: Process,
    _processes: Vec<Process>,
    bus: Bus,
    history: History,
    published: usize,
    moves: usize,
    _server: Server,
}

impl World {
    pub(super) async fn start(args: &Args) -> Result<Self, Failure> {
        let program = args.gateway.clone().map_or_else(|| binary("muster-gateway"), Ok)?;
        let server = Server::start();
        let bus = server.bus("bench").await;
        for spec in stream::ALL {
            bus.ensure_stream(spec).await?;
        }
        let (folder, ports) = (server.folder().join("proxies"), Ports::free()?);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("large"), vec![b'x'; LARGE])?;
        certificate(&folder)?;
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text);
        write("backend.conf", configs::backend(&folder, &ports))?;
        write("nginx.conf", configs::nginx(&folder, &ports, 0))?;
        write("haproxy.conf", configs::haproxy(&folder, &ports))?;
        let start =
            |core, name: &str, arguments: &[&str]| Process::start(&folder, core, name, arguments);
        let at = |name: &str| folder.join(name).display().to_string();
        let backend = start(OTHER_CORE, "/usr/sbin/nginx", &["-c", &at("backend.conf")])?;
        let nginx = start(PROXY_CORE, "/usr/sbin/nginx", &["-c", &at("nginx.conf")])?;
        let haproxy = start(PROXY_CORE, "/usr/sbin/haproxy", &["-db", "-f", &at("haproxy.conf")])?;
        let gateway = start(
            PROXY_CORE,
            &program.display().to_string(),
            &[
                "--node=n1",
                "--listen=127.0.0.1",
                "--no-names",
                &format!("--nats-url={}", server.url()),
                &format!("--state-dir={}", at("state")),
                &format!("--https-port={}", ports.muster.https),
                &format!("--certificates={}", folder.display()),
            ],
        )?;
        let mut world = Self {
            ports,
            folder,
            nginx,
            _processes: vec![backend, haproxy, gateway],
            bus,
            history: History::default(),
            published: 0,
            moves: 0,
            _server: server,
        };
        world.declare()?;
        world.publish().await?;
        world.all_listen().await?;
        Ok(world)
    }

    fn declare(&mut self) -> Result<(), Failure> {
        self.history.node("n1", 4, 4);
        let muster = self.ports.muster.clone();
        let port = |container, published, app| Port {
            container,
            published: Some(published),
            host: None,
            protocol: Protocol::Tcp,
            app,
        };
        let mut steady = WorkloadSpec::of_image("web:1");
        steady.ports = vec![
            port(80, muster.http, AppProtocol::Detect),
            port(81, muster.tcp, AppProtocol::Tcp),
        ];
        let route = serde_json::json!({ "host": HOST, "tls": { "file": { "name": "bench" } } });
        steady.routes = vec![serde_json::from_value(route)?];
        let mut moving = WorkloadSpec::of_image("web:1");
        moving.ports = vec![port(80, muster.moving, AppProtocol::Detect)];
        for (name, spec) in APPS.into_iter().zip([steady, moving]) {
            let spec =
                AppSpec { name: app(name).name, workloads: [(workload("web"), spec)].into() };
            let deployed = AppDeployed { app: app(name), revision: 1, spec };
            self.history.add(&Writer::Controller, deployed);
            self.ready(name, 0);
        }
        Ok(())
    }

    /// A replica that is ready, on one of the two backends in turn.
    fn ready(&mut self, of: &str, number: usize) {
        let state = self.history.fold.state();
        let spec = state.apps.get(&app(of)).map(|app| app.workloads[&workload("web")].spec.clone());
        let id = replica(&format!("{of}-web-r{number}"));
        let requested = ReplicasRequested {
            app: app(of),
            workload: workload("web"),
            revision: 1,
            generation: 0,
            spec: spec.expect("it was declared"),
            replicas: vec![RequestedReplica { id: id.clone(), replaces: None, node: None }],
        };
        let (chosen, passed_over) = (String::new(), Vec::new());
        let placed =
            ReplicasPlaced { node: node("n1"), replicas: vec![id.clone()], chosen, passed_over };
        let port = self.ports.backends[number % 2];
        let endpoint = |container| {
            let address = Ipv4Addr::LOCALHOST.to_string();
            Endpoint { container, protocol: Protocol::Tcp, address, port }
        };
        let (container, endpoints) = ("c".to_owned(), vec![endpoint(80), endpoint(81)]);
        let replica = id.clone();
        let started = RunStarted { replica, run: 1, container, endpoints, inside: None };
        let agent = Writer::Agent(node("n1"));
        self.history
            .add(&Writer::Controller, requested)
            .add(&Writer::Scheduler, placed)
            .add(&agent, started)
            .add(&agent, ReplicaReady { replica: id, run: 1 });
    }

    /// The moving app's replica is replaced by one on the other backend.
    pub(super) async fn move_muster(&mut self) -> Result<(), Failure> {
        let old = replica(&format!("{}-web-r{}", APPS[1], self.moves));
        self.moves += 1;
        self.ready(APPS[1], self.moves);
        let retired = ReplicasRetired {
            app: app(APPS[1]),
            workload: workload("web"),
            replicas: vec![old],
            reason: RetireReason::ScaledDown,
            leaving: true,
        };
        self.history.add(&Writer::Controller, retired);
        self.publish().await
    }

    /// HAProxy's server is replaced by the one on this backend, at run time.
    pub(super) fn move_haproxy(&self, to: usize) -> Result<(), Failure> {
        use std::io::{Read as _, Write as _};
        let mut socket = std::os::unix::net::UnixStream::connect(self.folder.join("haproxy.sock"))?;
        let (new, old) = (["a", "b"][to % 2], ["a", "b"][(to + 1) % 2]);
        writeln!(
            socket,
            "set server moving/{new} state ready; set server moving/{old} state maint"
        )?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let answer = answer.trim();
        if answer.is_empty() { Ok(()) } else { Err(format!("HAProxy says: {answer}").into()) }
    }

    /// nginx reads a configuration with this backend instead.
    pub(super) fn move_nginx(&self, to: usize) -> Result<(), Failure> {
        let text = configs::nginx(&self.folder, &self.ports, to);
        std::fs::write(self.folder.join("nginx.conf"), text)?;
        self.nginx.signal("-HUP")
    }

    async fn publish(&mut self) -> Result<(), Failure> {
        for entry in &self.history.entries[self.published..] {
            let subject = "muster.v1.evt.main.app.bench.deployed";
            let sent = self.bus.publish_checked(subject, entry.clone(), &Expect::default()).await?;
            sent.outcome().await?;
        }
        self.published = self.history.entries.len();
        Ok(())
    }

    async fn all_listen(&self) -> Result<(), Failure> {
        let since = Since::now();
        for port in self.ports.all() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            while TcpStream::connect(address).is_err() {
                if since.elapsed() > PATIENCE {
                    let logs = logs(&self.folder);
                    return Err(format!("nobody listens on port {port}:\n{logs}").into());
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }

    /// A file that is taken away with everything else.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// What the processes had to say.
fn logs(folder: &Path) -> String {
    ["nginx", "haproxy", "muster-gateway"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(folder.join(format!("{name}.log"))).ok())
        .collect()
}

/// A port on which nobody listens.
pub(super) fn free() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A certificate with an ECDSA key, in the ways in which each wants it.
fn certificate(folder: &Path) -> Result<(), Failure> {
    let (crt, key) = (folder.join("bench.crt"), folder.join("bench.key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "30", "-subj", &format!("/CN={HOST}")])
        .args(["-addext", &format!("subjectAltName=DNS:{HOST}")])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&crt)
        .output()?;
    if !made.status.success() {
        return Err(format!("openssl: {}", String::from_utf8_lossy(&made.stderr)).into());
    }
    let both = std::fs::read_to_string(&crt)? + &std::fs::read_to_string(&key)?;
    Ok(std::fs::write(folder.join("bench.pem"), both)?)
}

/// A process on one core.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(folder: &Path, core: &str, name: &str, arguments: &[&str]) -> Result<Self, Failure> {
        let short = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join(format!("{short}.log")))?;
        let child = Command::new("taskset")
            .args(["-c", core, name])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self(child))
    }

    fn signal(&self, signal: &str) -> Result<(), Failure> {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill {signal} failed").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Asked, nginx takes its workers with it.
        let _ = self.signal("-TERM");
        for _ in 0..100 {
            if matches!(self.0.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = (self.0.kill(), self.0.wait());
    }
}
