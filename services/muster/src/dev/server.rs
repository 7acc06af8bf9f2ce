//! The nats-server of a development cluster: found, configured, and kept running.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runtime::{Failure, Shutdown};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::users::{Users, write_secret};
use crate::args::Dev;
use crate::error::CliError;

/// How long a stopping server may take before it is killed.
const STOP: Duration = Duration::from_secs(5);

/// How long the services may still talk before it is stopped.
const LAST_WORDS: Duration = Duration::from_millis(1_500);

/// How long a server that ended waits before it is started again.
const RESTART: Duration = Duration::from_millis(500);

/// How often the server is asked how it is, and how long an answer may take.
const LOOK: Duration = Duration::from_secs(2);

/// So much room must be there before a server that met a full disk is started again.
const ROOM: u64 = 32 * 1024 * 1024;

/// What its streams may take. By itself it takes a share of what is free when it starts, and then
/// refuses its own streams on a disk that has become fuller.
const STORE_MAX: &str = "16GB";

/// A nats-server that is ready to be run.
pub(super) struct Server {
    binary: PathBuf,
    config: PathBuf,
    store: PathBuf,
    log: PathBuf,
    address: SocketAddr,
}

impl Server {
    /// Finds it, ends one that an earlier process left behind, and writes its configuration.
    pub(super) async fn configure(
        dev: &Dev,
        folder: &Path,
        users: &Users,
    ) -> Result<Self, CliError> {
        let binary = find(dev.nats_server.as_deref())?;
        check_version(&binary).await?;
        let (config, pid) = (folder.join("nats.conf"), folder.join("nats.pid"));
        end_orphan(&pid, &config).await?;
        let address = address(dev, folder)?;
        let store = folder.join("nats");
        let text = format!(
            "listen: \"{address}\"\nserver_name: muster-dev\nmax_payload: 1MB\nmax_control_line: 8KB\n\
             pid_file: {pid:?}\nhttp: \"127.0.0.1:-1\"\nports_file_dir: {folder:?}\n\
             jetstream {{ store_dir: {store:?}, max_file_store: {STORE_MAX} }}\n{}",
            users.config(),
        );
        write_secret(&config, text.as_bytes())?;
        Ok(Self { binary, config, store, log: folder.join("nats.log"), address })
    }

    /// The folder of its streams.
    pub(super) fn store(&self) -> &Path {
        &self.store
    }

