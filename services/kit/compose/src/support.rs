//! The one table of what a Compose file may say, and what becomes of it.
//!
//! The code that reads files looks every key up here; `muster config --support` prints it, and
//! `docs/compose.md` is generated from it.

mod service;
mod top;

use std::fmt::Write as _;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does what it says.
    Honoured,
    /// The app runs without it, and a warning says so.
    Ignored,
    /// The app would not be what the file says: an error, with what to do instead.
    Refused,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// A key.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The key.
    pub key: &'static str,
    /// What becomes of it.
    pub verdict: Verdict,
    /// Honoured: what to know. Ignored: why that does no harm. Refused: why, and what to do.
    pub note: &'static str,
    /// Values that ask for what holds anyway, and pass without a word.
    pub harmless: &'static [&'static str],
}

const fn row(key: &'static str, verdict: Verdict, note: &'static str) -> Row {
    Row { key, verdict, note, harmless: &[] }
}

/// A key that is honoured.
const fn yes(key: &'static str, note: &'static str) -> Row {
    row(key, Verdict::Honoured, note)
}

/// A key that is ignored.
const fn idle(key: &'static str, note: &'static str) -> Row {
    row(key, Verdict::Ignored, note)
}

/// A key that is refused.
const fn no(key: &'static str, note: &'static str) -> Row {
    row(key, Verdict::Refused, note)
}

/// A key with values that do no harm.
const fn but(row: Row, harmless: &'static [&'static str]) -> Row {
    Row { harmless, ..row }
}

/// The keys of one kind of mapping.
#[derive(Debug)]
pub struct Scope {
    /// Where such a mapping stands: `services.*.deploy`.
    pub path: &'static str,
    /// Its keys.
    pub rows: &'static [Row],
    /// Whether `x-` keys pass.
    pub extensible: bool,
}

impl Scope {
    /// What is known of a key.
    #[must_use]
    pub fn row(&self, key: &str) -> Option<&'static Row> {
        self.rows.iter().find(|row| row.key == key)
    }
}

const fn scope(path: &'static str, rows: &'static [Row]) -> Scope {
    Scope { path, rows, extensible: true }
}

const fn closed(path: &'static str, rows: &'static [Row]) -> Scope {
    Scope { path, rows, extensible: false }
}

pub(crate) use service::{
    AUTOSCALE, CONFIG_REF, DEPENDENCY, DEPLOY, ENV_FILE, HEALTHCHECK, LIMITS, MOUNT, MOUNT_BIND,
    MOUNT_TMPFS, MOUNT_VOLUME, MUSTER, PLACEMENT, PORT, POST_DEPLOY, PRE_DEPLOY, PREFERENCE, PROBE,
    PROBE_EXEC, PROBE_HTTP, PROBE_TCP, RESERVATIONS, RESOURCES, RESTART_POLICY, ROLLOUT, ROUTE,
    ROUTE_TLS, SERVICE, STEP, UPDATE,
};
pub(crate) use top::{CONFIG, NETWORK, TOP, VOLUME};

/// Every kind of mapping that is looked into, from the top down.
#[must_use]
pub fn scopes() -> Vec<&'static Scope> {
    vec![
        &TOP,
        &SERVICE,
        &ENV_FILE,
        &PORT,
        &MOUNT,
        &MOUNT_BIND,
        &MOUNT_VOLUME,
        &MOUNT_TMPFS,
        &CONFIG_REF,
        &HEALTHCHECK,
        &DEPENDENCY,
        &DEPLOY,
        &RESOURCES,
        &LIMITS,
        &RESERVATIONS,
        &RESTART_POLICY,
        &PLACEMENT,
        &PREFERENCE,
        &UPDATE,
        &MUSTER,
        &PRE_DEPLOY,
        &POST_DEPLOY,
        &ROLLOUT,
        &STEP,
        &AUTOSCALE,
        &ROUTE,
        &ROUTE_TLS,
        &PROBE,
        &PROBE_HTTP,
        &PROBE_TCP,
        &PROBE_EXEC,
        &VOLUME,
        &CONFIG,
        &NETWORK,
    ]
}

/// The rules that hold for every key.
pub const RULES: [&str; 5] = [
    "An unknown key is an error; a key that begins with `x-` passes, wherever Compose allows it.",
    "A key without effect (null, false, empty) passes even if it is ignored or refused, as does a value listed as passing.",
    "What stands below an ignored or refused key shares its verdict.",
    "Sizes are binary (`64M` is 67,108,864 bytes); durations take units up to `1d` and `1w`.",
    "Names of services and volumes with capitals are lowered with a warning; dots are refused.",
];

/// The table as Markdown: `docs/compose.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Compose files\n\nGenerated from `services/kit/compose/src/support/`; `muster config --support` prints the same.\n\n",
    );
    for rule in RULES {
        let _ = writeln!(text, "- {rule}");
    }
    for scope in scopes() {
        let name = if scope.path.is_empty() { "Top level" } else { scope.path };
        let _ = write!(text, "\n## {name}\n\n| key | verdict | |\n| --- | --- | --- |\n");
        for row in scope.rows {
            let note = describe(row).replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {} | {note} |", row.key, row.verdict.as_str());
        }
    }
    text
}

/// A row's note, with the values that pass.
#[must_use]
pub fn describe(row: &Row) -> String {
    if row.harmless.is_empty() {
        return row.note.to_owned();
    }
    format!("{} (passes: {})", row.note, row.harmless.join(", "))
}
