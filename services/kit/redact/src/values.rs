//! Values that are taken out, what stands in their place, and where else they are found.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// A value of fewer characters is not looked for: it would be found in everything.
pub(crate) const CHARS_MIN: usize = 6;

/// By so many bytes of theirs values are found.
const KEY: usize = CHARS_MIN;

/// Values, each with its number, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    numbers: BTreeMap<String, u64>,
}

impl Values {
    /// Takes note of a value.
    pub(crate) fn note(&mut self, value: &str) {
        self.number(value);
    }

    fn number(&mut self, value: &str) -> u64 {
        let next = u64::try_from(self.numbers.len()).unwrap_or(u64::MAX) + 1;
        *self.numbers.entry(value.to_owned()).or_insert(next)
    }

    /// What stands in place of a value. Nothing needs none.
    pub(crate) fn placeholder(&mut self, value: &str) -> String {
        if value.is_empty() { String::new() } else { placed(self.number(value)) }
    }

    /// Everything that is to be looked for: values, and what they are made of. Names that things have
    /// are no secrets, and stand in history as they are.
    pub(crate) fn needles(&mut self, names: &BTreeSet<String>) -> Needles {
        let wholes: Vec<String> = self.numbers.keys().cloned().collect();
        let parts: Vec<String> = wholes.iter().flat_map(|value| parts(value)).collect();
        // A part has a number of its own: two texts that differ must not become one.
        for part in parts {
            self.number(&part);
        }
        let mut needles = Needles::default();
        for (value, number) in &self.numbers {
            if names.contains(value) {
                continue;
            }
            for form in forms(value) {
                needles.add(&form, &placed(*number));
            }
        }
        needles
    }
}

fn placed(number: u64) -> String {
    format!("redacted-{number}")
}

/// A value as it may stand in a text: as it is, as JSON writes it, and in base64.
fn forms(value: &str) -> BTreeSet<String> {
    let mut forms = BTreeSet::from([value.to_owned()]);
    if value.chars().count() < CHARS_MIN {
        return forms;
    }
    let quoted = serde_json::Value::from(value).to_string();
    forms.insert(quoted.trim_matches('"').to_owned());
    forms.insert(BASE64_STANDARD.encode(value).trim_end_matches('=').to_owned());
    forms
}

/// What a value is made of that could be a secret by itself: the lines of a file, what stands behind
/// `=` or `:` in them, the texts in JSON, a password in a URL.
fn parts(value: &str) -> BTreeSet<String> {
    let mut parts = BTreeSet::new();
    let mut add = |part: &str| {
        let part = part.trim_matches(|c: char| c.is_whitespace() || "\"',;".contains(c));
        if part.chars().count() >= CHARS_MIN && part != value {
            parts.insert(part.to_owned());
        }
    };
    for line in value.lines() {
        add(line);
        line.split_once(['=', ':']).into_iter().for_each(|(_, behind)| add(behind));
        for word in line.split(|c: char| c.is_whitespace() || "&?;,".contains(c)) {
            word.split_once('=').into_iter().for_each(|(_, behind)| add(behind));
            let user = word.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
            let password = user.and_then(|(user, _)| user.split_once(':'));
            password.into_iter().for_each(|(_, password)| add(password));
        }
    }
    if let Ok(json) = serde_json::from_str(value) {
        texts(&json, &mut add);
    }
    parts
}

fn texts(json: &serde_json::Value, add: &mut dyn FnMut(&str)) {
    match json {
        serde_json::Value::String(text) => add(text),
        serde_json::Value::Array(items) => items.iter().for_each(|item| texts(item, add)),
        serde_json::Value::Object(fields) => fields.values().for_each(|field| texts(field, add)),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) | serde_json::Value::Null => {}
    }
}

/// What is looked for in texts, and what stands there instead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needles {
    /// By their first bytes, the longest first.
    by_key: BTreeMap<[u8; KEY], Vec<(String, String)>>,
}

impl Needles {
    /// Looks for one more. One that is too short is not looked for.
    pub(crate) fn add(&mut self, needle: &str, instead: &str) {
        let Some(key) = needle.as_bytes().first_chunk() else { return };
        if needle.chars().count() < CHARS_MIN {
            return;
        }
        let found = self.by_key.entry(*key).or_default();
        if let Err(at) = found.binary_search_by(|(known, _)| {
            (needle.len(), needle).cmp(&(known.len(), known.as_str()))
        }) {
            found.insert(at, (needle.to_owned(), instead.to_owned()));
        }
    }

