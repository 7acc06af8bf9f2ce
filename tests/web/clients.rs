//! What the program asks of others when it is told to: how a test looks out of a container.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufReader, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

/// How long anybody may take to answer: less than whoever waits for ours.
const PATIENCE: Duration = Duration::from_millis(1_500);

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What came of a request for one of these paths.
pub fn answer(path: &str, query: &BTreeMap<String, String>) -> io::Result<String> {
    let needs = |key: &str| query.get(key).ok_or_else(|| wrong(&format!("needs ?{key}=")));
    let set = |key: &str| env::var(key).map_err(|_| wrong(&format!("{key} is not set")));
    match path {
        "/resolve" => resolve(needs("name")?),
        "/fetch" => fetch(needs("url")?),
        "/next" => fetch(&set("NEXT")?),
        "/count" => ask(&set("STORE")?, "INCR count"),
        _ if query.get("by").is_some_and(|by| by == "udp") => {
            ask_by_udp(needs("at")?, needs("say")?)
        }
        _ => ask(needs("at")?, needs("say")?),
    }
}

fn resolve(name: &str) -> io::Result<String> {
    let found = (name, 0).to_socket_addrs()?;
    let mut addresses: Vec<String> = found.map(|address| address.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(addresses.join("\n") + "\n")
}

fn fetch(url: &str) -> io::Result<String> {
    match super::fetch(url)? {
        (200, text) => Ok(text),
        (status, text) => {
            Err(io::Error::other(format!("{url} answered {status}: {}", text.trim())))
        }
    }
}

fn ask(at: &str, say: &str) -> io::Result<String> {
    let address = at.to_socket_addrs()?.next().ok_or_else(|| wrong("the host has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{say}\r\n")?;
    let said = super::line(&mut BufReader::new(stream))?;
    if said.is_empty() {
        return Err(io::Error::other("it ended without an answer"));
    }
    Ok(said + "\n")
}

/// Asked three times: datagrams get lost.
fn ask_by_udp(at: &str, say: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(PATIENCE / 3))?;
    let mut buffer = [0; 1_024];
    let mut last = wrong("nothing was tried");
    for _ in 0..3 {
        socket.send(format!("{say}\r\n").as_bytes())?;
        match socket.recv(&mut buffer) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&buffer[..bytes]).into_owned()),
            Err(error) => last = error,
        }
    }
    Err(last)
}
