//! A nats-server of one's own, on a free port, with a folder that goes away with it.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{Bus, Connect};

/// A server. Killed when dropped, also after a failure.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    port: u16,
    folder: PathBuf,
    config: String,
}

/// The server's binary, which the set-up puts beside the sources.
#[must_use]
pub fn binary() -> PathBuf {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../.tools/nats-server");
    assert!(found.exists(), "there is no {}: run `make setup`", found.display());
    found
}

/// A port that nobody has just now.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback takes listeners");
    listener.local_addr().expect("it is bound").port()
}

impl Server {
    /// Starts one with an empty store and no users.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts one with an empty store and more settings: users, limits.
    #[must_use]
    pub fn start_with(config: &str) -> Self {
        let port = free_port();
        let folder =
            std::env::temp_dir().join(format!("muster-nats-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let mut server = Self { child: None, port, folder, config: config.to_owned() };
        server.launch();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A connection without a user.
    pub async fn bus(&self, name: &str) -> Bus {
        let to = Connect {
            url: self.url(),
            name: name.to_owned(),
            credentials: None,
            inbox_prefix: format!("_INBOX.{name}"),
        };
        Bus::connect(&to).await.expect("the server is there")
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on what it left behind.
    pub fn launch(&mut self) {
        let config = self.folder.join("server.conf");
        let text = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?} }}\n{}\n",
            self.port,
            self.folder.join("store"),
            self.config
        );
        std::fs::write(&config, text).expect("the folder takes files");
        let log = std::fs::File::create(self.folder.join("log")).expect("the folder takes files");
        let child = Command::new(binary())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.child = Some(child);
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        let mut text = String::new();
        let log = std::fs::File::open(self.folder.join("log"));
        let _ = log.and_then(|mut log| log.read_to_string(&mut text));
        panic!("nats-server does not listen:\n{text}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
