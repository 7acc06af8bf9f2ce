//! `x-muster.routes`, `x-muster.balance` and `ports[].app_protocol`: which traffic leads to a workload, and
//! what is spoken there.

use std::collections::BTreeMap;

use schemas::spec::{AppProtocol, Balance, Route, Tls};

use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, by, expected, flag, list, number, pairs, port, text};
use crate::node::Node;
use crate::support::{ROUTE, ROUTE_TLS};
use crate::units;

/// What is spoken on a port. Words that mean nothing here leave it to the first bytes.
pub(crate) fn app_protocol(node: &Node) -> Result<AppProtocol, Wrong> {
    Ok(match text(node)?.trim().to_ascii_lowercase().as_str() {
        "http" | "http1" | "ws" => AppProtocol::Http,
        "http2" | "h2c" | "grpc" => AppProtocol::Http2,
        "tcp" | "https" | "tls" => AppProtocol::Tcp,
        "proxy" => AppProtocol::Proxy,
        _ => AppProtocol::Detect,
    })
}

/// Which replica gets the next request.
pub(crate) fn balance(node: &Node) -> Result<Balance, Wrong> {
    let given = text(node)?;
    let name = |name: &str| {
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        (!name.is_empty() && name.bytes().all(token)).then(|| name.to_owned())
    };
    let found = match given.trim().split_once(':') {
        None => match given.trim() {
            "least_loaded" => Some(Balance::LeastLoaded),
            "round_robin" => Some(Balance::RoundRobin),
            "client_address" => Some(Balance::ClientAddress),
            _ => None,
        },
        Some(("header", header)) => name(header.trim()).map(Balance::Header),
        Some(("cookie", cookie)) => name(cookie.trim()).map(Balance::Cookie),
        Some(_) => None,
    };
    found.ok_or_else(|| {
        expected(node, "least_loaded, round_robin, client_address, header:NAME or cookie:NAME")
    })
}

/// The requests that lead to a workload by their host and path.
pub(crate) fn routes(node: &Node, notes: &mut Notes<'_>) -> Result<Vec<Route>, Wrong> {
    list(node)?.iter().map(|node| route(node, notes)).collect()
}

fn route(node: &Node, notes: &mut Notes<'_>) -> Result<Route, Wrong> {
    let fields = Fields::of(node, &ROUTE, notes)?;
    let tls = match fields.get("tls") {
        Some(node) => Some(tls(node, notes)?),
        None => None,
    };
    let mut set_headers = BTreeMap::new();
    for (name, (spot, value)) in fields.read("set_headers", pairs)?.unwrap_or_default() {
        let value = value.ok_or_else(|| Wrong::at(spot, format!("{name} has no value")))?;
        set_headers.insert(name, value);
    }
    let usual = Route::default();
    Ok(Route {
        host: fields.read("host", text)?,
        path: fields.read("path", text)?.unwrap_or(usual.path),
        port: fields.read("port", port)?,
        tls,
        redirect: fields.read("redirect", text)?,
        rate_limit: fields.read("rate_limit", number)?,
        timeout_ms: fields.read("timeout", by(units::millis))?.unwrap_or(usual.timeout_ms),
        retries: fields.read("retries", number)?.unwrap_or(usual.retries),
        set_headers,
    })
}

fn tls(node: &Node, notes: &mut Notes<'_>) -> Result<Tls, Wrong> {
    let fields = Fields::of(node, &ROUTE_TLS, notes)?;
    let (name, acme) = (fields.read("certificate", text)?, fields.read("acme", flag)?);
    let redirect = fields.read("redirect", flag)?.unwrap_or(true);
    match (name, acme.unwrap_or(false)) {
        (Some(name), false) => Ok(Tls::File { name, redirect }),
        (None, true) => Ok(Tls::Acme { redirect }),
        _ => Err(Wrong::at(node.spot, "give one of `certificate: NAME` and `acme: true`")),
    }
}
