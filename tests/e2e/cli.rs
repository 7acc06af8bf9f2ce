//! The command line as scripts rely on it: shapes of JSON, exit codes, and plans that write nothing.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::Output;

use serde_json::Value;
use tests::cluster::{Cluster, docker, text};

/// What a read prints as JSON.
pub(crate) fn json(cluster: &Cluster, args: &[&str]) -> Value {
    let printed = cluster.ok(&[args, &["-o", "json"]].concat());
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}\n{printed}"))
}

/// The items of a list, which must be of this kind and say where they are so.
pub(crate) fn items(list: &Value, kind: &str) -> Vec<Value> {
    assert_eq!(list["kind"], kind);
    assert_eq!(keys(list), ["at", "items", "kind"]);
    assert_eq!(keys(&list["at"]), ["epoch", "hash", "position"]);
    assert!(list["at"]["epoch"].as_u64() >= Some(1) && list["at"]["position"].as_u64() > Some(1));
    assert_eq!(list["at"]["hash"].as_str().map(str::len), Some(64));
    list["items"].as_array().expect("a list").clone()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// RFC 3339 in UTC with milliseconds.
fn is_moment(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == "2026-11-23T14:03:11.120Z".len() && text.ends_with('Z') && &text[10..11] == "T"
}

#[track_caller]
pub(crate) fn exits(output: &Output, code: i32, says: &str) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    assert!(err.contains(says), "{says} is not in\n{err}");
}

#[test]
fn reads_have_the_promised_shapes() {
    let cluster = Cluster::start(2);
    let deployed = cluster.deploy(&cluster.shop());
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let said = text(&deployed.stdout);
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("revision 1") && said.contains("muster why "), "{said}");

    let containers = cluster.containers();
    let replicas = items(&json(&cluster, &["ps"]), "ReplicaList");
    assert_eq!(replicas.len(), 3);
    for replica in &replicas {
        let wanted = [
            "app",
            "container",
            "endpoint",
            "image",
            "node",
            "replica",
            "revision",
            "run",
            "since",
            "state",
            "workload",
        ];
        assert_eq!(keys(replica), wanted);
        assert_eq!((&replica["app"], &replica["workload"]), (&cluster.app().into(), &"web".into()));
        assert_eq!((&replica["state"], &replica["run"]), (&"ready".into(), &1.into()));
        assert_eq!(replica["revision"], 1);
        assert!(is_moment(&replica["since"]), "{replica}");
        let field = |key: &str| replica[key].as_str().expect("a text").to_owned();
        assert!(cluster.nodes().iter().any(|node| node.as_str() == field("node")));
        assert!(TcpStream::connect(field("endpoint")).is_ok(), "{replica}");
        let name = format!("{}-1", field("replica"));
        assert_eq!(containers.get(&name), Some(&field("container")));
        let image = docker(&["inspect", "--format", "{{.Image}}", &field("container")]);
        assert_eq!(field("image"), image.trim());
    }

    let nodes = items(&json(&cluster, &["nodes"]), "NodeList");
    assert_eq!(nodes.len(), 2);
    let sum =
        |key: &str| nodes.iter().map(|node| node["assigned"][key].as_u64()).sum::<Option<_>>();
    assert_eq!(sum("cpu_milli"), Some(300_u64));
    assert_eq!(nodes.iter().map(|node| node["replicas"].as_u64()).sum::<Option<_>>(), Some(3_u64));
    for node in &nodes {
        let wanted = ["assigned", "capacity", "cordoned", "labels", "node", "replicas", "state"];
        assert_eq!(keys(node), wanted);
        assert_eq!(keys(&node["capacity"]), ["cpu_milli", "memory_bytes"]);
        assert_eq!(keys(&node["assigned"]), ["cpu_milli", "memory_bytes"]);
        assert_eq!(
            (&node["capacity"]["cpu_milli"], &node["cordoned"]),
            (&2_000.into(), &false.into())
        );
        assert!(node["labels"].is_object() && node["state"] == "ready", "{node}");
    }

    let apps = items(&json(&cluster, &["apps", cluster.app()]), "AppList");
    assert_eq!(
        (&apps[0]["state"], &apps[0]["workloads"][0]["ready"]),
        (&"converged".into(), &3.into())
    );

    check_history(&cluster);
}

