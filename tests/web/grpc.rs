//! gRPC over HTTP/2 without TLS: `Watch(count, every_ms)` is answered by a stream of so many messages.
//!
//! ```text
//! message Watch { uint32 count = 1; uint32 every_ms = 2; }
//! message Tick  { uint32 number = 1; string who = 2; }
//! ```
//!
//! Every method of every service is that one, so the headers of a request need not be understood.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// What may be sent before the other end says more, and the most of a frame.
const WINDOW_BYTES: i64 = 65_535;
const FRAME_MOST: usize = 16_384;

/// A connection as its streams share it.
struct Shared {
    writer: Mutex<TcpStream>,
    room: Mutex<Room>,
    more: Condvar,
    who: String,
}

/// What may be sent still: on all streams together, and on each.
struct Room {
    all: i64,
    initial: i64,
    streams: BTreeMap<u32, i64>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// Speaks with a client whose first request was read as one of HTTP/1: the beginning of what HTTP/2
/// begins with. `on` is held while a stream is answered.
pub fn serve<T: Send + 'static>(
    reader: &mut impl Read,
    writer: TcpStream,
    who: String,
    on: impl Fn() -> T,
) -> io::Result<()> {
    let mut rest = [0; 6];
    reader.read_exact(&mut rest)?;
    if &rest != b"SM\r\n\r\n" {
        return Err(wrong("this is not HTTP/2"));
    }
    let room = Room { all: WINDOW_BYTES, initial: WINDOW_BYTES, streams: BTreeMap::new() };
    let shared = Arc::new(Shared {
        writer: Mutex::new(writer),
        room: Mutex::new(room),
        more: Condvar::new(),
        who,
    });
    shared.send(SETTINGS, 0, 0, &[])?;
    let served = converse(reader, &shared, &on);
    // Whoever waits for room waits no more.
    shared.room().streams.clear();
    shared.more.notify_all();
    served
}

fn converse<T: Send + 'static>(
    reader: &mut impl Read,
    shared: &Arc<Shared>,
    on: &impl Fn() -> T,
) -> io::Result<()> {
    let mut asked: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    loop {
        let Frame { kind, flags, stream, payload } = Frame::read(reader)?;
        match kind {
            HEADERS => {
                let mut room = shared.room();
                let initial = room.initial;
                room.streams.insert(stream, initial);
                asked.entry(stream).or_default();
            }
            DATA => {
                let text = unpadded(flags, &payload)?;
                asked.entry(stream).or_default().extend(text);
                if !payload.is_empty() {
                    let more = u32::try_from(payload.len()).map_err(io::Error::other)?;
                    shared.send(WINDOW, 0, 0, &more.to_be_bytes())?;
                }
            }
            RESET => {
                asked.remove(&stream);
                shared.room().streams.remove(&stream);
                shared.more.notify_all();
            }
            SETTINGS if flags & ACK == 0 => {
                shared.settings(&payload);
                shared.send(SETTINGS, ACK, 0, &[])?;
            }
            PING if flags & ACK == 0 => shared.send(PING, ACK, 0, &payload)?,
            WINDOW => shared.widen(stream, &payload)?,
            _ => {}
        }
        let ends = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
        if let Some(request) = asked.remove(&stream).filter(|_| ends) {
            let (shared, on) = (shared.clone(), on());
            thread::spawn(move || {
                let _on = on;
                // A client that goes away before the end is its own affair.
                let _ = shared.answer(stream, &request);
                shared.room().streams.remove(&stream);
            });
        }
    }
}

impl Shared {
    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut frame =
            u32::try_from(payload.len()).map_err(io::Error::other)?.to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&frame)
    }

    fn settings(&self, payload: &[u8]) {
        for setting in payload.chunks_exact(6) {
            if setting[..2] == [0, 4] {
                let initial = i64::from(number(&setting[2..]));
                let mut room = self.room();
                let more = initial - room.initial;
                room.initial = initial;
                room.streams.values_mut().for_each(|stream| *stream += more);
            }
        }
        self.more.notify_all();
    }

    fn widen(&self, stream: u32, payload: &[u8]) -> io::Result<()> {
        if payload.len() != 4 {
            return Err(wrong("a window without a number"));
        }
        let (mut room, more) = (self.room(), i64::from(number(payload)));
        match stream {
            0 => room.all += more,
            _ => {
                if let Some(left) = room.streams.get_mut(&stream) {
                    *left += more;
                }
            }
        }
        drop(room);
        self.more.notify_all();
        Ok(())
    }

    /// Waits until so much may be sent on a stream.
    fn wait(&self, stream: u32, bytes: usize) -> io::Result<()> {
        let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
        let mut room = self.room();
        loop {
            let all = room.all;
            let left = room.streams.get_mut(&stream).ok_or_else(|| wrong("the stream is gone"))?;
            if *left >= bytes && all >= bytes {
                *left -= bytes;
                room.all -= bytes;
                return Ok(());
            }
            room = self.more.wait(room).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn answer(&self, stream: u32, request: &[u8]) -> io::Result<()> {
        let (count, every_ms) = watch(request)?;
        // :status 200, and content-type without the table.
        let head = [&[0x88, 0x0f, 0x10, 16], &b"application/grpc"[..]].concat();
        self.send(HEADERS, END_HEADERS, stream, &head)?;
        for number in 1..=count {
            thread::sleep(Duration::from_millis(every_ms));
            let message = tick(number, &self.who);
            self.wait(stream, message.len())?;
            self.send(DATA, 0, stream, &message)?;
        }
        let trailers = [&[0, 11], &b"grpc-status"[..], &[1], b"0"].concat();
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &trailers)
    }
}

impl Frame {
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 9];
        reader.read_exact(&mut head)?;
        let length = usize::try_from(number(&head[..3])).map_err(io::Error::other)?;
        if length > FRAME_MOST {
            return Err(wrong("a frame that is too long"));
        }
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload)?;
        let stream = number(&head[5..]) & 0x7fff_ffff;
        Ok(Self { kind: head[3], flags: head[4], stream, payload })
    }
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn unpadded(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let padding = usize::from(*payload.first().ok_or_else(|| wrong("no padding"))?);
    payload.get(1..payload.len().saturating_sub(padding)).ok_or_else(|| wrong("only padding"))
}

/// The two numbers of a request: behind a byte and its length, as every message of gRPC.
fn watch(request: &[u8]) -> io::Result<(u64, u64)> {
    let mut rest = request.get(5..).ok_or_else(|| wrong("no message"))?;
    let (mut count, mut every_ms) = (0, 0);
    while let Some((tag, behind)) = varint(rest) {
        let (value, behind) = varint(behind).ok_or_else(|| wrong("a field without a value"))?;
        rest = behind;
        match tag {
            0x08 => count = value,
            0x10 => every_ms = value,
            _ => return Err(wrong("another field than count and every_ms")),
        }
    }
    Ok((count, every_ms))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(9).position(|byte| byte & 0x80 == 0)?;
    let (first, rest) = bytes.split_at(end + 1);
    let value = first.iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
    Some((value, rest))
}

/// A message with a number, and who says it; both short.
fn tick(mut number: u64, who: &str) -> Vec<u8> {
    let mut message = vec![0x08];
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
    let who = &who.as_bytes()[..who.len().min(100)];
    message.extend([0x12, who.len() as u8]);
    message.extend(who);
    let mut framed = vec![0, 0, 0, 0, message.len() as u8];
    framed.append(&mut message);
    framed
}
