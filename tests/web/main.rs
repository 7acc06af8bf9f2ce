//! The program in the image that Muster's tests and its demonstration run: a small web server whose behaviour is told
//! from outside, so that a test can make it slow to start, ill, busy, greedy, deaf or dead.
//!
//! It needs nothing but `std` and is compiled into one static binary by `infra/image.sh`; it is no crate of the
//! workspace.
//!
//! ```text
//! web                      serve HTTP until SIGTERM, then finish what is being answered and end with 0
//! web sleep [SECONDS]      do nothing for so long (without a number: for ever), then end with 0
//! web exit CODE [MS]       end with CODE, after MS milliseconds
//! web probe URL            GET the URL; end with 0 if the answer is a 2xx within 2 seconds, else with 1
//! web store                keep values: SET, GET and INCR as Redis has them, one a line, by TCP and by UDP
//!
//! /                        who answers: greeting, host, version, and an id that differs for every start
//! /healthz                 200; 503 before READY_MS is over, and between /unhealthy and /healthy
//! /unhealthy, /healthy     switch what /healthz says
//! /exit?code=N             end the process with that code
//! /burn?ms=N               keep one core busy for so long, then answer
//! /alloc?mb=N              take memory, touch it and keep it
//! /sleep?ms=N              answer after so long, without using a core
//! /env                     the environment, sorted
//! /file?path=P             the first 64 KiB of a file
//! /resolve?name=N          the addresses of a name, sorted; 502 and why when it has none
//! /fetch?url=U             what a URL answers; 502 and why when it does not
//! /ask?at=A&say=S          the line that HOST:PORT answers to a line; with &by=udp, datagrams
//! /next                    the same as /fetch, of the URL in NEXT
//! /count                   counts, in the store at STORE
//! /echo                    WebSocket: every message is said back
//! HTTP/2                   gRPC: see grpc.rs
//!
//! PORT        8080         where to listen
//! GREETING    hello        the first word of /
//! VERSION     none         set by the image
//! READY_MS    0            /healthz says 503 for so long after the start
//! TERM_MS     0            how long to go on serving after SIGTERM before ending
//! STATUS      200          with what / is answered
//! NEXT                     a URL for /next
//! STORE                    the HOST:PORT of a store for /count
//! DATA                     the folder that a store keeps its values in; without one they end with it
//! ```

// The workspace's rules on clocks, environment and exits are for services, which a simulator must be able to replay.
#![allow(clippy::disallowed_methods)]
#![deny(unsafe_code)]

use std::collections::BTreeMap;
use std::env;
use std::fmt::Display;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, PipeWriter, Read, Write};
use std::net::{TcpListener, TcpStream, ToSocketAddrs};
use std::process::exit;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

mod clients;
mod grpc;
mod store;
mod websocket;

/// The most of a file that is shown, of a request line or header that is read, and of a request body that is skipped.
const MOST: u64 = 64 * 1024;
/// How long answers that are under way may take after SIGTERM.
const FINISH: Duration = Duration::from_secs(2);

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let server = Arc::new(Server::from_environment());
    end_on_sigterm(Arc::clone(&server));
    match arguments[..] {
        [] => server.serve(),
        ["sleep"] => loop {
            thread::park();
        },
        ["sleep", seconds] => thread::sleep(Duration::from_secs(number("SECONDS", seconds))),
        ["exit", code] => exit(number("CODE", code)),
        ["exit", code, ms] => {
            let code = number("CODE", code);
            thread::sleep(Duration::from_millis(number("MS", ms)));
            exit(code);
        }
        ["probe", url] => match probe(url) {
            Ok(status) if (200..300).contains(&status) => {}
            Ok(status) => fail(1, format_args!("{url} answered {status}")),
            Err(error) => fail(1, format_args!("{url}: {error}")),
        },
        ["store"] => store::serve(server.port, env::var("DATA").ok()),
        _ => fail(2, "usage: web [sleep [SECONDS] | exit CODE [MS] | probe URL | store]"),
    }
}

fn fail(code: i32, why: impl Display) -> ! {
    eprintln!("web: {why}");
    exit(code)
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| fail(2, format_args!("{name} is {text:?}, not a number it can be")))
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

