//! What is wrong or ignored, where: file, line, column, and the line itself with a caret.

use std::fmt;

use crate::{Converted, Source};

/// How many errors are collected before the rest is left unsaid.
const ERRORS_MAX: usize = 50;

/// The longest part of a line that is shown.
const SHOWN_MAX: usize = 160;

/// A place in one of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Which of the files.
    pub(crate) file: usize,
    /// From 1; 0 when the place is the file as a whole.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
    /// How many characters are meant.
    pub(crate) len: usize,
}

/// Something to say about a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The name of the file; empty when it is none in particular.
    pub file: String,
    /// The line, from 1; 0 when the file as a whole is meant.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// What is to be said.
    pub text: String,
    source: String,
    len: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.file.is_empty() {
            return f.write_str(&self.text);
        }
        if self.line == 0 {
            return write!(f, "{}: {}", self.file, self.text);
        }
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.text)?;
        let number = self.line.to_string();
        let margin = " ".repeat(number.len());
        let indent = " ".repeat(self.column.saturating_sub(1));
        let shown = self.source.chars().count();
        let room = shown.saturating_sub(self.column.saturating_sub(1));
        let carets = "^".repeat(self.len.clamp(1, room.max(1)));
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", self.source)?;
        write!(f, "{margin} | {indent}{carets}")
    }
}

/// All that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// At least one.
    pub errors: Vec<Diagnostic>,
    /// What was to be said besides.
    pub warnings: Vec<Diagnostic>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.errors.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join("\n"))
    }
}

impl std::error::Error for Invalid {}

/// One thing that is wrong, before it is put into words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) spot: Option<Spot>,
    pub(crate) text: String,
}

impl Wrong {
    pub(crate) fn at(spot: Spot, text: impl Into<String>) -> Self {
        Self { spot: Some(spot), text: text.into() }
    }
}

/// What was found so far.
pub(crate) struct Notes<'a> {
    files: &'a [Source],
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(files: &'a [Source]) -> Self {
        Self { files, errors: Vec::new(), warnings: Vec::new() }
    }

    fn diagnostic(&self, spot: Option<Spot>, text: String) -> Diagnostic {
        let spot = spot.unwrap_or(Spot { file: usize::MAX, ..Spot::default() });
        let file = self.files.get(spot.file);
        let line = file.and_then(|file| file.text.lines().nth(spot.line.checked_sub(1)?));
        let shown = line.unwrap_or_default().chars().take(SHOWN_MAX);
        Diagnostic {
            file: file.map(|file| file.name.clone()).unwrap_or_default(),
            line: if line.is_some() { spot.line } else { 0 },
            column: spot.column.max(1),
            text: text.chars().map(visible).collect(),
            source: shown.map(visible).collect(),
            len: spot.len,
        }
    }

    pub(crate) fn error(&mut self, wrong: Wrong) {
        let error = self.diagnostic(wrong.spot, wrong.text);
        if self.errors.len() < ERRORS_MAX && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(crate) fn warn(&mut self, spot: Spot, text: impl Into<String>) {
        let warning = self.diagnostic(Some(spot), text.into());
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes the value, or notes why there is none.
    pub(crate) fn take<T>(&mut self, result: Result<T, Wrong>) -> Option<T> {
        result.map_err(|wrong| self.error(wrong)).ok()
    }

    pub(crate) fn finish(self, converted: Option<Converted>) -> Result<Converted, Invalid> {
        match converted {
            Some(converted) if self.errors.is_empty() => {
                Ok(Converted { warnings: self.warnings, ..converted })
            }
            _ => Err(Invalid { errors: self.errors, warnings: self.warnings }),
        }
    }
}

/// What came from a file never moves a terminal's cursor; a tab takes one column, as it is counted.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// The one of `known` that was probably meant.
pub(crate) fn meant<'a>(got: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = got.chars().count().div_ceil(3).min(3);
    known
        .map(|word| (distance(got, word), word))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, word)| word)
}

/// How many letters are put in, left out, changed or swapped with a neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_near() {
        let known = ["image", "command", "ports", "expose"];
        assert_eq!(meant("comand", known.into_iter()), Some("command"));
        assert_eq!(meant("imgae", known.into_iter()), Some("image"));
        assert_eq!(meant("port", known.into_iter()), Some("ports"));
        assert_eq!(meant("kubernetes", known.into_iter()), None);
    }

    #[test]
    fn a_caret_stands_below_what_is_meant() {
        let files = [Source { name: "a.yaml".to_owned(), text: "one\n  two: 2\n".to_owned() }];
        let notes = Notes::new(&files);
        let spot = Spot { file: 0, line: 2, column: 3, len: 3 };
        let shown = notes.diagnostic(Some(spot), "no".to_owned()).to_string();
        assert_eq!(shown, "a.yaml:2:3: no\n  |\n2 |   two: 2\n  |   ^^^");
    }
}
