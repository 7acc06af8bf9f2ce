//! The runbooks: every command on their pages is run, in order, as one script.

use std::process::{Command, Stdio};

use event_log::testing::Folder;
use tests::cluster::{docker, program, text};
use tests::root;

/// What stands in blocks of shell, without the indentation of the list that they may be in.
fn script(page: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs").join(page)).expect("the page is there");
    let mut script = String::from("set -euo pipefail\nset -m\n");
    let mut inside = None;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        match (line.trim(), inside) {
            ("```sh", None) => inside = Some(indent),
            ("```", Some(_)) => inside = None,
            (_, Some(cut)) => {
                script.push_str(&line[cut.min(indent)..]);
                script.push('\n');
            }
            (_, None) => {}
        }
    }
    script
}

/// Runs it in a folder, with our own programs first in the path; what it printed.
fn run(folder: &Folder, script: &str, prefix: &str) -> String {
    let programs = program("muster").parent().expect("it is in a folder").to_owned();
    let script = format!("export PATH={}:$PATH\n{script}", programs.display());
    // A server that does not come up is waited for without an end.
    let mut command = Command::new("timeout");
    command.args(["300", "bash", "-c", &script]).current_dir(folder.path()).stdin(Stdio::null());
    command.env("NODE_PREFIX", prefix);
    command.env("MUSTER_NATS_SERVER", bus::testing::binary());
    for name in ["MUSTER_NATS_URL", "MUSTER_NATS_USER", "MUSTER_NATS_PASSWORD", "MUSTER_CONTEXT"] {
        command.env_remove(name);
    }
    let output = command.output().expect("bash is there");
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    let log = std::fs::read_to_string(folder.path().join("dev.log")).unwrap_or_default();
    assert!(output.status.success(), "{}\n{said}\n--- dev.log\n{log}", output.status);
    said
}

/// Takes away what a failed script left running.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        let filter = format!("label=io.muster.node={}1", self.0);
        for id in docker(&["ps", "-aq", "--filter", &filter]).split_whitespace() {
            let _ = docker(&["rm", "-f", id]);
        }
    }
}

#[test]
fn backing_up_losing_and_restoring_works_as_the_page_says() {
    let folder = Folder::new();
    let left = Left(format!("r{}-", std::process::id()));
    let script = format!("trap 'kill %1 2>/dev/null || true; wait' EXIT\n{}", script("backup.md"));
    let said = run(&folder, &script, &left.0);
    for what in [
        "positions 1 to",
        "as in the backup",
        "files, chain, indexes and snapshots are whole",
        "nothing that the witness saw published is missing",
        "verified: the chain is whole",
        "the first thing worth keeping",
    ] {
        assert!(said.contains(what), "{what:?} is not in\n{said}");
    }
    assert_eq!(said.matches("verified: the chain is whole").count(), 3, "{said}");
}

#[test]
fn what_the_upgrade_page_says_to_look_at_is_there() {
    let folder = Folder::new();
    let left = Left(format!("u{}-", std::process::id()));
    let around = format!(
        "trap 'kill %1 2>/dev/null || true; wait' EXIT\nexport MUSTER_DEV_DIR=$PWD/dev\n\
         muster dev --node-prefix \"$NODE_PREFIX\" > dev.out 2> dev.log &\n\
         until grep -q ready dev.out; do sleep 0.2; done\n{}",
        script("upgrade.md")
    );
    let said = run(&folder, &around, &left.0);
    assert!(said.contains("verified: the chain is whole"), "{said}");
}
