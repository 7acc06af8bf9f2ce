//! Without the command line: any NATS client deploys, and any subscriber extends. Here Python's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tests::cluster::{Cluster, docker, text};

/// One of the examples of the documentation, as a program for this cluster.
fn example(cluster: &Cluster, name: &str) -> Command {
    let root = tests::root();
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `make setup`", python.display());
    let mut command = Command::new(python);
    command
        .arg(root.join("docs/examples").join(name))
        .env("NATS_URL", cluster.server.url())
        .env("NATS_USER", "tester")
        .env("NATS_PASSWORD", "test")
        .stdin(Stdio::null());
    command
}

#[test]
fn a_python_client_deploys_and_sees_the_receipt() {
    let cluster = Cluster::start(1);
    let app = cluster.folder().join("deploy.json");
    std::fs::write(&app, format!("{{\"app\":{}}}", cluster.shop()))
        .expect("the folder takes files");
    let output = example(&cluster, "deploy.py").arg(&app).output().expect("python runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}{}", cluster.logs());
    assert!(out.contains("accepted") && out.contains("converged"), "{out}{err}");
}

/// Ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_python_subscriber_leaves_notes_in_history() {
    let cluster = Cluster::start(1);
    let mut watchdog = example(&cluster, "watchdog.py");
    let mut watchdog = Running(watchdog.stdout(Stdio::piped()).spawn().expect("python runs"));
    let mut said = String::new();
    let stdout = watchdog.0.stdout.take().expect("it was asked for");
    BufReader::new(stdout).read_line(&mut said).expect("it speaks");
    assert_eq!(said.trim(), "watching");
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let killed = cluster.containers().into_keys().next().expect("three run");
    let _ = docker(&["kill", &killed]);
    let replica = killed.rsplit_once('-').expect("a replica and a run").0;
    cluster.until("the note is in history", |cluster| {
        let why = cluster.ok(&["why", replica]);
        why.contains("look at this: exited with 137")
    });
    assert!(cluster.ok(&["log"]).contains("note.add"));
}
