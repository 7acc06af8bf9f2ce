//! HTTP through a published port: no request fails while replicas are replaced, scaled, moved and killed.

use std::time::Duration;

use tests::cluster::{Cluster, docker, free_port, get, text};
use tests::load::{Load, Mix};

use super::cli::json;
use super::life::replicas;

/// How many requests there are at least while something is done.
const LEAST: u64 = 300;

/// The web app with its port published.
fn shop(cluster: &Cluster, port: u16) -> String {
    let published = format!("\"ports\":[{{\"container\":8080,\"published\":{port}}}]");
    cluster.shop().replace("\"ports\":[{\"container\":8080}]", &published)
}

fn deployed(cluster: &Cluster, app: &str) {
    let deployed = cluster.deploy(app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

#[test]
fn no_request_fails_whatever_becomes_of_replicas() {
    let mut cluster = Cluster::start(2);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port));
    cluster.until("it is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_ok());

    let load = Load::on(port, Mix::Gets);
    deployed(&cluster, &shop(&cluster, port).replace("web:1", "web:2"));
    let outcome = load.end_after(LEAST);
    outcome.is_all_well("a rolling update", LEAST);
    for version in ["version=1", "version=2"] {
        assert!(outcome.seen().iter().any(|who| who.contains(version)), "{:?}", outcome.seen());
    }

    let load = Load::on(port, Mix::Gets);
    for count in ["web=5", "web=2", "web=4"] {
        let _ = cluster.ok(&["scale", cluster.app(), count]);
    }
    load.end_after(LEAST).is_all_well("scaling", LEAST);

    let load = Load::on(port, Mix::Gets);
    for [replica, ..] in replicas(&cluster).into_iter().take(2) {
        let name = cluster.containers().into_keys().find(|name| name.starts_with(&replica));
        let _ = docker(&["kill", "--signal", "KILL", &name.expect("it runs")]);
        std::thread::sleep(Duration::from_millis(500));
    }
    load.end_after(LEAST).is_all_well("two replicas killed", LEAST);

    // Whatever else is away: it serves by what it last knew.
    let load = Load::on(port, Mix::Gets);
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
        told["requests"].as_u64() > Some(LEAST) && told["rate_milli"].as_u64() > Some(0)
    });
    let told = routes(&cluster);
    load.end_after(LEAST).is_all_well("the control plane away", LEAST);
    assert_eq!(told["way"], format!("{port}/tcp"), "{told}");
    assert_eq!(told["ready"].as_array().map(Vec::len), Some(4), "{told}");
    assert!(told["p95_us"].as_u64() > Some(0), "{told}");
    let (_, page) = cluster.page("gateway", "/metrics");
    let failed = page.lines().filter(|line| line.contains("code=\"5xx\"}"));
    assert!(failed.into_iter().all(|line| line.ends_with("} 0")), "{page}");
}
