//! What becomes of a head on its way through: what is between two ends only is taken out, and what the
//! replica has to know of the client is put in.

use std::net::IpAddr;

use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, HOST, HeaderMap, HeaderName, HeaderValue,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Method, Request, Uri, Version};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Who is at the other end of a connection, in the words of headers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    address: HeaderValue,
    pub(crate) tls: bool,
}

impl Client {
    pub(crate) fn new(ip: IpAddr, tls: bool) -> Self {
        let ip = ip.to_canonical();
        let address = HeaderValue::from_str(&ip.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { ip, address, tls }
    }
}

/// Whether a request wants to go over to another protocol, and may.
pub(crate) fn upgrade_of<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let asked = request.version() == Version::HTTP_11 && has_token(headers, &CONNECTION, "upgrade");
    // Nobody upgrades to HTTP/2 in the midst of things any more, and replicas need not know of it.
    let known = headers.get(UPGRADE).filter(|to| !to.as_bytes().eq_ignore_ascii_case(b"h2c"));
    asked && known.is_some()
}

/// The host that a request is for, without the port.
pub(crate) fn host_of<B>(request: &Request<B>) -> Option<&str> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => request.headers().get(HOST)?.to_str().ok()?,
    };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    Some(host)
}

/// Makes the head of a client's request that of a request to a replica. `sized`: how long the body is,
/// if that is known.
pub(crate) fn to_replica(head: &mut Parts, client: &Client, sized: Option<u64>, upgrade: bool) {
    let asked = upgrade.then(|| head.headers.get(UPGRADE).cloned()).flatten();
    let trailers = has_token(&head.headers, &TE, "trailers");
    strip(&mut head.headers);
    // What it promises, the gateway keeps: it lets the client go on when the replica wants the body.
    head.headers.remove(EXPECT);
    if sized.is_none() {
        // The body comes in pieces: any length that was told is not to be believed.
        head.headers.remove(CONTENT_LENGTH);
    }
    if let Some(protocol) = asked {
        head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(UPGRADE, protocol);
    }
    if trailers {
        head.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(authority) = head.uri.authority() {
        // What the request line names goes before what the header says.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            head.headers.insert(HOST, host);
        }
    }
    forwarded(&mut head.headers, client);
}

fn forwarded(headers: &mut HeaderMap, client: &Client) {
    match headers.entry(FORWARDED_FOR) {
        Entry::Vacant(vacant) => {
            vacant.insert(client.address.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut all = Vec::new();
            for value in entry.iter() {
                all.extend_from_slice(value.as_bytes());
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(client.address.as_bytes());
            if let Ok(all) = HeaderValue::from_bytes(&all) {
                entry.insert(all);
            }
        }
    }
    let proto = if client.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Makes it a head of HTTP/1.1, with nothing but path and query in its first line.
pub(crate) fn to_http1(head: &mut Parts) {
    if head.version == Version::HTTP_2 {
        one_cookie(&mut head.headers);
    }
    // It would have to be named by `Connection`; in HTTP/2 it needs not.
    head.headers.remove(TE);
    head.version = Version::HTTP_11;
    if head.uri.scheme().is_some() || head.uri.authority().is_some() {
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    if !head.headers.contains_key(HOST) {
        head.headers.insert(HOST, HeaderValue::from_static(""));
    }
}

/// HTTP/2 may send cookies in several lines, HTTP/1.1 may not.
fn one_cookie(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let mut all = Vec::new();
    for value in headers.get_all(COOKIE) {
        if !all.is_empty() {
            all.extend_from_slice(b"; ");
        }
        all.extend_from_slice(value.as_bytes());
    }
    if let Ok(all) = HeaderValue::from_bytes(&all) {
        headers.insert(COOKIE, all);
    }
}

/// Makes it a head of HTTP/2, with the host in its first line. False: it cannot be one.
pub(crate) fn to_http2(head: &mut Parts, fallback: &str) -> bool {
    let host = head.headers.remove(HOST);
    let authority = match &host {
        Some(host) if !host.is_empty() => host.to_str().ok(),
        _ => Some(fallback),
    };
    let path = head.uri.path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.unwrap_or(fallback))
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build();
    head.version = Version::HTTP_2;
    uri.map(|uri| head.uri = uri).is_ok() && head.method != Method::CONNECT
}

/// Makes the head of a replica's answer that of an answer to the client.
pub(crate) fn to_client(headers: &mut HeaderMap, upgraded: bool) {
    let protocol = upgraded.then(|| headers.get(UPGRADE).cloned()).flatten();
    strip(headers);
    if let Some(protocol) = protocol {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
}

/// Takes out what is between two ends only, and what `Connection` names.
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // What says where a message ends and whom it is for is not between two ends only.
            .filter(|name| ![CONTENT_LENGTH, HOST].contains(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
