//! Requests come and go, and replicas follow, as the gateway counts; its silence takes none away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, free_port, get, text};

const APP: &str = r#"{"name":"APP","workloads":{"web":{
    "image":"muster/web:1","ports":[{"container":8080,"published":PORT}],
    "probe":{"check":{"http":{"port":8080,"path":"/healthz"}},"interval_ms":500},
    "resources":{"cpu_millis":100,"memory_limit_bytes":67108864},
    "autoscale":{"min":1,"max":3,"requests_per_second":5,"up_window_ms":2000,"down_window_ms":6000},
    "update":{"healthy_for_ms":100}}}}"#;

/// How many there are to be ready.
fn ready(cluster: &Cluster) -> usize {
    let listed = cluster.ok(&["ps", cluster.app()]);
    let rows = listed.lines().skip(1).map(|line| line.split_whitespace().nth(3));
    rows.filter(|state| *state == Some("ready")).count()
}

/// Asks some forty times a second until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = get(&format!("127.0.0.1:{port}"), "/");
                std::thread::sleep(Duration::from_millis(25));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Requests a second of each, when so many became so many.
fn measured(history: &str, step: &str) -> f64 {
    let scaled = format!("scaled {step}: target tracking: ");
    let found =
        history.lines().find_map(|line| line.split_once(&scaled)?.1.split_once(" requests"));
    let (rate, _) = found.unwrap_or_else(|| panic!("{step} is not in\n{history}"));
    rate.parse().expect("a number")
}

#[test]
#[expect(clippy::disallowed_methods, reason = "nothing must happen for longer than a window")]
fn replicas_follow_requests_and_a_silent_gateway_takes_none_away() {
    let cluster = Cluster::start(1);
    let port = free_port();
    let app = APP.replace("APP", cluster.app()).replace("PORT", &port.to_string());
    let deployed = cluster.deploy(&app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    assert_eq!(ready(&cluster), 1);

    let load = Load::on(port);
    cluster.until("there are three", |cluster| ready(cluster) == 3);
    let history = cluster.ok(&["log", &format!("app/{}", cluster.app())]);
    assert!(measured(&history, "1 → 2") > 5.5, "{history}");
    let listed = cluster.ok(&["ps", cluster.app()]);
    let newest = listed.lines().last().and_then(|line| line.split_whitespace().next());
    let why = cluster.ok(&["why", &format!("{}/web", cluster.app())]);
    for part in ["requests a second each over", "target 5", "5 requests a second per replica"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    assert!(newest.is_some());

    // The gateway is stopped in its tracks: nothing is heard of it, for longer than the window.
    cluster.signal("gateway", "STOP");
    drop(load);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        assert_eq!(ready(&cluster), 3, "silence is no lack of traffic");
        std::thread::sleep(Duration::from_secs(1));
    }
    cluster.signal("gateway", "CONT");
    cluster.until("there is one again", |cluster| ready(cluster) == 1);
    let history = cluster.ok(&["log", &format!("app/{}", cluster.app())]);
    let last = history.lines().rfind(|line| line.contains("/web scaled "));
    let last = last.unwrap_or_default();
    assert!(
        last.contains("→ 1: target tracking: ") && last.contains(", target 5, for 6 s"),
        "{last}"
    );
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
