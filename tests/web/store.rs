//! A store of values, as Redis has them: one command a line, by TCP and by UDP.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Values = Mutex<BTreeMap<String, String>>;

/// Serves for ever.
pub fn serve(port: u16) {
    let failed = |error: io::Error| -> ! {
        super::fail(1, format_args!("cannot listen on port {port}: {error}"))
    };
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap_or_else(|error| failed(error));
    let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap_or_else(|error| failed(error));
    println!("store: listening on port {port}");
    let values = Arc::new(Values::default());
    let by_datagram = values.clone();
    thread::spawn(move || datagrams(&socket, &by_datagram));
    for stream in listener.incoming().flatten() {
        let values = values.clone();
        // A client that leaves, or that speaks nonsense, is its own affair.
        thread::spawn(move || converse(stream, &values).ok());
    }
}

fn converse(stream: TcpStream, values: &Values) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let said = super::line(&mut reader)?;
        if said.is_empty() {
            return Ok(());
        }
        writer.write_all(answer(&said, values).as_bytes())?;
    }
}

fn datagrams(socket: &UdpSocket, values: &Values) {
    let mut buffer = [0; 1_024];
    loop {
        if let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            let said = String::from_utf8_lossy(&buffer[..bytes]).into_owned();
            let _ = socket.send_to(answer(said.trim(), values).as_bytes(), from);
        }
    }
}

fn answer(said: &str, values: &Values) -> String {
    let mut values = values.lock().unwrap_or_else(PoisonError::into_inner);
    let words: Vec<&str> = said.split_whitespace().collect();
    match words.as_slice() {
        ["PING"] => "+PONG\r\n".to_owned(),
        ["SET", key, value] => {
            values.insert((*key).to_owned(), (*value).to_owned());
            "+OK\r\n".to_owned()
        }
        ["GET", key] => format!("+{}\r\n", values.get(*key).map_or("", String::as_str)),
        ["INCR", key] => {
            let number =
                values.get(*key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0) + 1;
            values.insert((*key).to_owned(), number.to_string());
            format!(":{number}\r\n")
        }
        _ => "-ERR SET, GET, INCR and PING are known here\r\n".to_owned(),
    }
}
