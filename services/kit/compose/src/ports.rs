//! `ports` and `expose`: what a workload listens on, and where others reach it.

use schemas::spec::{Port, Protocol};

use crate::diagnose::{Notes, Wrong};
use crate::fields::{Fields, expected, list, port, text, word};
use crate::node::{Node, Value};
use crate::support::PORT;
use crate::traffic;

/// The most ports that one range may stand for.
const RANGE_MAX: u16 = 128;

pub(crate) fn read(fields: &Fields<'_>, notes: &mut Notes<'_>) -> Result<Vec<Port>, Wrong> {
    let mut ports = Vec::new();
    for node in fields.read("ports", list)?.unwrap_or_default() {
        let found = match &node.value {
            Value::Map(_) => long(node, notes)?,
            _ => short(node, &text(node)?)?,
        };
        ports.extend(found);
    }
    for node in fields.read("expose", list)?.unwrap_or_default() {
        let given = text(node)?;
        let (range, protocol) = split_protocol(node, &given)?;
        for port in self::range(node, range)? {
            let known = ports.iter().any(|p: &Port| (p.container, p.protocol) == (port, protocol));
            if !known {
                ports.push(Port {
                    container: port,
                    published: None,
                    host: None,
                    protocol,
                    app: Default::default(),
                });
            }
        }
    }
    let mut unique: Vec<Port> = Vec::new();
    for port in ports {
        if !unique.contains(&port) {
            unique.push(port);
        }
    }
    Ok(unique)
}

/// `[ADDRESS:][PUBLISHED:]CONTAINER[/PROTOCOL]`, where both ports may be ranges.
fn short(node: &Node, given: &str) -> Result<Vec<Port>, Wrong> {
    let (rest, protocol) = split_protocol(node, given)?;
    let (address, rest) = match rest.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((address, rest)) => (address, rest),
        None => match rest.rsplitn(3, ':').collect::<Vec<_>>()[..] {
            [container, published, address] => {
                (address, &rest[rest.len() - container.len() - published.len() - 1..])
            }
            _ => ("", rest),
        },
    };
    if !matches!(address, "" | "0.0.0.0" | "::") {
        let text = format!(
            "the address {address} is refused: a port is served on every address of every node. \
             Leave the address out, or the published port"
        );
        return Err(Wrong::at(node.spot, text));
    }
    let (published, container) = match rest.rsplit_once(':') {
        Some((published, container)) => (Some(published).filter(|p| !p.is_empty()), container),
        None => (None, rest),
    };
    pair(node, published, container, protocol)
}

fn long(node: &Node, notes: &mut Notes<'_>) -> Result<Vec<Port>, Wrong> {
    let fields = Fields::of(node, &PORT, notes)?;
    let target = fields.need("target", port)?.to_string();
    let protocol = match fields.get("protocol") {
        Some(node) => protocol(node, &text(node)?)?,
        None => Protocol::Tcp,
    };
    let modes = [("ingress", false), ("host", true)];
    let host = fields.read("mode", |node| word(node, &modes))?.unwrap_or(false);
    let published = fields.read("published", text)?.filter(|published| !published.is_empty());
    let mut ports = pair(node, published.as_deref(), &target, protocol)?;
    if let Some(app) = fields.read("app_protocol", traffic::app_protocol)? {
        ports.iter_mut().for_each(|port| port.app = app);
    }
    if host {
        for port in &mut ports {
            port.host = port.published.take();
        }
    }
    Ok(ports)
}

/// Published ports beside the container's, one to one.
fn pair(
    node: &Node,
    published: Option<&str>,
    container: &str,
    protocol: Protocol,
) -> Result<Vec<Port>, Wrong> {
    let containers = range(node, container)?;
    let Some(published) = published else {
        let port = |container| Port {
            container,
            published: None,
            host: None,
            protocol,
            app: Default::default(),
        };
        return Ok(containers.map(port).collect());
    };
    let published = range(node, published)?;
    if published.len() != containers.len() {
        let text = "a range of published ports must be as long as that of the container: \
                    which of them it would be is not left open";
        return Err(Wrong::at(node.spot, text));
    }
    let port = |(container, published)| Port {
        container,
        published: Some(published),
        host: None,
        protocol,
        app: Default::default(),
    };
    Ok(containers.zip(published).map(port).collect())
}

fn range(node: &Node, text: &str) -> Result<std::ops::RangeInclusive<u16>, Wrong> {
    let wrong = || expected(node, "a port from 1 to 65535, or a range as 8000-8010");
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|port: &u16| digits && *port > 0).ok_or_else(wrong)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if last < first {
        return Err(wrong());
    }
    if last - first >= RANGE_MAX {
        let text = format!("a range of ports may be {RANGE_MAX} long");
        return Err(Wrong::at(node.spot, text));
    }
    Ok(first..=last)
}

fn split_protocol<'a>(node: &Node, text: &'a str) -> Result<(&'a str, Protocol), Wrong> {
    match text.rsplit_once('/') {
        Some((rest, name)) => Ok((rest, protocol(node, name)?)),
        None => Ok((text, Protocol::Tcp)),
    }
}

fn protocol(node: &Node, name: &str) -> Result<Protocol, Wrong> {
    match name {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => Err(expected(node, "the protocol tcp or udp")),
    }
}
