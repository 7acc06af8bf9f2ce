//! `muster dev` itself: its one line, its folder, and a restart that touches nothing.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::cluster::{docker, program, text};

/// A `muster dev` of its own: its folder and its containers go with it.
struct Dev {
    folder: PathBuf,
    prefix: String,
    child: Option<Child>,
}

impl Dev {
    fn new() -> Self {
        let prefix = format!("d{}-", std::process::id());
        let folder = std::env::temp_dir().join(format!("muster-dev-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        Self { folder, prefix, child: None }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("muster"));
        command.args(args).env("MUSTER_DEV_DIR", &self.folder).stdin(Stdio::null());
        for name in ["MUSTER_NATS_URL", "MUSTER_NATS_USER", "MUSTER_NATS_PASSWORD"] {
            command.env_remove(name);
        }
        command
    }

    fn dev(&self) -> Command {
        let mut command = self.command(&["dev", "--nodes", "2", "--node-prefix", &self.prefix]);
        command.args(["--data-dir", &self.folder.display().to_string()]);
        command
    }

    /// Starts it; the address that it prints once it serves.
    fn start(&mut self) -> String {
        let log = std::fs::File::create(self.folder.join("dev.log")).expect("a log");
        let mut child = self.dev().stdout(Stdio::piped()).stderr(log).spawn().expect("muster runs");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("it can be read");
        self.child = Some(child);
        let url = line.trim().strip_prefix("ready ").map(str::to_owned);
        url.unwrap_or_else(|| panic!("{line:?}\n{}", self.log()))
    }

    /// Asks it to stop: it must be gone within 10 seconds and have printed nothing more.
    #[expect(clippy::disallowed_methods, reason = "ten seconds are what is promised")]
    fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let began = Instant::now();
        let asked = Command::new("kill").arg(child.id().to_string()).status();
        assert!(asked.expect("kill is there").success());
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{status}{}", self.log());
        assert!(began.elapsed() < Duration::from_secs(10), "{}", self.log());
        let mut rest = String::new();
        child.stdout.take().expect("a pipe").read_to_string(&mut rest).expect("it can be read");
        assert_eq!(rest, "", "one line, and no more");
    }

    fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().expect("muster runs");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "muster {args:?}: {out}{err}{}", self.log());
        out
    }

    fn containers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for node in self.nodes() {
            let filter = format!("label=io.muster.node={node}");
            let format = "{{.ID}} {{.Names}}";
            let listed =
                docker(&["ps", "-a", "--no-trunc", "--filter", &filter, "--format", format]);
            for line in listed.lines() {
                let id = line.split(' ').next().expect("an id");
                let started = docker(&["inspect", "--format", "{{.State.StartedAt}}", id]);
                found.push(format!("{line} {}", started.trim()));
            }
        }
        found.sort();
        found
    }

    fn nodes(&self) -> [String; 2] {
        [1, 2].map(|number| format!("{}{number}", self.prefix))
    }

    fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder.join(name)).unwrap_or_default();
        format!("\n--- {}\n{}", read("dev.log"), read("nats.log"))
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
        for node in self.nodes() {
            let filter = format!("label=io.muster.node={node}");
            for id in docker(&["ps", "-aq", "--filter", &filter]).split_whitespace() {
                let _ = docker(&["rm", "-f", id]);
            }
            let filter = format!("name=muster-{node}-");
            for id in docker(&["network", "ls", "-q", "--filter", &filter]).split_whitespace() {
                let _ = docker(&["network", "rm", id]);
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn refused(mut command: Command, says: &[&str]) {
    let output = command.output().expect("muster runs");
    let err = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{err}");
    for part in says {
        assert!(err.contains(part), "{part} is not in\n{err}");
    }
}

fn script(folder: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder takes files");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    path.display().to_string()
}

#[test]
fn dev_says_when_it_serves_and_takes_its_containers_over() {
    let mut dev = Dev::new();
    let url = dev.start();
    let port = url.strip_prefix("nats://127.0.0.1:").expect("it is on loopback");
    assert!(port.parse::<u16>().is_ok_and(|port| port > 0), "{url}");

    let nodes: serde_json::Value =
        serde_json::from_str(&dev.ok(&["nodes", "-o", "json"])).expect("it is JSON");
    let nodes = nodes["items"].as_array().expect("a list");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert_eq!(nodes.len(), 2, "everything serves once the line is there");
    for node in nodes {
        assert_eq!(node["state"], "ready");
        assert_eq!(node["capacity"]["cpu_milli"], cores * 1_000 / 2, "half of the machine");
    }

    let mut by_address = dev.command(&["apps", "-o", "json"]);
    by_address.env_remove("MUSTER_DEV_DIR").env("MUSTER_NATS_URL", &url);
    let output = by_address.output().expect("muster runs");
    assert!(output.status.success(), "the printed address is enough: {}", text(&output.stderr));

    let app = format!("dev{}", std::process::id());
    let spec = r#"{"name":"APP","workloads":{"web":{"image":"muster/web:1","replicas":2,"ports":[{"container":8080}]}}}"#;
    let file = dev.folder.join("app.json");
    std::fs::write(&file, spec.replace("APP", &app)).expect("the folder takes files");
    let _ = dev.ok(&["deploy", "-f", &file.display().to_string()]);
    let before = dev.containers();
    assert_eq!(before.len(), 2);

    let again = dev.dev();
    let pid = dev.child.as_ref().expect("it runs").id().to_string();
    refused(again, &["another muster dev", &pid, "--data-dir"]);

    dev.stop();
    assert_eq!(dev.containers(), before, "containers run on");
    assert_eq!(dev.start(), url, "the same folder, the same address");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(dev.containers(), before, "nothing was touched");
    assert!(dev.ok(&["replay", "--verify"]).contains("verified"));

    // Killed outright, its nats-server stays behind; the next one ends it and goes on.
    let mut child = dev.child.take().expect("it runs");
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    assert_eq!(dev.start(), url);
    assert!(dev.ok(&["replay", "--verify"]).contains("verified"));
    assert_eq!(dev.containers(), before);
    let _ = dev.ok(&["delete", &app]);
    dev.stop();
}

#[test]
fn dev_says_what_is_missing_and_what_to_do() {
    let folder = std::env::temp_dir().join(format!("muster-dev-missing-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
    let dev = |args: &[&str]| {
        let mut command = Command::new(program("muster"));
        command.arg("dev").args(args).args(["--data-dir", &folder.display().to_string()]);
        for name in ["MUSTER_NATS_URL", "MUSTER_NATS_SERVER", "MUSTER_DOCKER_HOST"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null());
        command
    };
    refused(
        dev(&["--docker-host", "/nowhere.sock"]),
        &["no engine", "/nowhere.sock", "make setup"],
    );
    refused(dev(&["--nats-server", "/nowhere"]), &["/nowhere", "--nats-server"]);
    let old = script(&folder, "old", "#!/bin/sh\necho 'nats-server: v2.9.10'\n");
    refused(dev(&["--nats-server", &old]), &["2.9.10", "2.14.4", "make setup"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    refused(dev(&["--nats-port", &port]), &[&port, "--nats-port"]);
    let both = ["--nats-port", "1", "--nats-url", "nats://127.0.0.1:1"];
    refused(dev(&both), &["--nats-port", "--nats-url"]);
    refused(dev(&["--nats-url", "nats://127.0.0.1:1"]), &["cannot reach NATS"]);
    std::fs::remove_dir_all(folder).expect("it goes away");
}
