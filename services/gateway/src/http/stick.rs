//! Who a client is sent to again: by its address, a header, or a cookie.

use std::net::IpAddr;

use hyper::header::{COOKIE, HeaderMap, HeaderValue};
use schemas::spec::Balance;

use crate::balance::{Want, mark};

/// What is known of whoever asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who<'a> {
    pub(crate) ip: IpAddr,
    /// Where there are any.
    pub(crate) headers: Option<&'a HeaderMap>,
}

/// Who is wanted for it.
pub(crate) fn want(balance: &Balance, who: Who<'_>) -> Want {
    let header = |name: &str| who.headers.and_then(|headers| headers.get(name));
    match balance {
        Balance::LeastLoaded | Balance::RoundRobin => Want::Any,
        Balance::ClientAddress => Want::Key(match who.ip.to_canonical() {
            IpAddr::V4(ip) => mark(&ip.octets()),
            IpAddr::V6(ip) => mark(&ip.octets()),
        }),
        Balance::Header(name) => {
            header(name).map_or(Want::Any, |value| Want::Key(mark(value.as_bytes())))
        }
        Balance::Cookie(name) => {
            who.headers.and_then(|headers| marked(headers, name)).map_or(Want::Any, Want::Marked)
        }
    }
}

/// The cookie that leads back, if the client has to be given it.
pub(crate) fn cookie(balance: &Balance, who: Who<'_>, picked: u64) -> Option<HeaderValue> {
    let Balance::Cookie(name) = balance else { return None };
    let headers = who.headers?;
    if marked(headers, name) == Some(picked) {
        return None;
    }
    HeaderValue::from_str(&format!("{name}={picked:016x}; Path=/; HttpOnly; SameSite=Lax")).ok()
}

fn marked(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .find_map(|(_, value)| u64::from_str_radix(value, 16).ok())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_cookie_leads_back_and_is_given_when_it_is_missing_or_another() {
        let balance = Balance::Cookie("stay".to_owned());
        fn who(headers: &HeaderMap) -> Who<'_> {
            Who { ip: Ipv4Addr::LOCALHOST.into(), headers: Some(headers) }
        }
        let mut headers = HeaderMap::new();
        assert_eq!(want(&balance, who(&headers)), Want::Any);
        let given = cookie(&balance, who(&headers), 0xab).expect("it has none");
        assert_eq!(given, "stay=00000000000000ab; Path=/; HttpOnly; SameSite=Lax");
        headers.insert(COOKIE, HeaderValue::from_static("a=b; stay=00000000000000ab"));
        assert_eq!(want(&balance, who(&headers)), Want::Marked(0xab));
        assert_eq!(cookie(&balance, who(&headers), 0xab), None);
        assert!(cookie(&balance, who(&headers), 0xcd).is_some());
        headers.insert(COOKIE, HeaderValue::from_static("stay=or go"));
        assert_eq!(want(&balance, who(&headers)), Want::Any);
    }

    #[test]
    fn equal_addresses_and_values_want_the_same() {
        let four = Who { ip: Ipv4Addr::new(10, 0, 0, 1).into(), headers: None };
        let mapped = Who { ip: Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped().into(), headers: None };
        let other = Who { ip: Ipv4Addr::new(10, 0, 0, 2).into(), headers: None };
        let by = |who| want(&Balance::ClientAddress, who);
        assert_eq!(by(four), by(mapped));
        assert_ne!(by(four), by(other));
        let mut headers = HeaderMap::new();
        let balance = Balance::Header("x-user".to_owned());
        assert_eq!(want(&balance, Who { headers: Some(&headers), ..four }), Want::Any);
        headers.insert("x-user", HeaderValue::from_static("ann"));
        assert_eq!(
            want(&balance, Who { headers: Some(&headers), ..four }),
            Want::Key(mark(b"ann"))
        );
    }
}
