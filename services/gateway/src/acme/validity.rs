//! From when until when a certificate is valid, read from its DER: RFC 5280, section 4.1.

use chrono::NaiveDateTime;

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The version, which version 1 leaves out.
const VERSION: u8 = 0xa0;

/// Both ends, in ms since 1970 UTC. None when it is no certificate.
pub(crate) fn validity(der: &[u8]) -> Option<(u64, u64)> {
    let certificate = value(der, SEQUENCE)?.0;
    let to_be_signed = value(certificate, SEQUENCE)?.0;
    let mut rest = match value(to_be_signed, VERSION) {
        Some((_, rest)) => rest,
        None => to_be_signed,
    };
    // The serial number, how it is signed, and who issued it.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (validity, _) = value(rest, SEQUENCE)?;
    let (kind, from, rest) = element(validity)?;
    let (other, until, _) = element(rest)?;
    Some((time(kind, from)?, time(other, until)?))
}

/// The value of the first element if it is of a kind, and what comes behind it.
fn value(der: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (kind, value, rest) = element(der)?;
    (kind == wanted).then_some((value, rest))
}

/// The first element: its kind, its value, and what comes behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(length)?;
    Some((*kind, value, rest))
}

fn time(kind: u8, text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    let text = match kind {
        // Years of two digits are from 1950 to 2049.
        UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    u64::try_from(time.and_utc().timestamp_millis()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A certificate with nothing in it but what is read.
    fn certificate(version: &[u8], validity: &[u8]) -> Vec<u8> {
        let wrap = |kind: u8, value: &[u8]| {
            let length = u8::try_from(value.len()).expect("short");
            [&[kind, 0x81, length], value].concat()
        };
        let parts = [version, &[2, 1, 9], &[SEQUENCE, 0], &[SEQUENCE, 0]].concat();
        let signed = wrap(SEQUENCE, &[parts, wrap(SEQUENCE, validity)].concat());
        wrap(SEQUENCE, &signed)
    }

    #[test]
    fn both_kinds_of_times_are_read_with_and_without_a_version() {
        let from = [&[UTC_TIME, 13], b"491231235959Z".as_slice()].concat();
        let until = [&[GENERALIZED_TIME, 15], b"20500101000000Z".as_slice()].concat();
        let validity_of =
            |version: &[u8]| validity(&certificate(version, &[from.as_slice(), &until].concat()));
        let wanted = Some((2_524_607_999_000, 2_524_608_000_000));
        assert_eq!(validity_of(&[VERSION, 3, 2, 1, 2]), wanted);
        assert_eq!(validity_of(&[]), wanted);
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_read_or_not(der in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = validity(&der);
        }
    }
}
