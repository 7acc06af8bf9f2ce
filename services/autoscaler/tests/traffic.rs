//! The autoscaler on a real server, beside a log and a gateway that are made up: what it asks for as the
//! gateway's counters grow, stand still, or are not heard.

use std::net::Ipv4Addr;
use std::time::Duration;

use bus::testing::Server;
use bus::{Bus, Expect, Subscription};
use cluster::history::{History, app, node, replica, workload};
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Settings, Shutdown};
use schemas::append::{Answer, INBOX_HEADER, Request, Verdict};
use schemas::command::{Command, Common};
use schemas::event::{
    AppDeployed, LeadershipTaken, ReplicaReady, ReplicasPlaced, ReplicasRequested,
    RequestedReplica, RunStarted,
};
use schemas::id::Writer;
use schemas::report::{Traffic, TrafficReport};
use schemas::spec::{AppSpec, Autoscale, WorkloadSpec};
use schemas::{stream, subject};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(40);

struct World {
    bus: Bus,
    history: History,
    published: usize,
    commands: Subscription,
    reported: u64,
    _server: Server,
    _tasks: Tasks,
    stopper: Stopper,
}

/// `shop/web`, two ready replicas, which goes by requests without waiting.
fn history() -> History {
    let mut history = History::default();
    history.node("n1", 4, 4);
    let mut spec = WorkloadSpec::of_image("web:1");
    spec.replicas = 2;
    let windows = Autoscale { up_window_ms: 0, down_window_ms: 0, ..Autoscale::of_bounds(1, 9) };
    spec.autoscale = Some(Autoscale { requests_per_second: Some(10), ..windows });
    let digest = spec.digest();
    let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
    history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
    let ids = ["shop-web-a", "shop-web-b"].map(replica);
    let new = |id| RequestedReplica { id, replaces: None, node: None };
    let requested = ReplicasRequested {
        app: app("shop"),
        workload: workload("web"),
        revision: 1,
        generation: 0,
        spec: digest,
        replicas: ids.clone().map(new).to_vec(),
    };
    let (chosen, passed_over) = (String::new(), Vec::new());
    let placed = ReplicasPlaced { node: node("n1"), replicas: ids.to_vec(), chosen, passed_over };
    history.add(&Writer::Controller, requested).add(&Writer::Scheduler, placed);
    let agent = Writer::Agent(node("n1"));
    for replica in ids {
        let container = replica.to_string();
        let (endpoints, inside) = (Vec::new(), None);
        let started = RunStarted { replica: replica.clone(), run: 1, container, endpoints, inside };
        history.add(&agent, started).add(&agent, ReplicaReady { replica, run: 1 });
    }
    history
}

