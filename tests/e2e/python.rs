//! Without the command line: any NATS client deploys, and any subscriber extends. Here Python's.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use bus::{Bus, Connect};
use schemas::registry::Role;
use schemas::stream;
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
    // Kept to the end: whoever writes to a reader that is gone ends.
    let mut says = BufReader::new(watchdog.0.stdout.take().expect("it was asked for"));
    says.read_line(&mut said).expect("it speaks");
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

/// The watchdog with a file to remember its position in, once it watches; and what it says.
fn watching(cluster: &Cluster) -> (Running, BufReader<std::process::ChildStdout>) {
    let mut watchdog = example(cluster, "watchdog.py");
    watchdog.arg(cluster.folder().join("position")).stdout(Stdio::piped());
    let mut watchdog = Running(watchdog.spawn().expect("python runs"));
    let mut says = BufReader::new(watchdog.0.stdout.take().expect("it was asked for"));
    assert_eq!(line(&mut says), "watching");
    (watchdog, says)
}

fn line(says: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    says.read_line(&mut line).expect("it speaks");
    line.trim().to_owned()
}

/// Kills a container of the app and waits until history knows. Gives back the replica.
fn kill_one(cluster: &Cluster) -> String {
    cluster.until("all run", |cluster| cluster.containers().len() == 3);
    let killed = cluster.containers().into_keys().next().expect("three run");
    let replica = killed.rsplit_once('-').expect("a replica and a run").0.to_owned();
    let ends = |cluster: &Cluster| cluster.ok(&["log", &replica]).matches("exited with").count();
    let before = ends(cluster);
    let _ = docker(&["kill", &killed]);
    cluster.until("its end is in history", |cluster| ends(cluster) > before);
    replica
}

/// Takes every event out of the stream, as age and size do in time.
fn let_go(cluster: &Cluster) {
    let to = Connect {
        url: cluster.server.url(),
        name: "test".to_owned(),
        credentials: Some(("event-log".to_owned(), "test".to_owned())),
        inbox_prefix: Role::EventLog.inbox_prefix(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a thread runs").block_on(async {
        let bus = Bus::connect(&to).await.expect("the server is there");
        let events = stream::EVENTS.name;
        let state = bus.stream_state(events).await.expect("it answers").expect("there is one");
        bus.purge_below(events, state.last + 1).await.expect("it is purged");
    });
}

#[test]
fn a_subscriber_that_was_away_reads_what_the_stream_let_go_of_and_acts_on_none_of_it() {
    let cluster = Cluster::start(1);
    assert!(cluster.deploy(&cluster.shop()).status.success());
    let (watchdog, mut says) = watching(&cluster);
    let first = kill_one(&cluster);
    let said = line(&mut says);
    assert!(said.ends_with(&format!("{first} live")), "{said}");
    cluster.until("the note is in history", |cluster| {
        cluster.ok(&["why", &first]).contains("look at this")
    });
    drop(watchdog);

    let away = kill_one(&cluster);
    let_go(&cluster);
    let notes = |cluster: &Cluster| cluster.ok(&["log"]).matches("look at this").count();
    let before = notes(&cluster);

    let (_watchdog, mut says) = watching(&cluster);
    let said = line(&mut says);
    assert!(said.ends_with(&format!("{away} history")), "{said}");
    let last = kill_one(&cluster);
    let said = line(&mut says);
    assert!(said.ends_with(&format!("{last} live")), "once each, in order: {said}");
    cluster.until("the note is in history", |cluster| notes(cluster) > before);
    assert_eq!(notes(&cluster), before + 1, "nothing was done about what was history");
}
