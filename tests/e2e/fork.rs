//! A fork: history up to a moment, which goes its own way on simulated nodes.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tests::cluster::{Cluster, program, text};

/// A fork that is open.
pub(crate) struct Open {
    folder: PathBuf,
    child: Child,
}

impl Open {
    pub(crate) fn new(folder: &Path) -> Self {
        let log = std::fs::File::create(folder.join("dev.log")).expect("a log");
        let mut command = muster(folder, &["dev", "--nats-port", "0", "--fork"]);
        command.arg(folder).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("muster runs");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("it can be read");
        let open = Self { folder: folder.to_owned(), child };
        assert!(line.starts_with("ready nats://"), "{line:?}{}", open.log());
        open
    }

    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } =
            muster(&self.folder, args).output().expect("muster runs");
        let (out, err) = (text(&stdout), text(&stderr));
        assert!(status.success(), "muster {args:?}: {out}{err}{}", self.log());
        out
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("dev.log")).unwrap_or_default()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The command line for the cluster of a folder, as whoever set its variable types it.
fn muster(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program("muster"));
    command.args(args).env("MUSTER_DEV_DIR", folder).stdin(Stdio::null());
    for name in ["MUSTER_NATS_URL", "MUSTER_NATS_USER", "MUSTER_NATS_PASSWORD"] {
        command.env_remove(name);
    }
    command
}

pub(crate) fn json(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}\n{printed}"))
}

/// Every replica with its node, its run, where it answers, and its container.
pub(crate) fn replicas(printed: &str) -> Vec<[Value; 6]> {
    let fields = ["replica", "node", "run", "state", "endpoint", "container"];
    let printed = json(printed);
    let items = printed["items"].as_array().expect("a list").iter();
    items.map(|item| fields.map(|field| item[field].clone())).collect()
}

#[test]
fn a_fork_goes_on_from_what_ran_and_touches_nothing() {
    let cluster = Cluster::start(2);
    let app = cluster.app().to_owned();
    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());
    // A second run, so that a fork that counts anew would be found out.
    let killed = cluster.containers().into_values().next().expect("it runs");
    let _ = tests::cluster::docker(&["kill", &killed]);
    cluster.until("all are ready again", |cluster| {
        let all = replicas(&cluster.ok(&["ps", &app, "-o", "json"]));
        all.iter().any(|[_, _, run, ..]| *run == 2)
            && all.iter().all(|[_, _, _, state, ..]| state == "ready")
    });
    let then = cluster.ok(&["ps", "-o", "json"]);
    let at = json(&then)["at"]["position"].as_u64().expect("a position");
    let _ = cluster.ok(&["scale", &app, "web=1"]);
    cluster.until("the others have ended", |cluster| {
        replicas(&cluster.ok(&["ps", "-o", "json"])).len() == 1
    });

    let folder = cluster.folder().join("fork");
    let into = folder.display().to_string();
    let made = cluster.ok(&["fork", "--at", &at.to_string(), "--into", &into]);
    assert!(made.contains(&format!("history at r{at} ")), "{made}");
    let again = cluster.muster(&["fork", "--into", &into]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
    let mut foreign = muster(&folder, &["dev", "--fork", &into]);
    let foreign = foreign.env("MUSTER_NATS_URL", cluster.server.url()).output().expect("it runs");
    assert_eq!(foreign.status.code(), Some(2), "{}", text(&foreign.stderr));

    let (containers, history) = (cluster.containers(), cluster.ok(&["log", "-o", "json"]));
    let fork = Open::new(&folder);
    assert_eq!(replicas(&fork.ok(&["ps", "-o", "json"])), replicas(&then), "{}", fork.log());
    let told = fork.ok(&["log", "--type", "HistoryForked"]);
    assert!(told.contains(&format!("r{}", at + 1)) && told.contains("goes its own way"), "{told}");
    assert_eq!(fork.ok(&["log", "--from", &at.to_string(), "--type", "RunStarted"]), "");

    // What is done there is done there.
    let _ = fork.ok(&["scale", &app, "web=5"]);
    let _ = fork.ok(&["undo", &at.to_string(), "--app", &app]);
    let other = cluster
        .write("other.json", r#"{"name":"other","workloads":{"w":{"image":"of/nobody:9"}}}"#);
    let _ = fork.ok(&["deploy", "-f", &other, "--timeout", "60s"]);
    let _ = fork.ok(&["delete", "other"]);
    // What leaves finishes first.
    cluster.until("three are left", |_| replicas(&fork.ok(&["ps", "-o", "json"])).len() == 3);
    let _ = fork.ok(&["doctor"]);
    assert!(fork.ok(&["replay", "--verify"]).contains("verified"));
    let replayed = json(&fork.ok(&["replay", "-o", "json"]));
    assert_eq!(replayed["anomalies"], serde_json::json!([]), "{replayed}");

    assert_eq!(cluster.containers(), containers, "no container was made or touched");
    assert_eq!(cluster.ok(&["log", "-o", "json"]), history, "the cluster knows nothing of it");
    drop(fork);
    let fork = Open::new(&folder);
    assert!(fork.ok(&["replay", "--verify"]).contains("verified"));
}
