//! Images from a real registry that wants to know who asks.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tests::cluster::{Cluster, docker, text};

/// The user `test` with the password `test`, as bcrypt.
const USERS: &str = "test:$2b$04$CjY0ZdanfDYaBKK.CAbAyuVw5CE3Y6KXoOWLyx8Lv7BwnANf03Bkq\n";

/// The same as a Docker configuration has it.
const AUTH: &str = "dGVzdDp0ZXN0";

struct Registry {
    child: Child,
    host: String,
}

impl Registry {
    fn start(folder: &Path) -> Self {
        let folder = folder.join("registry");
        std::fs::create_dir_all(&folder).expect("the folder takes folders");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("there is a free port").port();
        let at = folder.display();
        std::fs::write(folder.join("users"), USERS).expect("the folder takes files");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {at}/store}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n\
             auth: {{htpasswd: {{realm: test, path: {at}/users}}}}\n"
        );
        std::fs::write(folder.join("config.yml"), config).expect("the folder takes files");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is there: run `make setup`");
        Self { child, host: format!("localhost:{port}") }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn config(folder: &Path, content: &str) {
    std::fs::create_dir_all(folder).expect("the folder takes folders");
    std::fs::write(folder.join("config.json"), content).expect("the folder takes files");
}

#[test]
fn an_image_is_pulled_by_tag_and_run_by_digest_once_the_registry_lets_us_in() {
    let cluster = Cluster::start(1);
    let registry = Registry::start(cluster.folder());
    let host = &registry.host;
    cluster.until("the registry is there", |_| {
        TcpStream::connect(host.replace("localhost", "127.0.0.1")).is_ok()
    });
    let known = format!(r#"{{"auths":{{"{host}":{{"auth":"{AUTH}"}}}}}}"#);
    let pusher = cluster.folder().join("pusher");
    config(&pusher, &known);
    let image = format!("{host}/team/web:1");
    let _ = docker(&["tag", "muster/web:1", &image]);
    let pushed = docker(&["--config", &pusher.display().to_string(), "push", "-q", &image]);
    assert_eq!(pushed.trim(), image);
    let _ = docker(&["rmi", &image]);

    let app = cluster.app().to_owned();
    let spec = |image: &str| {
        format!(
            r#"{{"name":"{app}","workloads":{{"web":{{"image":"{image}",
                "restart":{{"delay_max_ms":1000}},
                "update":{{"deadline_ms":3000,"rollback":false}}}}}}}}"#
        )
    };
    let stalled = |image: &str| {
        let refused = cluster.deploy(&spec(image));
        assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
        let said = text(&refused.stderr);
        said.lines().find(|line| line.contains("stalled")).unwrap_or_default().to_owned()
    };
    let said = stalled(&image);
    assert!(said.contains("wants to know who asks") && said.contains("docker login"), "{said}");

    // Written down where the agent looks: it tries again by itself.
    config(&cluster.folder().join("docker"), &known);
    cluster.until("it is pulled and runs", |cluster| cluster.ok(&["ps", &app]).contains(" ready "));
    let history = cluster.ok(&["log", &format!("app/{app}")]);
    let digest = history
        .lines()
        .find_map(|line| line.split_once(&format!("{image} means ")))
        .map(|(_, digest)| digest.to_owned())
        .unwrap_or_else(|| panic!("nothing was resolved: {history}"));
    assert!(digest.starts_with(&format!("{host}/team/web@sha256:")), "{digest}");
    let name = cluster.containers().into_keys().next().expect("one runs");
    let runs = docker(&["inspect", "--format", "{{.Config.Image}}", &name]);
    assert_eq!(runs.trim(), digest);

    let said = stalled(&format!("{host}/team/web:none"));
    assert!(said.contains("check its name and tag"), "{said}");
    let said = stalled("localhost:1/team/web:1");
    assert!(said.contains("cannot be reached"), "{said}");
    let _ = cluster.ok(&["delete", &app]);
    let _ = docker(&["rmi", &digest]);
    let _ = docker(&["rmi", &image]);
}
