//! Certificates by ACME on a real server, from a CA on this machine: ordered anew in time, taken over from a
//! gateway that died, and served on when the server has lost all that it kept.

mod ca;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bus::testing::Server;
use bus::{Bus, Expect, Subscription};
use cluster::history::{History, app, node, workload};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Settings, Shutdown, clock};
use schemas::event::AppDeployed;
use schemas::id::Writer;
use schemas::spec::{AppProtocol, AppSpec, Port, Protocol, Route, Tls, WorkloadSpec};
use schemas::stream;
use schemas::tls::{Bundle, Certificate, Order, Phase, Told};

use ca::{Pebble, openssl};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOST: &str = "shop.test";

/// What the gateways' private keys are sealed by on the bus.
const SEAL: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// How long something may take: to take an order over alone takes a minute.
const PATIENCE: Duration = Duration::from_secs(150);
const BETWEEN: Duration = Duration::from_millis(100);

const DAY_MS: u64 = 86_400_000;

/// A server, a history of one host that wants a certificate, and a CA that issues it.
struct World {
    server: Server,
    bus: Bus,
    history: History,
    told: Subscription,
    ca: Pebble,
    seal: PathBuf,
}

/// A gateway. It dies when it is dropped.
struct Gateway {
    https: u16,
    _tasks: Tasks,
    _stopper: Stopper,
}

impl World {
    async fn start() -> Self {
        let server = Server::start();
        let bus = server.bus("test").await;
        let told = bus.subscribe("muster.v1.tls.>").await.expect("loopback works");
        let ca = Pebble::start(server.folder());
        let seal = server.folder().join("seal.key");
        std::fs::write(&seal, SEAL).expect("the folder takes files");
        let (protocol, spoken) = (Protocol::Tcp, AppProtocol::Http);
        let port = Port { container: 80, published: None, host: None, protocol, app: spoken };
        let tls = Some(Tls::Acme { redirect: true });
        let route = Route { host: Some(HOST.to_owned()), tls, ..Route::default() };
        let (ports, routes) = (vec![port], vec![route]);
        let web = WorkloadSpec { ports, routes, ..WorkloadSpec::of_image("web:1") };
        let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), web)].into() };
        let mut history = History::default();
        history.add(&Writer::Controller, AppDeployed { app: app("shop"), revision: 1, spec });
        let world = Self { server, bus, history, told, ca, seal };
        world.fill().await;
        world
    }

    /// Makes the streams, and publishes the history.
    async fn fill(&self) {
        for spec in stream::ALL {
            self.bus.ensure_stream(spec).await.expect("loopback works");
        }
        for entry in &self.history.entries {
            self.publish("muster.v1.evt.main.app.shop.deployed", entry.clone()).await;
        }
    }

    async fn publish(&self, subject: &str, payload: Vec<u8>) {
        let sent = self.bus.publish_checked(subject, payload, &Expect::default()).await;
        sent.expect("loopback works").outcome().await.expect("it is taken");
    }

    async fn tell(&self, told: &Told) {
        let payload = serde_json::to_vec(told).expect("it has string keys only");
        self.publish(&told.subject(), payload).await;
    }

    fn gateway(&self, name: &str) -> Gateway {
        let (http, https) = (ca::free_port(), ca::free_port());
        let settings = Settings {
            nats_url: self.server.url(),
            nats_user: None,
            nats_password: None,
            state_dir: self.server.folder().join(name),
            admin_address: (HERE, 0).into(),
        };
        let acme = gateway::acme::Acme {
            seal_key_file: Some(self.seal.clone()),
            acme_directory: Some(self.ca.directory()),
            acme_contact: vec!["mailto:ops@shop.test".to_owned()],
            acme_agree_terms: true,
            acme_ca_root: Some(self.ca.trusted()),
        };
        let config = gateway::Config {
            settings,
            node: node(name),
            listen: HERE,
            service_range: runtime::inside::Range::DEFAULT.parse().expect("the default is one"),
            no_names: true,
            resolvers: Vec::new(),
            http_port: Some(http),
            https_port: Some(https),
            certificates: None,
            acme,
            access_log: false,
            drain_ms: 60_000,
        };
        let (stopper, shutdown) = Shutdown::new();
        let mut tasks = Tasks::default();
        tasks.spawn("gateway", gateway::run(config, Admin::default(), shutdown));
        Gateway { https, _tasks: tasks, _stopper: stopper }
    }

    /// The next order that is told of, in this phase.
    async fn order(&mut self, phase: Phase) -> Order {
        let wait = async {
            loop {
                let message = self.told.next().await.expect("the connection is there");
                match serde_json::from_slice(&message.payload) {
                    Ok(Told::Order(order)) if order.phase == phase => return order,
                    Ok(Told::Order(order)) => assert_eq!(order.error, None),
                    _ => {}
                }
            }
        };
        let order = tokio::time::timeout(PATIENCE, wait).await;
        order.unwrap_or_else(|_| panic!("no order: {phase:?}\n{}", self.ca.log()))
    }

    /// The certificate of the host that a gateway shows, once it is as wanted.
    async fn shown(&self, what: &str, by: &Gateway, wanted: impl Fn(&str) -> bool) -> String {
        let wait = async {
            loop {
                if let Some(shown) = by.shown().filter(|shown| wanted(shown)) {
                    return shown;
                }
                tokio::time::sleep(BETWEEN).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, wait).await;
        shown.unwrap_or_else(|_| panic!("not so in time: {what}\n{}", self.ca.log()))
    }
}

