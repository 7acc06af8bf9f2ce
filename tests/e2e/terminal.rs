//! `muster exec -it` on a real terminal: its size, Ctrl-C, its modes afterwards, and the exit code.

use std::process::Command;

use tests::cluster::{Cluster, program, text};

use super::agent::{BOX, deploy, import};

#[test]
fn a_shell_in_a_replica_behaves_as_one_here() {
    import(BOX, "/", "bin/busybox", &["ENTRYPOINT [\"/bin/busybox\"]"]);
    let cluster = Cluster::start(1);
    let replica =
        deploy(&cluster, BOX, r#""command":["sleep","1000"],"stop_grace_ms":100,"replicas":1"#);
    let python = tests::root().join(".tools/venv/bin/python");
    assert!(python.exists(), "there is no {}: run `make setup`", python.display());
    // The terminal's other end is Python's: the standard library there has terminals.
    let typed = cluster.command("tester", &["exec", "-it", &replica, "--", "/bin/busybox", "sh"]);
    let mut command = Command::new(python);
    command.arg(tests::root().join("tests/e2e/terminal.py")).arg(program("muster"));
    command.args(typed.get_args());
    for (name, value) in typed.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().expect("python runs");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{err}{}", cluster.logs());
    assert_eq!(out.trim(), "all as it should be");
}
