//! A nats-server of one's own, on a free port, with a folder that goes away with it.
//!
//! Only for tests: whatever is wrong here is a panic that says what to do.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::{Bus, Connect};

/// How long a server may take to listen, in steps of [`STEP`].
const STEPS: u32 = 400;
const STEP: Duration = Duration::from_millis(25);

/// How often a restart is tried while something else has the port.
const TRIES: u32 = 20;

/// A server. Killed when dropped, also after a failure.
#[derive(Debug)]
pub struct Server {
    child: Option<Child>,
    address: String,
    /// 0 until the server has chosen one.
    port: u16,
    folder: PathBuf,
    config: String,
    synced: bool,
}

/// The server's binary, which the set-up puts beside the sources.
#[must_use]
pub fn binary() -> PathBuf {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../.tools/nats-server");
    assert!(found.exists(), "there is no {}: run `make setup`", found.display());
    found
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
        Self::new("127.0.0.1", config, false)
    }

    /// Starts one that others than this machine reach, at one of its addresses. Have it demand users.
    #[must_use]
    pub fn start_on(address: &str, config: &str) -> Self {
        Self::new(address, config, false)
    }

    /// Starts one that acknowledges only what would survive a power cut.
    #[must_use]
    pub fn start_synced() -> Self {
        Self::new("127.0.0.1", "", true)
    }

    fn new(address: &str, config: &str, synced: bool) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("muster-nats-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let (address, config) = (address.to_owned(), config.to_owned());
        let mut server = Self { child: None, address, port: 0, folder, config, synced };
        server.launch();
        server
    }

    /// Where it listens: the same after every restart.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.address, self.port)
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

    /// Stops it in its tracks: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to nats-server");
    }

    /// Starts it again on what it left behind.
    ///
    /// # Panics
    ///
    /// When it does not listen in time: with its log.
    pub fn launch(&mut self) {
        self.kill();
        for _ in 0..TRIES {
            if self.launch_once() {
                return;
            }
            // Another program may have the port for a moment.
            std::thread::sleep(STEP);
        }
        panic!("nats-server does not listen:\n{}", self.log());
    }

    fn launch_once(&mut self) -> bool {
        std::fs::write(self.path("server.conf"), self.settings()).expect("the folder takes files");
        let log = std::fs::File::create(self.path("log")).expect("the folder takes files");
        let child = Command::new(binary())
            .arg("-c")
            .arg(self.path("server.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        let ports = self.path(&format!("nats-server_{}.ports", child.id()));
        let child = self.child.insert(child);
        for _ in 0..STEPS {
            if !matches!(child.try_wait(), Ok(None)) {
                return false;
            }
            // The server writes this file when it listens, so nobody else's port is taken for its.
            if let Some(port) = port_in(&ports) {
                self.port = port;
                return true;
            }
            std::thread::sleep(STEP);
        }
        false
    }

    fn settings(&self) -> String {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let (address, folder, store) = (&self.address, &self.folder, self.path("store"));
        let sync = if self.synced { "always" } else { "2m" };
        let more = &self.config;
        format!(
            "listen: \"{address}:{port}\"\nports_file_dir: {folder:?}\n\
             jetstream {{ store_dir: {store:?}, sync_interval: {sync} }}\n{more}\n"
        )
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What it said since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Takes a stream away, as only an operator does.
    pub async fn delete_stream(&self, name: &str) {
        self.ask(&format!("STREAM.DELETE.{name}"), &Value::Null).await;
    }

    /// Changes one setting of a stream, as only an operator does. The value is JSON.
    pub async fn change_stream(&self, name: &str, field: &str, value: &str) {
        let mut config =
            self.ask(&format!("STREAM.INFO.{name}"), &Value::Null).await["config"].take();
        config[field] = serde_json::from_str(value).expect("the value is JSON");
        self.ask(&format!("STREAM.UPDATE.{name}"), &config).await;
    }

    async fn ask(&self, what: &str, payload: &Value) -> Value {
        let client = async_nats::connect(self.url()).await.expect("the server is there");
        let payload = if payload.is_null() { String::new() } else { payload.to_string() };
        let answer = client.request(format!("$JS.API.{what}"), payload.into()).await;
        let answer: Value = serde_json::from_slice(&answer.expect("JetStream answers").payload)
            .expect("JetStream answers in JSON");
        assert!(answer.get("error").is_none(), "{what}: {answer}");
        answer
    }
}

/// The port in a server's ports file, once that is whole.
fn port_in(file: &Path) -> Option<u16> {
    let ports: Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
