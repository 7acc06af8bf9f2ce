//! Load comes and goes, and replicas follow: measured by the engine, decided with a reason, and never
//! over the head of a person.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::cluster::{Cluster, text};

const APP: &str = r#"{"name":"APP","workloads":{"web":{
    "image":"muster/web:1","ports":[{"container":8080}],
    "probe":{"check":{"http":{"port":8080,"path":"/healthz"}},"interval_ms":500},
    "resources":{"cpu_millis":100,"memory_limit_bytes":67108864},
    "autoscale":{"min":1,"max":3,"cpu_percent":50,"up_window_ms":2000,"down_window_ms":6000},
    "update":{"healthy_for_ms":100}}}}"#;

/// The ready replicas and their endpoints.
fn ready(cluster: &Cluster) -> Vec<(String, String)> {
    let listed = cluster.ok(&["ps", cluster.app()]);
    let rows = listed.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ready = rows.filter(|cells| cells.get(3) == Some(&"ready"));
    ready.map(|cells| (cells[0].to_owned(), (*cells.last().unwrap_or(&"")).to_owned())).collect()
}

/// Keeps a core of one replica busy until it is dropped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Load {
    fn on(endpoint: &str) -> Self {
        let address = endpoint.split("->").next().expect("an address").to_owned();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(&address) else { continue };
                let request = b"GET /burn?ms=500 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(request);
                let _ = stream.read_to_end(&mut Vec::new());
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

/// What was measured when so many became so many: percent of what is reserved.
fn measured(history: &str, step: &str) -> u64 {
    let scaled = format!("scaled {step}: target tracking: cpu ");
    let found = history.lines().find_map(|line| line.split_once(&scaled)?.1.split_once(" %"));
    let (percent, _) = found.unwrap_or_else(|| panic!("{step} is not in\n{history}"));
    percent.parse().expect("a number")
}

#[test]
fn replicas_follow_the_load_and_history_says_why() {
    let mut cluster = Cluster::start(2);
    let app = APP.replace("APP", cluster.app());
    let deployed = cluster.deploy(&app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let refused = cluster.muster(&["scale", cluster.app(), "web=4"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("outside_autoscale"), "{}", text(&refused.stderr));
    let first = ready(&cluster);
    assert_eq!(first.len(), 1);

    let load = Load::on(&first[0].1);
    cluster.until("there are three", |cluster| ready(cluster).len() == 3);
    let second = ready(&cluster).into_iter().find(|(id, _)| *id != first[0].0);
    let (second, _) = second.expect("there are three");
    let why = cluster.ok(&["why", &second]);
    for part in [
        "target tracking: cpu ",
        "target 50 %, for 2 s: ",
        "workload.scale",
        "the autoscaler measured",
    ] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    // Declared again, with the one replica that the file names by default.
    let again = cluster.deploy(&app);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(ready(&cluster).len(), 3);
    let history = cluster.ok(&["log", &format!("app/{}", cluster.app())]);
    // One core at most is burnt, ten times what is reserved; half of what is reserved is the target.
    assert!((55..=1_050).contains(&measured(&history, "1 → 2")), "{history}");

    // Another leader ends what this one began.
    cluster.kill("autoscaler");
    cluster.run("autoscaler");
    drop(load);
    cluster.until("there is one again", |cluster| ready(cluster).len() == 1);
    let _ = cluster.ok(&["scale", cluster.app(), "web=2"]);
    assert_eq!(ready(&cluster).len(), 2, "a person's number stands, for a window");
    cluster.until("it is one once more", |cluster| ready(cluster).len() == 1);

    let history = cluster.ok(&["log", &format!("app/{}", cluster.app())]);
    assert!(measured(&history, "2 → 1") < 45, "{history}");
    let scaled: Vec<&str> = history.lines().filter(|line| line.contains("/web scaled ")).collect();
    let by = |who: &str| scaled.iter().filter(|line| line.ends_with(who)).count();
    assert_eq!((by("by tester"), by("by autoscaler")), (1, scaled.len() - 1), "{history}");
    let all = cluster.ok(&["log", "-o", "json"]);
    assert!(all.contains("\"actor\":\"autoscaler\"") || all.contains("\"actor\": \"autoscaler\""));
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    assert!(!cluster.ok(&["doctor"]).contains("impossible"));
}
