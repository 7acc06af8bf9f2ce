//! Several hosts, each with an engine, an address and a link of its own: what happens when one is cut
//! off, and when an engine dies.

use std::collections::BTreeMap;

use tests::cluster::{Cluster, text};
use tests::engines::Engines;

use super::life::{get, replicas};

const REPLICAS: usize = 6;

/// Its replicas that are ready, by id: where they are reached.
fn ready(cluster: &Cluster) -> BTreeMap<String, String> {
    let ready = replicas(cluster).into_iter().filter(|[_, _, status, ..]| status == "ready");
    ready.map(|[id, _, _, _, endpoint]| (id, endpoint)).collect()
}

/// Waits until all replicas are there and answer, and nothing else is.
fn settled(cluster: &Cluster) {
    cluster.until("there are six replicas, all ready, and no other container", |cluster| {
        ready(cluster).len() == REPLICAS
            && replicas(cluster).len() == REPLICAS
            && cluster.containers().len() == REPLICAS
    });
    for endpoint in ready(cluster).values() {
        assert!(get(endpoint).contains("version=1"), "{endpoint}");
    }
}

#[test]
fn a_host_is_cut_off_and_comes_back_and_an_engine_dies() {
    let engines = Engines::up(3);
    engines.carry("muster/web:1");
    let cluster = Cluster::start_on(engines.hosts());
    let app = cluster.shop().replace("\"replicas\":3", &format!("\"replicas\":{REPLICAS}"));
    let deployed = cluster.deploy(&app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    settled(&cluster);
    for (node, host) in cluster.nodes().iter().zip(engines.hosts()) {
        assert_eq!(cluster.containers_on(node).len(), REPLICAS / 3, "on {node}");
        let here = replicas(&cluster).into_iter().filter(|[_, on, ..]| on == node.as_str());
        for [id, .., endpoint] in here {
            assert!(endpoint.starts_with(&format!("{}:", host.address)), "{id}: {endpoint}");
        }
    }

    let (gone, host) = (cluster.nodes()[2].clone(), engines.hosts()[2].clone());
    let before = cluster.containers_on(&gone);
    engines.cut(&host);
    let there = format!("{}:", host.address);
    cluster.until("the other two hosts serve six", |cluster| {
        let ready = ready(cluster);
        ready.len() == REPLICAS && !ready.values().any(|endpoint| endpoint.starts_with(&there))
    });
    for endpoint in ready(&cluster).values() {
        assert!(get(endpoint).contains("version=1"), "{endpoint}");
    }
    let unknown = replicas(&cluster).into_iter().filter(|[_, _, status, ..]| status == "unknown");
    let unknown: Vec<_> = unknown.map(|[_, node, ..]| node).collect();
    assert_eq!(unknown, vec![gone.to_string(); REPLICAS / 3], "a lost node ends nothing");
    assert_eq!(cluster.containers_on(&gone), before, "and nothing stops there");

    engines.heal(&host);
    settled(&cluster);
    let history = cluster.ok(&["log", &format!("node/{gone}")]);
    for part in ["suspected", "lost", "heard again"] {
        assert!(history.contains(part), "{part} is not in\n{history}");
    }

    let (hurt, host) = (cluster.nodes()[0].clone(), engines.hosts()[0].clone());
    let before = cluster.containers_on(&hurt);
    assert!(!before.is_empty(), "there is nothing to hurt on {hurt}");
    host.kill_engine();
    engines.start(&host);
    cluster.until("its agent has found out", |cluster| {
        let now = cluster.containers_on(&hurt);
        !now.is_empty() && now.keys().all(|name| !before.contains_key(name))
    });
    settled(&cluster);
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    assert!(!cluster.ok(&["doctor"]).contains("impossible"));
}
