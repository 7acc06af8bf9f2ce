//! A Compose file as people have them, on three hosts, with nothing but `muster deploy`: a web tier, an api,
//! and a store that keeps what it is told.

use std::collections::BTreeSet;

use tests::cluster::{Cluster, free_port, get, text};
use tests::engines::Engines;

use super::life::replicas;

const FILE: &str = "\
services:
  web:
    image: muster/web:4
    ports: ['PORT:8080']
    environment: {NEXT: 'http://api:8080/count'}
    depends_on:
      api: {condition: service_healthy}
    restart: unless-stopped
    deploy: {replicas: 3}
  api:
    image: muster/web:4
    environment:
      - STORE=store:8080
    healthcheck:
      test: ['CMD', '/web', 'probe', 'http://127.0.0.1:8080/healthz']
      interval: 1s
    depends_on: [store]
    restart: always
    deploy: {replicas: 2}
  store:
    image: muster/web:4
    command: [store]
    environment: {DATA: /data}
    volumes: ['data:/data']
    restart: always
volumes:
  data:
";

/// What the store has counted, asked from a host through the web tier and the api.
fn counted(host: &str, port: u16) -> Option<u64> {
    let (status, text) = get(&format!("{host}:{port}"), "/next").ok()?;
    (status == 200).then_some(())?;
    text.trim().strip_prefix(':')?.parse().ok()
}

#[test]
fn a_compose_file_of_three_tiers_runs_on_three_hosts_as_it_is_and_keeps_its_state() {
    let engines = Engines::up(3);
    engines.carry("muster/web:4");
    let cluster = Cluster::start_on(engines.hosts());
    cluster.await_names();
    let port = free_port();
    let path = cluster.write("compose.yaml", &FILE.replace("PORT", &port.to_string()));
    let deploy = ["deploy", "-f", &path, "--app", cluster.app(), "--timeout", "60s"];
    let deployed = cluster.muster(&deploy);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let nodes: BTreeSet<String> =
        replicas(&cluster).into_iter().map(|[_, node, ..]| node).collect();
    assert_eq!(nodes.len(), 3, "it is spread over all hosts");

    let hosts = engines.hosts();
    for host in hosts {
        cluster.until(&format!("all tiers are reached through {}", host.name), |_| {
            counted(&host.address, port).is_some()
        });
    }
    let mut last = counted(&hosts[0].address, port).expect("it was reached");
    for host in hosts.iter().cycle().take(30) {
        let next = counted(&host.address, port);
        assert_eq!(next, Some(last + 1), "through {}{}", host.name, cluster.logs());
        last += 1;
    }

    let store = replicas(&cluster).into_iter().find(|[id, ..]| id.contains("-store-"));
    let [id, node, _, run, _] = store.expect("there is a store");
    cluster.kill_container(&node, &format!("{id}-{run}"));
    for host in hosts {
        let mut next = None;
        cluster.until(&format!("the store is reached again through {}", host.name), |_| {
            next = counted(&host.address, port);
            next.is_some()
        });
        assert!(next > Some(last), "what it had counted is kept: {next:?} after {last}");
    }

    let _ = cluster.ok(&["delete", cluster.app()]);
    cluster.until("nobody listens any more", |_| {
        let at =
            |address: &str| get(&format!("{address}:{port}"), "/").map_err(|error| error.kind());
        hosts.iter().all(|host| at(&host.address) == Err(std::io::ErrorKind::ConnectionRefused))
    });
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
