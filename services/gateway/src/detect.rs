//! What a client speaks, by the first bytes that it sends.

/// The longest first line of a request that is taken for one, in bytes.
pub(crate) const LINE_MAX: usize = 8 << 10;

/// What every connection of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is taken for one.
const METHOD_MAX: usize = 24;

/// What first bytes show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A request of HTTP/1.
    Http1,
    /// A connection of HTTP/2.
    Http2,
    /// Something else.
    Other,
    /// It may be either; more has to be seen.
    Unclear,
}

/// What the first bytes of a connection show. A first line counts as a request when it is one to its
/// end: others begin with a word and a space as well.
pub(crate) fn look(first: &[u8]) -> Seen {
    if first.is_empty() {
        return Seen::Unclear;
    }
    if first.starts_with(PREFACE) {
        return Seen::Http2;
    }
    if PREFACE.starts_with(first) {
        return Seen::Unclear;
    }
    let method =
        first.iter().take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-').count();
    if method > METHOD_MAX {
        return Seen::Other;
    }
    match first.get(method) {
        None => return Seen::Unclear,
        Some(b' ') if method > 0 => {}
        Some(_) => return Seen::Other,
    }
    let Some(end) = first.iter().position(|byte| *byte == b'\n') else {
        return if first.len() < LINE_MAX { Seen::Unclear } else { Seen::Other };
    };
    let line = first[..end].trim_ascii_end();
    let version = line.len().checked_sub(9).map(|at| &line[at..]);
    let known = version
        .is_some_and(|version| version.starts_with(b" HTTP/1.") && version[8].is_ascii_digit());
    if known { Seen::Http1 } else { Seen::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_from_what_looks_like_them() {
        for (first, seen) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], Seen::Http1),
            (b"M-SEARCH /a?b HTTP/1.0\n", Seen::Http1),
            (PREFACE, Seen::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", Seen::Unclear),
            (b"PRI * HTTP/2.0\r\n\r\nSN", Seen::Other),
            (b"", Seen::Unclear),
            (b"GE", Seen::Unclear),
            (b"GET / HTTP/1.1", Seen::Unclear),
            // What stores and mail servers are told.
            (b"GET key\r\n", Seen::Other),
            (b"get key\r\n", Seen::Other),
            (b"*1\r\n$4\r\nPING\r\n", Seen::Other),
            (b"EHLO example.org\r\n", Seen::Other),
            // TLS, and nothing at all.
            (b"\x16\x03\x01\x02\x00", Seen::Other),
            (b" / HTTP/1.1\r\n", Seen::Other),
            (b"GET HTTP/1.1\r\n", Seen::Http1),
        ] {
            assert_eq!(look(first), seen, "{:?}", String::from_utf8_lossy(first));
        }
        assert_eq!(look(&[b'A'; 30]), Seen::Other);
        let mut long = b"GET /".to_vec();
        long.resize(LINE_MAX, b'a');
        assert_eq!(look(&long), Seen::Other);
    }

    #[test]
    fn every_beginning_of_a_request_is_waited_for() {
        let request = b"POST /some/where?else=1 HTTP/1.1\r\n";
        for end in 0..request.len() {
            assert_eq!(look(&request[..end]), Seen::Unclear, "{end}");
        }
        assert_eq!(look(request), Seen::Http1);
    }
}
