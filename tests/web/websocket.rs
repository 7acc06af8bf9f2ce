//! WebSocket: what a client says is said back, message by message, until it closes.

use std::io::{self, Read, Write};

/// What every server hashes behind a client's key.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Says yes to a client with this key, and speaks with it from then on.
pub fn serve(key: &str, reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
    let accept = base64(&sha1(format!("{key}{MAGIC}").as_bytes()));
    write!(
        writer,
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    )?;
    loop {
        let (first, text) = frame(reader)?;
        match first & 0x0f {
            CLOSE => return writer.write_all(&[0x80 | CLOSE, 0]),
            PING => say(writer, 0x80 | PONG, &text)?,
            PONG => {}
            _ => say(writer, first, &text)?,
        }
    }
}

/// The first byte of a frame, and what it says without the client's mask.
fn frame(reader: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let [first, second] = bytes(reader)?;
    let length = match second & 0x7f {
        126 => u64::from(u16::from_be_bytes(bytes(reader)?)),
        127 => u64::from_be_bytes(bytes(reader)?),
        short => u64::from(short),
    };
    if second & 0x80 == 0 || length > super::MOST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a frame without mask, or too long",
        ));
    }
    let mask: [u8; 4] = bytes(reader)?;
    let mut text = Vec::new();
    if reader.take(length).read_to_end(&mut text)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for (byte, mask) in text.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Ok((first, text))
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn say(writer: &mut impl Write, first: u8, text: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match text.len() {
        short @ ..126 => frame.push(short as u8),
        length => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(text);
    writer.write_all(&frame)
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0_usize, |all, byte| all << 8 | usize::from(*byte));
        let all = all << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[all >> (18 - 6 * place) & 63];
            text.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut padded = bytes.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if bytes.len() % 64 >= 56 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(bytes.len() as u64 * 8).to_be_bytes());
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    for block in padded.chunks(64) {
        let mut words = [0_u32; 80];
        for (word, four) in words.iter_mut().zip(block.chunks(4)) {
            *word = four.iter().fold(0, |word, byte| word << 8 | u32::from(*byte));
        }
        for i in 16..80 {
            words[i] = (words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (i, word) in words.iter().enumerate() {
            let (mixed, constant) = match i / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = a.rotate_left(5).wrapping_add(mixed).wrapping_add(e);
            let next = next.wrapping_add(constant).wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, part) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(part);
        }
    }
    let mut digest = [0; 20];
    for (four, word) in digest.chunks_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    digest
}