impl Gateway {
    /// The certificate that it shows for the host, as base64; none when it shows none.
    fn shown(&self) -> Option<String> {
        let to = format!("127.0.0.1:{}", self.https);
        let run = Command::new("openssl")
            .args(["s_client", "-connect", &to, "-servername", HOST])
            .stdin(Stdio::null())
            .output()
            .expect("openssl is there: run `make setup`");
        let all = String::from_utf8_lossy(&run.stdout).into_owned();
        let (_, rest) = all.split_once("-----BEGIN CERTIFICATE-----")?;
        Some(rest.split_once("-----END")?.0.split_whitespace().collect())
    }
}

/// A certificate near its end, and its key.
fn old(world: &World) -> (Told, String) {
    let file = |name: &str| world.server.folder().join(name).display().to_string();
    let (key, crt) = (file("old.key"), file("old.crt"));
    let name = format!("/CN={HOST}");
    openssl(
        &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
        &["-days", "30", "-subj", &name, "-keyout", &key, "-out", &crt],
    );
    let read = |file: &str| std::fs::read_to_string(file).expect("openssl wrote it");
    let bundle = Bundle { chain: read(&crt), key: read(&key) };
    let plain = serde_json::to_vec(&bundle).expect("it has string keys only");
    let now_ms = clock::utc_ms();
    let mut certificate = Certificate {
        host: HOST.to_owned(),
        not_before_ms: now_ms - 85 * DAY_MS,
        not_after_ms: now_ms + 5 * DAY_MS,
        node: node("n1"),
        sealed_base64: String::new(),
    };
    let subject = Told::Certificate(certificate.clone()).subject();
    certificate.sealed_base64 = sealed(&subject, &plain);
    let lines = bundle.chain.lines().filter(|line| !line.starts_with("-----"));
    (Told::Certificate(certificate), lines.collect())
}

/// As gateways seal what they tell.
fn sealed(subject: &str, plain: &[u8]) -> String {
    let key = digest(&SHA256, SEAL.as_bytes());
    let key = UnboundKey::new(&CHACHA20_POLY1305, key.as_ref()).expect("a key has 32 bytes");
    let (nonce, mut sealed) = ([7; 12], plain.to_vec());
    LessSafeKey::new(key)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(subject.as_bytes()),
            &mut sealed,
        )
        .expect("it is short enough");
    STANDARD.encode([nonce.as_slice(), &sealed].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_near_its_end_is_ordered_anew_and_served_until_the_new_one_is_there() {
    let mut world = World::start().await;
    let (told, old) = old(&world);
    world.tell(&told).await;
    world.ca.pause();
    let gateway = world.gateway("n1");
    let order = world.order(Phase::Ordering).await;
    assert_eq!((order.host.as_str(), order.node), (HOST, node("n1")));
    world.shown("the old one is served", &gateway, |shown| shown == old).await;

    world.ca.resume();
    loop {
        let shown = gateway.shown().expect("there is one at any time");
        if shown != old {
            break;
        }
        tokio::time::sleep(BETWEEN).await;
    }
    world.order(Phase::Done).await;
    assert_eq!(world.ca.orders(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_gateway_that_died_is_taken_over() {
    let mut world = World::start().await;
    world.ca.pause();
    let died = world.gateway("n1");
    let theirs = world.order(Phase::Ordering).await;
    drop(died);
    world.ca.resume();
    let other = world.gateway("n2");
    let ours = world.order(Phase::Ordering).await;
    assert_eq!((theirs.node, &ours.node), (node("n1"), &node("n2")));
    let done = world.order(Phase::Done).await;
    assert_eq!((done.instance, done.failures), (ours.instance, 0));
    world.shown("it is served", &other, |_| true).await;
    assert_eq!(world.ca.orders(), 1, "who died had asked for nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_lost_is_served_on_and_ordered_again_by_who_lacks_it() {
    let mut world = World::start().await;
    let gateway = world.gateway("n1");
    let first = world.shown("it is served", &gateway, |_| true).await;
    world.order(Phase::Done).await;

    world.server.kill();
    std::fs::remove_dir_all(world.server.folder().join("store")).expect("it kept something");
    assert_eq!(gateway.shown().as_ref(), Some(&first), "while the server is away");
    world.server.launch();
    world.fill().await;
    // One that knows of none orders, on the new stream and with an account of its own.
    let other = world.gateway("n2");
    world.order(Phase::Done).await;
    let second = world.shown("it is ordered again", &other, |shown| *shown != first).await;
    // The first one hears of that on the new stream, and serves it as well.
    world.shown("both serve the new one", &gateway, |shown| *shown == second).await;
    assert_eq!(world.ca.orders(), 2, "once by whoever was first");
}