fn check_history(cluster: &Cluster) {
    let list = json(cluster, &["log"]);
    let events = items(&list, "EventList");
    for (position, event) in (1_u64..).zip(&events) {
        let wanted = [
            "actor",
            "causation",
            "correlation",
            "data",
            "entity",
            "position",
            "recorded",
            "tenant",
            "type",
            "writer",
        ];
        assert_eq!(keys(event), wanted);
        assert_eq!(event["position"], position);
        assert!(is_moment(&event["recorded"]) && event["data"].is_object(), "{event}");
    }
    let accepted =
        events.iter().find(|event| event["type"] == "CommandAccepted").expect("a receipt");
    assert_eq!((&accepted["actor"], &accepted["writer"]), (&"tester".into(), &"controller".into()));
    assert_eq!(
        accepted["entity"],
        format!("command/{}", accepted["correlation"].as_str().expect("an id"))
    );

    let placed = items(&json(cluster, &["log", "--type", "ReplicasPlaced"]), "EventList");
    assert!(!placed.is_empty() && placed.iter().all(|event| event["type"] == "ReplicasPlaced"));
    let cause = placed[0]["causation"].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(cause.is_some_and(|cause| cause < placed[0]["position"].as_u64().expect("a number")));
    let ours = items(&json(cluster, &["log", "--actor", "tester", "--since", "1h"]), "EventList");
    assert!(!ours.is_empty() && ours.iter().all(|event| event["actor"] == "tester"));
    let newest = items(&json(cluster, &["log", "--type", "RunStarted", "-n", "2"]), "EventList");
    assert_eq!(newest.len(), 2);
    let future = ["log", "--since", "2100-01-01T00:00:00Z"];
    assert_eq!(items(&json(cluster, &future), "EventList").len(), 0);
    exits(&cluster.muster(&["log", "--type", "replicaready"]), 2, "ReplicaReady");

    // Followed, it is one object a line, also of what happens later.
    let mut following = cluster
        .command("tester", &["log", "-f", "-o", "json", "--from", &events.len().to_string()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("muster runs");
    let mut lines = BufReader::new(following.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("it is text");
        serde_json::from_str(&line).expect("it is JSON")
    };
    let first = next();
    let _ =
        cluster.ok(&["note", &format!("app/{}", cluster.app()), "seen", "--field", "ticket=42"]);
    let mut note = next();
    while note["type"] != "NoteAdded" {
        note = next();
    }
    let _ = following.kill();
    let _ = following.wait();
    assert!(first["position"].is_u64());
    assert_eq!(note["entity"], format!("app/main/{}", cluster.app()));
    assert_eq!(
        (&note["data"]["text"], &note["data"]["fields"]["ticket"]),
        (&"seen".into(), &"42".into())
    );
}

#[test]
fn every_exit_code_comes_about_for_its_reason() {
    let cluster = Cluster::start(1);
    exits(&cluster.muster(&["scale", "shop", "web"]), 2, "web=3");
    exits(&cluster.deploy(&cluster.shop().replace("replicas", "replica")), 2, "unknown_field");
    exits(&cluster.muster(&["ps", "nope"]), 7, "there is no app nope");
    exits(&cluster.muster(&["scale", "nope", "web=1"]), 7, "not_found");

    // A probe that is never answered: it is on its way, until its deadline has passed.
    let ill = cluster.shop().replace("/healthz", "/nowhere");
    let file = cluster.write("ill.json", &ill);
    exits(&cluster.muster(&["deploy", "-f", &file, "--timeout", "2s"]), 4, "muster wait");
    exits(&cluster.muster(&["wait", cluster.app(), "--timeout", "1s"]), 4, "after 1 s");
    let _ = cluster.ok(&["delete", cluster.app()]);

    let large = cluster.shop().replace("\"cpu_millis\":100", "\"cpu_millis\":1500");
    let large = large.replace("\"deadline_ms\":20000", "\"deadline_ms\":2000");
    let file = cluster.write("large.json", &large);
    exits(&cluster.muster(&["plan", "-f", &file]), 3, "fit nowhere");
    exits(&cluster.muster(&["deploy", "-f", &file, "--timeout", "30s"]), 3, "cpu");
    exits(&cluster.muster(&["wait", cluster.app()]), 1, "stalled");

    let file = cluster.write("app.json", &cluster.shop());
    let old = ["deploy", "-f", &file, "--expect-position", "1"];
    exits(&cluster.muster(&old), 6, "changed_meanwhile");
    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());

    let viewer = |args: &[&str]| cluster.command("viewer", args).output().expect("muster runs");
    assert!(viewer(&["ps"]).status.success(), "reading is allowed");
    exits(&viewer(&["scale", cluster.app(), "web=1"]), 8, "may not send commands");
    let stranger = cluster.command("nobody", &["ps"]).output().expect("muster runs");
    exits(&stranger, 8, "does not let nobody in");

    let mut nowhere = cluster.command("tester", &["ps"]);
    let nowhere = nowhere.env("MUSTER_NATS_URL", "nats://127.0.0.1:1").output();
    exits(&nowhere.expect("muster runs"), 5, "cannot reach NATS");

    let waited = cluster.ok(&["wait", cluster.app()]);
    assert!(waited.contains("runs as declared"), "{waited}");
    let detached = cluster.ok(&["delete", cluster.app(), "-d", "--reason", "it is over"]);
    assert!(detached.contains("accepted at ") && detached.contains("muster why "), "{detached}");
    let gone = cluster.ok(&["wait", cluster.app(), "--for", "deleted"]);
    assert!(gone.contains("is gone"), "{gone}");
    assert!(cluster.ok(&["log"]).contains("it is over"));
}

#[test]
fn a_plan_says_what_then_happens_and_writes_nothing() {
    let cluster = Cluster::start(2);
    let file = cluster.write("app.json", &cluster.shop());
    let head = || json(&cluster, &["ps"])["at"]["position"].clone();
    let before = head();
    let planned = json(&cluster, &["plan", "-f", &file]);
    assert_eq!((&planned["kind"], &planned["changed"]), (&"Plan".into(), &true.into()));
    exits(&cluster.muster(&["plan", "-f", &file, "--exit-code"]), 1, "");
    assert_eq!(head(), before, "a plan writes nothing");
    assert_eq!(planned["at"]["position"], before);

    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());
    let place = |list: &[Value]| -> Vec<(String, String)> {
        let pair = |one: &Value| {
            let field = |key: &str| one[key].as_str().expect("a text").to_owned();
            (field("replica"), field("node"))
        };
        let mut places: Vec<_> = list.iter().map(pair).collect();
        places.sort();
        places
    };
    let created = planned["workloads"][0]["create"].as_array().expect("a list");
    let real = items(&json(&cluster, &["ps"]), "ReplicaList");
    assert_eq!(place(created), place(&real), "what was planned is what happened");

    let before = head();
    let same = cluster.ok(&["plan", "-f", &file, "--exit-code"]);
    assert!(same.contains("Nothing would change"), "{same}");
    let file = cluster.write("next.json", &cluster.shop().replace("web:1", "web:2"));
    let told = cluster.ok(&["plan", "-f", &file]);
    assert!(told.contains("image: \"muster/web:1\" → \"muster/web:2\""), "{told}");
    assert_eq!(told.matches("  replaces ").count(), 3, "{told}");
    assert_eq!(head(), before);
    let refused = cluster
        .write("refused.json", &cluster.shop().replace("\"replicas\":3", "\"replicas\":5000"));
    exits(&cluster.muster(&["plan", "-f", &refused]), 3, "app.workloads.web.replicas");
}

#[test]
fn doctor_says_what_is_ill_and_what_to_do() {
    let mut cluster = Cluster::start(1);
    cluster.until("everything is well", |cluster| cluster.muster(&["doctor"]).status.success());
    let node = cluster.nodes()[0].to_string();
    let _ = cluster.ok(&["label-node", &node, "disk=ssd"]);
    let nodes = items(&json(&cluster, &["nodes"]), "NodeList");
    assert_eq!(nodes[0]["labels"]["disk"], "ssd");
    let well = cluster.ok(&["doctor"]);
    for part in ["nats-server 2.", "stream MUSTER_APPEND, every setting", "scheduler led by", &node]
    {
        assert!(well.contains(part), "{part} is not in\n{well}");
    }
    cluster.kill("scheduler");
    cluster.until("the silence is told", |cluster| {
        let ill = cluster.muster(&["doctor"]);
        ill.status.code() == Some(1) && text(&ill.stdout).contains("start muster-scheduler")
    });
}
