//! A command run in a replica: its output in parts, its input as it comes. It ends with its asker.

use std::pin::Pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt as _;
use schemas::live::{ExecWanted, INPUT_BYTES_MAX, Said, Want};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::session::{Session, Word};
use crate::engine::docker::Engine;

/// How much output goes into one part, before it is base64.
const PIECE: usize = 45_000;

/// How many pieces of input may wait for the command: more than an asker may have under way.
const INPUTS: usize = 16;

/// A piece of input with its number; an empty one says that no more follow.
type Piece = (u64, Vec<u8>);

pub(super) async fn serve(
    engine: &Engine,
    mut session: Session,
    container: &str,
    run: u32,
    wanted: &ExecWanted,
) {
    let exec = match engine.begin_exec(container, wanted).await {
        Ok(exec) => exec,
        Err((code, text)) => return session.say(Said::Refused { code, text }).await,
    };
    session.say(Said::Began { run }).await;
    let (id, mut output) = (exec.id, exec.output);
    let (pieces, to_write) = channel(INPUTS);
    let (wrote, mut taken) = channel(INPUTS);
    let mut writing = std::pin::pin!(write(exec.input, to_write, wrote));
    let mut input = Input { n: 0, pieces };
    let mut writes = true;
    loop {
        tokio::select! {
            word = session.hear() => match word {
                Word::Listens => {}
                Word::Over => return engine.kill_exec(&id).await,
                Word::Wants(Want::Size(size)) => engine.resize_exec(&id, size).await,
                Word::Wants(want) => if let Err(text) = input.take(want) {
                    session.say(Said::Refused { code: 400, text }).await;
                    return engine.kill_exec(&id).await;
                },
            },
            () = &mut writing, if writes => writes = false,
            Some(n) = taken.recv() => session.say(Said::InputTaken { n }).await,
            written = output.next(), if session.has_room() => match written {
                Some(Ok((stream, bytes))) => for piece in bytes.chunks(PIECE) {
                    let base64 = STANDARD.encode(piece);
                    session.say(Said::Output { stream, base64 }).await;
                },
                Some(Err(text)) => {
                    session.say(Said::Refused { code: 500, text }).await;
                    return engine.kill_exec(&id).await;
                }
                None => break,
            },
        }
    }
    let exit_code = engine.exec_outcome(&id).await;
    session.say(Said::Ended { exit_code }).await;
}

/// Input, in order and whole.
struct Input {
    n: u64,
    pieces: Sender<Piece>,
}

impl Input {
    fn take(&mut self, want: Want) -> Result<(), String> {
        let Want::Input { n, base64 } = want else {
            return Err("a session is for one thing: begin another one".to_owned());
        };
        if n != self.n + 1 {
            return Err(format!("input {} was lost on the way: {n} came instead", self.n + 1));
        }
        let bytes = STANDARD.decode(base64).map_err(|error| format!("input {n}: {error}"))?;
        if bytes.len() > INPUT_BYTES_MAX {
            return Err(format!("input {n} has {} bytes, at most {INPUT_BYTES_MAX}", bytes.len()));
        }
        self.n = n;
        let sent = self.pieces.try_send((n, bytes));
        sent.map_err(|_| "more input came than was asked for: wait until it is taken".to_owned())
    }
}

/// Hands input to the command as it reads. What it does not want any more is taken nevertheless.
async fn write(
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
    mut pieces: Receiver<Piece>,
    wrote: Sender<u64>,
) {
    let mut wanted = true;
    while let Some((n, bytes)) = pieces.recv().await {
        if wanted {
            let written = match bytes.is_empty() {
                true => input.shutdown().await,
                false => input.write_all(&bytes).await,
            };
            let flushed = input.flush().await;
            wanted = written.and(flushed).is_ok() && !bytes.is_empty();
        }
        if wrote.send(n).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_taken_in_order_or_not_at_all() {
        let (pieces, mut taken) = channel(INPUTS);
        let mut input = Input { n: 0, pieces };
        let piece = |n, text: &str| Want::Input { n, base64: STANDARD.encode(text) };
        input.take(piece(1, "a")).expect("it is the first");
        assert_eq!(taken.try_recv().expect("it is there"), (1, b"a".to_vec()));
        assert!(input.take(piece(3, "c")).is_err_and(|text| text.contains("input 2 was lost")));
        assert!(input.take(piece(2, &"x".repeat(INPUT_BYTES_MAX + 1))).is_err());
        let junk = Want::Input { n: 2, base64: "!".to_owned() };
        assert!(input.take(junk).is_err_and(|text| text.contains("input 2")));
        assert!(input.take(Want::Stop).is_err());
    }
}
