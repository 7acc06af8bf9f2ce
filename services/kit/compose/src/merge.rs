//! Several files as one: what a later file says goes over what those before it said.
//!
//! Mappings merge, lists are appended, single values are replaced; where a list stands for a mapping,
//! or its items have a name, they are merged by it.

use crate::diagnose::Wrong;
use crate::fields::pairs;
use crate::node::{Entry, Node, Value, Wish};

/// The first file with all others over it.
pub(crate) fn files(files: Vec<Node>) -> Result<Option<Node>, Wrong> {
    let mut merged: Option<Node> = None;
    for file in files {
        merged = Some(match merged {
            Some(under) => over(under, file, &mut Vec::new())?,
            None => file,
        });
    }
    Ok(merged.map(settled))
}

/// Nodes whose tags have been obeyed: what was to be reset is gone.
fn settled(mut node: Node) -> Node {
    if node.wish == Some(Wish::Reset) {
        return Node::new(node.spot, Value::Null);
    }
    node.value = match node.value {
        Value::List(list) => Value::List(list.into_iter().map(settled).collect()),
        Value::Map(entries) => {
            let kept = entries.into_iter().filter(|e| e.node.wish != Some(Wish::Reset));
            Value::Map(kept.map(|e| Entry { node: settled(e.node), ..e }).collect())
        }
        other => other,
    };
    node
}

fn over(under: Node, upper: Node, path: &mut Vec<String>) -> Result<Node, Wrong> {
    if upper.wish.is_some() {
        return Ok(upper);
    }
    if matches!(upper.value, Value::Null) {
        // A variable without a value takes that of the environment; all else says nothing.
        let variable = path.split_last().is_some_and(|(_, at)| matches!(kind(at), Kind::Pairs));
        return Ok(if variable { upper } else { under });
    }
    let kind = kind(path);
    let (under, upper) = (shaped(under, kind)?, shaped(upper, kind)?);
    let value = match (under.value, upper.value) {
        (Value::Map(under), Value::Map(upper)) => Value::Map(maps(under, upper, path)?),
        (Value::List(under), Value::List(upper)) => Value::List(match kind {
            Kind::Whole => upper,
            Kind::Named(name) => by_name(under, upper, name),
            _ => appended(under, upper),
        }),
        (_, upper) => upper,
    };
    Ok(Node::new(upper.spot, value))
}

fn maps(
    mut under: Vec<Entry>,
    upper: Vec<Entry>,
    path: &mut Vec<String>,
) -> Result<Vec<Entry>, Wrong> {
    for entry in upper {
        let Some(at) = under.iter().position(|known| known.key == entry.key) else {
            under.push(entry);
            continue;
        };
        path.push(entry.key.clone());
        let known = std::mem::replace(&mut under[at].node, Node::new(entry.spot, Value::Null));
        under[at] = Entry { node: over(known, entry.node, path)?, ..entry };
        path.pop();
    }
    Ok(under)
}

/// How two lists at a place become one.
#[derive(Clone, Copy)]
enum Kind {
    /// The later one replaces the other.
    Whole,
    /// Both stand for mappings.
    Pairs,
    /// Both stand for mappings from names to nothing.
    Keys,
    /// A single text stands for a list.
    Texts,
    /// An item replaces one of the same name.
    Named(fn(&Node) -> Option<String>),
    /// The later one is appended.
    Appended,
}

fn kind(path: &[String]) -> Kind {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["services", _, "command" | "entrypoint"] | ["services", _, "healthcheck", "test"] => {
            Kind::Whole
        }
        ["services", _, "environment" | "labels" | "sysctls" | "annotations"]
        | ["services", _, "deploy", "labels"]
        | ["services", _, "build", "args"]
        | ["volumes" | "networks" | "configs", _, "labels"] => Kind::Pairs,
        ["services", _, "depends_on" | "networks"] => Kind::Keys,
        ["services", _, "env_file" | "tmpfs" | "dns" | "dns_search"] => Kind::Texts,
        ["services", _, "volumes"] => Kind::Named(volume_target),
        ["services", _, "configs"] => Kind::Named(config_target),
        ["services", _, "ports"] => Kind::Named(port_name),
        _ => Kind::Appended,
    }
}

/// The node as a mapping or list, where another form stands for one.
fn shaped(node: Node, kind: Kind) -> Result<Node, Wrong> {
    let spot = node.spot;
    let value = match (kind, node.value) {
        (Kind::Pairs, Value::List(list)) => {
            let read = pairs(&Node::new(spot, Value::List(list)))?;
            Value::Map(
                read.into_iter()
                    .map(|(key, (spot, value))| {
                        let value = value.map_or(Value::Null, Value::Text);
                        Entry { key, spot, node: Node::new(spot, value) }
                    })
                    .collect(),
            )
        }
        (Kind::Keys, Value::List(list)) => {
            let mut entries = Vec::new();
            for item in list {
                let key = crate::fields::text(&item)?;
                entries.push(Entry {
                    key,
                    spot: item.spot,
                    node: Node::new(item.spot, Value::Null),
                });
            }
            Value::Map(entries)
        }
        (Kind::Texts, Value::Text(text)) => Value::List(vec![Node::new(spot, Value::Text(text))]),
        (_, value) => value,
    };
    Ok(Node { value, ..node_of(spot, node.wish) })
}

fn node_of(spot: crate::diagnose::Spot, wish: Option<Wish>) -> Node {
    Node { spot, wish, value: Value::Null }
}

fn appended(mut under: Vec<Node>, upper: Vec<Node>) -> Vec<Node> {
    for item in upper {
        let known = |other: &Node| match (&other.value, &item.value) {
            (Value::Text(a), Value::Text(b)) => a == b,
            _ => false,
        };
        if !under.iter().any(known) {
            under.push(item);
        }
    }
    under
}

fn by_name(mut under: Vec<Node>, upper: Vec<Node>, name: fn(&Node) -> Option<String>) -> Vec<Node> {
    for item in upper {
        let wanted = name(&item);
        let place = under.iter().position(|known| wanted.is_some() && name(known) == wanted);
        match place {
            Some(at) => under[at] = item,
            None => under.push(item),
        }
    }
    under
}

fn field(node: &Node, key: &str) -> Option<String> {
    match &node.get(key)?.value {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn volume_target(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => {
            let mut parts = text.split(':');
            let first = parts.next()?;
            Some(parts.next().unwrap_or(first).to_owned())
        }
        _ => field(node, "target"),
    }
}

fn config_target(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(name) => Some(format!("/{name}")),
        _ => field(node, "target").or_else(|| Some(format!("/{}", field(node, "source")?))),
    }
}

/// What is published where: the same port of the container may be published more than once.
fn port_name(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => {
            let (rest, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
            let (published, target) = rest.rsplit_once(':').unwrap_or(("", rest));
            Some(format!("{published}:{target}/{protocol}"))
        }
        _ => {
            let or = |key: &str, other: &str| field(node, key).unwrap_or_else(|| other.to_owned());
            Some(format!("{}:{}/{}", or("published", ""), or("target", ""), or("protocol", "tcp")))
        }
    }
}
