//! The nats-server of a development cluster: found, configured, and kept running.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runtime::{Failure, Shutdown};

use super::users::{Users, write_secret};
use crate::args::Dev;

/// How long a stopping server may take before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// How long a server that ended waits before it is started again.
const RESTART: Duration = Duration::from_millis(500);

/// A nats-server that is ready to be run.
pub(super) struct Server {
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    port: u16,
}

impl Server {
    /// Writes its configuration.
    pub(super) fn configure(dev: &Dev, folder: &Path, users: &Users) -> Result<Self, Failure> {
        let binary = find(dev.nats_server.as_deref())?;
        let port = port(dev, folder)?;
        let config = folder.join("nats.conf");
        let store = folder.join("nats");
        let text = format!(
            "listen: \"{}\"\nserver_name: muster-dev\nmax_payload: 1MB\nmax_control_line: 8KB\n\
             jetstream {{ store_dir: {store:?} }}\n{}",
            SocketAddr::new(dev.listen, port),
            users.config(),
        );
        write_secret(&config, text.as_bytes())?;
        Ok(Self { binary, config, log: folder.join("nats.log"), port })
    }

    /// Where this process reaches it.
    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Runs it until asked to stop; starts it again when it ends by itself.
    pub(super) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        loop {
            let log = std::fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
            let mut child = tokio::process::Command::new(&self.binary)
                .arg("-c")
                .arg(&self.config)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                // A signal from the terminal is for us: we stop it after those who talk to it.
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(|error| format!("cannot start {}: {error}", self.binary.display()))?;
            tokio::select! {
                ended = child.wait() => {
                    let ended = ended?;
                    tracing::error!(%ended, log = %self.log.display(), "nats-server ended; starting it again");
                }
                () = shutdown.requested() => return stop(child).await,
            }
            tokio::select! {
                () = tokio::time::sleep(RESTART) => {}
                () = shutdown.requested() => return Ok(()),
            }
        }
    }
}

/// Lets the services have their last words, then stops the server.
async fn stop(mut child: tokio::process::Child) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    if let Some(id) = child.id() {
        let asked = tokio::process::Command::new("kill").arg(id.to_string()).status().await;
        if asked.is_ok() && tokio::time::timeout(STOP, child.wait()).await.is_ok() {
            return Ok(());
        }
    }
    Ok(child.kill().await?)
}

/// The one that was named, the one beside the sources, or the one in PATH.
fn find(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let beside = Path::new(".tools/nats-server").to_owned();
    let in_path = runtime::settings::search_path().into_iter().map(|dir| dir.join("nats-server"));
    let found = std::iter::once(beside).chain(in_path).find(|path| path.is_file());
    found.ok_or_else(|| {
        "there is no nats-server in .tools or PATH: run `make setup`, or name one with --nats-server".into()
    })
}

/// The port that was named, the one used before, or a free one.
fn port(dev: &Dev, folder: &Path) -> Result<u16, Failure> {
    if dev.port != 0 {
        return Ok(dev.port);
    }
    let path = folder.join("port");
    let free = |port| TcpListener::bind((IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    let before = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if let Some(port) = before.filter(|port| free(*port).is_ok()) {
        return Ok(port);
    }
    let port = free(0)?.local_addr()?.port();
    std::fs::write(&path, port.to_string())?;
    Ok(port)
}
