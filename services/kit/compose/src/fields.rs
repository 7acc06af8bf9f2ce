//! Reading values: mappings by the table, texts, numbers and lists, each with a place when it is wrong.

use std::collections::BTreeMap;

use crate::diagnose::{Notes, Spot, Wrong, meant};
use crate::node::{Entry, Node, Value};
use crate::support::{Row, Scope, Verdict};

/// A mapping whose keys have been looked up in the table.
pub(crate) struct Fields<'a> {
    pub(crate) spot: Spot,
    scope: &'static Scope,
    node: &'a Node,
}

impl<'a> Fields<'a> {
    /// Looks every key up: unknown and refused ones are errors, ignored ones warnings.
    pub(crate) fn of(
        node: &'a Node,
        scope: &'static Scope,
        notes: &mut Notes<'_>,
    ) -> Result<Self, Wrong> {
        if let Value::Map(entries) = &node.value {
            for entry in entries {
                judge(entry, scope, notes);
            }
        } else if !matches!(node.value, Value::Null) {
            return Err(expected(node, "a mapping"));
        }
        Ok(Self { spot: node.spot, scope, node })
    }

    /// The value of a key that is honoured, unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.scope.row(key).is_some(), "{key} is not in the table");
        self.node.get(key)
    }

    /// Reads the value of a key, if it has one.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Node) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        self.get(key).map(read).transpose()
    }

    /// Reads the value of a key that must have one.
    pub(crate) fn need<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Node) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        self.read(key, read)?
            .ok_or_else(|| Wrong::at(self.spot, format!("`{key}` is missing here")))
    }
}

fn judge(entry: &Entry, scope: &'static Scope, notes: &mut Notes<'_>) {
    let key = &entry.key;
    let Some(row) = scope.row(key) else {
        if !(scope.extensible && key.starts_with("x-")) {
            notes.error(Wrong::at(entry.spot, unknown(key, scope)));
        }
        return;
    };
    if row.verdict == Verdict::Honoured || entry.node.is_nothing() || passes(row, &entry.node) {
        return;
    }
    match row.verdict {
        Verdict::Honoured => {}
        Verdict::Ignored => notes.warn(entry.spot, said(row)),
        Verdict::Refused => notes.error(Wrong::at(entry.spot, said(row))),
    }
}

fn said(row: &Row) -> String {
    let colon = if row.note.is_empty() { "" } else { ": " };
    format!("`{}` is {}{colon}{}", row.key, row.verdict.as_str(), row.note)
}

fn passes(row: &Row, node: &Node) -> bool {
    matches!(&node.value, Value::Text(text) if row.harmless.contains(&text.as_str()))
}

fn unknown(key: &str, scope: &Scope) -> String {
    let place = if scope.path.is_empty() { "the top level" } else { scope.path };
    match meant(key, scope.rows.iter().map(|row| row.key)) {
        Some(word) => format!("unknown key `{key}` in {place}: did you mean `{word}`?"),
        None => format!("unknown key `{key}` in {place}: see `muster config --support`"),
    }
}

/// What should have stood there.
pub(crate) fn expected(node: &Node, wanted: &str) -> Wrong {
    Wrong::at(node.spot, format!("{wanted} is needed here, not {}", node.value))
}

pub(crate) fn text(node: &Node) -> Result<String, Wrong> {
    match &node.value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err(expected(node, "a text")),
    }
}

/// Reads a text by a rule of its own.
pub(crate) fn by<T>(rule: fn(&str) -> Result<T, String>) -> impl Fn(&Node) -> Result<T, Wrong> {
    move |node| rule(&text(node)?).map_err(|wrong| Wrong::at(node.spot, wrong))
}

pub(crate) fn number(node: &Node) -> Result<u32, Wrong> {
    text(node)?.trim().parse().map_err(|_| expected(node, "a whole number from 0 on"))
}

pub(crate) fn port(node: &Node) -> Result<u16, Wrong> {
    let port = text(node)?.trim().parse().ok().filter(|port| *port > 0);
    port.ok_or_else(|| expected(node, "a port from 1 to 65535"))
}

pub(crate) fn flag(node: &Node) -> Result<bool, Wrong> {
    match text(node)?.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Ok(true),
        "false" | "no" | "off" | "n" => Ok(false),
        _ => Err(expected(node, "true or false")),
    }
}

/// One of some words.
pub(crate) fn word<T: Copy>(node: &Node, words: &[(&str, T)]) -> Result<T, Wrong> {
    let got = text(node)?;
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == got) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(expected(node, &format!("one of {}", known.join(", "))))
}

pub(crate) fn list(node: &Node) -> Result<&[Node], Wrong> {
    match &node.value {
        Value::List(list) => Ok(list),
        Value::Null => Ok(&[]),
        _ => Err(expected(node, "a list")),
    }
}

/// A list of texts, or one text alone.
pub(crate) fn texts(node: &Node) -> Result<Vec<String>, Wrong> {
    match &node.value {
        Value::Text(text) => Ok(vec![text.clone()]),
        _ => list(node)?.iter().map(text).collect(),
    }
}

/// A program with its arguments: a list, or a text that is split as a shell would.
pub(crate) fn words(node: &Node) -> Result<Vec<String>, Wrong> {
    match &node.value {
        Value::Text(text) => crate::units::words(text).map_err(|wrong| Wrong::at(node.spot, wrong)),
        _ => list(node)?.iter().map(text).collect(),
    }
}

pub(crate) fn map(node: &Node) -> Result<&[Entry], Wrong> {
    match &node.value {
        Value::Map(entries) => Ok(entries),
        Value::Null => Ok(&[]),
        _ => Err(expected(node, "a mapping")),
    }
}

/// `KEY: value` or `- KEY=value`; no value where there is none.
pub(crate) fn pairs(node: &Node) -> Result<BTreeMap<String, (Spot, Option<String>)>, Wrong> {
    if let Value::List(list) = &node.value {
        let split = |item: &Node| {
            let text = text(item)?;
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                None => (text, None),
            };
            Ok((key, (item.spot, value)))
        };
        return list.iter().map(split).collect();
    }
    let entries = map(node)?.iter();
    entries
        .map(|entry| {
            let value = match &entry.node.value {
                Value::Null => None,
                _ => Some(text(&entry.node)?),
            };
            Ok((entry.key.clone(), (entry.spot, value)))
        })
        .collect()
}

/// An absolute path in a container.
pub(crate) fn inside(node: &Node, path: &str) -> Result<String, Wrong> {
    if path.starts_with('/') && !path.split('/').any(|part| part == "..") {
        return Ok(path.to_owned());
    }
    Err(Wrong::at(node.spot, format!("{path:?} must be an absolute path without `..`")))
}
