//! One connection of a client, and one request on it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Kind, Mix};

/// How long those requests take that take a while, in ms.
const SLOW_MS: u32 = 150;

/// A request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    post: bool,
    slow: bool,
    /// Whether its connection is kept for the next one.
    pub(super) kept: bool,
}

impl Ask {
    /// Of sixteen, eight travel on connections that are kept, four take a while, and four are POSTs where
    /// there are any: of each of these two, half on connections that are kept.
    pub(super) fn of(number: usize, mix: Mix) -> Self {
        let number = number % 16;
        Self {
            kept: number.is_multiple_of(2),
            post: mix == Mix::GetsAndPosts && matches!(number, 2 | 3 | 8 | 9),
            slow: matches!(number, 3..=6),
        }
    }

    fn bytes(self) -> String {
        let path = if self.slow { format!("/sleep?ms={SLOW_MS}") } else { "/".to_owned() };
        let (method, body) = if self.post { ("POST", "a body") } else { ("GET", "") };
        let connection = if self.kept { "keep-alive" } else { "close" };
        let length =
            if self.post { format!("content-length: {}\r\n", body.len()) } else { String::new() };
        format!(
            "{method} {path} HTTP/1.1\r\nhost: shop.example\r\n{length}connection: {connection}\r\n\r\n{body}"
        )
    }
}

impl fmt::Display for Ask {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.post { "POST" } else { "GET" })?;
        out.write_str(if self.slow { " slow" } else { "" })?;
        out.write_str(if self.kept { " kept" } else { " alone" })
    }
}

/// How a request failed.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn late() -> Self {
        Self { kind: Kind::Late, what: "no answer in time".to_owned() }
    }

    fn ended(what: &str) -> Self {
        Self { kind: Kind::Ended, what: what.to_owned() }
    }

    fn nonsense(what: &str) -> Self {
        Self { kind: Kind::Nonsense, what: what.to_owned() }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::ConnectionRefused => Kind::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Kind::Reset,
            _ => Kind::Other,
        };
        Self { kind, what: error.to_string() }
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client(TcpStream);

impl Client {
    pub(super) async fn connect(at: SocketAddr) -> Result<Self, Fault> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    /// Whether the other end has not closed it, as far as can be known.
    pub(super) fn is_open(&self) -> bool {
        let read = self.0.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The text that a request is answered with, and whether the connection goes on.
    pub(super) async fn exchange(&mut self, ask: &Ask) -> Result<(String, bool), Fault> {
        self.0.write_all(ask.bytes().as_bytes()).await?;
        let mut bytes = Vec::with_capacity(512);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if self.0.read_buf(&mut bytes).await? == 0 {
                let when = if bytes.is_empty() { "before its head" } else { "within its head" };
                return Err(Fault::ended(when));
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().map(str::trim)
        };
        let length = header("content-length:").and_then(|text| text.parse::<usize>().ok());
        let length = length.ok_or_else(|| Fault::nonsense("an answer without a length"))?;
        while bytes.len() < end + length {
            if self.0.read_buf(&mut bytes).await? == 0 {
                return Err(Fault::ended("within its text"));
            }
        }
        let text = String::from_utf8_lossy(&bytes[end..end + length]).trim_end().to_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        match status {
            Some(200) => Ok((text, ask.kept && header("connection:") != Some("close"))),
            Some(status) => Err(Fault { kind: Kind::Status(status), what: text }),
            None => Err(Fault::nonsense("an answer without a status")),
        }
    }
}
