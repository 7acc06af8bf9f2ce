//! No input makes it panic, and bombs are refused.

use proptest::prelude::*;

use super::{files, wrong};

/// Pieces that files are made of, so that random ones get past the parser.
const PIECES: &[&str] = &[
    "services:",
    "  web:",
    "    image: web",
    "\n",
    " ",
    "  ",
    ":",
    "- ",
    "ports:",
    "\"80:80\"",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "<<: *a",
    "${TAG}",
    "${X:?no}",
    "$$",
    "${",
    "!reset",
    "null",
    "environment:",
    "A=1",
    "deploy:",
    "replicas: 3",
    "healthcheck:",
    "test: x",
    "#",
    "'",
    "\"",
    "|\n",
    "volumes:",
    "./a:/b",
    "x-muster:",
    "configs:",
    "é",
    "\t",
    "\u{0}",
    "1e999",
    "-",
    "?",
    "!!binary",
    "depends_on:",
    "tmpfs: /a:size=",
    "command: 'a",
    "---\n",
    "...",
];

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), more in any::<String>()) {
        let _ = files(&[&text, &more]).map_err(|invalid| invalid.to_string());
    }

    #[test]
    fn nothing_that_looks_like_a_file_panics(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40),
        others in prop::collection::vec(prop::sample::select(PIECES), 0..10),
    ) {
        let _ = files(&[&pieces.concat(), &others.concat()]).map_err(|e| e.to_string());
    }

    #[test]
    fn no_value_of_any_key_panics(
        key in prop::sample::select(
            crate::support::scopes().iter().flat_map(|s| s.rows).map(|r| r.key).collect::<Vec<_>>()
        ),
        value in "[ -~]{0,24}",
    ) {
        for text in [
            format!("services: {{web: {{image: a, {key}: {value}}}}}"),
            format!("services: {{web: {{image: a, {key}: [{value}]}}}}"),
            format!("services: {{web: {{image: a, deploy: {{{key}: {value}}}}}}}"),
            format!("{key}: {value}"),
        ] {
            let _ = files(&[&text]).map_err(|invalid| invalid.to_string());
        }
    }
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(", ");
        laughs.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(!wrong(&laughs).is_empty());
    let deep = format!("services: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(!wrong(&deep).is_empty());
    let block: String = (0..500).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    assert!(!wrong(&block).is_empty());
    let mut chain = String::from("a0: &a0 [x]\n");
    for i in 1..200 {
        chain.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
    }
    assert!(wrong(&chain).contains("too deep"), "{}", wrong(&chain));
    assert!(wrong(&" #".repeat(600_000)).contains("too many"));
}
