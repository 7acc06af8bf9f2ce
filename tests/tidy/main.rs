//! Rules about the code itself. Each message names what to do instead.

use std::fs;

use tests::{files, root};

fn sources() -> Vec<(String, String)> {
    let root = root();
    files(&root, &[".rs"])
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&root).expect("below the top").display().to_string();
            (name, fs::read_to_string(path).expect("it is text"))
        })
        .collect()
}

fn check(rule: &str, wrong: impl Fn(&str, &str) -> bool) {
    let found: Vec<String> = sources()
        .into_iter()
        .filter(|(name, text)| wrong(name, text))
        .map(|(name, _)| name)
        .collect();
    assert!(found.is_empty(), "{rule}: {found:?}");
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    check("begin the file with a //! sentence", |_, text| !text.starts_with("//!"));
}

#[test]
fn no_file_is_longer_than_600_lines() {
    check("split the file by noun", |_, text| text.lines().count() > 600);
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimpl", "emented!")];
    check("do it, or leave it out", |_, text| marks.iter().any(|mark| text.contains(mark)));
    check("a test runs, or is not there", |_, text| text.contains(concat!("#[ig", "nore")));
}

#[test]
fn the_bus_the_store_and_the_engine_are_each_named_in_one_place() {
    for (client, home) in [
        (concat!("async", "_nats::"), "services/kit/bus/"),
        (concat!("fjall", "::"), "services/event-log/src/store/"),
        (concat!("bollard", "::"), "services/node-agent/src/"),
    ] {
        check(&format!("go through {home}"), |name, text| {
            !name.starts_with(home)
                && text.lines().any(|line| {
                    line.contains(&format!("use {client}")) || line.contains(&format!(" {client}"))
                })
        });
    }
}

#[test]
fn no_service_depends_on_another() {
    let services =
        ["event-log", "controller", "scheduler", "autoscaler", "health", "node-agent", "gateway"];
    for manifest in files(&root().join("services"), &["Cargo.toml"]) {
        let text = fs::read_to_string(&manifest).expect("it is text");
        let folder =
            manifest.parent().and_then(|folder| folder.file_name()).and_then(|n| n.to_str());
        if folder == Some("muster") {
            continue;
        }
        for service in services {
            let depends =
                text.lines().any(|line| line.starts_with(&format!("{service}.workspace")));
            assert!(!depends, "{} depends on {service}: talk over subjects", manifest.display());
        }
    }
}

#[test]
fn rules_are_not_async() {
    check("a rule is handed what it needs", |name, text| {
        let pure = [
            "services/kit/cluster/src",
            "services/kit/compose/src",
            "services/kit/decider/src",
            "services/kit/redact/src",
            "services/controller/src/reconcile",
            "services/controller/src/commands",
            "services/scheduler/src/place",
            "services/scheduler/src/filter",
            "services/autoscaler/src/rules",
            "services/health/src/rules",
            "services/node-agent/src/agent",
            "services/event-log/src/sequencer",
            "services/gateway/src/table",
            "services/gateway/src/balance",
            "services/gateway/src/follow",
            "services/gateway/src/detect",
            "services/gateway/src/http/headers",
            "services/gateway/src/http/retry",
            "services/gateway/src/http/routes",
            "services/gateway/src/http/limit",
            "services/gateway/src/http/stick",
            "services/muster/src/history/why/",
            "services/muster/src/history/blame/",
            "services/muster/src/history/diff/",
            "services/muster/src/history/graph",
        ];
        pure.iter().any(|folder| name.starts_with(folder)) && text.contains("async fn")
    });
}
