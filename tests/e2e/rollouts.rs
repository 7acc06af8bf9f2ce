//! Rollouts as a user meets them: what fails goes back, what is held waits for somebody.

use tests::cluster::{Cluster, text};

use super::cli::{exits, json};
use super::life::{get, replicas};

/// The ids of the replicas that are ready, and how many of a version there are.
fn ready(cluster: &Cluster, version: &str) -> (Vec<String>, usize) {
    let ready = replicas(cluster).into_iter().filter(|[_, _, status, ..]| status == "ready");
    let ready: Vec<[String; 5]> = ready.collect();
    let of = |endpoint: &str| get(endpoint).contains(&format!("version={version}"));
    let count = ready.iter().filter(|[.., endpoint]| of(endpoint)).count();
    (ready.into_iter().map(|[id, ..]| id).collect(), count)
}

fn by(cluster: &Cluster, strategy: &str, version: u32) -> String {
    let shop = cluster.shop().replace("web:1", &format!("web:{version}"));
    assert!(shop.contains(r#""update":{"#), "{shop}");
    shop.replace(r#""update":{"#, &format!(r#""update":{{"strategy":{strategy},"#))
}

#[test]
fn a_revision_that_crashes_goes_back_and_says_what_was_found() {
    let cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());
    let (before, _) = ready(&cluster, "1");
    let bad = cluster.shop().replace("web:1", "web:2");
    let bad = bad.replace(r#""image":"#, r#""command":["exit","3"],"image":"#);
    let failed = cluster.deploy(&bad);
    let said = text(&failed.stderr);
    exits(&failed, 1, "revision 2 of");
    for part in ["failed: web", "exited with 3", "what revision 1 declared, as revision 3"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let (after, ones) = ready(&cluster, "1");
    assert_eq!((after, ones), (before, 3), "no replica of before was touched");
    cluster.until("what failed is gone", |cluster| cluster.containers().len() == 3);

    let why = cluster.ok(&["why", cluster.app()]);
    for part in ["Why revision 2 was taken back", "exited with 3", "tester sent app.deploy"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }
    let status = ["rollout", "status", cluster.app(), "-o", "json"];
    let status = cluster.muster(&status);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status.stderr));
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).expect("it prints JSON");
    assert_eq!(status["app"]["rolled_back"]["revision"], 2, "{status}");
    assert_eq!(status["app"]["status"], "converged", "{status}");

    // The next one is a declaration like any other.
    let next = cluster.deploy(&cluster.shop().replace("web:1", "web:2"));
    assert!(next.status.success(), "{}{}", text(&next.stderr), cluster.logs());
    assert_eq!(ready(&cluster, "2").1, 3);
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
}

#[test]
fn a_canary_waits_to_be_promoted_and_can_be_aborted() {
    let cluster = Cluster::start(2);
    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());
    let (before, _) = ready(&cluster, "1");
    let canary = r#"{"canary":{"steps":[{"weight_percent":20},{"weight_percent":60}]}}"#;
    let held = cluster.deploy(&by(&cluster, canary, 2));
    let said = format!("{}{}", text(&held.stdout), text(&held.stderr));
    assert!(held.status.success() && said.contains("waits to be promoted"), "{said}");
    let (now, twos) = ready(&cluster, "2");
    assert_eq!((now.len(), twos), (4, 1), "one stands beside the old ones");
    let status = cluster.ok(&["rollout", "status", cluster.app()]);
    assert!(status.contains("canary") && status.contains("20 %"), "{status}");

    let back = cluster.ok(&["rollout", "abort", cluster.app(), "--reason", "it is blank"]);
    assert!(back.contains("what revision 1 declared, as revision 3"), "{back}");
    assert_eq!(ready(&cluster, "1"), (before, 3));
    exits(&cluster.muster(&["rollout", "abort", cluster.app()]), 3, "nothing_to_do");

    let held = cluster.deploy(&by(&cluster, canary, 2));
    assert!(held.status.success(), "{}", text(&held.stderr));
    let stepped = cluster.ok(&["rollout", "promote", cluster.app()]);
    assert!(stepped.contains("waits to be promoted"), "{stepped}");
    assert_eq!(ready(&cluster, "2").1, 2);
    let view = json(&cluster, &["rollout", "status", cluster.app()]);
    assert_eq!(view["app"]["workloads"]["web"]["rollout"]["weight_percent"], 60, "{view}");
    let through = cluster.ok(&["rollout", "promote", cluster.app()]);
    assert!(through.contains("runs as declared"), "{through}");
    let (now, twos) = ready(&cluster, "2");
    assert_eq!((now.len(), twos), (3, 3));

    // All beside, without traffic, and then at once.
    let blue_green = r#"{"blue_green":{"promote_after_ms":1000}}"#;
    let over = cluster.deploy(&by(&cluster, blue_green, 1));
    assert!(over.status.success(), "{}{}", text(&over.stderr), cluster.logs());
    assert_eq!(ready(&cluster, "1").1, 3);
    let history = cluster.ok(&["log", &format!("app/{}", cluster.app())]);
    assert!(history.contains("promoted: revision"), "{history}");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
}
