//! A store of values, as Redis has them: one command a line, by TCP and by UDP. With a folder to keep them in,
//! they are there again after a restart.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

type Values = Mutex<Kept>;

/// The values, and where they are kept, if anywhere: one a line.
#[derive(Default)]
struct Kept {
    values: BTreeMap<String, String>,
    file: Option<String>,
}

impl Kept {
    fn of(folder: Option<String>) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        fs::create_dir_all(&folder)?;
        let file = format!("{folder}/values");
        let text = match fs::read_to_string(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let pair = |line: &str| {
            line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()))
        };
        Ok(Self { values: text.lines().filter_map(pair).collect(), file: Some(file) })
    }

    /// Sets a value, on disk first.
    fn set(&mut self, key: &str, value: String) -> io::Result<()> {
        self.values.insert(key.to_owned(), value);
        let Some(file) = &self.file else { return Ok(()) };
        let line = |(key, value): (&String, &String)| format!("{key} {value}\n");
        let text: String = self.values.iter().map(line).collect();
        let next = format!("{file}.next");
        let mut written = fs::File::create(&next)?;
        written.write_all(text.as_bytes())?;
        written.sync_all()?;
        fs::rename(next, file)
    }
}

/// Serves for ever.
pub fn serve(port: u16, folder: Option<String>) {
    let failed = |error: io::Error| -> ! {
        super::fail(1, format_args!("cannot listen on port {port}: {error}"))
    };
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap_or_else(|error| failed(error));
    let socket = UdpSocket::bind(("0.0.0.0", port)).unwrap_or_else(|error| failed(error));
    let kept = Kept::of(folder)
        .unwrap_or_else(|error| super::fail(1, format_args!("cannot read what was kept: {error}")));
    println!("store: listening on port {port}, {} values kept", kept.values.len());
    let values = Arc::new(Values::new(kept));
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
        ["SET", key, value] => kept(values.set(key, (*value).to_owned()), "+OK"),
        ["GET", key] => format!("+{}\r\n", values.values.get(*key).map_or("", String::as_str)),
        ["INCR", key] => {
            let known = values.values.get(*key).and_then(|value| value.parse::<u64>().ok());
            let number = known.unwrap_or(0) + 1;
            kept(values.set(key, number.to_string()), &format!(":{number}"))
        }
        _ => "-ERR SET, GET, INCR and PING are known here\r\n".to_owned(),
    }
}

fn kept(set: io::Result<()>, well: &str) -> String {
    match set {
        Ok(()) => format!("{well}\r\n"),
        Err(error) => format!("-ERR it cannot be kept: {error}\r\n"),
    }
}