    /// Where this process reaches it.
    pub(super) fn url(&self) -> String {
        let ip = self.address.ip();
        let ip = if ip.is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { ip };
        format!("nats://{}", SocketAddr::new(ip, self.address.port()))
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
            let pid = child.id();
            tokio::select! {
                ended = child.wait() => {
                    let ended = ended?;
                    tracing::error!(%ended, log = %self.log.display(), "nats-server ended; starting it again");
                }
                () = self.frozen(pid) => {
                    tracing::error!("nats-server met a full disk and froze; there is room again: restarting it");
                    stop_now(child).await?;
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

impl Server {
    /// Waits until the server has frozen a stream, which it does when a write fails and for as long
    /// as it runs, and its disk has room again.
    async fn frozen(&self, pid: Option<u32>) {
        let Some(pid) = pid else { return std::future::pending().await };
        let ports = self.log.with_file_name(format!("nats-server_{pid}.ports"));
        loop {
            tokio::time::sleep(LOOK).await;
            let room = runtime::files::free_bytes(&self.store).is_ok_and(|free| free >= ROOM);
            let asked = tokio::time::timeout(LOOK, health(&ports));
            if room && asked.await.is_ok_and(|said| said.is_ok_and(|said| is_frozen(&said))) {
                return;
            }
        }
    }
}

/// What the server says of its health, on the port that its ports file names.
async fn health(ports: &Path) -> Result<String, Failure> {
    let ports: serde_json::Value = serde_json::from_slice(&tokio::fs::read(ports).await?)?;
    let url = ports["monitoring"][0].as_str().ok_or("it is not asked anywhere")?;
    let address = url.strip_prefix("http://").unwrap_or(url);
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    Ok(said)
}

/// Whether that is a stream for which a write failed.
fn is_frozen(said: &str) -> bool {
    !said.starts_with("HTTP/1.1 200") && said.contains("write error")
}

/// Lets the services have their last words, then stops the server.
async fn stop(child: tokio::process::Child) -> Result<(), Failure> {
    tokio::time::sleep(LAST_WORDS).await;
    stop_now(child).await
}

async fn stop_now(mut child: tokio::process::Child) -> Result<(), Failure> {
    if let Some(id) = child.id()
        && signal(id, "TERM").await
        && tokio::time::timeout(STOP, child.wait()).await.is_ok()
    {
        return Ok(());
    }
    Ok(child.kill().await?)
}

async fn signal(pid: u32, name: &str) -> bool {
    let mut kill = tokio::process::Command::new("kill");
    kill.arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null());
    kill.status().await.is_ok_and(|status| status.success())
}

/// A process that was killed leaves its server running, and two on one store would spoil it.
async fn end_orphan(pid_file: &Path, config: &Path) -> Result<(), CliError> {
    let Ok(text) = std::fs::read_to_string(pid_file) else { return Ok(()) };
    let Ok(pid) = text.trim().parse::<u32>() else { return Ok(()) };
    // Its number may have passed on to somebody else.
    let is_ours = || {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&command).contains(&config.display().to_string())
    };
    for name in ["TERM", "KILL"] {
        if !is_ours() {
            return Ok(());
        }
        tracing::warn!(pid, "ending the nats-server that an earlier muster dev left behind");
        signal(pid, name).await;
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if !is_ours() {
                return Ok(());
            }
        }
    }
    let text = format!("nats-server {pid}, of an earlier muster dev, does not end: end it");
    Err(CliError::internal(text))
}

/// The one that was named, the one in PATH, or the one that the set-up fetched: in the `.tools` folder
/// above this program or above the current folder.
fn find(named: Option<&Path>) -> Result<PathBuf, CliError> {
    const NAME: &str = "nats-server";
    if let Some(path) = named {
        if path.is_file() {
            return Ok(path.to_owned());
        }
        let text = format!(
            "there is no {}, which --nats-server or MUSTER_NATS_SERVER names",
            path.display()
        );
        return Err(CliError::usage(text));
    }
    let in_path = runtime::settings::search_path().into_iter().map(|dir| dir.join(NAME));
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    let in_tools = above.map(|dir| dir.join(".tools").join(NAME));
    in_path.chain(in_tools).find(|path| path.is_file()).ok_or_else(|| {
        CliError::usage(
            "there is no nats-server in PATH or .tools: run `make setup`, or name one with --nats-server",
        )
    })
}

/// Older servers would run, and ignore what keeps the log whole.
async fn check_version(binary: &Path) -> Result<(), CliError> {
    let said = tokio::process::Command::new(binary).arg("--version").output().await;
    let said = said.map_err(|error| {
        CliError::usage(format!(
            "cannot run {}: {error}; name another with --nats-server",
            binary.display()
        ))
    })?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.split_whitespace().last().unwrap_or("of no version");
    if bus::new_enough(version) {
        return Ok(());
    }
    let text = format!(
        "{} is nats-server {version}, and {} or newer is needed: run `make setup`, and name the one in \
         .tools with --nats-server",
        binary.display(),
        bus::SERVER_MIN_TEXT
    );
    Err(CliError::usage(text))
}

/// The port that was named, the one used before, or a free one.
fn address(dev: &Dev, folder: &Path) -> Result<SocketAddr, CliError> {
    let free = |port| TcpListener::bind((dev.listen, port)).and_then(|bound| bound.local_addr());
    let wanted = dev.nats_port.filter(|port| *port != 0);
    let path = folder.join("port");
    if let Some(port) = wanted {
        return free(port).map_err(|error| {
            let text = format!(
                "cannot listen on port {port} of {}: {error}; end what listens there, or give another \
                 --nats-port",
                dev.listen
            );
            CliError::usage(text)
        }).and_then(|address| remember(&path, address));
    }
    let before = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if let Some(Ok(address)) = before.map(free) {
        return Ok(address);
    }
    let address = free(0).map_err(|error| {
        CliError::usage(format!("cannot listen on --listen {}: {error}", dev.listen))
    })?;
    remember(&path, address)
}

/// Others find the port in a file.
fn remember(path: &Path, address: SocketAddr) -> Result<SocketAddr, CliError> {
    std::fs::write(path, address.port().to_string())
        .map_err(|error| CliError::usage(format!("cannot write {}: {error}", path.display())))?;
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::is_frozen;

    #[test]
    fn a_frozen_stream_is_told_from_a_server_that_only_starts() {
        let frozen = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"unavailable\",\"error\":\
            \"JetStream stream '$G > MUSTER_EVENTS' write error: write 3.blk: no space left on device\"}";
        assert!(is_frozen(frozen));
        let starts =
            "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":\"JetStream not current\"}";
        assert!(!is_frozen(starts));
        assert!(!is_frozen("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"ok\"}"));
    }
}