    /// A text with placeholders instead of what is found in it; none when there is nothing.
    pub(crate) fn replaced(&self, text: &str) -> Option<String> {
        // A text that was cut short may end in the beginning of a value.
        let end = text.trim_end_matches('…').len();
        let (mut out, mut kept, mut at) = (String::new(), 0, 0);
        while at < end {
            let found = text.get(at..).and_then(|rest| self.at(rest, end - at));
            match found {
                Some((len, instead)) => {
                    out.push_str(&text[kept..at]);
                    out.push_str(instead);
                    at += len;
                    kept = at;
                }
                None => at += 1,
            }
        }
        out.push_str(&text[kept..]);
        (kept > 0).then_some(out)
    }

    /// What stands at the beginning of a text, of which so many bytes are left.
    fn at(&self, text: &str, left: usize) -> Option<(usize, &str)> {
        let candidates = self.by_key.get(text.as_bytes().first_chunk()?)?;
        let whole = candidates.iter().find(|(needle, _)| text.starts_with(needle.as_str()));
        let whole = whole.map(|(needle, instead)| (needle.len(), instead.as_str()));
        let cut = text.get(..left).filter(|rest| rest.chars().count() >= CHARS_MIN);
        let cut = cut.and_then(|rest| {
            let found = candidates.iter().find(|(needle, _)| needle.starts_with(rest))?;
            Some((left, found.1.as_str()))
        });
        // Of two that are as long, the one that stands there whole.
        cut.into_iter().chain(whole).max_by_key(|(len, _)| *len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needles(values: &[&str]) -> Needles {
        let mut noted = Values::default();
        values.iter().for_each(|value| noted.note(value));
        noted.needles(&BTreeSet::new())
    }

    #[track_caller]
    fn check(values: &[&str], text: &str, expected: Option<&str>) {
        assert_eq!(needles(values).replaced(text).as_deref(), expected);
    }

    #[test]
    fn a_value_is_found_wherever_it_stands_and_the_longest_wins() {
        check(&["hunter2-canary"], "no password", None);
        check(&["hunter2-canary"], "xhunter2-canaryx", Some("xredacted-1x"));
        check(
            &["secret", "secret-longer"],
            "a secret-longer secret",
            Some("a redacted-2 redacted-1"),
        );
        check(&["short"], "short and shorter", None);
        check(&["ünïcödé"], "→ünïcödé←", Some("→redacted-1←"));
    }

    #[test]
    fn what_was_cut_short_is_found_by_its_beginning() {
        check(&["hunter2-canary"], "password=hunter2-c", Some("password=redacted-1"));
        check(&["hunter2-canary"], "password=hunter2-c…", Some("password=redacted-1…"));
        check(&["hunter2-canary"], "password=hunte", None);
        check(&["hunter2-canary"], "password=hunter2-c and more", None);
    }

    #[test]
    fn what_a_value_is_made_of_is_found_too() {
        let found = |value: &str, secret: &str| {
            let replaced = needles(&[value]).replaced(&format!("got {secret} there"));
            let replaced = replaced.unwrap_or_else(|| panic!("{secret} in {value}"));
            assert!(!replaced.contains(secret), "{replaced}");
        };
        found("postgres://app:c4nary-pw@db:5432/x", "c4nary-pw");
        found("host=db password=c4nary-pw sslmode=off", "c4nary-pw");
        found("[db]\npassword = \"c4nary-pw\"\n", "c4nary-pw");
        found("db:\n  password: c4nary-pw\n", "c4nary-pw");
        found(r#"{"db":{"password":"c4nary-pw"}}"#, "c4nary-pw");
        found("-----BEGIN KEY-----\nc4nary1\nc4nary2\n-----END KEY-----", "c4nary2");
        found("c4nary\"quoted", r#"c4nary\"quoted"#);
        found("c4nary-pw", &BASE64_STANDARD.encode("c4nary-pw"));
    }

    #[test]
    fn a_value_has_one_placeholder_and_a_name_none() {
        let mut values = Values::default();
        assert_eq!(values.placeholder("web"), "redacted-1");
        assert_eq!(values.placeholder("frontend"), "redacted-2");
        assert_eq!(values.placeholder("web"), "redacted-1");
        assert_eq!(values.placeholder(""), "");
        let names = BTreeSet::from(["frontend".to_owned()]);
        assert_eq!(values.needles(&names).replaced("frontend-x fits nowhere"), None);
    }
}
