//! Variables: `.env` and `env_file` texts, and which of them a value names that are not set.

use std::collections::BTreeMap;

use crate::Source;
use crate::diagnose::{Invalid, Notes, Spot, Wrong};
use crate::node::interpolate;

/// The variables of a project: those of the process, and under them those of `.env`.
///
/// # Errors
///
/// When a line of `.env` cannot be read.
pub fn environment(
    process: BTreeMap<String, String>,
    dotenv: Option<&Source>,
) -> Result<BTreeMap<String, String>, Invalid> {
    let Some(source) = dotenv else { return Ok(process) };
    match env_file(&source.text, &process, true) {
        Ok(mut read) => {
            read.extend(process);
            Ok(read)
        }
        Err((line, text)) => {
            let mut notes = Notes::new(std::slice::from_ref(source));
            notes.error(Wrong::at(Spot { file: 0, line, column: 1, len: 1 }, text));
            notes.finish(None).map(|_| BTreeMap::new())
        }
    }
}

/// Reads `KEY=VALUE` lines. A value in single quotes is taken as it is, one in double quotes may
/// have escapes and several lines, and all but the former are interpolated, unless `raw`.
///
/// # Errors
///
/// The line, and what is wrong there.
pub(crate) fn env_file(
    text: &str,
    variables: &BTreeMap<String, String>,
    interpolated: bool,
) -> Result<BTreeMap<String, String>, (usize, String)> {
    let mut read = BTreeMap::new();
    let mut known = variables.clone();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let here = rest[..end].trim();
        if here.is_empty() || here.starts_with('#') {
            rest = &rest[end..];
            line += 1;
            continue;
        }
        let at = line;
        let Some(equals) = rest[..end].find('=') else {
            // A name alone stands for what the process has under it.
            let name = name(here).map_err(|text| (at, text))?;
            if let Some(value) = variables.get(name) {
                read.insert(name.to_owned(), value.clone());
            }
            rest = &rest[end..];
            line += 1;
            continue;
        };
        let name = name(&rest[..equals]).map_err(|text| (at, text))?.to_owned();
        let (value, len) = if interpolated {
            value(&rest[equals + 1..], &known).map_err(|text| (at, text))?
        } else {
            (rest[equals + 1..end].trim_end_matches(['\r', '\n']).to_owned(), end - equals - 1)
        };
        line += rest[..equals + 1 + len].matches('\n').count();
        rest = &rest[equals + 1 + len..];
        // What the process has wins over the file when later lines refer to it.
        known.entry(name.clone()).or_insert_with(|| value.clone());
        read.insert(name, value);
    }
    Ok(read)
}

fn name(text: &str) -> Result<&str, String> {
    let text = text.trim();
    let name = text.strip_prefix("export ").map_or(text, str::trim);
    let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if fits {
        Ok(name)
    } else {
        Err(format!("{name:?} is not a variable's name: write NAME=VALUE"))
    }
}

/// The value at the start of a text, and how many bytes it and the rest of its line take.
fn value(text: &str, known: &BTreeMap<String, String>) -> Result<(String, usize), String> {
    let start = text.len() - text.trim_start_matches([' ', '\t']).len();
    let line_from = |at: usize| text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
    let body = &text[start..];
    if let Some(inner) = body.strip_prefix('\'') {
        let end = inner.find('\'').ok_or("a single quote is not closed")?;
        return Ok((inner[..end].to_owned(), line_from(start + end + 2)));
    }
    if let Some(inner) = body.strip_prefix('"') {
        let (plain, end) = unescape(inner)?;
        return Ok((interpolate(&plain, known)?, line_from(start + 1 + end)));
    }
    let len = line_from(0);
    let line = &text[..len];
    let cut = line.find(" #").or_else(|| line.find("\t#")).unwrap_or(len);
    Ok((interpolate(line[..cut].trim(), known)?, len))
}

/// Reads to the closing double quote. An escaped dollar stays one when variables are expanded.
fn unescape(text: &str) -> Result<(String, usize), String> {
    let mut plain = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((plain, at + 1)),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('t') => plain.push('\t'),
                Some('$') => plain.push_str("$$"),
                Some(other @ ('"' | '\\')) => plain.push(other),
                Some(other) => plain.extend(['\\', other]),
                None => break,
            },
            other => plain.push(other),
        }
    }
    Err("a double quote is not closed".to_owned())
}

/// The variables that a text names without saying what holds when they are not set.
pub(crate) fn unset<'a>(
    text: &'a str,
    variables: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a str> {
    references(text).into_iter().filter(|name| !variables.contains_key(*name))
}

/// `$NAME` and `${NAME}`; not `$$`, nor what stands inside `${NAME:-…}`.
fn references(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{');
        let body = braced.unwrap_or(rest);
        let end = body.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(body.len());
        let (name, after) = body.split_at(end);
        let starts = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if starts && (braced.is_none() || after.starts_with('}')) {
            found.push(name);
        }
        rest = if braced.is_some() { after_braces(after) } else { after };
    }
    found
}

/// What follows the brace that closes an open one.
fn after_braces(text: &str) -> &str {
    let mut open = 1_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return &text[at + 1..];
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> BTreeMap<String, String> {
        let process = BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]);
        env_file(text, &process, true).expect("it is right")
    }

    #[test]
    fn lines_are_read_by_the_rules_of_env_files() {
        let text = "# a comment\n\nA=1\nexport B = two words # not this\nC='$A #'\n\
                    D=\"x\\n$A\\$\"\nE=${A}-${HOME}\nF=\nG=\"two\nlines\"\nHOME\nUNKNOWN\nH=a#b\r\n";
        let got = read(text);
        let wanted = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "$A #"),
            ("D", "x\n1$"),
            ("E", "1-/root"),
            ("F", ""),
            ("G", "two\nlines"),
            ("HOME", "/root"),
            ("H", "a#b"),
        ];
        let wanted: BTreeMap<String, String> =
            wanted.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(got, wanted);
    }

    #[test]
    fn what_is_wrong_has_a_line() {
        let wrong = |text: &str| env_file(text, &BTreeMap::new(), true).expect_err("it is wrong");
        assert_eq!(wrong("A=1\nB C=2\n").0, 2);
        assert_eq!(wrong("A='x\n").0, 1);
        assert!(wrong("A=\"x\ny").1.contains("not closed"));
        assert!(wrong("A=${B:?say b}").1.contains("say b"));
    }

    #[test]
    fn raw_values_are_taken_as_they_are() {
        let got = env_file("A=\"$B\" #c\n", &BTreeMap::new(), false).expect("it is right");
        assert_eq!(got.get("A").map(String::as_str), Some("\"$B\" #c"));
    }

    #[test]
    fn the_process_wins_over_the_file() {
        let process = BTreeMap::from([("A".to_owned(), "process".to_owned())]);
        let dotenv = Source { name: ".env".to_owned(), text: "A=file\nB=$A\n".to_owned() };
        let all = environment(process, Some(&dotenv)).expect("it is right");
        assert_eq!(all.get("A").map(String::as_str), Some("process"));
        assert_eq!(all.get("B").map(String::as_str), Some("process"));
    }

    #[test]
    fn only_plain_references_are_missed() {
        assert_eq!(references("$A ${B} $$C ${D:-$E} ${F:?no} $1 x"), ["A", "B"]);
    }
}
