//! An endpoint that is replaced: how long after that the old one is still sent requests.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use runtime::Failure;

use crate::clock::Since;

/// How many clients ask, one request after the other each.
const CLIENTS: usize = 4;

/// For how long they ask before the change, and after it.
const BEFORE: Duration = Duration::from_millis(200);
const AFTER: Duration = Duration::from_millis(700);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a request began, in µs, and the first byte of what was answered.
type Asked = (u64, u8);

/// Clients of a port that ask without a pause.
pub(super) struct Clients {
    since: Since,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Vec<Asked>>>,
}

impl Clients {
    pub(super) async fn start(port: u16) -> Self {
        let (since, stop) = (Since::now(), Arc::<AtomicBool>::default());
        let client = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || ask(port, since, &stop))
        };
        let threads = (0..CLIENTS).map(client).collect();
        tokio::time::sleep(BEFORE).await;
        Self { since, stop, threads }
    }

    /// Now.
    pub(super) fn us(&self) -> u64 {
        self.since.us()
    }

    /// How long after the change the last request began that was answered by the old one. An error
    /// when the clients did not see one before and the other one after.
    pub(super) async fn end(self, changed_us: u64, old: u8, new: u8) -> Result<u64, Failure> {
        tokio::time::sleep(AFTER).await;
        self.stop.store(true, Relaxed);
        let mut asked: Vec<Asked> = Vec::new();
        for thread in self.threads {
            asked.extend(thread.join().map_err(|_| "a client panicked")?);
        }
        let seen = |word| asked.iter().filter(move |(_, answered)| *answered == word);
        if seen(old).next().is_none() || seen(new).next().is_none() {
            let count = asked.len();
            return Err(format!("the change is not seen in {count} answers").into());
        }
        let last = seen(old).map(|(begun_us, _)| *begun_us).max().unwrap_or(0);
        Ok(last.saturating_sub(changed_us))
    }
}

fn ask(port: u16, since: Since, stop: &AtomicBool) -> Vec<Asked> {
    let (mut asked, mut kept) = (Vec::new(), None);
    while !stop.load(Relaxed) {
        let begun_us = since.us();
        // A connection that was closed in between is made anew, as any client does.
        match one(port, kept.take()) {
            Ok((stream, word)) => {
                kept = Some(stream);
                asked.push((begun_us, word));
            }
            Err(_) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
    asked
}

/// One request on a connection that is kept.
fn one(port: u16, kept: Option<TcpStream>) -> std::io::Result<(TcpStream, u8)> {
    let mut stream = match kept {
        Some(stream) => stream,
        None => TcpStream::connect((Ipv4Addr::LOCALHOST, port))?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
        let Some(head) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        // What the backend says is 128 bytes long, and begins with its letter.
        if answer.len() >= head + 4 + 128 {
            return Ok((stream, answer[head + 4]));
        }
    }
}
