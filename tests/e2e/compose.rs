//! A Compose file through the command line, onto the engine.

use std::io::{Read as _, Write as _};

use tests::cluster::{Cluster, docker, text};

const FILE: &str = "\
services:
  web:
    image: muster/web:${TAG:-1}
    expose: ['8080']
    environment: {GREETING: hi, FROM_ENV: $SHOP_COLOUR}
    env_file: web.env
    hostname: ignored
    volumes: ['data:/data']
    configs: [{source: note, target: /etc/shop/note.txt, mode: 0440}]
    user: '0'
    cap_drop: [ALL]
    init: true
    labels: {team: red}
    deploy:
      resources: {limits: {cpus: '0.25', memory: 64M, pids: 50}}
    x-muster: {probe: {http: {port: 8080, path: /healthz}, interval: 500ms}}
volumes: {data: }
configs: {note: {file: ./note.txt}}
";

fn get(endpoint: &str, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(endpoint).expect("it is reached");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_compose_file_is_what_runs() {
    let cluster = Cluster::start(1);
    let folder = cluster.folder().join("project");
    std::fs::create_dir_all(&folder).expect("the folder takes folders");
    let write =
        |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("it is written");
    write("compose.yaml", FILE);
    write("web.env", "FROM_FILE=file\n");
    write("note.txt", "a note\n");
    write(".env", "SHOP_COLOUR=blue\n");
    let file = folder.join("compose.yaml").display().to_string();

    let printed = cluster.muster(&["config", "-f", &file, "--app", cluster.app()]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let command = text(&printed.stdout);
    assert!(command.contains("\"app\"") && command.contains("67108864"), "{command}");

    let deploy = ["deploy", "-f", &file, "--app", cluster.app(), "--timeout", "60s"];
    let deployed = cluster.muster(&deploy);
    let said = text(&deployed.stderr);
    assert!(deployed.status.success(), "{said}{}", cluster.logs());
    assert!(said.contains("compose.yaml:7:5: `hostname` is ignored"), "{said}");

    let containers = cluster.containers();
    let container = containers.keys().next().expect("there is one").clone();
    let inspect = |field: &str| docker(&["inspect", "--format", field, &container]);
    let env = inspect("{{json .Config.Env}}");
    for part in ["GREETING=hi", "FROM_ENV=blue", "FROM_FILE=file"] {
        assert!(env.contains(part), "{part} is not in {env}");
    }
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}";
    assert_eq!(inspect(limits).trim(), "67108864 250000000 50");
    let volume = format!("main_{}_data", cluster.app());
    let mounts = inspect("{{range .Mounts}}{{.Name}} {{.Destination}}{{end}}");
    assert_eq!(mounts.trim(), format!("{volume} /data"));
    assert_eq!(inspect("{{.Config.User}} {{index .Config.Labels \"team\"}}").trim(), "0 red");
    assert!(inspect("{{json .HostConfig.CapDrop}}").contains("ALL"));

    let port = docker(&["port", &container, "8080/tcp"]);
    let port = port.lines().next().and_then(|line| line.rsplit(':').next()).expect("a port");
    let endpoint = format!("127.0.0.1:{}", port.trim());
    assert!(get(&endpoint, "/file?path=/etc/shop/note.txt").contains("a note"));

    // The same file again changes nothing, and stores nothing twice.
    let again = cluster.muster(&deploy);
    assert!(again.status.success(), "{}", text(&again.stderr));
    assert_eq!(cluster.containers(), containers);
    let history = cluster.ok(&["log", "-o", "json"]);
    assert_eq!(history.matches("\"ConfigStored\"").count(), 1, "{history}");

    write("compose.yaml", &FILE.replace("cap_drop", "cap_drip"));
    let misspelt = cluster.muster(&deploy);
    assert_eq!(misspelt.status.code(), Some(2));
    assert!(
        text(&misspelt.stderr).contains("did you mean `cap_drop`?"),
        "{}",
        text(&misspelt.stderr)
    );

    let _ = cluster.ok(&["delete", cluster.app()]);
    let _ = docker(&["volume", "rm", &volume]);
}
