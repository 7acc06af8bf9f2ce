//! The PROXY protocol, version 2: what a replica is told of a client before the client's own bytes.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and: what follows is of another connection.
const PROXIED: u8 = 0x21;
const STREAM_V4: u8 = 0x11;
const STREAM_V6: u8 = 0x21;

/// The header for a client, and the address that it connected to.
pub(crate) fn header(client: SocketAddr, here: SocketAddr) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.push(PROXIED);
    match (client.ip().to_canonical(), here.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(here)) => {
            header.extend([STREAM_V4, 0, 12]);
            header.extend(client.octets());
            header.extend(here.octets());
        }
        (client, here) => {
            let octets = |ip| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            header.extend([STREAM_V6, 0, 36]);
            header.extend(octets(client));
            header.extend(octets(here));
        }
    }
    header.extend(client.port().to_be_bytes());
    header.extend(here.port().to_be_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses_are_where_readers_look_for_them() {
        let four = header(at("192.0.2.1:1000"), at("192.0.2.2:80"));
        assert_eq!(four.len(), 16 + 12);
        assert_eq!(&four[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(&four[16..], [192, 0, 2, 1, 192, 0, 2, 2, 0x03, 0xe8, 0, 80]);
        let six = header(at("[2001:db8::1]:1000"), at("[2001:db8::2]:80"));
        assert_eq!(six.len(), 16 + 36);
        assert_eq!(&six[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(six[16..18], [0x20, 0x01]);
        let mapped = header(at("[::ffff:192.0.2.1]:1000"), at("192.0.2.2:80"));
        assert_eq!(mapped, four);
    }
}
