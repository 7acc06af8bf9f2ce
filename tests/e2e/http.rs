//! HTTP through a published port: no request fails while replicas are replaced, scaled, moved and killed.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tests::cluster::{Cluster, docker, free_port, get, text};

use super::cli::json;
use super::life::replicas;

/// How many clients there are, each with a connection that it keeps.
const CLIENTS: usize = 64;

/// How long each waits from one request to the next.
const PAUSE: Duration = Duration::from_millis(40);

/// The web app with its port published.
fn shop(cluster: &Cluster, port: u16) -> String {
    let published = format!("\"ports\":[{{\"container\":8080,\"published\":{port}}}]");
    cluster.shop().replace("\"ports\":[{\"container\":8080}]", &published)
}

fn deployed(cluster: &Cluster, app: &str) {
    let deployed = cluster.deploy(app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

/// One client's connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The answer to one request, and whether the connection goes on.
    fn get(&mut self) -> std::io::Result<(String, bool)> {
        self.0.get_mut().write_all(b"GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n")?;
        let (mut status, mut length, mut goes_on) = (String::new(), 0, true);
        self.0.read_line(&mut status)?;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::Error::other(format!("it ended within its head: {status:?}")));
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(std::io::Error::other)?;
            }
            goes_on &= line != "connection: close";
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        if !status.starts_with("HTTP/1.1 200") {
            return Err(std::io::Error::other(format!("{status:?} {}", text(&body))));
        }
        Ok((text(&body), goes_on))
    }
}

/// Clients that ask again and again, at their own pace.
struct Load {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    clients: Vec<JoinHandle<(BTreeSet<String>, Vec<String>)>>,
}

impl Load {
    fn start(port: u16) -> Self {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let client = |_| {
            let (over, asked) = (over.clone(), asked.clone());
            std::thread::spawn(move || {
                let (mut seen, mut failures, mut kept) = (BTreeSet::new(), Vec::new(), None);
                while !over.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let client = kept.take().map_or_else(|| Client::connect(port), Ok);
                    let answer = client.and_then(|mut client| {
                        let (who, goes_on) = client.get()?;
                        kept = goes_on.then_some(client);
                        Ok(who)
                    });
                    match answer {
                        Ok(who) => {
                            seen.insert(who);
                        }
                        Err(error) => failures.push(error.to_string()),
                    }
                    std::thread::sleep(PAUSE);
                }
                (seen, failures)
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { over, asked, clients }
    }

    /// Ends it. None of its requests may have failed.
    fn ends_well(self, what: &str) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        let (mut seen, mut failures) = (BTreeSet::new(), Vec::new());
        for client in self.clients {
            let (saw, failed) = client.join().expect("it ends");
            seen.extend(saw);
            failures.extend(failed);
        }
        let asked = self.asked.load(Ordering::Relaxed);
        println!("{what}: {} of {asked} requests failed: {failures:?}", failures.len());
        assert!(asked > 1_000, "{what}: only {asked} requests");
        assert!(failures.is_empty(), "{what}: {} of {asked} failed: {failures:?}", failures.len());
        seen
    }
}

#[test]
fn no_request_fails_whatever_becomes_of_replicas() {
    let mut cluster = Cluster::start(2);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port));
    cluster.until("it is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_ok());

    let load = Load::start(port);
    deployed(&cluster, &shop(&cluster, port).replace("web:1", "web:2"));
    let seen = load.ends_well("a rolling update");
    for version in ["version=1", "version=2"] {
        assert!(seen.iter().any(|who| who.contains(version)), "{seen:?}");
    }

    let load = Load::start(port);
    for count in ["web=5", "web=2", "web=4"] {
        let _ = cluster.ok(&["scale", cluster.app(), count]);
    }
    load.ends_well("scaling");

    let load = Load::start(port);
    for [replica, ..] in replicas(&cluster).into_iter().take(2) {
        let name = cluster.containers().into_keys().find(|name| name.starts_with(&replica));
        let _ = docker(&["kill", "--signal", "KILL", &name.expect("it runs")]);
        std::thread::sleep(Duration::from_millis(500));
    }
    load.ends_well("two replicas killed");

    // Whatever else is away: it serves by what it last knew.
    let load = Load::start(port);
    for service in ["controller", "scheduler", "event-log"] {
        cluster.kill(service);
    }
    std::thread::sleep(Duration::from_secs(2));
    for service in ["event-log", "controller", "scheduler"] {
        cluster.run(service);
    }
    let routes = |cluster: &Cluster| json(cluster, &["routes", cluster.app()])["items"][0].clone();
    cluster.until("what it sent is told", |cluster| {
        let told = routes(cluster);
        told["requests"].as_u64() > Some(1_000) && told["rate_milli"].as_u64() > Some(0)
    });
    let told = routes(&cluster);
    load.ends_well("the control plane away");
    assert_eq!(told["way"], format!("{port}/tcp"), "{told}");
    assert_eq!(told["ready"].as_array().map(Vec::len), Some(4), "{told}");
    assert!(told["p95_us"].as_u64() > Some(0), "{told}");
    let (_, page) = cluster.page("gateway", "/metrics");
    let failed = page.lines().filter(|line| line.contains("code=\"5xx\"}"));
    assert!(failed.into_iter().all(|line| line.ends_with("} 0")), "{page}");
}
