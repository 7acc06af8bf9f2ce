//! Workloads by name across three hosts: an ordinary Compose app, traffic in every direction, two apps
//! that are closed to each other, and a host that is cut off and comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use tests::cluster::{Cluster, docker_at, text};
use tests::engines::{Engines, Host};

use super::inside::{asked, endpoints, ok};

/// What somebody wrote for one machine: a web tier, an api behind it, a store behind that.
const SHOP: &str = "\
services:
  web:
    image: muster/web:3
    environment: {NEXT: 'http://api:8080/count'}
    deploy: {replicas: 3, placement: {max_replicas_per_node: 1}}
    depends_on: [api]
  api:
    image: muster/web:3
    environment: {STORE: 'store:8080'}
    deploy: {replicas: 3, placement: {max_replicas_per_node: 1}}
    depends_on: [store]
  store:
    image: muster/web:3
    command: store
    expose: ['8080/udp']
    deploy: {placement: {constraints: ['node.hostname == FIRST']}}
";

/// What the name server answers to one who asks from within a container: a record a line.
fn records(
    cluster: &Cluster,
    host: &Host,
    of: &str,
    name: &str,
    kind: &str,
    by: &[&str],
) -> Vec<String> {
    let listed = docker_at(&host.engine, &["ps", "--format", "{{.Names}}"]);
    let container = listed.lines().find(|name| name.starts_with(of));
    let container = container.unwrap_or_else(|| panic!("no container of {of} in {listed}"));
    let pid = docker_at(&host.engine, &["inspect", "-f", "{{.State.Pid}}", container]);
    let script = tests::root().join("tests/e2e/ask_names.py");
    let asked = Command::new("nsenter")
        .args(["-t", pid.trim(), "-n", "python3"])
        .arg(script)
        .args([&cluster.range().name_server().to_string(), name, kind])
        .args(by)
        .output()
        .expect("nsenter and python3 are there");
    assert!(asked.status.success(), "{name}: {}", text(&asked.stderr));
    let said = text(&asked.stdout);
    let mut lines = said.lines().map(str::to_owned);
    assert_eq!(lines.next().as_deref(), Some("code 0"), "{name}: {said}");
    lines.collect()
}

/// Every replica of the api has a name, under which it and no other answers, from every host.
fn each_by_name(cluster: &Cluster, engines: &Engines, app: &str) {
    let api: BTreeMap<String, String> = endpoints(cluster, app, "api").into_iter().collect();
    assert_eq!(api.len(), 3, "{api:?}");
    let zone = format!("api.{app}.muster.internal");
    let web = by_host(cluster, engines, app);
    for host in engines.hosts() {
        let ask = |name: &str, kind: &str, by: &[&str]| {
            records(cluster, host, &format!("{app}-web-"), name, kind, by)
        };
        let address = |name: &str| match ask(name, "A", &[]).as_slice() {
            [one] => one.clone(),
            other => panic!("{name}: {other:?}"),
        };
        let mut addresses = BTreeSet::new();
        for (replica, at) in &api {
            let name = format!("{replica}.{zone}");
            addresses.insert(address(&name));
            let (_, tail) = replica.rsplit_once('-').expect("it has one");
            assert_eq!(address(&format!("{tail}.{zone}")), address(&name));
            let answers = ok(&web[&host.name], &format!("/fetch?url=http://{name}:8080/"));
            assert_eq!(answers, ok(at, "/"), "{name} from {}", host.name);
        }
        assert_eq!(addresses.len(), 3, "each has one of its own: {addresses:?}");
        for by in [&[][..], &["tcp"]] {
            let all: BTreeSet<String> =
                ask(&format!("tasks.{zone}"), "A", by).into_iter().collect();
            assert_eq!(all, addresses, "from {}", host.name);
            let found = ask(&format!("_8080._tcp.{zone}"), "SRV", by).into_iter();
            let expected = api.keys().map(|replica| format!("SRV 0 1 8080 {replica}.{zone}"));
            assert_eq!(found.collect::<BTreeSet<_>>(), expected.collect::<BTreeSet<_>>());
        }
    }
}

