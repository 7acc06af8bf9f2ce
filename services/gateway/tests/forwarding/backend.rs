//! Replicas that speak HTTP as badly as they are told to, and a client without any cleverness.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// How a replica behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It answers with its port, and keeps the connection.
    Well,
    /// The same, after so long.
    Slow(u64),
    /// It answers this, and keeps the connection.
    Says(&'static str),
    /// It answers, and then closes without a word.
    ClosesAfter,
    /// It closes when a connection's second request arrives.
    DiesOnSecond,
    /// It closes when a request arrives.
    Dies,
    /// It closes in the midst of its answer.
    DiesWithin,
    /// It never answers.
    Silent,
}

/// A replica.
#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) at: SocketAddr,
    pub(crate) manner: Arc<Mutex<Manner>>,
    connections: Arc<AtomicU64>,
    /// The requests that arrived, as they arrived.
    requests: Arc<Mutex<Vec<Message>>>,
}

/// A head and a body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Backend {
    pub(crate) async fn start(gateway: &mut Gateway, manner: Manner) -> Self {
        let listener = TcpListener::bind((HERE, 0)).await.expect("there are ports");
        let backend = Self {
            at: listener.local_addr().expect("it has an address"),
            manner: Arc::new(Mutex::new(manner)),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let serving = backend.clone();
        gateway.tasks.spawn("backend", async move {
            let mut connections = Tasks::default();
            loop {
                let (stream, _) = listener.accept().await?;
                serving.connections.fetch_add(1, SeqCst);
                let serving = serving.clone();
                connections.spawn("connection", async move {
                    serving.serve(stream).await;
                    Ok(())
                });
            }
        });
        backend
    }

    async fn serve(&self, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        for nth in 1.. {
            let Some(request) = read(&mut stream, &mut buffer, false).await else { return };
            self.requests.lock().expect("nobody panicked").push(request);
            let manner = *self.manner.lock().expect("nobody panicked");
            let port = self.at.port().to_string();
            let length = port.len();
            let well = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{port}");
            let answer = match manner {
                Manner::Says(answer) => answer.to_owned(),
                Manner::Silent => std::future::pending().await,
                Manner::Dies => return,
                Manner::DiesOnSecond if nth > 1 => return,
                Manner::DiesWithin => {
                    "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf".to_owned()
                }
                Manner::Slow(ms) => {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    well
                }
                Manner::Well | Manner::ClosesAfter | Manner::DiesOnSecond => well,
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            if matches!(manner, Manner::ClosesAfter | Manner::DiesWithin) {
                return;
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.at.port()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Message> {
        self.requests.lock().expect("nobody panicked").clone()
    }

    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().expect("nobody panicked") = manner;
    }
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect((HERE, port)).await.expect("it is served");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.expect("it is sent");
    }

    /// The next answer. None when the connection ended before its end.
    pub(crate) async fn answer(&mut self) -> Option<Message> {
        read(&mut self.stream, &mut self.buffer, false).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> Option<Message> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n\r\n")).await;
        self.answer().await
    }

    /// The answer to HEAD, which has no body whatever it says of its length.
    pub(crate) async fn head(&mut self) -> Option<Message> {
        self.send("HEAD / HTTP/1.1\r\nhost: shop.example\r\n\r\n").await;
        read(&mut self.stream, &mut self.buffer, true).await
    }
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        let status = self.head.split(' ').nth(1).expect("it has a status");
        status.trim().parse().expect("it is a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

/// One message with a length or in chunks; what follows it stays in the buffer.
pub(crate) async fn read(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    only_head: bool,
) -> Option<Message> {
    let end = until(stream, buffer, b"\r\n\r\n").await?;
    let head = String::from_utf8_lossy(&take(buffer, end)).into_owned();
    let mut message = Message { head, body: Vec::new() };
    if only_head || message.head.starts_with("HTTP/1.1 1") {
        return Some(message);
    }
    if message.header("transfer-encoding").is_some() {
        loop {
            let end = until(stream, buffer, b"\r\n").await?;
            let line = String::from_utf8_lossy(&take(buffer, end)).into_owned();
            let size = usize::from_str_radix(line.trim(), 16).expect("a size");
            fill(stream, buffer, size + 2).await?;
            let chunk = take(buffer, size + 2);
            message.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(message);
            }
        }
    }
    let length = message.header("content-length").map_or(0, |n| n.parse().expect("a length"));
    fill(stream, buffer, length).await?;
    message.body = take(buffer, length);
    Some(message)
}

fn take(buffer: &mut Vec<u8>, length: usize) -> Vec<u8> {
    let rest = buffer.split_off(length);
    std::mem::replace(buffer, rest)
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

async fn until(stream: &mut TcpStream, buffer: &mut Vec<u8>, what: &[u8]) -> Option<usize> {
    loop {
        let found = buffer.windows(what.len()).position(|window| window == what);
        if let Some(at) = found {
            return Some(at + what.len());
        }
        fill(stream, buffer, buffer.len() + 1).await?;
    }
}
