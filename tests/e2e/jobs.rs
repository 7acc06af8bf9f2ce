//! Jobs of a rollout as a user meets them: before the first new replica, after all is as declared, once.

use tests::cluster::{Cluster, text};

use super::cli::exits;
use super::life::{get, replicas};

const FILE: &str = "\
services:
  web:
    image: muster/web:VERSION
    expose: ['8080']
    deploy: {replicas: 2}
    x-muster:
      probe: {http: {port: 8080, path: /healthz}, interval: 500ms}
      healthy_for: 100ms
      pre_deploy: BEFORE
      post_deploy: AFTER
";

/// Deploys a version with these jobs.
fn deploy(cluster: &Cluster, version: u32, before: &str, after: &str) -> std::process::Output {
    let file = file(cluster, version, before, after);
    cluster.muster(&["deploy", "-f", &file, "--app", cluster.app(), "--timeout", "60s"])
}

fn file(cluster: &Cluster, version: u32, before: &str, after: &str) -> String {
    let file = FILE.replace("VERSION", &version.to_string());
    cluster.write("compose.yaml", &file.replace("BEFORE", before).replace("AFTER", after))
}

/// The head of the history.
fn head(cluster: &Cluster) -> u64 {
    let page = super::cli::json(cluster, &["apps"]);
    page["at"]["position"].as_u64().expect("a number")
}

/// What was said of each replica from a position on: the type, and whom it is about.
fn said(cluster: &Cluster, from: u64) -> Vec<(String, String)> {
    let listed = super::cli::json(cluster, &["log", "--from", &(from + 1).to_string()]);
    let events = listed["items"].as_array().unwrap_or_else(|| panic!("it is a list: {listed}"));
    let events = events.iter();
    let told = events.map(|event| {
        let data = &event["data"];
        let about = data["replica"].as_str().or(data["workload"].as_str());
        (event["type"].as_str().unwrap_or_default().to_owned(), about.unwrap_or("").to_owned())
    });
    told.collect()
}

/// Where something was said of one whose name has a part, first.
fn at(said: &[(String, String)], kind: &str, part: &str) -> Option<usize> {
    said.iter().position(|(k, about)| k == kind && about.contains(part))
}

fn count(said: &[(String, String)], kind: &str, part: &str) -> usize {
    said.iter().filter(|(k, about)| k == kind && about.contains(part)).count()
}

/// How many ready replicas of `web` there are of a version.
fn ready(cluster: &Cluster, version: &str) -> usize {
    let ready = replicas(cluster).into_iter().filter(|[_, _, status, ..]| status == "ready");
    ready.filter(|[.., at]| get(at).contains(&format!("version={version}"))).count()
}

#[test]
fn jobs_of_a_rollout_run_before_and_after_it_and_once() {
    let mut cluster = Cluster::start(2);
    let first = deploy(&cluster, 1, "exit 0", "exit 0");
    assert!(first.status.success(), "{}{}", text(&first.stderr), cluster.logs());
    assert_eq!(ready(&cluster, "1"), 2);

    let planned = file(&cluster, 2, "exit 0 1500", "exit 0");
    let planned = ["plan", "-f", &planned, "--app", cluster.app()];
    let planned = text(&cluster.muster(&planned).stdout);
    assert!(planned.contains("web-pre-deploy"), "{planned}");
    let before = head(&cluster);
    let second = deploy(&cluster, 2, "exit 0 1500", "exit 0");
    assert!(second.status.success(), "{}{}", text(&second.stderr), cluster.logs());
    assert_eq!((ready(&cluster, "1"), ready(&cluster, "2")), (0, 2));
    let history = said(&cluster, before);
    let place = |kind: &str, part: &str| {
        at(&history, kind, part).unwrap_or_else(|| panic!("{kind} of {part}: {history:?}"))
    };
    let web = format!("{}-web-", cluster.app());
    let new = history.iter().position(|(kind, about)| {
        kind == "RunStarted" && about.starts_with(&web) && !about.contains("-deploy-")
    });
    let new = new.unwrap_or_else(|| panic!("no new replica began: {history:?}"));
    assert!(place("ReplicaEnded", "web-pre-deploy") < new, "{history:?}");
    let newest = history.iter().rposition(|(kind, about)| {
        kind == "ReplicaReady" && about.starts_with(&web) && !about.contains("-deploy-")
    });
    assert!(newest.expect("it is ready") < place("RunStarted", "web-post-deploy"));
    for job in ["web-pre-deploy", "web-post-deploy"] {
        assert_eq!(count(&history, "RunStarted", job), 1, "{history:?}");
    }

    // Neither a number nor another controller makes them run again.
    let before = head(&cluster);
    cluster.kill("controller");
    cluster.run("controller");
    let _ = cluster.ok(&["scale", cluster.app(), "web=3"]);
    assert_eq!(ready(&cluster, "2"), 3);
    assert_eq!(count(&said(&cluster, before), "RunStarted", "-deploy-"), 0);
    let apps = cluster.ok(&["apps"]);
    assert!(apps.contains("before web: done") && apps.contains("after web: done"), "{apps}");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
}

#[test]
fn a_job_that_fails_before_takes_the_revision_back_and_one_after_is_told() {
    let cluster = Cluster::start(2);
    let first = deploy(&cluster, 1, "exit 0", "exit 0");
    assert!(first.status.success(), "{}{}", text(&first.stderr), cluster.logs());
    let kept: Vec<String> = replicas(&cluster).into_iter().map(|[id, ..]| id).collect();

    let before = head(&cluster);
    let failed = deploy(&cluster, 2, "exit 3", "exit 0");
    exits(&failed, 1, "revision 2 of");
    let told = text(&failed.stderr);
    for part in ["the job before web failed", "exited with 3", "what revision 1 declared"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let history = said(&cluster, before);
    assert_eq!(count(&history, "RunStarted", "-deploy-"), 1, "{history:?}");
    let begun = history.iter().filter(|(kind, _)| kind == "RunStarted").count();
    assert_eq!(begun, 1, "nothing of the new revision began: {history:?}");
    let now: Vec<String> = replicas(&cluster).into_iter().map(|[id, ..]| id).collect();
    assert_eq!((now, ready(&cluster, "1")), (kept, 2), "no replica of before was touched");
    let why = cluster.ok(&["why", cluster.app()]);
    for part in ["Why revision 2 was taken back", "exited with 3"] {
        assert!(why.contains(part), "{part} is not in\n{why}");
    }

    let told = deploy(&cluster, 2, "exit 0", "exit 4");
    exits(&told, 1, "web-post-deploy failed: exited with 4");
    assert_eq!(ready(&cluster, "2"), 2, "it runs all the same");
    let apps = cluster.ok(&["apps"]);
    assert!(apps.contains("after web: failed: exited with 4"), "{apps}");
    let back = deploy(&cluster, 3, "exit 0", "{command: exit 5, rollback: true}");
    exits(&back, 1, "the job after web failed");
    assert_eq!((ready(&cluster, "2"), ready(&cluster, "3")), (2, 0));
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
    let _ = cluster.ok(&["delete", cluster.app()]);
}
