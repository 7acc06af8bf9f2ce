//! Transcripts in documents: what was typed, what was printed, and whether something prints the same
//! again, but for names that differ each time.

use std::collections::BTreeMap;

/// A command, and the lines that it printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was typed.
    pub typed: String,
    /// What was printed. A line `…` stands for any lines, a word `…` for any words.
    pub printed: Vec<String>,
}

/// A line as a shell reads it, as far as documents go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The variables that are set for it.
    pub variables: Vec<(String, String)>,
    /// What is run, and its arguments.
    pub words: Vec<String>,
    /// The file that its output goes into.
    pub into: Option<String>,
}

impl Line {
    /// Reads one. Between quotes of either kind is one word, or a part of one.
    #[must_use]
    pub fn read(text: &str) -> Self {
        let mut line = Self::default();
        let mut words = words(text).into_iter();
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some((name, value)) if line.words.is_empty() => {
                    line.variables.push((name.to_owned(), value.to_owned()));
                }
                _ if word == ">" => line.into = words.next(),
                _ => line.words.push(word),
            }
        }
        line
    }
}

fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in text.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            None if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The steps of a document's `console` blocks, and its files: `yaml` blocks that begin with `# NAME`.
#[must_use]
pub fn read(document: &str) -> (Vec<Step>, Vec<(String, String)>) {
    let (mut steps, mut files): (Vec<Step>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let mut block = "";
    for line in document.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = if block.is_empty() { kind } else { "" };
            continue;
        }
        match block {
            "console" => match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(typed), _) => {
                    steps.push(Step { typed: typed.to_owned(), printed: Vec::new() });
                }
                (None, Some(step)) => step.printed.push(line.to_owned()),
                (None, None) => panic!("a console block begins with what is typed: {line}"),
            },
            "yaml" => match (line.strip_prefix("# "), files.last_mut()) {
                (Some(name), _) => files.push((name.to_owned(), String::new())),
                (None, Some((_, text))) => text.push_str(&format!("{line}\n")),
                (None, None) => {}
            },
            _ => {}
        }
    }
    (steps, files)
}

/// What names of the document stand for.
#[derive(Clone, Debug, Default)]
pub struct Names(BTreeMap<String, String>);

impl Names {
    /// A name of the document stands for another.
    pub fn stand_for(&mut self, name: &str, real: &str) {
        self.0.insert(name.to_owned(), real.to_owned());
    }

    /// A text of the document with the names that they stand for.
    #[must_use]
    pub fn real(&self, text: &str) -> String {
        let real = |token: &str| self.0.get(token).cloned().unwrap_or_else(|| token.to_owned());
        tokens(text).into_iter().map(real).collect()
    }

    /// Whether what was printed is what the document shows; learns the names that are new. Else the
    /// first line of the document that is not there.
    ///
    /// # Errors
    ///
    /// When a line is not there.
    pub fn matches(&mut self, shown: &[String], printed: &str) -> Result<(), String> {
        let printed: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown: Vec<&String> = shown.iter().filter(|line| !line.trim().is_empty()).collect();
        let mut rest = printed.as_slice();
        let mut gap = false;
        for line in shown {
            if line.trim() == "…" {
                gap = true;
                continue;
            }
            let within = if gap { rest.len() } else { rest.len().min(1) };
            let found = (0..within).find_map(|i| Some((i, self.line(line, rest.get(i)?)?)));
            let Some((i, learnt)) = found else {
                return Err(self.real(line));
            };
            *self = learnt;
            rest = &rest[i + 1..];
            gap = false;
        }
        match rest.first() {
            Some(more) if !gap => Err(format!("nothing, but there is: {more}")),
            _ => Ok(()),
        }
    }

    /// What is known if a line is the other one.
    fn line(&self, shown: &str, printed: &str) -> Option<Self> {
        let (shown, printed): (Vec<&str>, Vec<&str>) =
            (shown.split_whitespace().collect(), printed.split_whitespace().collect());
        self.words(&shown, &printed)
    }

    fn words(&self, shown: &[&str], printed: &[&str]) -> Option<Self> {
        match (shown.split_first(), printed.split_first()) {
            (None, None) => Some(self.clone()),
            (Some((&"…", rest)), Some(_)) => {
                (1..=printed.len()).find_map(|n| self.words(rest, &printed[n..]))
            }
            (Some((word, rest)), Some((other, others))) => {
                self.word(word, other)?.words(rest, others)
            }
            _ => None,
        }
    }

