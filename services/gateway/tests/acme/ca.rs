//! A CA that takes everything for proven: how hosts are proven is tried end to end.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A CA. Ends when it is dropped.
pub(crate) struct Pebble {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pebble {
    pub(crate) fn start(folder: &Path) -> Self {
        let file = |name: &str| folder.join(name).display().to_string();
        let says = "[req]\nprompt=no\ndistinguished_name=who\nx509_extensions=more\n[who]\nCN=a CA\n\
                    [more]\nsubjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n";
        std::fs::write(file("ca.conf"), says).expect("the folder takes files");
        let (conf, key, crt) = (file("ca.conf"), file("ca.key"), file("ca.crt"));
        openssl(
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            &["-nodes", "-days", "30", "-config", &conf, "-keyout", &key, "-out", &crt],
        );
        let (port, management) = (free_port(), free_port());
        let config = format!(
            r#"{{"pebble":{{"listenAddress":"127.0.0.1:{port}","managementListenAddress":"127.0.0.1:{management}",
               "certificate":{crt:?},"privateKey":{key:?},"httpPort":1,"tlsPort":1}}}}"#,
        );
        std::fs::write(file("pebble.json"), config).expect("the folder takes files");
        let log = std::fs::File::create(file("pebble.log")).expect("the folder takes files");
        let child = Command::new("pebble")
            .args(["-config", &file("pebble.json")])
            .envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_VA_ALWAYS_VALID", "1")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("pebble is there: run `make setup`");
        let ca = Self { child, folder: folder.to_owned(), port };
        for _ in 0..600 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return ca;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("pebble does not listen: {}", ca.log());
    }

    pub(crate) fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The certificate that it is itself trusted by.
    pub(crate) fn trusted(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Stops it in its tracks: who asks it waits.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to pebble");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("pebble.log")).unwrap_or_default()
    }

    /// How many orders it was sent.
    pub(crate) fn orders(&self) -> usize {
        let log = self.log();
        log.lines().filter(|line| line.contains("There are now") && line.contains("orders")).count()
    }
}

/// Runs openssl.
pub(crate) fn openssl(first: &[&str], then: &[&str]) {
    let run = Command::new("openssl").args(first).args(then).output();
    let run = run.expect("openssl is there: run `make setup`");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// A port on which nobody listens.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("there are ports");
    listener.local_addr().expect("it has an address").port()
}
