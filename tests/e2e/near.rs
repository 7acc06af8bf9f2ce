//! Workloads come nearer to those who call them: on two hosts with a slow wire between them, when somebody asks
//! for it and by themselves. No request fails, and history says what was measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Cluster, free_port, get, text};
use tests::engines::{Engines, Host};

use super::cli::json as told;

/// How much longer everything takes from one host to the other, each way, in ms.
const SLOW_MS: u32 = 2;

/// How long it may take until something is measured, stated and carried out.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many clients there are, and how long each waits between two requests.
const CLIENTS: usize = 4;
const PAUSE: Duration = Duration::from_millis(40);

/// Clients that ask for something which asks for something else, until they are told to end.
struct Callers {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    fn of(at: &str) -> Self {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let failed = Arc::new(Mutex::new(Vec::new()));
        let one = |_| {
            let (at, over, asked, failed) =
                (at.to_owned(), over.clone(), asked.clone(), failed.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let found = get(&at, "/next");
                    asked.fetch_add(1, Ordering::Relaxed);
                    if !matches!(found, Ok((200, _))) {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(format!("{found:?}"));
                    }
                    std::thread::sleep(PAUSE);
                }
            })
        };
        let threads = (0..CLIENTS).map(one).collect();
        Self { over, asked, failed, threads }
    }

    /// How many asked, when none was refused.
    fn all_is_well(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("the client ends");
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(failed.is_empty(), "{} of {:?}: {:?}", failed.len(), self.asked, failed.first());
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A front on the first host, and goods for it, which go to the other one because it is emptier.
fn deploy(cluster: &Cluster, name: &str, port: u16) {
    let [first, second] = [0, 1].map(|i| cluster.nodes()[i].to_string());
    let spec = |more: Value| {
        let mut spec = json!({
            "image": "muster/web:3",
            "probe": {"check": {"tcp": {"port": 8080}}, "interval_ms": 300},
            "resources": {"cpu_millis": 100},
            "update": {"healthy_for_ms": 100, "deadline_ms": 20_000},
        });
        spec.as_object_mut().expect("one").extend(more.as_object().expect("one").clone());
        spec
    };
    let here = json!([{"attribute": "node", "equal": true, "value": first}]);
    let front = spec(json!({
        "ports": [{"container": 8080, "published": port}],
        "env": {"NEXT": "http://goods:8080/"},
        "placement": {"constraints": here},
    }));
    let goods = spec(json!({"ports": [{"container": 8080}]}));
    let app = json!({"name": name, "workloads": {"front": front, "goods": goods}});
    let deployed = cluster.deploy(&app.to_string());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    until(cluster, "goods are ready", || goods_on(cluster, name).is_some());
    assert_eq!(on(cluster, name).1, second);
}

fn on(cluster: &Cluster, name: &str) -> (String, String) {
    goods_on(cluster, name).expect("it is ready")
}

/// The replica of an app's goods, and its node; none while there are several, or none is ready.
fn goods_on(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let (of, listed) = (format!("{name}-goods-"), cluster.ok(&["ps", name]));
    let mut there = listed.lines().filter(|line| line.starts_with(&of));
    let cells: Vec<&str> = there.next()?.split_whitespace().collect();
    let (id, node, status) = (cells.first()?, cells.get(2)?, cells.get(3)?);
    (there.next().is_none() && *status == "ready").then(|| (id.to_string(), node.to_string()))
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test waits by the clock, with a bound")]
fn until(cluster: &Cluster, what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}\n{}", cluster.logs());
        std::thread::sleep(Duration::from_millis(500));
    }
}

fn events(cluster: &Cluster, kind: &str) -> Vec<Value> {
    told(cluster, &["log", "--type", kind])["items"].as_array().expect("a list").clone()
}

