//! Routes of a declaration: such as gateways can serve, and none that two would have at once.

use std::collections::BTreeMap;

use cluster::State;
use schemas::command::Problem;
use schemas::id::AppKey;
use schemas::spec::{AppSpec, Balance, Protocol, Route, Tls, WorkloadSpec};

/// The most routes of one workload.
const ROUTES_MAX: usize = 100;

/// The longest time that a request may wait for its answer.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

/// The most often that a request is sent again.
const RETRIES_MAX: u32 = 10;

pub(super) fn check_workload(field: &str, spec: &WorkloadSpec) -> Result<(), Problem> {
    check_balance(&format!("{field}balance"), &spec.balance)?;
    if spec.routes.len() > ROUTES_MAX {
        let got = format!("{} routes", spec.routes.len());
        let valid = format!("at most {ROUTES_MAX}");
        return Err(Problem::new("invalid_value", &format!("{field}routes"), &got, &valid));
    }
    for (i, route) in spec.routes.iter().enumerate() {
        check_route(&format!("{field}routes[{i}]"), spec, route)?;
    }
    Ok(())
}

fn check_balance(field: &str, balance: &Balance) -> Result<(), Problem> {
    match balance {
        Balance::LeastLoaded | Balance::RoundRobin | Balance::ClientAddress => Ok(()),
        Balance::Header(name) | Balance::Cookie(name) => check_token(field, name),
    }
}

fn check_token(field: &str, name: &str) -> Result<(), Problem> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let fits = !name.is_empty() && name.len() <= 256 && name.bytes().all(token);
    let valid = "a name of letters, digits, `-` and `_`";
    if fits { Ok(()) } else { Err(Problem::new("invalid_value", field, name, valid)) }
}

fn check_route(field: &str, spec: &WorkloadSpec, route: &Route) -> Result<(), Problem> {
    let wrong = |name: &str, got: &str, valid: &str| {
        Err(Problem::new("invalid_value", &format!("{field}.{name}"), got, valid))
    };
    if let Some(host) = route.host.as_deref().filter(|host| !is_host(host)) {
        return wrong("host", host, "a host name without a port, or `*.` and one");
    }
    let visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
    if !route.path.starts_with('/') || route.path.len() > 1_024 || !visible(&route.path) {
        return wrong("path", &route.path, "the beginning of a path: /api");
    }
    let mut ports = spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    if !ports.any(|port| route.port.is_none_or(|wanted| wanted == port.container)) {
        let got = route.port.map_or_else(|| "none".to_owned(), |port| port.to_string());
        return wrong("port", &got, "a TCP port that the workload names in `ports`");
    }
    if route.timeout_ms == 0 || route.timeout_ms > TIMEOUT_MS_MAX {
        let valid = format!("1 to {TIMEOUT_MS_MAX} ms");
        return wrong("timeout_ms", &format!("{} ms", route.timeout_ms), &valid);
    }
    if route.retries > RETRIES_MAX {
        return wrong("retries", &route.retries.to_string(), &format!("0 to {RETRIES_MAX}"));
    }
    if route.rate_limit == Some(0) {
        return wrong("rate_limit", "0", "at least 1 a second; without it there is no limit");
    }
    if let Some(to) = route.redirect.as_deref().filter(|to| to.is_empty() || !visible(to)) {
        return wrong("redirect", to, "a URL: https://example.org{path}");
    }
    for (name, value) in &route.set_headers {
        check_token(&format!("{field}.set_headers"), name)?;
        if !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
            return wrong("set_headers", value, "visible characters and spaces");
        }
    }
    match &route.tls {
        None => Ok(()),
        Some(Tls::File { name, .. }) => check_certificate(&format!("{field}.tls"), name),
        Some(Tls::Acme { .. }) if !route.host.as_deref().is_some_and(is_orderable) => {
            let got = route.host.as_deref().unwrap_or("any host");
            let valid = "a whole host name of at least two parts, of letters, digits and `-`: \
                         that it is ours is proven by HTTP, which no other name can be";
            wrong("tls", &format!("acme for {got}"), valid)
        }
        Some(Tls::Acme { .. }) => Ok(()),
    }
}

fn check_certificate(field: &str, name: &str) -> Result<(), Problem> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let fits = !name.is_empty() && !name.starts_with('.') && name.len() <= 128;
    if fits && name.bytes().all(plain) {
        return Ok(());
    }
    let valid = "the name of a file without its ending: letters, digits, `-`, `_`, `.`";
    Err(Problem::new("invalid_value", field, name, valid))
}

fn is_host(host: &str) -> bool {
    let name = host.strip_prefix("*.").unwrap_or(host);
    let part = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        !part.is_empty() && part.len() <= 63 && part.bytes().all(plain)
    };
    host.len() <= 253 && name.split('.').all(part)
}

/// Whether a CA can ask a host itself whether it is ours.
fn is_orderable(host: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let named = host.split('.').all(|part| !part.is_empty() && part.bytes().all(plain));
    let address = host.split('.').all(|part| part.bytes().all(|b| b.is_ascii_digit()));
    named && !address && host.contains('.')
}

/// Requests for one host and path lead to one workload of the whole cluster.
pub(super) fn check(state: &State, key: &AppKey, spec: &AppSpec) -> Result<(), Problem> {
    let mut taken: BTreeMap<(Option<String>, &str), String> = BTreeMap::new();
    for (other, app) in state.apps.iter().filter(|(other, _)| *other != key) {
        for (name, workload) in app.workloads.iter().filter(|(_, workload)| workload.declared) {
            for route in &workload.conduct.routes {
                taken.entry(wanted(route)).or_insert_with(|| format!("{other}/{name}"));
            }
        }
    }
    for (name, workload) in &spec.workloads {
        for (i, route) in workload.routes.iter().enumerate() {
            let (host, path) = wanted(route);
            let got = format!("{}{path}", host.as_deref().unwrap_or("any host, "));
            if let Some(holder) = taken.insert((host, path), format!("{key}/{name}")) {
                let field = format!("app.workloads.{name}.routes[{i}]");
                let valid = format!("a host and path that nobody has: {holder} has it");
                return Err(Problem::new("route_taken", &field, &got, &valid));
            }
        }
    }
    Ok(())
}

/// Host names do not tell capitals apart.
fn wanted(route: &Route) -> (Option<String>, &str) {
    (route.host.as_deref().map(str::to_ascii_lowercase), route.path.as_str())
}
