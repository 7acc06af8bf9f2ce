//! The agent's own probes over the network.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// As much of an answer as tells its status, and a little to show when it is bad.
const ANSWER_MAX: u64 = 1_024;

/// Connects. The caller bounds the time.
///
/// # Errors
///
/// Why the connection was not taken.
pub(crate) async fn tcp(address: &str) -> Result<(), String> {
    let connected = TcpStream::connect(address).await;
    connected.map(|_| ()).map_err(|error| format!("cannot connect to {address}: {error}"))
}

/// Asks for a path. The caller bounds the time.
///
/// # Errors
///
/// When the answer's status is not from 200 to 399.
pub(crate) async fn http(address: &str, path: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("GET {path} from {address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: muster-probe\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer).await.map_err(failed)?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        _ => {
            let line = schemas::command::printable(text.lines().next().unwrap_or("nothing"), 200);
            Err(format!("GET {path} was answered with {line}"))
        }
    }
}
