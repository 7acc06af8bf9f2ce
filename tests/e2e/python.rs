//! A deploy without the command line: any NATS client will do, here Python's.

use std::process::Command;

use tests::cluster::{Cluster, text};

#[test]
fn a_python_client_deploys_and_sees_the_receipt() {
    let cluster = Cluster::start(1);
    let root = tests::root();
    let python = root.join(".tools/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `make setup`", python.display());
    let app = cluster.folder().join("deploy.json");
    std::fs::write(&app, format!("{{\"app\":{}}}", cluster.shop()))
        .expect("the folder takes files");
    let output = Command::new(python)
        .arg(root.join("docs/examples/deploy.py"))
        .arg(&app)
        .env("NATS_URL", cluster.server.url())
        .env("NATS_USER", "tester")
        .env("NATS_PASSWORD", "test")
        .output()
        .expect("python runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}{}", cluster.logs());
    assert!(out.contains("accepted") && out.contains("converged"), "{out}{err}");
}