#[test]
fn a_workload_comes_nearer_to_its_callers_when_asked_and_by_itself_and_no_request_fails() {
    let engines = Engines::up(2);
    engines.carry("muster/web:3");
    let [near, far]: [Host; 2] = engines.hosts().to_vec().try_into().expect("two");
    engines.slow(&far, SLOW_MS);
    let cluster = Cluster::start_on(engines.hosts());
    cluster.await_names();
    let first = cluster.nodes()[0].to_string();
    asked_for(&cluster, &near, &first);
    by_itself(&cluster, &near, &first);
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

fn asked_for(cluster: &Cluster, near: &Host, first: &str) {
    let (app, port) = (cluster.app().to_owned(), free_port());
    deploy(cluster, &app, port);
    let nothing = cluster.ok(&["rebalance", "--dry-run"]);
    assert!(nothing.contains("Nothing to move"), "nobody has measured anything: {nothing}");
    let at = format!("{}:{port}", near.address);
    cluster.until("it answers", |_| matches!(get(&at, "/next"), Ok((200, _))));
    let callers = Callers::of(&at);
    until(cluster, "a move is gained", || {
        !told(cluster, &["rebalance", "--dry-run"])["items"].as_array().expect("a list").is_empty()
    });
    let plan = told(cluster, &["rebalance", "--dry-run"]);
    let [one] = plan["items"].as_array().expect("a list").as_slice() else { panic!("{plan}") };
    assert_eq!((one["workload"].as_str(), one["to"].as_str()), (Some("goods"), Some(first)));
    let gain = one["gain"].as_str().expect("a text");
    let said = gain.strip_prefix(&format!("callers on {first}: ")).expect("it says who");
    let before: f64 = said.split(' ').next().expect("a word").parse().expect("a number");
    assert!(before >= f64::from(2 * SLOW_MS), "{gain}");
    let (_, then) = said.split_once(" ms to connect, then ").expect("it says how far it will be");
    let then: f64 = then.trim_end_matches(" ms").parse().expect("a number");
    assert!(then < before / 2.0, "{gain}");
    let done = cluster.muster(&["rebalance", "--timeout", "60s"]);
    let out = text(&done.stdout);
    assert!(done.status.success(), "{out}{}{}", text(&done.stderr), cluster.logs());
    assert!(out.contains("1 replica moved"), "{out}");
    assert!(callers.all_is_well() > 100);
    let (replica, node) = on(cluster, &app);
    assert_eq!(node, first);
    let again = cluster.ok(&["rebalance", "--dry-run"]);
    assert!(again.contains("Nothing to move"), "{again}");
    let why = cluster.ok(&["why", &replica]);
    for part in ["ms to connect, then", "is called by", "rebalance.start", "tester"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    let measured = events(cluster, "CallsMeasured");
    assert_eq!(measured.len(), 1, "it is stated once: {measured:?}");
}

fn by_itself(cluster: &Cluster, near: &Host, first: &str) {
    let (app, port) = (format!("{}b", cluster.app()), free_port());
    let _ = cluster.ok(&["rebalance", "--continuous", "on"]);
    deploy(cluster, &app, port);
    let at = format!("{}:{port}", near.address);
    cluster.until("it answers", |_| matches!(get(&at, "/next"), Ok((200, _))));
    let callers = Callers::of(&at);
    until(cluster, "it comes nearer", || {
        goods_on(cluster, &app).is_some_and(|(_, node)| node == first)
    });
    assert!(callers.all_is_well() > 100);
    let (replica, _) = on(cluster, &app);
    let why = cluster.ok(&["why", &replica]);
    for part in ["ms to connect, then", "far from what calls it", "is called by"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    cluster.until("it has ended", |cluster| {
        events(cluster, "RebalanceEnded").len() == events(cluster, "RebalanceStarted").len()
    });
    let moved = events(cluster, "ReplicasRetired");
    let rebalanced = moved.iter().filter(|event| event["data"]["reason"] == "rebalanced").count();
    assert_eq!(rebalanced, 2, "one of each app, and nothing to and fro");
}
