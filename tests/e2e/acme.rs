//! Certificates by ACME, from a CA on this machine: ordered once, served by every gateway, kept over restarts.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::cluster::{Cluster, free_port, text};
use tests::resolver::SITE;

const APP: &str = r#"{"name":"APP","workloads":{"web":{
    "image":"muster/web:1","replicas":1,"ports":[{"container":8080}],
    "probe":{"check":{"http":{"port":8080,"path":"/healthz"}},"interval_ms":500},
    "resources":{"cpu_millis":100,"memory_limit_bytes":67108864},
    "routes":[{"host":"shop.test","tls":{"acme":{}}},{"host":"lost.test","tls":{"acme":{}}}],
    "update":{"healthy_for_ms":100}}}}"#;

/// A CA, which asks hosts on a port of this machine. Ends when it is dropped.
struct Pebble {
    child: Child,
    folder: PathBuf,
    port: u16,
    management: u16,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pebble {
    fn start(folder: &Path, asks: u16, resolver: &str) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let says = "[req]\nprompt=no\ndistinguished_name=who\nx509_extensions=more\n[who]\nCN=a CA\n\
                    [more]\nsubjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        std::fs::write(file("ca.conf"), says).expect("there is room");
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args(["-days", "30", "-config", &file("ca.conf")])
            .args(["-keyout", &file("ca.key"), "-out", &file("ca.crt")])
            .output()
            .expect("openssl is there: run `make setup`");
        assert!(made.status.success(), "{}", text(&made.stderr));
        let (port, management) = (free_port(), free_port());
        let config = format!(
            r#"{{"pebble":{{"listenAddress":"127.0.0.1:{port}","managementListenAddress":"127.0.0.1:{management}",
               "certificate":{:?},"privateKey":{:?},"httpPort":{asks},"tlsPort":1}}}}"#,
            file("ca.crt"),
            file("ca.key"),
        );
        std::fs::write(file("pebble.json"), config).expect("there is room");
        let log = std::fs::File::create(file("pebble.log")).expect("the folder takes files");
        let child = Command::new("pebble")
            .args(["-config", &file("pebble.json"), "-dnsserver", resolver])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_VA_ALWAYS_VALID", "0")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("pebble is there: run `make setup`");
        Self { child, folder: folder.to_owned(), port, management }
    }

    /// The certificate that what it issues is trusted by, once it is there.
    fn root(&self) -> Option<String> {
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let trusted = self.folder.join("ca.crt").display().to_string();
        let got = curl(&["--cacert", &trusted, &url])?;
        let root = self.folder.join("root.crt");
        std::fs::write(&root, got).expect("there is room");
        Some(root.display().to_string())
    }

    /// How many orders it was sent.
    fn orders(&self) -> usize {
        let log = std::fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default();
        log.lines().filter(|line| line.contains("There are now") && line.contains("orders")).count()
    }
}

/// What curl prints, when it succeeds.
fn curl(args: &[&str]) -> Option<String> {
    let run = Command::new("curl").args(["-sSf", "--max-time", "5"]).args(args).output();
    let run = run.expect("curl is there: run `make setup`");
    run.status.success().then(|| text(&run.stdout))
}

/// The site, as a browser on another machine would get it.
fn site(root: &str, https: u16) -> Option<String> {
    let resolve = format!("{SITE}:{https}:127.0.0.1");
    curl(&["--cacert", root, "--resolve", &resolve, &format!("https://{SITE}:{https}/")])
}

/// The certificate that a gateway shows for the site.
fn shown(https: u16) -> String {
    let run = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{https}"), "-servername", SITE])
        .stdin(Stdio::null())
        .output()
        .expect("openssl is there: run `make setup`");
    let all = text(&run.stdout);
    let certificate =
        all.split_once("-----BEGIN").and_then(|(_, rest)| rest.split_once("-----END"));
    certificate.unwrap_or_else(|| panic!("no certificate in {all}")).0.to_owned()
}

