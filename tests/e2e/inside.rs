//! Workloads by name, from containers, on one machine: who is found, who answers, who is kept out, and
//! what lasts while other things are away.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Command;

use tests::cluster::{Cluster, docker, free_port, get, text};
use tests::resolver;

/// A web tier and a store, which speaks TCP and UDP on one port.
const APP: &str = r#"{"name":"APP","workloads":{
  "web":{"image":"muster/web:3","replicas":3,"env":{"STORE":"store:8080"},OPEN
    "ports":[{"container":8080}],"probe":{"check":{"tcp":{"port":8080}},"interval_ms":300}},
  "store":{"image":"muster/web:3","command":["store"],
    "ports":[{"container":8080,"protocol":"udp"}],"probe":{"check":{"tcp":{"port":8080}},"interval_ms":300}}}}"#;

pub(crate) fn deploy(cluster: &Cluster, name: &str, open: &str) {
    let app = APP.replace("APP", name).replace("OPEN", open);
    let deployed = cluster.deploy(&app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

/// Where the ready replicas of a workload are reached from here, by replica.
pub(crate) fn endpoints(cluster: &Cluster, app: &str, workload: &str) -> Vec<(String, String)> {
    let listed = cluster.ok(&["ps", app]);
    let replica = |line: &str| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let of = format!("{app}-{workload}-");
        let ready = cells.get(3) == Some(&"ready") && cells.first()?.starts_with(&of);
        let tcp = cells.iter().find(|cell| cell.trim_end_matches(',').ends_with("->8080/tcp"));
        ready.then_some(())?;
        Some((cells[0].to_owned(), tcp?.split("->").next()?.to_owned()))
    };
    listed.lines().skip(1).filter_map(replica).collect()
}

/// What a replica at an endpoint answers to a path: its status and its text; 0 and why when it does not.
pub(crate) fn asked(at: &str, path: &str) -> (u16, String) {
    get(at, path).unwrap_or_else(|error| (0, error.to_string()))
}

/// The text, when all is well.
pub(crate) fn ok(at: &str, path: &str) -> String {
    let (status, text) = asked(at, path);
    assert_eq!(status, 200, "{at}{path}: {text}");
    text.trim().to_owned()
}

#[test]
fn every_workload_is_reached_by_name_over_tcp_and_udp_and_names_outside_are_as_ever() {
    let cluster = Cluster::start(2);
    cluster.await_names();
    let app = cluster.app();
    // By load and speed one of them might have no turn for long.
    deploy(&cluster, app, r#""balance":"round_robin","#);
    let web = endpoints(&cluster, app, "web");
    assert_eq!(web.len(), 3);
    let mut addresses = BTreeSet::new();
    for (replica, at) in &web {
        for name in
            ["store".to_owned(), format!("store.{app}"), format!("store.{app}.muster.internal")]
        {
            addresses.insert(ok(at, &format!("/resolve?name={name}")));
        }
        assert_eq!(ok(at, "/ask?at=store:8080&say=PING"), "+PONG", "{replica}");
        assert_eq!(ok(at, "/ask?at=store:8080&say=PING&by=udp"), "+PONG", "{replica}");
        let everyone: BTreeSet<String> =
            (0..30).map(|_| ok(at, "/fetch?url=http://web:8080/")).collect();
        assert_eq!(everyone.len(), 3, "{replica} reaches every replica, on both nodes");
        let outside = ok(at, &format!("/resolve?name={}", resolver::NAME));
        assert_eq!(outside, Ipv4Addr::from(resolver::ADDRESS).to_string());
        assert_eq!(asked(at, "/resolve?name=nobody").0, 502);
        // Where nobody serves, nobody listens, and does not end what was never begun.
        let (status, refused) = asked(at, "/ask?at=store:81&say=PING");
        assert_eq!(status, 502);
        assert!(refused.contains("refused"), "{refused}");
    }
    assert_eq!(addresses.len(), 1, "it has one address everywhere: {addresses:?}");
    let address = addresses.first().expect("one").parse().expect("an address");
    assert!(cluster.range().number(address).is_some(), "{address}");
    let counted: Vec<String> = web.iter().map(|(_, at)| ok(at, "/count")).collect();
    assert_eq!(counted, [":1", ":2", ":3"], "there is one store");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

#[test]
fn an_app_is_closed_to_others_until_it_opens() {
    let cluster = Cluster::start(2);
    cluster.await_names();
    let (app, other) = (cluster.app(), format!("{}b", cluster.app()));
    deploy(&cluster, app, "");
    deploy(&cluster, &other, "");
    let stranger = endpoints(&cluster, &other, "web").remove(0).1;
    let friend = endpoints(&cluster, app, "web").remove(0).1;
    let name = format!("web.{app}.muster.internal");
    let address = ok(&friend, "/resolve?name=web");
    let closed = || {
        assert_eq!(asked(&stranger, &format!("/resolve?name={name}")).0, 502);
        for path in [
            format!("/fetch?url=http://{address}:8080/"),
            format!("/fetch?url=http://{name}:8080/"),
        ] {
            let (status, text) = asked(&stranger, &path);
            assert_eq!(status, 502, "{path}: {text}");
        }
        assert!(ok(&friend, &format!("/fetch?url=http://{address}:8080/")).contains("hello"));
    };
    closed();
    let refused = |cluster: &Cluster| {
        let (_, numbers) = cluster.page("gateway", "/metrics");
        let line = numbers
            .lines()
            .find(|line| line.starts_with("muster_inside_refused_total"))
            .map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    cluster.until("it is counted", |cluster| refused(cluster) > 0);
    // Round the gateway there is no way either: by the node's port, or the container's own address.
    let port = friend.rsplit(':').next().expect("a port");
    for at in [format!("{}:{port}", machine(&cluster)), own_address(&cluster, app)] {
        let (status, text) = asked(&stranger, &format!("/ask?at={at}&say=PING"));
        assert_eq!(status, 502, "{at}: {text}");
    }

    let containers = cluster.containers();
    deploy(&cluster, app, &format!("\"open\":{{\"to\":[\"{other}\"]}},"));
    assert_eq!(cluster.containers(), containers, "nothing is replaced for that");
    cluster.until("it is open", |_| {
        asked(&stranger, &format!("/fetch?url=http://{name}:8080/")).0 == 200
    });
    let short = ok(&stranger, &format!("/fetch?url=http://web.{app}:8080/"));
    assert!(short.contains("hello"), "{short}");
    let store = format!("store.{app}.muster.internal");
    assert_eq!(
        asked(&stranger, &format!("/resolve?name={store}")).0,
        502,
        "the store did not open"
    );
    deploy(&cluster, app, "");
    cluster.until("it is closed again", |_| {
        asked(&stranger, &format!("/fetch?url=http://{address}:8080/")).0 == 502
    });
    closed();
}

/// The machine, as a container sees it: the way out of its network.
fn machine(cluster: &Cluster) -> String {
    let (container, _) = cluster.containers().pop_last().expect("there are some");
    let format = "{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}";
    docker(&["inspect", "--format", format, &container]).trim().to_owned()
}

/// The own address and the port of a container of the app.
fn own_address(cluster: &Cluster, app: &str) -> String {
    let of = format!("{app}-web-");
    let found = cluster.containers().into_keys().find(|name| name.starts_with(&of));
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let container = found.expect("there are some");
    let address = docker(&["inspect", "--format", format, &container]);
    format!("{}:8080", address.trim())
}

#[test]
fn names_last_while_the_control_plane_is_away_and_a_gateway_that_starts_again_serves() {
    let mut cluster = Cluster::start(1);
    cluster.await_names();
    let app = cluster.app().to_owned();
    deploy(&cluster, &app, "");
    let at = endpoints(&cluster, &app, "web").remove(0).1;
    assert_eq!(ok(&at, "/count"), ":1");
    let address = ok(&at, "/resolve?name=store");
    assert!(cluster.range().number(address.parse().expect("an address")).is_some(), "{address}");
    let there = format!("/ask?at={address}:8080&say=PING");

    cluster.kill("gateway");
    assert_eq!(asked(&at, &there).0, 502, "it is the gateway that serves");
    cluster.run("gateway");
    cluster.until("the next gateway serves", |_| {
        asked(&at, &there).0 == 200
            && asked(&at, "/resolve?name=store") == (200, format!("{address}\n"))
    });

    for name in ["event-log", "controller", "scheduler", "health"] {
        cluster.kill(name);
    }
    cluster.server.kill();
    for _ in 0..20 {
        assert_eq!(ok(&at, "/resolve?name=store"), address);
        assert!(ok(&at, "/count").starts_with(':'));
        assert_eq!(ok(&at, "/ask?at=store:8080&say=PING&by=udp"), "+PONG");
    }
    // A packet filter that is loaded anew has lost what is ours.
    let table = cluster.range().token();
    let deleted = Command::new("nft").args(["delete", "table", "ip", &table]).status();
    assert!(deleted.expect("nft is there").success());
    assert_eq!(asked(&at, &there).0, 502);
    cluster.until("it is put back", |_| asked(&at, &there).0 == 200);

    cluster.signal("gateway", "TERM");
    cluster.until("a gateway that ends leaves nothing behind", |cluster| {
        let listed = |program: &str, args: &[&str]| {
            text(&Command::new(program).args(args).output().expect("it is there").stdout)
        };
        let routes = listed("ip", &["route", "show", "table", "local"]);
        !listed("nft", &["list", "tables"]).contains(&table)
            && !routes.contains(&cluster.range().to_string())
    });
}

#[test]
fn no_question_and_no_connection_inside_is_lost_when_a_gateway_is_replaced_by_its_next_process() {
    let mut cluster = Cluster::start(1);
    cluster.await_names();
    let app = cluster.app().to_owned();
    deploy(&cluster, &app, "");
    let at = endpoints(&cluster, &app, "web").remove(0).1;
    let address = ok(&at, "/resolve?name=store");
    let all_is_well = || {
        for _ in 0..10 {
            assert_eq!(ok(&at, "/resolve?name=store"), address);
            assert_eq!(ok(&at, &format!("/ask?at={address}:8080&say=PING")), "+PONG");
            assert_eq!(ok(&at, "/ask?at=store:8080&say=PING&by=udp"), "+PONG");
        }
    };
    // A health page at an address of its own is handed on as well.
    cluster.give("gateway", &["--admin-address", &format!("127.0.0.1:{}", free_port())]);
    for round in 1..=3 {
        cluster.run_next("gateway");
        cluster.until("the next one has taken over", |cluster| {
            all_is_well();
            cluster.said("gateway", "took over; the gateway before us") == round
        });
        all_is_well();
        cluster.has_ended_well("gateway");
        // The one that has ended left the machine to the next one.
        all_is_well();
        cluster.until("its page is shown", |cluster| {
            cluster.page_of("gateway", "/readyz") == Some((200, "ready\n".to_owned()))
        });
    }
}

#[test]
fn a_container_starts_without_names_where_no_gateway_serves_and_finds_its_neighbours_still() {
    let mut cluster = Cluster::start(1);
    cluster.await_names();
    cluster.kill("gateway");
    let node = cluster.nodes()[0].to_string();
    cluster.kill(&node);
    cluster.run(&node);
    let app = cluster.app().to_owned();
    deploy(&cluster, &app, "");
    let at = endpoints(&cluster, &app, "web").remove(0).1;
    assert_eq!(ok(&at, "/count"), ":1", "the engine answers for replicas of one node");
    assert!(
        cluster
            .range()
            .number(ok(&at, "/resolve?name=store").parse().expect("an address"))
            .is_none()
    );
}
