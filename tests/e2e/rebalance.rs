//! `muster rebalance`: replicas go to a node that joined after them, no request fails, and history says
//! who wanted it.

use serde_json::Value;
use tests::cluster::{Cluster, free_port, text};
use tests::load::{Load, Mix};

use super::cli::{exits, items, json};
use super::life::replicas;

/// How many requests there are at least while replicas move.
const LEAST: u64 = 300;

fn on(cluster: &Cluster, node: &str) -> Vec<String> {
    let there =
        replicas(cluster).into_iter().filter(|[_, on, status, ..]| on == node && status == "ready");
    there.map(|[id, ..]| id).collect()
}

fn head(cluster: &Cluster) -> u64 {
    json(cluster, &["nodes"])["at"]["position"].as_u64().expect("a number")
}

/// Makes a node be gone, as if it had never been there.
fn leaves(cluster: &mut Cluster, node: &str) {
    cluster.kill(node);
    cluster
        .until("it is not heard", |cluster| cluster.muster(&["lost-node", node]).status.success());
    let _ = cluster.ok(&["remove-node", node]);
}

fn state_of(cluster: &Cluster, node: &str) -> Option<String> {
    let nodes = items(&json(cluster, &["nodes"]), "NodeList");
    let found = nodes.into_iter().find(|one| one["node"] == node)?;
    Some(found["state"].as_str()?.to_owned())
}

#[test]
fn replicas_go_to_a_node_that_joined_and_no_request_fails() {
    let mut cluster = Cluster::start(2);
    let [first, late] = [0, 1].map(|i| cluster.nodes()[i].to_string());
    leaves(&mut cluster, &late);
    let port = free_port();
    let published = format!("{{\"container\":8080,\"published\":{port}}}");
    let shop = cluster.shop().replace("{\"container\":8080}", &published);
    let shop = shop.replace("\"replicas\":3", "\"replicas\":4,\"min_ready\":4");
    let shop = shop.replace(
        r#""web":{"#,
        r#""db":{"image":"muster/web:1","resources":{"cpu_millis":100},
            "mounts":[{"source":{"volume":"data"},"target":"/data"}]},"web":{"#,
    );
    let deployed = cluster.deploy(&shop);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    assert_eq!(on(&cluster, &first).len(), 5);
    let nothing = cluster.ok(&["rebalance"]);
    assert!(nothing.contains("Nothing to move"), "{nothing}");

    cluster.run(&late);
    cluster.until("it joined", |cluster| state_of(cluster, &late).as_deref() == Some("ready"));
    let before = head(&cluster);
    let plan = json(&cluster, &["rebalance", "--dry-run"]);
    let moves = plan["items"].as_array().expect("a list");
    assert_eq!(moves.len(), 2, "{plan}");
    assert!(moves.iter().all(|one| one["from"] == first.as_str() && one["to"] == late.as_str()));
    assert_eq!(plan["stays"][0]["workload"], "db", "{plan}");
    let told = cluster.ok(&["rebalance", "--dry-run"]);
    for part in ["COSTS", "4 and 0, then 3 and 1", "its volume data lives on", "Nothing was sent"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert_eq!(head(&cluster), before, "nothing follows from a plan");
    exits(&cluster.muster(&["rebalance", "--dry-run", "--app", "nowhere"]), 7, "not_found");

    cluster.until("it is served", |_| {
        tests::cluster::get(&format!("127.0.0.1:{port}"), "/")
            .is_ok_and(|(status, _)| status == 200)
    });
    let load = Load::on(port, Mix::GetsAndPosts);
    let done = cluster.muster(&["rebalance", "--reason", "a new machine", "--timeout", "60s"]);
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}{err}{}", cluster.logs());
    assert!(out.contains("2 replicas moved"), "{out}");
    assert!(err.contains("is to move from"), "{err}");
    load.end_after(LEAST).is_all_well("rebalancing", LEAST);
    assert_eq!((on(&cluster, &first).len(), on(&cluster, &late).len()), (3, 2));
    let again = cluster.ok(&["rebalance"]);
    assert!(again.contains("Nothing to move"), "{again}");

    let moved = on(&cluster, &late).remove(0);
    let why = cluster.ok(&["why", &moved]);
    for part in ["is to move from", "rebalance.start", "tester", "a new machine"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    let events = json(&cluster, &["log", "--type", "ReplicasRetired"]);
    let retired = events["items"].as_array().expect("a list");
    let rebalanced = |event: &&Value| event["data"]["reason"] == "rebalanced";
    assert_eq!(retired.iter().filter(rebalanced).count(), 2, "{events}");
    let on = cluster.ok(&["rebalance", "--continuous", "on"]);
    assert!(on.contains("accepted"), "{on}");
    assert_eq!(json(&cluster, &["rebalance", "--dry-run"])["continuous"], true);
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
    let _ = tests::cluster::docker(&["volume", "rm", &format!("main_{}_data", cluster.app())]);
}

#[test]
fn in_continuous_mode_replicas_go_to_a_node_that_joined_once_it_has_stayed_for_a_minute() {
    let mut cluster = Cluster::start(2);
    let [first, late] = [0, 1].map(|i| cluster.nodes()[i].to_string());
    leaves(&mut cluster, &late);
    let shop = cluster.shop().replace("\"replicas\":3", "\"replicas\":2");
    let deployed = cluster.deploy(&shop);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let _ = cluster.ok(&["rebalance", "--continuous", "on", "--reason", "we add machines"]);
    cluster.run(&late);
    cluster.until("it joined", |cluster| state_of(cluster, &late).as_deref() == Some("ready"));
    assert_eq!(on(&cluster, &first).len(), 2, "nothing moves to one that has just come");
    // A minute, and then what a move takes.
    for _ in 0..3 {
        if on(&cluster, &late).is_empty() {
            std::thread::sleep(std::time::Duration::from_secs(20));
        }
    }
    cluster.until("a replica went there by itself", |cluster| on(cluster, &late).len() == 1);
    let why = cluster.ok(&["why", &on(&cluster, &late)[0]]);
    for part in ["is to move from", "came and stayed"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    let started = json(&cluster, &["log", "--type", "RebalanceStarted"]);
    let [started] = started["items"].as_array().expect("a list").as_slice() else {
        panic!("it began once: {started}")
    };
    assert_eq!(started["data"]["nodes"][0], late.as_str(), "{started}");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
