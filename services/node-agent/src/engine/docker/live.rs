//! What is looked at or done in a container for the moment: its output, and commands run in it.

use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::exec::{ResizeExecOptions, StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use schemas::live::{ExecWanted, Line, LogWanted, Size, Stream};
use tokio::io::AsyncWrite;

use super::{Engine, is_missing, status};

/// How long a command may take to be known as ended after its output has.
const SETTLE: Duration = Duration::from_millis(100);
const SETTLE_TRIES: u32 = 50;

/// How long a command has after it was asked to end, before it is made to.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Why not: a code as of HTTP, and words.
pub(crate) type Refused = (u16, String);

/// What a command writes, piece by piece.
pub(crate) type Written = BoxStream<'static, Result<(Stream, Vec<u8>), String>>;

/// A command that runs in a container.
pub(crate) struct Exec {
    /// The engine's id of it.
    pub(crate) id: String,
    /// What it writes.
    pub(crate) output: Written,
    /// What it reads.
    pub(crate) input: Pin<Box<dyn AsyncWrite + Send>>,
}

impl Engine {
    /// The output of a run, line by line, each with its time.
    pub(crate) async fn output(
        &self,
        container: &str,
        wanted: &LogWanted,
    ) -> Result<BoxStream<'static, Result<Line, String>>, Refused> {
        self.docker.inspect_container(container, None).await.map_err(|error| {
            let gone = "its container is gone: `muster why` has its last lines";
            if is_missing(&error) { (404, gone.to_owned()) } else { (500, error.to_string()) }
        })?;
        let since_ms = wanted.since_ms.unwrap_or(0);
        let tail = wanted.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let options = LogsOptionsBuilder::default()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .follow(wanted.follow)
            .since(i32::try_from(since_ms / 1_000).unwrap_or(i32::MAX))
            .tail(&tail)
            .build();
        let lines = self.docker.logs(container, Some(options));
        let lines = lines.map(|part| part.map(line).map_err(|error| error.to_string()));
        // The engine knows seconds only.
        let wanted = move |line: &Result<Line, String>| {
            let line = line.as_ref().ok();
            let time_ms = line.and_then(|line| line.time_ms);
            std::future::ready(time_ms.is_none_or(|time_ms| time_ms >= since_ms))
        };
        Ok(lines.filter(wanted).boxed())
    }

    /// Runs a command in a container.
    pub(crate) async fn begin_exec(
        &self,
        container: &str,
        wanted: &ExecWanted,
    ) -> Result<Exec, Refused> {
        let refused = |error: bollard::errors::Error| {
            (status(&error).unwrap_or(500), format!("the engine does not run it: {error}"))
        };
        let config = ExecConfig {
            cmd: Some(wanted.command.clone()),
            attach_stdin: Some(wanted.input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(wanted.tty),
            user: wanted.user.clone(),
            working_dir: wanted.workdir.clone(),
            ..ExecConfig::default()
        };
        let id = self.docker.create_exec(container, config).await.map_err(refused)?.id;
        let how = StartExecOptions { tty: wanted.tty, ..StartExecOptions::default() };
        let begun = self.docker.start_exec(&id, Some(how)).await.map_err(refused)?;
        let StartExecResults::Attached { output, input } = begun else {
            return Err((500, "the engine runs it, and shows nothing of it".to_owned()));
        };
        if let Some(size) = wanted.size.filter(|_| wanted.tty) {
            self.resize_exec(&id, size).await;
        }
        let output = output.map(|part| part.map(written).map_err(|error| error.to_string()));
        Ok(Exec { id, output: output.boxed(), input })
    }

    /// Tells a command's terminal how large it is.
    pub(crate) async fn resize_exec(&self, id: &str, size: Size) {
        let options = ResizeExecOptions { height: size.rows, width: size.columns };
        if let Err(error) = self.docker.resize_exec(id, options).await {
            tracing::debug!(%error, "a terminal was not resized");
        }
    }

    /// The exit code of a command whose output has ended; it may take a moment to be known.
    pub(crate) async fn exec_outcome(&self, id: &str) -> Option<i64> {
        for _ in 0..SETTLE_TRIES {
            match self.docker.inspect_exec(id).await {
                Ok(found) if found.running == Some(true) => tokio::time::sleep(SETTLE).await,
                Ok(found) => return found.exit_code,
                Err(error) => {
                    tracing::debug!(%error, "the outcome of a command is not known");
                    return None;
                }
            }
        }
        None
    }

    /// Ends a command. The engine has no call for that, so its process is sent signals.
    pub(crate) async fn kill_exec(&self, id: &str) {
        for signal in ["TERM", "KILL"] {
            let Some(pid) = self.pid_of(id).await else { return };
            // Its group as well, of which it is the first: what it started goes with it.
            let group = format!("-{pid}");
            let command = ["-s", signal, "--", &pid, &group];
            let sent = tokio::process::Command::new("kill").args(command).output().await;
            if let Err(error) = sent {
                tracing::warn!(%error, "a command in a container cannot be ended");
            }
            tokio::time::sleep(KILL_GRACE).await;
        }
    }

    /// The process of a command that runs, if it is one of this machine's.
    async fn pid_of(&self, id: &str) -> Option<String> {
        let found = self.docker.inspect_exec(id).await.ok()?;
        let pid = found.pid.filter(|pid| *pid > 1 && found.running == Some(true))?.to_string();
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let container = found.container_id.filter(|container| groups.contains(container.as_str()));
        if container.is_none() {
            tracing::warn!(pid, "a command in a container outlives its asker: it is out of reach");
        }
        container.map(|_| pid)
    }
}

/// A line, from what the engine says: a time, a space and the text.
fn line(part: LogOutput) -> Line {
    let (stream, bytes) = written(part);
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim_end_matches(['\r', '\n']);
    let (time, rest) = text.split_once(' ').unwrap_or((text, ""));
    let time = chrono::DateTime::parse_from_rfc3339(time).ok();
    let time_ms = time.and_then(|time| u64::try_from(time.timestamp_millis()).ok());
    let text = if time_ms.is_some() { rest } else { text };
    Line { time_ms, stream, text: text.to_owned() }
}

fn written(part: LogOutput) -> (Stream, Vec<u8>) {
    let stream = match part {
        LogOutput::StdErr { .. } => Stream::Stderr,
        _ => Stream::Stdout,
    };
    (stream, part.into_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_parted_from_its_time() {
        let said = |message: &'static str| LogOutput::StdErr { message: message.into() };
        let with_time = line(said("1970-01-01T00:00:01.002003Z two words\r\n"));
        assert_eq!((with_time.time_ms, with_time.text.as_str()), (Some(1_002), "two words"));
        assert_eq!(with_time.stream, Stream::Stderr);
        assert_eq!(line(said("1970-01-01T00:00:01Z \n")).text, "");
        assert_eq!(line(said("no time at all\n")).text, "no time at all");
    }
}
