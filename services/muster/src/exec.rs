//! `muster exec`: a command in a replica, with this process's input and output; its exit code is ours.

use std::io::{IsTerminal as _, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runtime::Shutdown;
use schemas::live::{ExecWanted, INPUT_BYTES_MAX, INPUTS_AHEAD, Said, Stream, Want};
use schemas::read::StateRequest;
use schemas::subject;
use tokio::sync::mpsc::{Receiver, channel};

use crate::args::Exec;
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::session::Session;
use crate::{target, terminal};

pub(crate) async fn exec(
    client: &Client,
    exec: &Exec,
    shutdown: &Shutdown,
) -> Result<(), CliError> {
    if exec.tty && !std::io::stdin().is_terminal() {
        return Err(CliError::usage("-t needs a terminal as standard input: leave it out"));
    }
    let page = client.state(StateRequest::default()).await?;
    let found = target::replicas(&page, &exec.replica);
    let ready = found.iter().find(|replica| replica.status == "ready").or(found.first());
    let Some((replica, node)) = ready.and_then(|r| Some((&r.replica, r.node.as_ref()?))) else {
        let text = format!("there is no replica {} on a node: see `muster ps`", exec.replica);
        return Err(CliError::new(Code::NotFound, text));
    };
    let wanted = ExecWanted {
        command: exec.command.clone(),
        input: exec.interactive,
        tty: exec.tty,
        size: if exec.tty { terminal::size() } else { None },
        user: exec.user.clone(),
        workdir: exec.workdir.clone(),
    };
    let subject = subject::exec(node, replica.as_str());
    let (mut session, _) = Session::begin(client, node, subject, Want::Exec(wanted)).await?;
    let raw = if exec.tty { Some(terminal::Raw::enter()) } else { None };
    let _raw = raw.transpose().map_err(|error| CliError::internal(error.to_string()))?;
    let outcome = tokio::select! {
        outcome = talk(&mut session, exec) => outcome,
        () = shutdown.requested() => Err(CliError::interrupted()),
    };
    if !matches!(outcome, Ok(_) | Err(CliError { code: Code::Unreachable, .. })) {
        session.stop().await;
    }
    match outcome? {
        Some(0) => Ok(()),
        Some(code) => Err(CliError::new(Code::Command(u8::try_from(code).unwrap_or(1)), "")),
        None => Err(CliError::internal("the command ended, and nobody knows how")),
    }
}

/// Carries input and output until the command ends: its exit code.
async fn talk(session: &mut Session, exec: &Exec) -> Result<Option<i64>, CliError> {
    let mut input = if exec.interactive { Some(read_input()) } else { None };
    let mut resized = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())
        .map_err(|error| CliError::internal(error.to_string()))?;
    let (mut sent, mut taken) = (0, 0);
    loop {
        let said = tokio::select! {
            said = session.next() => said?,
            piece = next_of(&mut input), if sent - taken < INPUTS_AHEAD => {
                sent += 1;
                let base64 = STANDARD.encode(piece.unwrap_or_default());
                session.say(Some(Want::Input { n: sent, base64 })).await?;
                continue;
            }
            Some(()) = resized.recv(), if exec.tty => {
                if let Some(size) = terminal::size() {
                    session.say(Some(Want::Size(size))).await?;
                }
                continue;
            }
        };
        match said {
            Said::Output { stream, base64 } => put(stream, &base64)?,
            Said::InputTaken { n } => taken = n,
            Said::Ended { exit_code } => return Ok(exit_code),
            _ => {}
        }
    }
}

fn put(stream: Stream, base64: &str) -> Result<(), CliError> {
    let bytes = STANDARD.decode(base64).map_err(|e| CliError::internal(e.to_string()))?;
    let put = |to: &mut dyn std::io::Write| to.write_all(&bytes).and_then(|()| to.flush());
    let written = match stream {
        Stream::Stdout => put(&mut std::io::stdout()),
        Stream::Stderr => put(&mut std::io::stderr()),
    };
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::BrokenPipe => CliError::new(Code::Closed, ""),
        _ => CliError::internal(format!("cannot write: {error}")),
    })
}

/// The next piece of input; nothing when there is no more, which is said once.
async fn next_of(input: &mut Option<Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    let Some(pieces) = input else { return std::future::pending().await };
    let piece = pieces.recv().await;
    if piece.is_none() {
        *input = None;
    }
    piece
}

/// Standard input, read by a thread of its own: a read cannot be given up.
fn read_input() -> Receiver<Vec<u8>> {
    let (pieces, arrived) = channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; INPUT_BYTES_MAX];
        let mut stdin = std::io::stdin();
        while let Ok(length) = stdin.read(&mut buffer)
            && length > 0
            && pieces.blocking_send(buffer.get(..length).unwrap_or_default().to_vec()).is_ok()
        {
        }
    });
    arrived
}
