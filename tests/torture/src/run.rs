//! One run of a scenario: its rounds, its dice, its folder, and what it may claim at the end.

use std::path::{Path, PathBuf};

use runtime::Failure;

use crate::dice::Dice;

/// What every scenario is handed.
#[derive(Debug)]
pub(crate) struct Run {
    /// How many faults to inject.
    pub(crate) rounds: u32,
    /// What is random.
    pub(crate) dice: Dice,
    /// Where the programs of another release are.
    pub(crate) old: Option<PathBuf>,
    folder: PathBuf,
    done: bool,
}

impl Run {
    pub(crate) fn new(
        name: &str,
        rounds: u32,
        seed: u64,
        old: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let tag = format!("muster-torture-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(tag);
        std::fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Self { rounds, dice: Dice::new(seed), old, folder, done: false })
    }

    /// A folder of its own, which goes when it is done.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Takes the folder away; after a failure only what is large, and its logs stay.
    pub(crate) fn finish(mut self, good: bool) -> Option<PathBuf> {
        self.done = true;
        if good {
            let _ = std::fs::remove_dir_all(&self.folder);
            return None;
        }
        self.keep_logs();
        Some(self.folder.clone())
    }

    fn keep_logs(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                let _ = std::fs::remove_dir_all(&path);
            } else if path.extension().is_none_or(|ending| ending != "log") {
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.done {
            self.keep_logs();
        }
    }
}

/// What a scenario checked, each with how often: the claims that it may make.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked(Vec<(&'static str, u64)>);

impl Checked {
    /// So often it was checked that something holds, and it did. Adds up.
    pub(crate) fn add(&mut self, what: &'static str, times: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, sum)) => *sum += times,
            None => self.0.push((what, times)),
        }
    }

    /// One line, or one JSON value.
    pub(crate) fn print(&self, name: &str, seed: u64, json: bool, error: Option<&str>) {
        if json {
            let checked: serde_json::Map<String, serde_json::Value> =
                self.0.iter().map(|(what, times)| ((*what).to_owned(), (*times).into())).collect();
            let value = serde_json::json!({
                "scenario": name, "seed": seed, "held": error.is_none(), "error": error,
                "checked": checked,
            });
            println!("{value}");
            return;
        }
        match error {
            Some(error) => println!("{name}: FAILED (seed {seed}): {error}"),
            None => {
                let checked: Vec<String> =
                    self.0.iter().map(|(what, times)| format!("{times} {what}")).collect();
                println!("{name}: held: {}", checked.join(", "));
            }
        }
    }
}
