//! What containers and history go through when what runs them does not.

use std::time::Duration;

use tests::cluster::{Cluster, SERVICES};

/// Every service is heard, every node is ready, and nothing impossible was met.
fn is_well(cluster: &Cluster) -> bool {
    cluster.muster(&["doctor"]).status.success()
}

#[test]
fn any_part_may_be_killed_and_nothing_is_lost_or_touched() {
    let mut cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let before = cluster.containers();
    assert_eq!(before.len(), 3);
    for name in cluster.running() {
        cluster.kill(&name);
        cluster.run(&name);
        let scaled = cluster.muster(&["scale", cluster.app(), "web=4", "--timeout", "60s"]);
        assert!(
            scaled.status.success(),
            "after {name}: {}{}",
            tests::cluster::text(&scaled.stderr),
            cluster.logs()
        );
        let back = cluster.muster(&["scale", cluster.app(), "web=3", "--timeout", "60s"]);
        assert!(
            back.status.success(),
            "after {name}: {}{}",
            tests::cluster::text(&back.stderr),
            cluster.logs()
        );
        cluster.until("only the three are left", |cluster| cluster.containers().len() == 3);
    }
    let after = cluster.containers();
    let kept = before.iter().filter(|(name, id)| after.get(*name) == Some(id)).count();
    assert!(kept >= 2, "scaling down takes the youngest, not what was there: {before:?} {after:?}");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    cluster.until("the doctor finds nothing", is_well);
}

/// Commands are under way when something dies, each time at another moment of them.
#[test]
fn killing_anything_at_any_moment_loses_nothing() {
    const NATS: &str = "nats-server";
    let mut cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let before = cluster.containers();
    let mut victims = cluster.running();
    victims.push(NATS.to_owned());
    for (round, victim) in (0..).zip(victims.iter().cycle().take(3 * victims.len())) {
        let wanted = 4 + round % 2;
        let (app, count) = (cluster.app().to_owned(), format!("web={wanted}"));
        let scaling = cluster.spawn(&["scale", &app, &count, "--timeout", "60s"]);
        std::thread::sleep(Duration::from_millis(37 * (round * 7 % 16)));
        if victim == NATS {
            cluster.server.kill();
            cluster.server.launch();
        } else {
            cluster.kill(victim);
            cluster.run(victim);
        }
        let scaled = scaling.wait_with_output().expect("it ends");
        // Who asked may have lost the connection; what was asked must come about, or not at all.
        if !scaled.status.success() {
            let again = cluster.muster(&["scale", &app, &count, "--timeout", "60s"]);
            let said = tests::cluster::text(&again.stderr);
            assert!(again.status.success(), "round {round}, {victim}: {said}{}", cluster.logs());
        }
        let count = usize::try_from(wanted).expect("a small number");
        cluster.until("as many run as are declared", |cluster| cluster.containers().len() == count);
    }
    let after = cluster.containers();
    for (name, id) in &before {
        assert_eq!(after.get(name), Some(id), "{name} was touched: {before:?} {after:?}");
    }
    cluster.until("the history is served", |cluster| {
        cluster.muster(&["replay", "--verify"]).status.success()
    });
    cluster.until("the doctor finds nothing", is_well);
}

#[test]
fn with_everything_down_containers_run_on_and_a_start_touches_none() {
    let mut cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let before = cluster.containers();
    for name in cluster.running().into_iter().filter(|name| name != "event-log") {
        cluster.kill(&name);
    }
    let head = cluster.ok(&["log", "-n", "1"]);
    let position = |line: &str| {
        let first = line.split_whitespace().next()?;
        first.strip_prefix('r').unwrap_or(first).parse::<u64>().ok()
    };
    let head = position(&head).expect("a position");
    let state = |cluster: &Cluster| {
        let told = cluster.ok(&["replay", "--to", &head.to_string()]);
        told.split_once("state ").expect("it says the state").1.trim().to_owned()
    };
    let then = state(&cluster);
    cluster.kill("event-log");
    cluster.server.kill();
    // What the bus and the deciding services kept goes as well: the log with its witness and the
    // agents' own folders are all there is.
    std::fs::remove_dir_all(cluster.server.folder().join("store")).expect("it is there");
    for service in SERVICES.iter().filter(|service| **service != "event-log") {
        let _ = std::fs::remove_dir_all(cluster.folder().join(service));
    }
    std::thread::sleep(Duration::from_secs(60));
    assert_eq!(cluster.containers(), before, "nothing stops because the control plane did");

    cluster.server.launch();
    let nodes: Vec<String> = cluster.nodes().iter().map(ToString::to_string).collect();
    for name in SERVICES.iter().map(ToString::to_string).chain(nodes) {
        cluster.run(&name);
    }
    cluster.until("the history is served again", |cluster| {
        cluster.muster(&["replay", "--verify"]).status.success()
    });
    cluster.until("every service leads again", |cluster| {
        let history = cluster.ok(&["log"]);
        history.matches("took term 2").count() == 6
    });
    std::thread::sleep(Duration::from_secs(8));
    assert_eq!(cluster.containers(), before);
    assert_eq!(state(&cluster), then, "the state at the last position before the stop");
    let since = cluster.ok(&["log", "--from", &(head + 1).to_string()]);
    for line in since.lines() {
        assert!(line.contains("took"), "a decision that nobody needed: {line}");
    }
}