fn deploy(cluster: &Cluster, app: &str) {
    let first = cluster.nodes()[0].as_str();
    let path = cluster.write("compose.yaml", &SHOP.replace("FIRST", first));
    let deploy = ["deploy", "-f", &path, "--app", app, "--timeout", "60s"];
    let deployed = cluster.muster(&deploy);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

/// The web replica of each host.
fn by_host(cluster: &Cluster, engines: &Engines, app: &str) -> BTreeMap<String, String> {
    let of = |at: &str| {
        let host =
            engines.hosts().iter().find(|host| at.starts_with(&format!("{}:", host.address)));
        host.map(|host| host.name.clone())
    };
    let found = endpoints(cluster, app, "web").into_iter();
    found.filter_map(|(_, at)| Some((of(&at)?, at))).collect()
}

/// From everywhere to everywhere, TCP and UDP.
fn flows(cluster: &Cluster, engines: &Engines, app: &str) {
    let web = by_host(cluster, engines, app);
    assert_eq!(web.len(), 3, "{web:?}");
    let mut addresses = BTreeSet::new();
    for (host, at) in &web {
        // One that was not reached a moment ago is put aside for some seconds.
        cluster.until(&format!("from {host} every replica of the api is reached"), |_| {
            let answers = (0..24).map(|_| ok(at, "/fetch?url=http://api:8080/"));
            answers.collect::<BTreeSet<String>>().len() == 3
        });
        assert!(ok(at, "/next").starts_with(':'), "web, api and store, from {host}");
        assert_eq!(ok(at, "/ask?at=store:8080&say=PING&by=udp"), "+PONG", "from {host}");
        assert_eq!(ok(at, "/ask?at=store:8080&say=PING"), "+PONG", "from {host}");
        addresses.insert(ok(at, "/resolve?name=store"));
    }
    assert_eq!(addresses.len(), 1, "a workload has one address on every host: {addresses:?}");
}

#[test]
fn a_compose_app_works_across_hosts_and_apps_are_apart_and_a_cut_heals() {
    let engines = Engines::up(3);
    engines.carry("muster/web:3");
    let cluster = Cluster::start_on(engines.hosts());
    cluster.await_names();
    let (app, other) = (cluster.app().to_owned(), format!("{}b", cluster.app()));
    deploy(&cluster, &app);
    flows(&cluster, &engines, &app);
    each_by_name(&cluster, &engines, &app);

    deploy(&cluster, &other);
    flows(&cluster, &engines, &other);
    let (ours, theirs) = (by_host(&cluster, &engines, &app), by_host(&cluster, &engines, &other));
    // Each host asked once of each app: one store for both would have gone on to eight.
    let counted = [&ours, &theirs].map(|web| ok(&web["e1"], "/next"));
    assert_eq!(counted, [":4", ":4"], "each app has a store of its own");
    let address = ok(&ours["e1"], "/resolve?name=api");
    for (host, at) in &theirs {
        assert_eq!(asked(at, &format!("/resolve?name=api.{app}")).0, 502, "{host}");
        let closed = format!("/resolve?name=tasks.api.{app}.muster.internal");
        assert_eq!(asked(at, &closed).0, 502, "{host}");
        assert_eq!(asked(at, &format!("/fetch?url=http://{address}:8080/")).0, 502, "{host}");
        // Round the gateway, by the ports of the nodes that lead to its replicas.
        for round in ours.values() {
            let (status, text) = asked(at, &format!("/fetch?url=http://{round}/"));
            assert_eq!(status, 502, "{host} reaches {round}: {text}");
        }
    }

    let gone = engines.hosts()[2].clone();
    engines.cut(&gone);
    cluster.until("the other two hosts go on", |_| {
        ["e1", "e2"].iter().all(|host| (0..5).all(|_| asked(&ours[*host], "/next").0 == 200))
    });
    engines.heal(&gone);
    cluster.until("all three are back", |cluster| by_host(cluster, &engines, &app).len() == 3);
    cluster.until("the host that was cut off follows again", |cluster| {
        let web = by_host(cluster, &engines, &app);
        web.get("e3").is_some_and(|at| asked(at, "/next").0 == 200)
    });
    flows(&cluster, &engines, &app);
    each_by_name(&cluster, &engines, &app);
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