#[test]
fn one_gateway_orders_all_serve_and_a_restart_orders_nothing() {
    let mut cluster = Cluster::start(2);
    let [http, https, other_http, other_https] = [(); 4].map(|()| free_port());
    let pebble = Pebble::start(cluster.folder(), http, &cluster.resolver().to_string());
    let key = cluster.write("seal.key", &"5e".repeat(32));
    let directory = format!("https://127.0.0.1:{}/dir", pebble.port);
    let trusted = cluster.folder().join("ca.crt").display().to_string();
    let with = |http: u16, https: u16| {
        let ports = ["--http-port", &http.to_string(), "--https-port", &https.to_string()]
            .map(str::to_owned);
        let acme = [
            "--seal-key-file",
            &key,
            "--acme-directory",
            &directory,
            "--acme-contact",
            "mailto:ops@shop.test",
            "--acme-agree-terms",
            "--acme-ca-root",
            &trusted,
        ];
        ports.into_iter().chain(acme.map(str::to_owned)).collect::<Vec<String>>()
    };
    for (name, arguments) in
        [("gateway", with(http, https)), ("second", with(other_http, other_https))]
    {
        cluster.give(name, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }
    cluster.kill("gateway");
    cluster.run("gateway");
    cluster.run_gateway("second", 1);
    let mut root = None;
    cluster.until("the CA is there", |_| {
        root = pebble.root();
        root.is_some()
    });
    let root = root.expect("it is there");
    let deployed = cluster.deploy(&APP.replace("APP", cluster.app()));
    assert!(deployed.status.success(), "{}{}", text(&deployed.stderr), cluster.logs());

    cluster.until("both serve it", |_| {
        [https, other_https]
            .iter()
            .all(|port| site(&root, *port).is_some_and(|said| said.starts_with("hello")))
    });
    assert_eq!(shown(https), shown(other_https), "one certificate");
    // The host that nobody resolves is told of, and keeps nothing else from being served.
    cluster.until("what fails is told", |cluster| {
        let routes = cluster.ok(&["routes", cluster.app()]);
        let line = |host: &str| {
            routes.lines().find(|line| line.contains(host)).unwrap_or_default().to_owned()
        };
        line("lost.test").contains("failed once on ") && line(SITE).contains("by t")
    });
    let routes = cluster.ok(&["routes", cluster.app()]);
    assert!(routes.contains("next try "), "{routes}");
    let (_, ready) = cluster.page("gateway", "/readyz");
    assert!(ready.contains("certificate of lost.test by ACME"), "{ready}");

    // History says the same, with who asked for it, and does so once.
    cluster.until("history knows both", |cluster| {
        let why = cluster.ok(&["why", &format!("{}/web", cluster.app())]);
        let parts = ["Why lost.test has no certificate", "Which certificate shop.test has"];
        parts.iter().all(|part| why.contains(part)) && !why.contains("the CA has not answered yet")
    });
    let why = cluster.ok(&["why", "certificate/lost.test"]);
    let parts =
        ["lost.test has no certificate yet", "it failed 1 time in a row", "sent app.deploy"];
    assert!(parts.iter().all(|part| why.contains(part)), "{why}");
    assert!(cluster.ok(&["why", SITE]).contains("valid until"));
    let steps = |cluster: &Cluster| cluster.ok(&["log", &format!("certificate/{SITE}")]);
    let known = steps(&cluster);

    let (first, orders) = (shown(https), pebble.orders());
    // Nothing on the bus or in the log tells the key.
    assert!(!cluster.ok(&["log", "-o", "json"]).contains("PRIVATE KEY"));
    for gateway in ["gateway", "second"] {
        cluster.kill(gateway);
    }
    cluster.run("gateway");
    cluster.run_gateway("second", 1);
    cluster.until("both serve it again", |_| {
        [https, other_https].iter().all(|port| site(&root, *port).is_some())
    });
    assert_eq!((shown(https), shown(other_https)), (first.clone(), first));
    assert_eq!(pebble.orders(), orders, "nothing was ordered anew");
    assert_eq!(steps(&cluster), known, "nothing is said twice");
    assert!(cluster.ok(&["replay", "--verify"]).contains("verified"));
}