    fn word(&self, shown: &str, printed: &str) -> Option<Self> {
        if shown == "…" || is_time(shown) && is_time(printed) {
            return Some(self.clone());
        }
        let (shown, printed) = (tokens(shown), tokens(printed));
        if shown.len() != printed.len() {
            return None;
        }
        let mut names = self.clone();
        for (token, other) in shown.iter().zip(&printed) {
            names = names.token(token, other)?;
        }
        Some(names)
    }

    fn token(mut self, shown: &str, printed: &str) -> Option<Self> {
        if let Some(real) = self.0.get(shown) {
            return (real == printed).then_some(self);
        }
        if shown == printed || is_duration(shown) && is_duration(printed) {
            return Some(self);
        }
        let replica = |text: &str| {
            let (workload, own) = text.rsplit_once('-')?;
            let known = own.len() == 5 && workload.contains('-');
            known.then(|| workload.to_owned())
        };
        let alike = match (replica(shown), replica(printed)) {
            (Some(shown), Some(printed)) => {
                let (app, name) = shown.rsplit_once('-')?;
                format!("{}-{name}", self.real(app)) == printed
            }
            _ => {
                is_position(shown) && is_position(printed)
                    || shown.len() == printed.len() && is_hex(shown) && is_hex(printed)
            }
        };
        alike.then(|| {
            self.stand_for(shown, printed);
            self
        })
    }
}

/// A text as names and what is between them.
fn tokens(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let named = is_name(first);
        let end = rest.find(|c| is_name(c) != named).unwrap_or(rest.len());
        let (token, after) = rest.split_at(end);
        found.push(token);
        rest = after;
    }
    found
}

fn is_position(text: &str) -> bool {
    text.strip_prefix('r').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_hex(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_duration(text: &str) -> bool {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    unit.len() < text.len() && matches!(unit, "ms" | "s" | "m" | "h" | "d")
}

/// A date, or a time of day.
fn is_time(text: &str) -> bool {
    let text = text.trim_matches(|c: char| !c.is_ascii_digit());
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    matches!(shape.as_str(), "00:00:00" | "00:00:00.000" | "0000-00-00")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let mut names = Names::default();
        names.stand_for("shop", "shop7-0");
        names.stand_for("n1", "t7-0-1");
        names
    }

    #[track_caller]
    fn check(shown: &str, printed: &str, so: bool) -> Names {
        let mut names = names();
        let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
        assert_eq!(names.matches(&shown, printed).is_ok(), so, "{shown:?} against {printed}");
        names
    }

    #[test]
    fn names_that_differ_each_time_are_learnt_and_hold() {
        let names = check(
            "r12  07:03:10  shop-web-k3v9q placed on n1, 2m ago\nr12 again: shop-web-k3v9q",
            "r99  08:13:55  shop7-0-web-abcde   placed on t7-0-1, 31s ago\n\nr99 again: shop7-0-web-abcde",
            true,
        );
        assert_eq!(
            names.real("muster why shop-web-k3v9q --at r12"),
            "muster why shop7-0-web-abcde --at r99"
        );
        check("r12 and r12", "r1 and r2", false);
        check("on n1", "on t7-0-2", false);
        check("shop-web-k3v9q", "other-web-abcde", false);
        check("3 of shop/web", "4 of shop7-0/web", false);
    }

    #[test]
    fn what_is_left_out_is_marked() {
        check("first\n…\nlast", "first\n1\n2\nlast", true);
        check("first\nlast", "first\n1\nlast", false);
        check("first", "first\nmore", false);
        check("first\n…", "first\nmore", true);
        check("silent for … ms, see", "silent for 6012 ms, see", true);
        check("silent for … ms", "silent for ms", false);
    }

    #[test]
    fn a_line_is_read_as_a_shell_does() {
        let line = Line::read("A=b muster x --where \"a == 'b c'\" 'd \"e\"' --f=g '' > out.json");
        let words = ["muster", "x", "--where", "a == 'b c'", "d \"e\"", "--f=g", ""];
        assert_eq!(line.words, words);
        assert_eq!(line.variables, [("A".to_owned(), "b".to_owned())]);
        assert_eq!(line.into.as_deref(), Some("out.json"));
    }

    #[test]
    fn a_document_has_steps_and_files() {
        let text = "# H\n```yaml\n# a.yaml\nname: a\n```\ntext\n```console\n$ muster ps\nA\n\nB\n$ muster x\n```\n";
        let (steps, files) = read(text);
        assert_eq!(files, [("a.yaml".to_owned(), "name: a\n".to_owned())]);
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].typed.as_str(), steps[0].printed.len()), ("muster ps", 3));
    }
}
