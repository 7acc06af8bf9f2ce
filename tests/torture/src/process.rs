//! event-log as a process that can be killed, stopped and started again.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use bus::Bus;
use clap::Parser as _;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure};
use schemas::read::Head;
use schemas::subject;

/// The first argument that makes this program an event-log without fsync.
const UNSYNCED: &str = "serve-unsynced-event-log";

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long a look waits before the next.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// event-log without fsync, in place of the torture: the known-bad control that a harness must catch.
/// None when this program was not asked to be that.
pub(crate) fn serve_unsynced() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let program = args.next()?;
    if args.next().as_deref() != Some(OsStr::new(UNSYNCED)) {
        return None;
    }
    event_log::testing::write_without_sync();
    let config = event_log::Config::parse_from(std::iter::once(program).chain(args));
    Some(runtime::process::main("event-log", |shutdown| async move {
        let mut tasks = Tasks::default();
        tasks.spawn("event-log", event_log::run(config, Admin::default(), shutdown));
        tasks.all().await
    }))
}

/// Which event-log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The one that is shipped.
    Real,
    /// The one that leaves its writes in the page cache.
    Unsynced,
}

/// A running event-log, killed when dropped.
#[derive(Debug)]
pub(crate) struct Log {
    kind: Kind,
    child: Option<Child>,
    url: String,
    state: PathBuf,
    output: PathBuf,
    more: Vec<String>,
}

impl Log {
    /// Starts one on a state folder. What it says is appended to the file `output`.
    pub(crate) fn start(
        kind: Kind,
        url: &str,
        state: &Path,
        output: &Path,
    ) -> Result<Self, Failure> {
        Self::start_with(kind, url, state, output, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(
        kind: Kind,
        url: &str,
        state: &Path,
        output: &Path,
        more: &[&str],
    ) -> Result<Self, Failure> {
        let (state, output) = (state.to_owned(), output.to_owned());
        let more = more.iter().map(|arg| (*arg).to_owned()).collect();
        let mut log = Self { kind, child: None, url: url.to_owned(), state, output, more };
        log.launch()?;
        Ok(log)
    }

    /// Starts it again on what it left.
    pub(crate) fn launch(&mut self) -> Result<(), Failure> {
        self.kill();
        let output = std::fs::OpenOptions::new().create(true).append(true).open(&self.output)?;
        let mut command = match self.kind {
            Kind::Real => Command::new(tests::cluster::program("muster-event-log")),
            Kind::Unsynced => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(UNSYNCED);
                command
            }
        };
        let child = command
            .args(["--nats-url", &self.url])
            .arg("--state-dir")
            .arg(&self.state)
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    /// The folder of the log.
    pub(crate) fn folder(&self) -> PathBuf {
        self.state.join("event-log")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = (child.kill(), child.wait());
        }
    }

    /// Sends a signal: STOP, CONT.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let child = self.child.as_ref().ok_or("event-log does not run")?;
        let id = child.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
        if sent.success() { Ok(()) } else { Err(format!("kill -{name} failed").into()) }
    }

    /// Waits until it answers: it is then through with its start.
    pub(crate) async fn serving(&mut self, bus: &Bus) -> Result<Head, Failure> {
        let asked = async {
            loop {
                if let Some(child) = &mut self.child
                    && let Some(status) = child.try_wait()?
                {
                    return Err::<Head, Failure>(format!("event-log ended: {status}").into());
                }
                if let Ok(head) = head(bus).await {
                    return Ok(head);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let late = |_| Err(format!("event-log does not serve after {PATIENCE:?}").into());
        let head = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(late);
        head.map_err(|error| format!("{error}\n{}", self.said()).into())
    }

    /// The end of what it said.
    pub(crate) fn said(&self) -> String {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What event-log says of its head.
pub(crate) async fn head(bus: &Bus) -> Result<Head, Failure> {
    let answer = bus.request(&subject::api("head"), Vec::new(), Duration::from_secs(2)).await?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Runs `muster-event-log verify` on a log that nobody serves.
pub(crate) async fn verify(state: &Path) -> Result<(), Failure> {
    let mut command = tokio::process::Command::new(tests::cluster::program("muster-event-log"));
    command.arg("--state-dir").arg(state).arg("verify").stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|said| tests::cluster::text(&said)).concat();
    Err(format!("verify says no: {said}").into())
}
