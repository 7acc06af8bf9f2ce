//! A published port: served on one address while replicas come, go and move behind it.

use std::collections::BTreeSet;
use std::net::TcpListener;

use tests::cluster::{Cluster, free_port, get, text};
use tests::load::{Load, Mix};

/// How many requests there are at least while something is done.
const LEAST: u64 = 200;

/// The web app with its port published.
fn shop(cluster: &Cluster, port: u16) -> String {
    let published = format!("{{\"container\":8080,\"published\":{port}}}");
    cluster.shop().replace("{\"container\":8080}", &published)
}

fn deployed(cluster: &Cluster, app: &str) {
    let deployed = cluster.deploy(app);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
}

/// Who answers: the part of the text that differs for every start of every container.
fn who(port: u16) -> std::io::Result<String> {
    let (status, text) = get(&format!("127.0.0.1:{port}"), "/")?;
    if status != 200 {
        return Err(std::io::Error::other(format!("status {status}")));
    }
    Ok(text.trim().to_owned())
}

/// Everyone who answers to so many requests.
fn everyone(port: u16, requests: u32) -> BTreeSet<String> {
    (0..requests).filter_map(|_| who(port).ok()).collect()
}

/// Everyone who answers at the endpoints of the replicas that there are.
fn alive(cluster: &Cluster) -> BTreeSet<String> {
    let listed = cluster.ok(&["ps", cluster.app()]);
    let endpoints = listed.lines().skip(1).filter_map(|line| line.split_whitespace().nth(7));
    let addresses = endpoints.filter_map(|endpoint| endpoint.split("->").next());
    addresses.filter_map(|at| Some(get(at, "/").ok()?.1.trim().to_owned())).collect()
}

#[test]
fn requests_reach_the_replicas_there_are_while_they_change() {
    let cluster = Cluster::start(2);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port));
    cluster.until("all three answer", |cluster| {
        let found = everyone(port, 30);
        found.len() == 3 && found == alive(cluster)
    });

    let load = Load::on(port, Mix::GetsAndPosts);
    for count in ["web=5", "web=1", "web=3"] {
        let _ = cluster.ok(&["scale", cluster.app(), count]);
    }
    load.end_after(LEAST).is_all_well("scaling", LEAST);
    cluster.until("only those that live answer", |cluster| {
        let found = everyone(port, 60);
        found.len() == 3 && found == alive(cluster)
    });

    let load = Load::on(port, Mix::GetsAndPosts);
    deployed(&cluster, &shop(&cluster, port).replace("web:1", "web:2"));
    load.end_after(LEAST).is_all_well("a start-first update", LEAST);
    cluster.until("only the new revision answers", |cluster| {
        let found = everyone(port, 60);
        found.iter().all(|who| who.contains("version=2")) && found == alive(cluster)
    });

    let load = Load::on(port, Mix::GetsAndPosts);
    let node = cluster.nodes()[1].to_string();
    let _ = cluster.ok(&["drain", &node]);
    cluster.until("the drained node is empty", |cluster| {
        !cluster.ok(&["ps", cluster.app()]).contains(&node)
    });
    load.end_after(LEAST).is_all_well("a drain", LEAST);

    let _ = cluster.ok(&["delete", cluster.app()]);
    cluster.until("nobody listens any more", |_| {
        who(port).is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    });
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

#[test]
fn a_gateway_serves_without_the_control_plane_and_after_its_own_death() {
    let mut cluster = Cluster::start(2);
    let port = free_port();
    deployed(&cluster, &shop(&cluster, port));
    cluster.until("all three answer", |_| everyone(port, 30).len() == 3);

    cluster.kill("gateway");
    assert!(who(port).is_err());
    cluster.run("gateway");
    cluster.until("it is served again", |_| everyone(port, 30).len() == 3);

    for name in ["event-log", "controller", "scheduler", "health"] {
        cluster.kill(name);
    }
    cluster.server.kill();
    cluster.until("the gateway says what it lacks", |cluster| {
        let (status, text) = cluster.page("gateway", "/readyz");
        status == 503 && text.contains("NATS, and serves what it last knew")
    });
    let found: Vec<String> = (0..60).map(|_| who(port).expect("it is served")).collect();
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 3);

    cluster.server.launch();
    for name in ["event-log", "controller", "scheduler", "health"] {
        cluster.run(name);
    }
    let _ = cluster.ok(&["scale", cluster.app(), "web=4", "--timeout", "60s"]);
    cluster.until("it follows again", |cluster| {
        let found = everyone(port, 60);
        found.len() == 4 && cluster.page("gateway", "/readyz").0 == 200
    });
}

#[test]
fn a_port_that_another_program_has_is_told_of_and_the_others_are_served() {
    let cluster = Cluster::start(1);
    let (taken, port) = (free_port(), free_port());
    let holder = TcpListener::bind(("127.0.0.1", taken)).expect("it is free");
    let ports = format!(
        "{{\"container\":8080,\"published\":{taken}}},{{\"container\":8080,\"published\":{port}}}"
    );
    deployed(&cluster, &cluster.shop().replace("{\"container\":8080}", &ports));
    cluster.until("the other port is served", |_| everyone(port, 30).len() == 3);
    let (status, page) = cluster.page("gateway", "/readyz");
    assert_eq!(status, 200, "{page}");
    assert!(page.contains(&format!("{taken}/tcp is not served: cannot listen")), "{page}");
    let (_, numbers) = cluster.page("gateway", "/metrics");
    assert!(numbers.contains("muster_gateway_unbound_ports{} 1"), "{numbers}");
    drop(holder);
    cluster.until("it is served when it is free", |_| everyone(taken, 30).len() == 3);
    cluster.until("nothing is told of it any more", |cluster| {
        cluster.page("gateway", "/readyz").1 == "ready\n"
    });
}
