//! The command line's output where a user sends it: into a pipe whose reader has gone, onto a full
//! disk, and onto a terminal.

use std::process::{Command, Output, Stdio};

use tests::cluster::{Cluster, program, text};

use super::cli::{items, json};

/// Runs it with nobody at the other end of its standard output.
fn unread(mut command: Command) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let child = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).spawn();
    child.expect("muster runs").wait_with_output().expect("it ends")
}

#[track_caller]
fn ends_quietly(command: Command) {
    let shown = format!("{command:?}");
    let output = unread(command);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(141), String::new()), "{shown}");
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let alone = |args: &[&str]| {
        let mut command = Command::new(program("muster"));
        command.args(args);
        command
    };
    ends_quietly(alone(&["schema"]));
    ends_quietly(alone(&["schema", "app.deploy"]));
    ends_quietly(alone(&["completion", "bash"]));
    ends_quietly(alone(&["config", "--support"]));

    let cluster = Cluster::start(1);
    let reads: [&[&str]; 9] = [
        &["ps"],
        &["apps"],
        &["nodes", "-o", "json"],
        &["state"],
        &["log"],
        &["log", "-f"],
        &["replay", "--verify"],
        &["doctor"],
        &["note", "app/shop", "seen"],
    ];
    for read in reads {
        ends_quietly(cluster.command("tester", read));
    }
    // What was asked for is done all the same.
    assert!(cluster.ok(&["log"]).contains("seen"));

    // Nobody reads what goes wrong either: the exit code still says it.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut unknown = cluster.command("tester", &["ps", "nope"]);
    let status = unknown.stderr(writer).status().expect("muster runs");
    assert_eq!(status.code(), Some(7));
}

#[test]
fn every_read_prints_one_json_value() {
    let cluster = Cluster::start(1);
    assert!(cluster.deploy(&cluster.shop()).status.success(), "{}", cluster.logs());
    let file = cluster.write("app.json", &cluster.shop());
    let kind = |args: &[&str]| json(&cluster, args)["kind"].as_str().map(str::to_owned);
    let reads: [(&[&str], &str); 9] = [
        (&["ps"], "ReplicaList"),
        (&["apps"], "AppList"),
        (&["nodes"], "NodeList"),
        (&["state"], "State"),
        (&["log"], "EventList"),
        (&["plan", "-f", &file], "Plan"),
        (&["schema"], "MessageList"),
        (&["context", "ls"], "ContextList"),
        (&["context", "show"], "Context"),
    ];
    for (args, wanted) in reads {
        assert_eq!(kind(args).as_deref(), Some(wanted), "{args:?}");
    }
    assert_eq!(json(&cluster, &["config", "-f", &file])["app"]["name"], cluster.app());
    assert_eq!(json(&cluster, &["schema", "app.deploy"])["type"], "object");

    let waited = json(&cluster, &["wait", cluster.app()]);
    assert_eq!((&waited["state"], &waited["revision"]), (&"converged".into(), &1.into()));
    let replayed = json(&cluster, &["replay", "--verify"]);
    assert_eq!((&replayed["kind"], &replayed["verified"]), (&"Replay".into(), &true.into()));
    assert_eq!(replayed["at"]["position"], replayed["events"]);
    assert_eq!(replayed["state_hash"].as_str().map(str::len), Some(32));
    assert!(json(&cluster, &["replay", "--to", "3"])["verified"].is_null());

    cluster.until("everything is well", |cluster| cluster.muster(&["doctor"]).status.success());
    let findings = items(&json(&cluster, &["doctor"]), "FindingList");
    assert!(findings.iter().all(|finding| finding["state"] != "ill"), "{findings:?}");
    let node = format!("node {} is ready", cluster.nodes()[0]);
    assert!(findings.iter().any(|f| f["what"].as_str().is_some_and(|it| it.starts_with(&node))));

    let lines = cluster.ok(&["logs", cluster.app(), "-o", "json"]);
    assert!(!lines.is_empty());
    for line in lines.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("one object a line");
        assert!(line["replica"].is_string() && line["text"].is_string(), "{line}");
    }
}

#[test]
fn a_full_disk_is_told() {
    let full = std::fs::File::create("/dev/full").expect("the kernel has it");
    let output = Command::new(program("muster")).arg("schema").stdout(full).output();
    let output = output.expect("muster runs");
    assert_eq!(output.status.code(), Some(10));
    assert!(text(&output.stderr).contains("No space left"), "{}", text(&output.stderr));
}
