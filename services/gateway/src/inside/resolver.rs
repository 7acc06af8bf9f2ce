//! Questions about the outside: they go, as they are, to the machine's own resolvers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

/// Where the machine's resolvers are written down.
const FILE: &str = "/etc/resolv.conf";

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many are asked.
const ASKED: usize = 3;

/// The longest message, in bytes.
const MESSAGE_MAX: usize = 65_535;

/// Who answers questions about the outside.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    /// Those that were given; the machine's own when there are none.
    given: Vec<SocketAddr>,
    /// Who must not be asked: it is us.
    own: Ipv4Addr,
}

impl Resolver {
    pub(crate) fn new(given: Vec<SocketAddr>, own: Ipv4Addr) -> Self {
        Self { given, own }
    }

    /// Asks one after the other by datagram: the first answer.
    pub(crate) async fn by_datagram(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in self.servers().await {
            match tokio::time::timeout(PATIENCE, datagram(server, question)).await {
                Ok(Ok(answer)) => return Some(answer),
                failed => tracing::debug!(%server, ?failed, "a resolver does not answer"),
            }
        }
        None
    }

    /// The same by stream.
    pub(crate) async fn by_stream(&self, question: &[u8]) -> Option<Vec<u8>> {
        for server in self.servers().await {
            match tokio::time::timeout(PATIENCE, stream(server, question)).await {
                Ok(Ok(answer)) => return Some(answer),
                failed => tracing::debug!(%server, ?failed, "a resolver does not answer"),
            }
        }
        None
    }

    async fn servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.given.clone();
        if servers.is_empty() {
            // It may change at any time, and is short.
            let text = tokio::fs::read_to_string(Path::new(FILE)).await.unwrap_or_default();
            servers = written(&text);
        }
        servers.retain(|server| server.ip() != IpAddr::V4(self.own));
        servers.truncate(ASKED);
        servers
    }
}

/// The resolvers that a file names.
fn written(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| -> Option<SocketAddr> {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        Some(SocketAddr::new(words.next()?.parse().ok()?, 53))
    };
    text.lines().filter_map(address).collect()
}

async fn datagram(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    // A port of its own for each question: whoever would answer in the server's place has to guess it.
    let from: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MESSAGE_MAX];
    loop {
        let bytes = socket.recv(&mut buffer).await?;
        if answers(question, &buffer[..bytes]) {
            buffer.truncate(bytes);
            return Ok(buffer);
        }
    }
}

async fn stream(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    let answer = read_message(&mut stream).await?;
    let wrong = || io::Error::other("the answer is to another question");
    answers(question, &answer).then_some(answer).ok_or_else(wrong)
}

/// Whether a message answers to a question's number.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    answer.len() >= 12 && answer.get(..2) == question.get(..2) && answer[2] & 0x80 != 0
}

/// Reads a message from a stream, where its length goes before it.
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let framed = [&length.to_be_bytes(), message].concat();
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_they_are_written() {
        let text = "# a comment\nsearch x\nnameserver 192.0.2.1\nnameserver  ::1 \nnameserver x\n";
        let found: Vec<String> = written(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.1:53", "[::1]:53"]);
    }

    #[tokio::test]
    async fn the_next_one_is_asked_when_one_is_not_there_and_we_never_are() {
        let there = UdpSocket::bind("127.0.0.1:0").await.expect("there are ports");
        let gone = UdpSocket::bind("127.0.0.1:0").await.expect("there are ports");
        let at = |socket: &UdpSocket| socket.local_addr().expect("it has an address");
        let own = Ipv4Addr::new(127, 0, 0, 9);
        let given = vec![(own, 53).into(), at(&gone), at(&there)];
        drop(gone);
        let resolver = Resolver::new(given, own);
        let question = [&[7, 8, 1][..], &[0; 20]].concat();
        let serve = async {
            let mut buffer = [0; 100];
            let (bytes, from) = there.recv_from(&mut buffer).await.expect("a question");
            // Another number, then a question: neither is an answer.
            for (id, flags) in [(9, 0x80), (7, 0), (7, 0x80)] {
                let mut answer = buffer[..bytes].to_vec();
                (answer[0], answer[2]) = (id, flags);
                there.send_to(&answer, from).await.expect("it is sent");
            }
        };
        let (answer, ()) = tokio::join!(resolver.by_datagram(&question), serve);
        let answer = answer.expect("an answer");
        assert_eq!((answer[0], answer[2], answer.len()), (7, 0x80, question.len()));
    }
}
