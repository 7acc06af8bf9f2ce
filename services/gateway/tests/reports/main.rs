//! A gateway on a real server: what it reports while replicas leave, connections end and the server goes.

mod handover;
mod restart;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, Expect, Subscription};
use cluster::history::{History, app, node, replica, workload};
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Settings, Shutdown};
use schemas::event::{
    AppDeployed, Endpoint, ReplicaReady, ReplicasPlaced, ReplicasRequested, ReplicasRetired,
    RequestedReplica, RetireReason, RunStarted,
};
use schemas::id::{ReplicaId, Writer};
use schemas::report::GatewayReport;
use schemas::spec::{AppProtocol, AppSpec, Port, Protocol, WorkloadSpec};
use schemas::{stream, subject};
use tokio::net::{TcpListener, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How long a report may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, a history on it, and a gateway that follows that.
struct World {
    server: Server,
    bus: Bus,
    history: History,
    published: usize,
    reports: Subscription,
    tasks: Tasks,
    stopper: Stopper,
}

impl World {
    async fn start() -> Self {
        let server = Server::start();
        let bus = server.bus("test").await;
        for spec in stream::ALL {
            bus.ensure_stream(spec).await.expect("loopback works");
        }
        let reports = bus.subscribe(subject::GATEWAYS).await.expect("loopback works");
        let (stopper, shutdown) = Shutdown::new();
        let mut tasks = Tasks::default();
        tasks.spawn("gateway", gateway::run(config(&server), Admin::default(), shutdown));
        let history = History::default();
        Self { server, bus, history, published: 0, reports, tasks, stopper }
    }

    /// Declares an app with a published port: which it is.
    fn deploy(&mut self, speaks: AppProtocol) -> u16 {
        let free = std::net::TcpListener::bind((HERE, 0)).expect("there are ports");
        let published = free.local_addr().expect("it has an address").port();
        drop(free);
        let mut spec = WorkloadSpec::of_image("web:1");
        spec.ports = vec![Port {
            container: 80,
            published: Some(published),
            host: None,
            protocol: Protocol::Tcp,
            app: speaks,
        }];
        let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
        self.history.node("n1", 4, 4);
        self.history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
        published
    }

    /// Publishes what was added to the history.
    async fn publish(&mut self) {
        for entry in &self.history.entries[self.published..] {
            let subject = "muster.v1.evt.main.app.shop.deployed";
            let sent = self.bus.publish_checked(subject, entry.clone(), &Expect::default()).await;
            sent.expect("loopback works").outcome().await.expect("it is taken");
        }
        self.published = self.history.entries.len();
    }

    /// The first report of which this is so.
    async fn report(&mut self, what: &str, so: impl Fn(&GatewayReport) -> bool) -> GatewayReport {
        let wait = async {
            loop {
                let message = self.reports.next().await.expect("the connection is there");
                assert_eq!(message.subject, subject::gateway(&node("n1")));
                let report = serde_json::from_slice(&message.payload).expect("it decodes");
                if so(&report) {
                    return report;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no report: {what}"))
    }
}

/// The settings of a gateway that follows what is on a server.
fn config(server: &Server) -> gateway::Config {
    let settings = Settings {
        nats_url: server.url(),
        nats_user: None,
        nats_password: None,
        state_dir: server.folder().join("state"),
        admin_address: (HERE, 0).into(),
    };
    gateway::Config {
        settings,
        node: node("n1"),
        listen: HERE,
        service_range: runtime::inside::Range::DEFAULT.parse().expect("the default is one"),
        no_names: true,
        resolvers: Vec::new(),
        http_port: None,
        https_port: None,
        certificates: None,
        drain_ms: 60_000,
        acme: gateway::acme::Acme::default(),
        access_log: false,
    }
}

/// The events that make a ready replica, which is reached at a port.
fn ready(history: &mut History, id: &str, port: u16) {
    let state = history.fold.state();
    let app_ = state.apps.get(&app("shop")).expect("it is declared");
    let spec = app_.workloads[&workload("web")].spec.clone();
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec,
        replicas: vec![RequestedReplica { id: replica(id), replaces: None, node: None }],
    };
    let replicas = vec![replica(id)];
    let (chosen, passed_over) = (String::new(), Vec::new());
    let placed = ReplicasPlaced { node: node("n1"), replicas, chosen, passed_over };
    let address = HERE.to_string();
    let endpoint = Endpoint { container: 80, protocol: Protocol::Tcp, address, port };
    let (container, endpoints) = ("c".to_owned(), vec![endpoint]);
    let agent = Writer::Agent(node("n1"));
    history
        .add(&Writer::Controller, requested)
        .add(&Writer::Scheduler, placed)
        .add(
            &agent,
            RunStarted { replica: replica(id), run: 1, container, endpoints, inside: None },
        )
        .add(&agent, ReplicaReady { replica: replica(id), run: 1 });
}

/// A server that listens to whoever comes until he is done, and says nothing.
async fn silent(tasks: &mut Tasks) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
    let port = listener.local_addr().expect("it has an address").port();
    tasks.spawn("silent", async move {
        let mut connections = Tasks::default();
        loop {
            let (mut stream, _) = listener.accept().await?;
            connections.spawn("connection", async move {
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                Ok(())
            });
        }
    });
    port
}

fn open(report: &GatewayReport, id: &ReplicaId) -> Option<u64> {
    report.open.iter().find(|on| on.replica == *id).map(|on| on.open)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_of_a_retirement_and_of_the_end_of_what_was_under_way() {
    let mut world = World::start().await;
    // What a client that says nothing is taken for at once only where it is declared.
    let published = world.deploy(AppProtocol::Tcp);
    let one = silent(&mut world.tasks).await;
    ready(&mut world.history, "shop-web-a", one);
    world.publish().await;
    let at = world.history.fold.place();
    let first = world.report("it serves", |report| !at.after(&report.place)).await;
    assert_eq!(first.open, []);

    // What stays is not named, however much is under way there.
    let client = TcpStream::connect((HERE, published)).await.expect("it is served");
    let idle = world.report("from time to time", |_| true).await;
    assert_eq!((idle.place, &idle.instance), (first.place, &first.instance));
    assert_eq!(idle.open, []);

    let retired = ReplicasRetired {
        app: app("shop"),
        workload: workload("web"),
        replicas: vec![replica("shop-web-a")],
        reason: RetireReason::ScaledDown,
        leaving: true,
    };
    world.history.add(&Writer::Controller, retired);
    world.publish().await;
    let at = world.history.fold.place();
    let left = world.report("it left", |report| !at.after(&report.place)).await;
    assert_eq!(open(&left, &replica("shop-web-a")), Some(1));
    drop(client);
    let a = replica("shop-web-a");
    let over = world.report("it is over", |report| open(report, &a).is_none()).await;
    assert_eq!(over.place, at);

    // The server begins anew, and hears of it as before.
    world.server.kill();
    world.server.launch();
    let again = world.report("it is told again", |_| true).await;
    assert_eq!((again.place, again.instance), (at, first.instance));
    world.stopper.stop();
}
