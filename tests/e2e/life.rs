//! The life of an app: deployed, reached, scaled, updated, healed, moved, explained, deleted.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use tests::cluster::{Cluster, docker, text};

/// The replicas of `shop`: id, node, status, run and endpoint.
pub(crate) fn replicas(cluster: &Cluster) -> Vec<[String; 5]> {
    let listed = cluster.ok(&["ps", cluster.app()]);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let cell = |i: usize| cells.get(i).copied().unwrap_or_default().to_owned();
        [cell(0), cell(2), cell(3), cell(4), cell(7)]
    };
    listed.lines().skip(1).map(row).collect()
}

pub(crate) fn get(endpoint: &str) -> String {
    let address = endpoint.split("->").next().expect("an address");
    let mut stream = TcpStream::connect(address).expect("it is reached");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn an_app_lives_from_its_declaration_to_its_end() {
    let mut cluster = Cluster::start(2);
    let deployed = cluster.deploy(&cluster.shop());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let first = replicas(&cluster);
    assert_eq!(first.len(), 3);
    for [_, _, status, _, endpoint] in &first {
        assert_eq!(status, "ready");
        assert!(get(endpoint).contains("version=1"), "{endpoint}");
    }

    let _ = cluster.ok(&["scale", cluster.app(), "web=5"]);
    assert_eq!(replicas(&cluster).len(), 5);
    let scaled = cluster.deploy(&cluster.shop().replace("web:1", "web:2"));
    assert!(scaled.status.success(), "{}", text(&scaled.stderr));
    cluster.until("only the new revision runs", |cluster| {
        let now = replicas(cluster);
        now.len() == 3
            && now
                .iter()
                .all(|[_, _, status, _, at]| status == "ready" && get(at).contains("version=2"))
    });

    let [killed, ..] = &replicas(&cluster)[0];
    let _ = docker(&["kill", &format!("{killed}-1")]);
    cluster.until("the killed container has a next run", |cluster| {
        replicas(cluster)
            .iter()
            .any(|[id, _, status, run, _]| id == killed && status == "ready" && run == "2")
    });
    let why = cluster.ok(&["why", killed]);
    for part in ["exited with 137", "accepted", "tester sent app.deploy", "placed on"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }

    let node = cluster.nodes()[0].to_string();
    let _ = cluster.ok(&["drain", &node]);
    cluster.until("the drained node is empty", |cluster| {
        let now = replicas(cluster);
        now.len() == 3 && now.iter().all(|[_, on, status, ..]| *on != node && status == "ready")
    });
    let verified = cluster.ok(&["replay", "--verify"]);
    assert!(verified.contains("verified"), "{verified}");

    let _ = cluster.ok(&["delete", cluster.app()]);
    assert_eq!(cluster.containers().len(), 0);
    assert!(replicas_gone(&cluster));
    cluster.kill("event-log");
    let folder = cluster.folder().display().to_string();
    let checked = std::process::Command::new(cluster_binary())
        .args(["--state-dir", &folder, "verify"])
        .output();
    let checked = checked.expect("it runs");
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).contains("are whole"), "{}", text(&checked.stdout));
}

fn replicas_gone(cluster: &Cluster) -> bool {
    let gone = cluster.muster(&["ps", cluster.app()]);
    gone.status.code() == Some(7)
}

fn cluster_binary() -> std::path::PathBuf {
    let mut folder = std::env::current_exe().expect("this test runs from a file");
    folder.pop();
    folder.pop();
    folder.join("muster-event-log")
}

#[test]
fn a_frozen_node_s_replicas_run_elsewhere_and_end_when_it_wakes() {
    let cluster = Cluster::start(3);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let frozen = replicas(&cluster)[0][1].clone();
    cluster.signal(&frozen, "STOP");
    cluster.until("the others have its replicas", |cluster| {
        let ready = replicas(cluster)
            .into_iter()
            .filter(|[_, on, status, ..]| *on != frozen && status == "ready");
        ready.count() == 3
    });
    cluster.signal(&frozen, "CONT");
    cluster.until("there are three again", |cluster| {
        let now = replicas(cluster);
        now.len() == 3
            && now.iter().all(|[_, _, status, ..]| status == "ready")
            && cluster.containers().len() == 3
    });
    let history = cluster.ok(&["log", &format!("node/{frozen}")]);
    for part in ["suspected", "lost", "heard again"] {
        assert!(history.contains(part), "{part} is not in\n{history}");
    }
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
