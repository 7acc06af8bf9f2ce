//! A bundle: what happened, handed on without secrets, and opened where nobody knows them.

use std::path::Path;

use serde_json::Value;
use tests::cluster::{Cluster, text};

use crate::fork::{Open, json, replicas};

/// What stands in the environment, in a file, in a label and in what somebody typed. Whatever begins so
/// is nowhere in a bundle.
const CANARY: &str = "c4nary";

const APP: &str = r#"
name: APP
services:
  web:
    image: muster/web:1
    environment: {TOKEN: c4nary-env, GREETING: GREETED}
    labels: {auth: c4nary-label}
    configs: [{source: note, target: /etc/shop/note.txt}]
    deploy: {replicas: 2}
  job:
    image: muster/web:1
    environment: {TOKEN: c4nary-env}
    command: [probe, "http://127.0.0.1:1/c4nary-env"]
    restart: "no"
configs: {note: {file: ./note.txt}}
"#;

/// The shape of a state: everything of it but words and digests.
fn shape(printed: &str) -> Vec<Vec<Value>> {
    let printed = json(printed);
    let items = printed["items"].as_array().expect("a list").iter();
    let fields = ["app", "revision", "state"];
    items.map(|item| fields.map(|field| item[field].clone()).to_vec()).collect()
}

/// Every file below a folder.
fn bytes_of(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => found.extend(bytes_of(&path)),
            false => {
                found.push((path.display().to_string(), std::fs::read(&path).expect("it is there")))
            }
        }
    }
    found
}

fn holds_none(folder: &Path) {
    let files = bytes_of(folder);
    assert!(files.len() > 4, "{} files", files.len());
    for (path, bytes) in files {
        let found = bytes.windows(CANARY.len()).position(|window| window == CANARY.as_bytes());
        assert_eq!(found, None, "{path}: {}", text(&bytes[found.unwrap_or(0)..][..40]));
    }
}

#[test]
fn a_bundle_means_the_same_and_knows_no_secret() {
    let cluster = Cluster::start(1);
    let app = cluster.app().to_owned();
    let other = format!("{app}x");
    let _ = cluster.write("note.txt", "[db]\npassword = c4nary-file\n");
    let first = cluster.write("compose.yaml", &APP.replace("APP", &app).replace("GREETED", "hi"));
    let note =
        ["note", &format!("app/{app}"), "the token c4nary-env does not work, nor c4nary-file"];
    let _ = cluster.ok(&note);
    let _ = cluster.muster(&["deploy", "-f", &first, "-d", "--reason", "c4nary-env is new"]);
    cluster.until("its job has failed", |cluster| {
        let log = cluster.ok(&["log", "--type", "RunEnded", "-o", "json"]);
        log.contains("c4nary-env") && cluster.ok(&["ps", &app]).matches("ready").count() == 2
    });
    let replica = json(&cluster.ok(&["ps", &app, "-o", "json"]))["items"]
        .as_array()
        .and_then(|all| all.iter().find(|replica| replica["state"] == "ready").cloned())
        .expect("it runs")["replica"]
        .as_str()
        .expect("a name")
        .to_owned();
    let _ = cluster.muster(&["exec", &replica, "--", "/web", "probe", "http://c4nary-env"]);
    let second = APP.replace("APP", &other).replace("GREETED", "hello");
    let _ = cluster.muster(&["deploy", "-f", &cluster.write("compose.yaml", &second), "-d"]);
    cluster.until("the other runs", |cluster| {
        cluster.ok(&["ps", &other]).matches("ready").count() == 2
    });
    let history = cluster.ok(&["log", "-o", "json"]);
    assert!(history.matches(CANARY).count() > 10, "they are all over the original: {history}");
    let at =
        json(&cluster.ok(&["ps", "-o", "json"]))["at"]["position"].as_u64().expect("a position");
    let to = at.to_string();
    let [ps, apps] = ["ps", "apps"].map(|look| cluster.ok(&[look, "--at", &to, "-o", "json"]));

    // All of it.
    let folder = cluster.folder().join("bundle");
    let into = folder.display().to_string();
    let made = json(&cluster.ok(&["export", "--to", &to, "--into", &into, "-o", "json"]));
    assert_eq!((&made["to"], &made["original"]["position"]), (&at.into(), &at.into()));
    assert!(made["redacted"]["values"].as_u64() > Some(5), "{made}");
    assert!(made["redacted"]["texts"].as_u64() > Some(3), "{made}");
    let manifest = std::fs::read_to_string(folder.join("manifest.json")).expect("it is there");
    assert_eq!(json(&manifest), made);
    let again = cluster.muster(&["export", "--into", &into]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
    holds_none(&folder);
    let bundle = Open::new(&folder);
    assert_eq!(replicas(&bundle.ok(&["ps", "--at", &to, "-o", "json"])), replicas(&ps));
    assert_eq!(shape(&bundle.ok(&["apps", "--at", &to, "-o", "json"])), shape(&apps));
    let entries = bundle.ok(&["audit", "export", "--format", "jsonl"]);
    assert!(!entries.contains(CANARY), "{entries}");
    assert!(entries.contains(r#""TOKEN":"redacted-"#), "{entries}");
    assert!(bundle.ok(&["replay", "--verify"]).contains("verified"));
    let _ = bundle.ok(&["audit", "verify"]);
    let why = bundle.ok(&["why", &replica, "--at", &to]);
    assert!(why.contains(&app) && !why.contains(CANARY), "{why}");
    let told = bundle.ok(&["log", "--to", &to, "--type", "NoteAdded"]);
    assert!(told.contains("does not work") && told.contains("redacted-"), "{told}");
    let _ = bundle.ok(&["show", &to]);
    let _ = bundle.ok(&["diff", &format!("1..{to}"), "--app", &app]);
    let state = bundle.ok(&["state", &app, "--at", &to]);
    assert!(!state.contains(CANARY), "{state}");
    drop(bundle);
    holds_none(&folder);

    // One app, and nothing that anybody wrote.
    let folder = cluster.folder().join("of-one");
    let into = folder.display().to_string();
    let args = ["export", "--to", &to, "--app", &app, "--redact", "all", "--into", &into];
    let told = cluster.ok(&args);
    assert!(told.contains(&format!("of {app} ")) && told.contains("left out"), "{told}");
    let bundle = Open::new(&folder);
    let of_app = |printed: &str| {
        let mut all = replicas(printed);
        all.retain(|[replica, ..]| !replica.as_str().is_some_and(|id| id.starts_with(&other)));
        all
    };
    let there = bundle.ok(&["ps", "--at", &to, "-o", "json"]);
    assert_eq!(replicas(&there), of_app(&ps));
    let entries = bundle.ok(&["audit", "export", "--format", "jsonl"]);
    for gone in [CANARY, "does not work", other.as_str(), "is new"] {
        assert!(!entries.contains(gone), "{gone}: {entries}");
    }
    assert!(bundle.ok(&["replay", "--verify"]).contains("verified"));
    drop(bundle);
    holds_none(&folder);

    let none = cluster.muster(&["export", "--app", "nobodys", "--into", &format!("{into}-2")]);
    assert_eq!(none.status.code(), Some(7), "{}", text(&none.stderr));
    let none =
        cluster.muster(&["export", "--from", "r9", "--to", "r5", "--into", &format!("{into}-2")]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none.stderr));
    assert!(!Path::new(&format!("{into}-2")).exists(), "nothing is left of what was refused");
}
