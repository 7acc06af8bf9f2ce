//! A resolver of names outside, for gateways and CAs under test: it knows two names, and asks nobody.

use std::net::{SocketAddr, UdpSocket};

/// A name that it knows, and its address.
pub const NAME: &str = "outside.test";
/// See [`NAME`].
pub const ADDRESS: [u8; 4] = [192, 0, 2, 77];

/// The name of a site on this machine.
pub const SITE: &str = "shop.test";

/// Starts one on an address, for as long as the process lives.
///
/// # Panics
///
/// When there is no port.
#[must_use]
pub fn start(listen: &str) -> SocketAddr {
    let socket = UdpSocket::bind((listen, 0)).expect("there are ports");
    let address = socket.local_addr().expect("it has an address");
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..bytes]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

/// The answer to a message with one question.
fn answer(asked: &[u8]) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*asked.get(at)?);
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(asked.get(at + 1..=at + length)?).to_lowercase());
        at += 1 + length;
    }
    let question = asked.get(12..at + 5)?;
    let address = match labels.join(".").as_str() {
        NAME => Some(ADDRESS),
        SITE => Some([127, 0, 0, 1]),
        _ => None,
    };
    let (known, wants_address) = (address.is_some(), asked.get(at + 1..at + 3)? == [0, 1]);
    let address = address.filter(|_| wants_address);
    let answers = u8::from(address.is_some());
    let mut answer = asked.get(..2)?.to_vec();
    let code = if known { 0 } else { 3 };
    answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(question);
    if let Some(address) = address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(address);
    }
    Some(answer)
}