struct Server {
    port: u16,
    ready: Duration,
    linger: Duration,
    /// What `/` answers, and with which status.
    banner: String,
    status: u16,
    started: Instant,
    unhealthy: AtomicBool,
    stopping: AtomicBool,
    answering: Arc<AtomicUsize>,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl Server {
    fn from_environment() -> Self {
        let start = RandomState::new().hash_one(std::process::id());
        let banner = format!(
            "{} host={} version={} start={start:016x}\n",
            setting("GREETING", "hello"),
            setting("HOSTNAME", "none"),
            setting("VERSION", "none"),
        );
        Self {
            port: number("PORT", &setting("PORT", "8080")),
            ready: Duration::from_millis(number("READY_MS", &setting("READY_MS", "0"))),
            linger: Duration::from_millis(number("TERM_MS", &setting("TERM_MS", "0"))),
            banner,
            status: number("STATUS", &setting("STATUS", "200")),
            started: Instant::now(),
            unhealthy: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            answering: Arc::default(),
            kept: Mutex::new(Vec::new()),
        }
    }

    fn serve(self: Arc<Self>) {
        let listener = TcpListener::bind(("0.0.0.0", self.port)).unwrap_or_else(|error| {
            fail(1, format_args!("cannot listen on port {}: {error}", self.port))
        });
        println!("web: listening on port {}: {}", self.port, self.banner.trim_end());
        for stream in listener.incoming() {
            let server = Arc::clone(&self);
            // A client that leaves, or that speaks nonsense, is its own affair.
            let converse =
                |stream| thread::Builder::new().spawn(move || server.converse(stream).ok());
            if let Err(error) = stream.and_then(converse) {
                eprintln!("web: a connection was dropped: {error}");
                thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Answers one request after the other on one connection.
    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while let Some(request) = Request::read(&mut reader)? {
            if request.method == "PRI" {
                let on = || Counted::one_more(&self.answering);
                return grpc::serve(&mut reader, writer, self.banner.trim_end().to_owned(), on);
            }
            let _answering = Counted::one_more(&self.answering);
            if let Some(key) = request.key.as_ref().filter(|_| request.path == "/echo") {
                return websocket::serve(key, &mut reader, &mut writer);
            }
            let (status, body) = self.answer(&request);
            let close = request.close || self.stopping.load(SeqCst);
            let reason = if status < 400 { "OK" } else { "Error" };
            let connection = if close { "close" } else { "keep-alive" };
            let head = format!(
                "HTTP/1.1 {status} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
                 connection: {connection}\r\n\r\n",
                body.len()
            );
            let body = if request.method == "HEAD" { &[][..] } else { &body };
            writer.write_all(&[head.as_bytes(), body].concat())?;
            if close {
                break;
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request) -> (u16, Vec<u8>) {
        let answer = match request.path.as_str() {
            "/" => return (self.status, self.banner.clone().into_bytes()),
            "/healthz" => {
                if self.unhealthy.load(SeqCst) || self.started.elapsed() < self.ready {
                    return (503, b"unhealthy\n".to_vec());
                }
                Ok("healthy\n".to_owned())
            }
            "/unhealthy" | "/healthy" => {
                self.unhealthy.store(request.path == "/unhealthy", SeqCst);
                Ok(format!("{}\n", &request.path[1..]))
            }
            "/exit" => request.number("code").map(|code| exit(code)),
            "/burn" => request.number("ms").map(|ms| {
                let end = Instant::now() + Duration::from_millis(ms);
                let mut rounds = 0_u64;
                while Instant::now() < end {
                    rounds = std::hint::black_box(rounds + 1);
                }
                format!("burnt {ms} ms\n")
            }),
            "/alloc" => request.number("mb").map(|mb: usize| {
                // Filled with ones, not zeros: untouched pages of zeros would cost nothing.
                let block = vec![1_u8; mb.saturating_mul(1 << 20)];
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.push(block);
                format!("keeping {} MiB\n", kept.iter().map(Vec::len).sum::<usize>() >> 20)
            }),
            "/sleep" => request.number("ms").map(|ms| {
                thread::sleep(Duration::from_millis(ms));
                format!("slept {ms} ms\n")
            }),
            "/env" => {
                let all: BTreeMap<_, _> = env::vars_os().collect();
                let line = |(name, value): (&std::ffi::OsString, &std::ffi::OsString)| {
                    format!("{}={}\n", name.to_string_lossy(), value.to_string_lossy())
                };
                Ok(all.iter().map(line).collect())
            }
            "/file" => {
                let Some(path) = request.query.get("path") else {
                    return (400, b"needs ?path=\n".to_vec());
                };
                let mut content = Vec::new();
                return match File::open(path)
                    .and_then(|file| file.take(MOST).read_to_end(&mut content))
                {
                    Ok(_) => (200, content),
                    Err(error) => (404, format!("{path}: {error}\n").into_bytes()),
                };
            }
            "/resolve" | "/fetch" | "/ask" | "/next" | "/count" => {
                let found = clients::answer(request.path.as_str(), &request.query);
                return found.map_or_else(
                    |error| (502, format!("{error}\n").into_bytes()),
                    |text| (200, text.into_bytes()),
                );
            }
            path => return (404, format!("{path} is not known here\n").into_bytes()),
        };
        match answer {
            Ok(text) => (200, text.into_bytes()),
            Err(why) => (400, why.into_bytes()),
        }
    }
}

/// Counts itself for as long as it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn one_more(counter: &Arc<AtomicUsize>) -> Self {
        counter.fetch_add(1, SeqCst);
        Self(counter.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    /// The client wants no further answer on this connection.
    close: bool,
    /// What it says to begin with WebSocket.
    key: Option<String>,
}

impl Request {
    /// The next request; none if the client has closed the connection.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let first = line(reader)?;
        let mut words = first.split(' ');
        let (Some(method), Some(target), Some(version)) =
            (words.next(), words.next(), words.next())
        else {
            return Ok(None);
        };
        let mut close = version != "HTTP/1.1";
        let (mut length, mut key) = (0, None);
        loop {
            let header = line(reader)?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "connection" => close = value.trim().eq_ignore_ascii_case("close"),
                "sec-websocket-key" => key = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        if length > MOST {
            return Ok(None);
        }
        io::copy(&mut reader.take(length), &mut io::sink())?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pair = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (unescaped(name), unescaped(value))
        };
        let query = query.split('&').map(pair).collect();
        Ok(Some(Self { method: method.to_owned(), path: path.to_owned(), query, close, key }))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, String> {
        let number = self.query.get(name).and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("needs ?{name}= with a number it can be\n"))
    }
}

/// One line without its end; empty at the end of the stream.
fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    reader.take(MOST).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Undoes the `%20` and `+` of a query.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let escaped = tail
            .get(..2)
            .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => bytes.push(b' '),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The status with which a URL is answered.
fn probe(url: &str) -> io::Result<u16> {
    fetch(url).map(|(status, _)| status)
}

/// The status and the text with which a URL is answered.
fn fetch(url: &str) -> io::Result<(u16, String)> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
    let rest = url.strip_prefix("http://").ok_or_else(|| wrong("only http:// is spoken here"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    // An image of one file has no /etc/hosts of its own.
    let address = address.replacen("localhost:", "127.0.0.1:", 1);
    let address =
        address.to_socket_addrs()?.next().ok_or_else(|| wrong("the host has no address"))?;
    let patience = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MOST).read_to_string(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        _ => error,
    })?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| wrong("the answer is not HTTP"))?;
    Ok((status, answer.split_once("\r\n\r\n").map_or("", |(_, text)| text).to_owned()))
}

/// Where the signal handler writes, to wake the thread that ends the process.
static TERMINATED: OnceLock<PipeWriter> = OnceLock::new();

/// Ends the process with 0 on SIGTERM: after `TERM_MS`, and when no answer is under way any more.
///
/// The first process of a container gets no signal that it has no handler for, and `std` cannot install one.
fn end_on_sigterm(server: Arc<Server>) {
    const SIGTERM: i32 = 15;

    #[allow(unsafe_code, reason = "C's own function; the handler keeps its promises, see there")]
    {
        unsafe extern "C" {
            safe fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
        }
        let (mut reader, writer) =
            io::pipe().unwrap_or_else(|error| fail(1, format_args!("cannot make a pipe: {error}")));
        TERMINATED.get_or_init(|| writer);
        signal(SIGTERM, on_sigterm);
        thread::spawn(move || {
            let _ = reader.read(&mut [0]);
            let _ = writeln!(io::stdout(), "web: SIGTERM");
            server.stopping.store(true, SeqCst);
            thread::sleep(server.linger);
            let end = Instant::now() + FINISH;
            while server.answering.load(SeqCst) > 0 && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            exit(0);
        });
    }
}

/// May do only what a signal handler may: it reads one atomic and calls `write`.
extern "C" fn on_sigterm(_: i32) {
    if let Some(mut pipe) = TERMINATED.get() {
        let _ = pipe.write(&[1]);
    }
}
