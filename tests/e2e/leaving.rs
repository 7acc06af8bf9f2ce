//! A replica that must go finishes what is under way, and is asked to stop after that.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;
use tests::cluster::{Cluster, free_port, get, text};

use super::cli::json;
use super::life::replicas;

/// Longer than the web app goes on by itself when it is asked to stop.
const SLOW_MS: u64 = 6_000;

type Answer = std::io::Result<String>;

/// Begins a request that is answered after a while.
fn begin(port: u16, ms: u64) -> JoinHandle<Answer> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(stream, "GET /sleep?ms={ms} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// Begins some, and waits until they are under way: as many as there are must have come by a new
/// connection each.
fn begun(cluster: &Cluster, port: u16, count: usize, ms: u64) -> Vec<JoinHandle<Answer>> {
    let slow = (0..count).map(|_| begin(port, ms)).collect();
    cluster.until("they are under way", |cluster| {
        let (_, numbers) = cluster.page("gateway", "/metrics");
        let open = numbers.lines().filter(|line| line.starts_with("muster_gateway_open{"));
        open.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum::<usize>()
            == count
    });
    slow
}

#[track_caller]
fn all_are_answered(cluster: &Cluster, slow: Vec<JoinHandle<Answer>>) {
    for answer in slow {
        let answer = answer.join().expect("it ends").expect("it is answered");
        assert!(answer.contains("slept"), "{answer:?}{}", cluster.logs());
    }
}

fn shop(cluster: &Cluster, port: u16, more: &str) -> String {
    let published = format!("\"ports\":[{{\"container\":8080,\"published\":{port}}}]{more}");
    cluster.shop().replace("\"ports\":[{\"container\":8080}]", &published)
}

fn deployed(cluster: &Cluster, app: &str) {
    let deployed = cluster.deploy(app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

/// The events of these types, in order.
fn events(cluster: &Cluster, kinds: &[&str]) -> Vec<Value> {
    let mut args = vec!["log"];
    args.extend(kinds.iter().flat_map(|kind| ["--type", kind]));
    json(cluster, &args)["items"].as_array().expect("a list").clone()
}

/// Where the first event of a type names a replica.
fn position(events: &[Value], kind: &str, replica: &str) -> Option<u64> {
    let names = |event: &&Value| {
        let data = &event["data"];
        let list = data["replicas"].as_array().into_iter().flatten();
        let mut named = list.chain([&data["replica"]]);
        event["type"] == kind && named.any(|name| name == replica)
    };
    events.iter().find(names)?["position"].as_u64()
}

#[test]
fn requests_that_are_under_way_are_finished_whatever_takes_their_replica_away() {
    let cluster = Cluster::start(2);
    let port = free_port();
    let app = shop(&cluster, port, "");
    deployed(&cluster, &app);
    cluster.until("it is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_ok());

    // One of three stays; each had a few of them.
    let slow = begun(&cluster, port, 9, SLOW_MS);
    let _ = cluster.ok(&["scale", cluster.app(), "web=1", "-d"]);
    cluster.until("two are leaving", |cluster| {
        replicas(cluster).iter().filter(|[_, _, status, ..]| status == "leaving").count() == 2
    });
    let [leaving, ..] = replicas(&cluster)
        .into_iter()
        .find(|[_, _, status, ..]| status == "leaving")
        .expect("there was one a moment ago");
    let why = cluster.ok(&["why", &leaving]);
    assert!(why.contains("Why it is leaving") && why.contains("let go of it"), "{why}");
    all_are_answered(&cluster, slow);
    cluster.until("one is left", |cluster| replicas(cluster).len() == 1);

    let slow = begun(&cluster, port, 2, SLOW_MS);
    deployed(&cluster, &app.replace("web:1", "web:2").replace("\"replicas\":3", "\"replicas\":1"));
    all_are_answered(&cluster, slow);

    let slow = begun(&cluster, port, 2, SLOW_MS);
    let _ = cluster.ok(&["delete", cluster.app(), "-d"]);
    cluster.until("nothing new is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_err());
    all_are_answered(&cluster, slow);
    cluster.until("nothing is left", |cluster| {
        let (out, err) = {
            let listed = cluster.muster(&["apps"]);
            (text(&listed.stdout), text(&listed.stderr))
        };
        !format!("{out}{err}").contains(cluster.app())
    });

    let kinds = ["ReplicasRetired", "ReplicasReleased", "RunEnded", "ReplicaEnded"];
    let events = events(&cluster, &kinds);
    let ended = events.iter().filter(|event| event["type"] == "ReplicaEnded");
    let ended: Vec<_> = ended.filter_map(|event| event["data"]["replica"].as_str()).collect();
    assert_eq!(ended.len(), 4, "{events:#?}");
    for id in ended {
        let at = |kind| position(&events, kind, id).unwrap_or_else(|| panic!("{kind} of {id}"));
        let (retired, released) = (at("ReplicasRetired"), at("ReplicasReleased"));
        assert!(retired < released && released < at("ReplicaEnded"), "{id}: {events:#?}");
    }
    for event in events.iter().filter(|event| event["type"] == "ReplicasReleased") {
        let data = &event["data"];
        assert_eq!((&data["gateways"], &data["silent"]), (&Value::from(1), &Value::Null));
        assert_eq!(data["open"], Value::Null, "nothing was cut short");
    }
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

#[test]
fn what_takes_longer_than_it_may_is_cut_and_told_of() {
    let cluster = Cluster::start(1);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port, ",\"drain_ms\":1000").replace(":3,", ":1,"));
    cluster.until("it is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_ok());
    let slow = begun(&cluster, port, 1, 50_000);
    let _ = cluster.ok(&["scale", cluster.app(), "web=0", "-d"]);
    for answer in slow {
        let answer = answer.join().expect("it ends").unwrap_or_default();
        assert!(!answer.contains("slept"), "{answer:?}");
    }
    let released = events(&cluster, &["ReplicasReleased"]);
    assert_eq!(released.len(), 1, "{released:#?}");
    assert_eq!(released[0]["data"]["open"], 1);
    let told = cluster.ok(&["log", "--type", "ReplicasReleased"]);
    assert!(told.contains("its time had passed with 1 still under way"), "{told}");
}

#[test]
fn a_gateway_that_is_gone_holds_nothing_up_for_long_and_is_named() {
    let mut cluster = Cluster::start(1);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port, ",\"drain_ms\":60000"));
    cluster.until("it is served", |_| get(&format!("127.0.0.1:{port}"), "/").is_ok());
    cluster.signal("gateway", "STOP");
    let _ = cluster.ok(&["scale", cluster.app(), "web=2", "--timeout", "60s"]);
    cluster.until("one is gone", |cluster| replicas(cluster).len() == 2);
    let released = events(&cluster, &["ReplicasReleased"]);
    assert_eq!(released[0]["data"]["silent"], Value::from(vec![cluster.nodes()[0].as_str()]));
    cluster.signal("gateway", "CONT");
    let _ = cluster.ok(&["scale", cluster.app(), "web=1", "--timeout", "60s"]);
    cluster.until("another one is gone", |cluster| replicas(cluster).len() == 1);
    let released = events(&cluster, &["ReplicasReleased"]);
    assert_eq!((released.len(), &released[1]["data"]["gateways"]), (2, &Value::from(1)));
    cluster.kill("gateway");
}
