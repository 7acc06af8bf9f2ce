//! What the node's agent does beside running things: output on demand, commands in replicas, and words
//! for what went wrong.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use tests::cluster::{Cluster, docker, text};

/// A shell and its tools, as an image.
pub(crate) const BOX: &str = "muster/test-box:1";

/// The web server with a check of its own, as an image.
const CHECKED: &str = "muster/test-checked:1";

/// Imports a file as an image of its own.
pub(crate) fn import(name: &str, folder: &str, file: &str, changes: &[&str]) {
    let mut tar = Command::new("tar")
        .args(["-C", folder, "--owner=0", "--group=0", "-c", file])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar is there");
    let mut import = Command::new("docker");
    import.arg("import");
    for change in changes {
        import.args(["--change", change]);
    }
    let packed = tar.stdout.take().expect("it was asked for");
    let imported = import.args(["-", name]).stdin(packed).output().expect("docker is there");
    assert!(imported.status.success(), "{}", text(&imported.stderr));
    assert!(tar.wait().expect("it ends").success());
}

/// Deploys one workload of an image with more to say about it; the id of its only replica.
pub(crate) fn deploy(cluster: &Cluster, image: &str, more: &str) -> String {
    let app = cluster.app();
    let spec = format!(r#"{{"name":"{app}","workloads":{{"one":{{"image":"{image}",{more}}}}}}}"#);
    let deployed = cluster.deploy(&spec);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    replica(cluster)[0].clone()
}

/// The row of the only replica in `muster ps`.
fn replica(cluster: &Cluster) -> Vec<String> {
    let listed = cluster.ok(&["ps", cluster.app()]);
    let row = listed.lines().nth(1).unwrap_or_default();
    row.split_whitespace().map(str::to_owned).collect()
}

fn get(endpoint: &str, path: &str) -> Option<String> {
    let address = endpoint.split("->").next().expect("an address");
    let mut stream = TcpStream::connect(address).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[test]
fn output_is_read_from_all_nodes_followed_and_found_after_the_end() {
    import(BOX, "/", "bin/busybox", &["ENTRYPOINT [\"/bin/busybox\"]"]);
    let cluster = Cluster::start(2);
    let app = cluster.app().to_owned();
    let say = r#"i=0; while true; do i=$((i+1)); echo line $i; /bin/busybox sleep 0.2; done"#;
    let spec = format!(
        r#"{{"name":"{app}","workloads":{{"one":{{"image":"{BOX}","replicas":2,
            "command":["sh","-c","{say}"],"stop_grace_ms":100}}}}}}"#
    );
    let deployed = cluster.deploy(&spec);
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());
    let listed = cluster.ok(&["ps", &app]);
    let ids: Vec<&str> =
        listed.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids.len(), 2, "{listed}");

    cluster.until("both have said something", |cluster| {
        let said = cluster.ok(&["logs", &app, "-n", "all"]);
        ids.iter().all(|id| said.contains(&format!("{id} | line 3")))
    });
    let last = cluster.ok(&["logs", &format!("{app}/one"), "-n", "1", "-t"]);
    assert_eq!(last.lines().count(), 2, "{last}");
    let bare = cluster.ok(&["logs", ids[0], "-n", "2", "--no-log-prefix"]);
    assert!(bare.lines().count() == 2 && bare.starts_with("line "), "{bare}");
    assert_eq!(cluster.muster(&["logs", "nobody"]).status.code(), Some(7));

    // Followed: what comes, from a replica that was not there at first as well.
    let mut follower = cluster
        .command("tester", &["logs", &app, "-f", "-n", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let mut lines = BufReader::new(follower.stdout.take().expect("it was asked for")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains(" | line "), "{first}");
    let _ = cluster.ok(&["scale", &app, "one=3"]);
    let joined = lines.by_ref().take(2_000).map(|line| line.expect("text"));
    let mut joined = joined.filter(|line| !ids.iter().any(|id| line.starts_with(id)));
    assert!(joined.next().is_some_and(|line| line.ends_with("| line 1")), "from its beginning");
    let interrupted = Command::new("kill").args(["-INT", &follower.id().to_string()]).status();
    assert!(interrupted.expect("kill is there").success());
    assert_eq!(follower.wait().expect("it ends").code(), Some(130));

    let _ = cluster.ok(&["scale", &app, "one=1"]);
    cluster.until("one is left", |cluster| cluster.ok(&["ps", &app]).lines().count() == 2);
    let left = replica(&cluster)[0].clone();
    let _ = docker(&["kill", &format!("{left}-1")]);
    cluster.until("it runs again", |cluster| {
        let now = replica(cluster);
        now[3] == "ready" && now[4] == "2"
    });
    let _ = cluster.ok(&["delete", &app]);
    let ended = cluster.ok(&["logs", &left]);
    assert!(ended.contains("| line "), "history has its last lines: {ended}");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

#[test]
fn a_command_runs_in_a_replica_with_input_output_and_its_own_exit_code() {
    import(BOX, "/", "bin/busybox", &["ENTRYPOINT [\"/bin/busybox\"]"]);
    let cluster = Cluster::start(1);
    let id = deploy(&cluster, BOX, r#""command":["sleep","600"],"stop_grace_ms":100"#);
    let said = cluster.muster(&[
        "exec",
        &id,
        "--",
        "/bin/busybox",
        "sh",
        "-c",
        "echo a; echo b >&2; exit 7",
    ]);
    assert_eq!(said.status.code(), Some(7), "{}", text(&said.stderr));
    assert_eq!((text(&said.stdout), text(&said.stderr)), ("a\n".to_owned(), "b\n".to_owned()));
    let named = cluster.ok(&[
        "exec",
        &format!("{}/one", cluster.app()),
        "-w",
        "/bin",
        "--",
        "/bin/busybox",
        "pwd",
    ]);
    assert_eq!(named, "/bin\n");

    // More than any window or pipe holds, there and back, and not a byte lost.
    let mut copy = cluster
        .command("tester", &["exec", "-i", &id, "--", "/bin/busybox", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("muster runs");
    let sent: Vec<u8> = (0..6_000_000_u32).flat_map(|n| n.to_be_bytes()).take(6_000_000).collect();
    let mut input = copy.stdin.take().expect("it was asked for");
    let to_send = sent.clone();
    let writing = std::thread::spawn(move || input.write_all(&to_send).expect("it is read"));
    let mut came = Vec::new();
    copy.stdout.take().expect("it was asked for").read_to_end(&mut came).expect("it is read");
    writing.join().expect("it was written");
    assert!(copy.wait().expect("it ends").success());
    assert!(came == sent, "{} bytes of {} came", came.len(), sent.len());

    assert_eq!(cluster.muster(&["exec", "nobody", "--", "ls"]).status.code(), Some(7));
    let missing = cluster.muster(&["exec", &id, "--", "/no/such/program"]);
    assert!(!missing.status.success(), "{}", text(&missing.stdout));
    let history = cluster.ok(&["log", &id]);
    assert!(history.contains("tester runs `/bin/busybox cat`"), "{history}");

    // Interrupted or gone without a word: the command does not outlive whoever asked.
    let processes = || docker(&["top", &format!("{id}-1"), "-eo", "pid,args"]);
    for (signal, seconds) in [("INT", "611"), ("KILL", "622")] {
        let mut asker = cluster
            .command("tester", &["exec", &id, "--", "/bin/busybox", "sleep", seconds])
            .spawn()
            .expect("muster runs");
        cluster.until("it runs", |_| processes().contains(seconds));
        let sent =
            Command::new("kill").args([&format!("-{signal}"), &asker.id().to_string()]).status();
        assert!(sent.expect("kill is there").success());
        let _ = asker.wait();
        cluster.until("it ends with its asker", |_| !processes().contains(seconds));
    }
    // An agent that stops takes its commands with it, and the container stays.
    let mut asker = cluster
        .command("tester", &["exec", &id, "--", "/bin/busybox", "sleep", "633"])
        .stderr(Stdio::null())
        .spawn()
        .expect("muster runs");
    cluster.until("it runs", |_| processes().contains("633"));
    cluster.signal(cluster.nodes()[0].as_str(), "TERM");
    cluster.until("it ends with the agent", |_| !processes().contains("633"));
    assert!(processes().contains("sleep 600"));
    assert!(!asker.wait().expect("it ends").success());
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}

#[test]
fn an_image_s_own_check_restarts_what_is_ill() {
    let web = tests::root().join(".tools/web");
    assert!(web.join("web").exists(), "there is no .tools/web/web: run `infra/image.sh`");
    let check = "HEALTHCHECK --interval=1s --timeout=2s --retries=2 \
                 CMD [\"/web\", \"probe\", \"http://localhost:8080/healthz\"]";
    import(CHECKED, &web.display().to_string(), "web", &["ENTRYPOINT [\"/web\"]", check]);
    let cluster = Cluster::start(1);
    let id = deploy(&cluster, CHECKED, r#""ports":[{"container":8080}]"#);
    let endpoint = replica(&cluster)[7].clone();
    assert!(get(&endpoint, "/unhealthy").is_some_and(|answer| answer.contains("200 OK")));
    cluster.until("it runs anew, and is well", |cluster| {
        let now = replica(cluster);
        now[0] == id && now[3] == "ready" && now[4] == "2"
    });
    let why = cluster.ok(&["why", &id]);
    assert!(why.contains("ended: unhealthy: the image's own health check"), "{why}");
    assert!(why.contains("503"), "{why}");

    // Turned off, it is not the engine's business any more, and running is ready.
    let id = deploy(&cluster, CHECKED, r#""ports":[{"container":8080}],"probe":{"check":"none"}"#);
    let health =
        docker(&["inspect", "--format", "{{if .State.Health}}checked{{end}}", &format!("{id}-1")]);
    assert_eq!(health.trim(), "");
}

#[test]
fn a_container_that_takes_too_much_memory_says_so() {
    let cluster = Cluster::start(1);
    let limit = r#""ports":[{"container":8080}],"resources":{"memory_limit_bytes":33554432}"#;
    let id = deploy(&cluster, "muster/web:1", limit);
    let endpoint = replica(&cluster)[7].clone();
    assert!(!get(&endpoint, "/alloc?mb=256").is_some_and(|answer| answer.contains("keeping")));
    cluster.until("it runs anew", |cluster| {
        let now = replica(cluster);
        now[0] == id && now[3] == "ready" && now[4] == "2"
    });
    let why = cluster.ok(&["why", &id]);
    assert!(why.contains("killed: it used more memory than its limit"), "{why}");
    assert!(why.contains("web: listening on port 8080"), "its last lines are kept: {why}");
}

#[test]
fn a_host_path_that_is_not_allowed_is_refused_with_what_to_use_instead() {
    let cluster = Cluster::start(1);
    let app = cluster.app();
    let spec = format!(
        r#"{{"name":"{app}","workloads":{{"one":{{"image":"muster/web:1","update":{{"deadline_ms":3000}},
            "mounts":[{{"source":{{"path":"/etc"}},"target":"/data"}}]}}}}}}"#
    );
    let refused = cluster.deploy(&spec);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}{}", cluster.logs());
    let stalled = said.lines().find(|line| line.contains("stalled")).unwrap_or_default();
    assert!(stalled.contains("use a named volume at /data"), "{said}");
    let listed = cluster.ok(&["ps", app]);
    assert!(listed.contains("does not allow the host path /etc"), "{listed}");
    assert_eq!(cluster.containers().len(), 0);
}
