//! YAML as a tree in which everything knows its place.
//!
//! serde-saphyr parses, interpolates, follows anchors and merges `<<`; what remains is kept as text,
//! because in a Compose file the place of a value, not its look, says what it is.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{
    Location, MessageFormatter as _, Options, PropertySyntax, Spanned, Tagged, UserMessageFormatter,
};

use crate::Source;
use crate::diagnose::{Notes, Spot, Wrong};
use crate::vars;

/// The largest file.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// How deep a file may nest. Compose needs 9; each level takes some 40 KiB of stack while parsing.
const DEPTH_MAX: usize = 24;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) spot: Spot,
    /// What a later file asks for when it is merged.
    pub(crate) wish: Option<Wish>,
    pub(crate) value: Value,
}

/// What a tag asks for when files are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `!reset`: as if no file said anything.
    Reset,
    /// `!override`: in place of what files before said, instead of beside it.
    Override,
}

/// What stands there.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) spot: Spot,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn new(spot: Spot, value: Value) -> Self {
        Self { spot, wish: None, value }
    }

    /// The value below a key of a mapping, unless it is null.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// A key of a mapping, unless its value is null.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key == key && !matches!(entry.node.value, Value::Null))
    }

    /// Whether it asks for nothing: null, false, or empty.
    pub(crate) fn is_nothing(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Text(text) => text.is_empty() || text == "false",
            Value::List(list) => list.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

/// Parses a file.
pub(crate) fn parse(
    file: usize,
    source: &Source,
    variables: &BTreeMap<String, String>,
    notes: &mut Notes<'_>,
) -> Result<Node, Wrong> {
    let whole = Spot { file, ..Spot::default() };
    if source.text.len() > FILE_BYTES_MAX {
        let text = format!("{} bytes are too many: at most {FILE_BYTES_MAX}", source.text.len());
        return Err(Wrong::at(whole, text));
    }
    if source.text.trim().is_empty() {
        return Err(Wrong::at(whole, "the file is empty: `services:` with at least one is needed"));
    }
    let raw: Raw = serde_saphyr::from_str_with_options(&source.text, options(variables))
        .map_err(|error| wrong(file, &error))?;
    Ok(Placing { file, text: &source.text, variables, notes }.node(raw))
}

/// Expands the variables in one text, by the rules of Compose files.
pub(crate) fn interpolate(
    text: &str,
    variables: &BTreeMap<String, String>,
) -> Result<String, String> {
    if !text.contains('$') {
        return Ok(text.to_owned());
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            other => quoted.push_str(&format!("\\U{:08X}", u32::from(other))),
        }
    }
    quoted.push('"');
    serde_saphyr::from_str_with_options(&quoted, options(variables))
        .map_err(|error: serde_saphyr::Error| message(&error))
}

fn options(variables: &BTreeMap<String, String>) -> Options {
    let variables: HashMap<String, String> =
        variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 200_000,
            max_nodes: 100_000,
            max_depth: DEPTH_MAX,
            max_documents: 1,
            max_aliases: 5_000,
            max_anchors: 1_000,
            max_total_scalar_bytes: 8 * 1024 * 1024,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 32,
        },
        property_syntax: PropertySyntax::DockerCompose,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    }
    .with_properties(variables)
}

fn message(error: &serde_saphyr::Error) -> String {
    UserMessageFormatter.format_message(error.without_snippet()).into_owned()
}

fn wrong(file: usize, error: &serde_saphyr::Error) -> Wrong {
    let spot = error.location().map_or(Spot { file, ..Spot::default() }, |at| spot(file, at));
    Wrong::at(spot, message(error))
}

fn spot(file: usize, at: Location) -> Spot {
    let small = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Spot {
        file,
        line: small(at.line()),
        column: small(at.column()),
        len: small(at.span().len()).max(1),
    }
}

/// A node as serde hands it over: without its file, and numbers without their spelling.
struct Raw {
    at: Location,
    tag: Option<String>,
    value: RawValue,
}

enum RawValue {
    Null,
    Text(String),
    /// A boolean or number: its text as the library prints it.
    Typed(String),
    List(Vec<Raw>),
    Map(Vec<(Spanned<String>, Raw)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let _level = Level::enter().ok_or_else(|| {
            serde::de::Error::custom(format!("nested too deep: at most {DEPTH_MAX} levels"))
        })?;
        let Tagged(spanned, tag) = Tagged::<Spanned<RawValue>>::deserialize(deserializer)?;
        Ok(Self { at: spanned.defined, tag, value: spanned.value })
    }
}

/// One level of nesting. The library's own limit does not see those that aliases add.
struct Level;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

impl Level {
    fn enter() -> Option<Self> {
        let depth = DEPTH.get();
        (depth < DEPTH_MAX).then(|| {
            DEPTH.set(depth + 1);
            Self
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_none<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<RawValue, E> {
        Ok(RawValue::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(RawValue::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawValue, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(RawValue::Map(entries))
    }
}

/// Gives every node its file, and numbers the spelling they have there.
struct Placing<'a, 'n> {
    file: usize,
    text: &'a str,
    variables: &'a BTreeMap<String, String>,
    notes: &'a mut Notes<'n>,
}

impl Placing<'_, '_> {
    fn node(&mut self, raw: Raw) -> Node {
        let spot = spot(self.file, raw.at);
        let wish = match raw.tag.as_deref() {
            Some("!reset") => Some(Wish::Reset),
            Some("!override") => Some(Wish::Override),
            _ => None,
        };
        let value = match raw.value {
            RawValue::Null => Value::Null,
            RawValue::Text(text) => {
                self.warn_of_unset(raw.at, spot);
                Value::Text(text)
            }
            RawValue::Typed(text) => {
                let spelled = self.source(raw.at).filter(|source| is_number(source));
                Value::Text(spelled.map_or(text, ToOwned::to_owned))
            }
            RawValue::List(list) => {
                Value::List(list.into_iter().map(|item| self.node(item)).collect())
            }
            RawValue::Map(entries) => {
                Value::Map(entries.into_iter().map(|(key, value)| self.entry(key, value)).collect())
            }
        };
        Node { spot, wish, value }
    }

    fn entry(&mut self, key: Spanned<String>, value: Raw) -> Entry {
        let spot = Spot { len: key.value.chars().count(), ..spot(self.file, key.defined) };
        Entry { key: key.value, spot, node: self.node(value) }
    }

    /// What stands in the file there.
    fn source(&self, at: Location) -> Option<&str> {
        let start = usize::try_from(at.span().byte_offset()?).ok()?;
        let len = usize::try_from(at.span().byte_len()?).ok()?;
        self.text.get(start..start.checked_add(len)?)
    }

    fn warn_of_unset(&mut self, at: Location, spot: Spot) {
        let names: Vec<String> = match self.source(at) {
            Some(source) => vars::unset(source, self.variables).map(ToOwned::to_owned).collect(),
            None => return,
        };
        for name in names {
            self.notes.warn(spot, format!("the variable {name} is not set: it counts as empty"));
        }
    }
}

/// Whether a text is what a plain number looks like, so that its spelling can be kept: `1.10`.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    all(whole) && all(part)
}

/// What a place holds, in the words of its author.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "nothing",
            Self::Text(text) => return write!(f, "{text:?}"),
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        })
    }
}