impl World {
    /// An autoscaler that leads.
    async fn start() -> Self {
        let server = Server::start();
        let bus = server.bus("test").await;
        for spec in stream::ALL {
            bus.ensure_stream(spec).await.expect("loopback works");
        }
        let mut offers = bus.subscribe("muster.v1.append.autoscaler").await.expect("it works");
        let commands = bus.subscribe("muster.v1.cmd.as.autoscaler.>").await.expect("it works");
        let settings = Settings {
            nats_url: server.url(),
            nats_user: None,
            nats_password: None,
            state_dir: server.folder().join("state"),
            admin_address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let (stopper, shutdown) = Shutdown::new();
        let mut tasks = Tasks::default();
        let config = autoscaler::Config { settings };
        tasks.spawn("autoscaler", autoscaler::run(config, Admin::default(), shutdown));
        let (history, published, reported) = (history(), 0, 0);
        let mut world = Self {
            bus,
            history,
            published,
            commands,
            reported,
            _server: server,
            _tasks: tasks,
            stopper,
        };
        world.publish().await;
        // The log takes its claim.
        let claim = tokio::time::timeout(PATIENCE, offers.next()).await.expect("it claims");
        let claim = claim.expect("the connection is there");
        let inbox = claim.header(INBOX_HEADER).expect("an answer is wanted").to_owned();
        let claim: Request = serde_json::from_slice(&claim.payload).expect("it decodes");
        let (writer, term, instance) = (Writer::Autoscaler, claim.term, claim.instance);
        world.history.add(&Writer::Autoscaler, LeadershipTaken { writer, term, instance });
        world.publish().await;
        let verdict = Verdict::Published(world.history.fold.place());
        let answer = Answer { series: claim.series, n: claim.n, verdict };
        let answer = serde_json::to_vec(&answer).expect("it encodes");
        world.bus.publish(&inbox, answer).await.expect("loopback works");
        world
    }

    async fn publish(&mut self) {
        for entry in &self.history.entries[self.published..] {
            let subject = "muster.v1.evt.main.app.shop.deployed";
            let sent = self.bus.publish_checked(subject, entry.clone(), &Expect::default()).await;
            sent.expect("loopback works").outcome().await.expect("it is taken");
        }
        self.published = self.history.entries.len();
    }

    /// A second in which the gateway has had so many requests for a since it began.
    async fn second(&mut self, requests: u64) -> Option<(String, Common)> {
        self.reported += 1;
        let a = Traffic {
            replica: replica("shop-web-a"),
            requests,
            failed: 0,
            in_flight: 0,
            rate_milli: 0,
            p50_us: 0,
            p95_us: 0,
            p99_us: 0,
        };
        let report = TrafficReport {
            node: node("n1"),
            instance: "gateway".to_owned(),
            time_ms: self.reported,
            replicas: vec![a],
            calls: Vec::new(),
            ways: Vec::new(),
        };
        let payload = serde_json::to_vec(&report).expect("it encodes");
        self.bus.publish(&subject::traffic(&node("n1")), payload).await.expect("loopback works");
        self.quiet_second().await
    }

    /// A second in which nothing is reported. What was asked for in it.
    async fn quiet_second(&mut self) -> Option<(String, Common)> {
        let waited = tokio::time::timeout(Duration::from_secs(1), self.commands.next()).await;
        let message = waited.ok()?.expect("the connection is there");
        let (common, command) =
            Command::decode("workload.scale", &message.payload).expect("it decodes");
        let Command::Scale(scale) = command else { panic!("{command:?}") };
        Some((format!("{}={}", scale.workload, scale.replicas), common))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn counters_that_grow_ask_for_more_silence_for_nothing_and_counters_that_stand_for_fewer() {
    let mut world = World::start().await;
    // What was counted before it was heard is no rate: two replicas carry 20 a second as they should.
    let mut count = 1_000_000;
    for _ in 0..14 {
        count += 20;
        assert_eq!(world.second(count).await, None);
    }
    for _ in 0..9 {
        assert_eq!(world.quiet_second().await, None, "silence is no lack of traffic");
    }
    // Heard again, and nothing came meanwhile.
    let mut asked = None;
    for _ in 0..12 {
        asked = asked.or(world.second(count).await);
    }
    let (what, common) = asked.expect("fewer are asked for");
    assert_eq!(what, "web=1");
    let reason = common.reason.expect("it says why");
    assert!(reason.contains("requests a second each over 2 replicas, target 10"), "{reason}");
    world.stopper.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_ask_for_more_replicas_with_what_was_measured() {
    let mut world = World::start().await;
    let mut asked = None;
    for second in 0..14 {
        asked = asked.or(world.second(second * 40).await);
    }
    let (what, common) = asked.expect("more are asked for");
    let reason = common.reason.expect("it says why");
    let rate = reason.strip_prefix("target tracking: ").and_then(|rest| rest.split('.').next());
    let rate: u64 = rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("{reason}"));
    assert!(what == "web=3" || what == "web=4", "{what}: {reason}");
    assert!((11..=20).contains(&rate), "{reason}");
    assert_eq!(
        common.expect_position,
        Some(world.history.fold.state().apps.get(&app("shop")).expect("it is there").changed_at)
    );
    world.stopper.stop();
}
