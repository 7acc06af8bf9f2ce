//! `verify`: reads a whole log that nobody serves, and names everything that is not as it should be.

use std::io::IsTerminal as _;
use std::path::Path;

use runtime::{Failure, clock};

use schemas::place::Place;

use crate::audit::{Audit, Checks, Damage, against_witness};
use crate::store::{self, FjallStore, Store as _, StoreError};
use crate::witness::{Heads, Witness};

/// Where a store that must not be opened is copied to meanwhile.
const COPY: &str = "verify.copy";

/// How many entries are read between two looks at the clock.
const STEP: u64 = 2_000;

/// How often progress is told.
const TELL_MS: u64 = 500;

/// What verifying a log says.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Everything that is wrong, the files first.
    pub damages: Vec<String>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// What is there, in words.
    pub summary: String,
}

/// Checks a log, prints what is wrong with it, and says so by its outcome.
///
/// # Errors
///
/// When anything is not as it should be.
pub fn verify(folder: &Path) -> Result<(), Failure> {
    let report = look(folder, &mut Progress::on_terminal())?;
    for note in &report.notes {
        println!("note: {note}");
    }
    for damage in &report.damages {
        println!("damage: {damage}");
    }
    println!("{}", report.summary);
    match report.damages.len() {
        0 => Ok(()),
        1 => Err("1 thing is not as it should be".into()),
        count => Err(format!("{count} things are not as they should be").into()),
    }
}

/// Checks files, chain, batches, indexes, snapshots and witness. A store that must not be opened is
/// looked at in a copy. Changes nothing but what opening a whole store changes.
///
/// # Errors
///
/// When the folder is in use or holds no log.
pub fn look(folder: &Path, progress: &mut Progress) -> Result<Report, Failure> {
    if !folder.join(store::FOLDER).exists() {
        return Err(format!("there is no log in {}", folder.display()).into());
    }
    let mut report = Report::default();
    let looked = store::look(folder, &mut |len| progress.bytes(len))?;
    report.damages.extend(looked.broken.iter().map(ToString::to_string));
    report.notes.extend(looked.torn);
    let mut heads = None;
    match Witness::open_if_there(folder) {
        Ok(witness) => {
            report.notes.extend(witness.as_ref().and_then(Witness::notice));
            heads = Some(witness.and_then(|witness| witness.heads().cloned()));
        }
        Err(error) => report.damages.push(error.to_string()),
    }
    if !looked.copy_may_open {
        report.summary = "the log does not open".to_owned();
        report.notes.push(
            "what describes the store's trees is not as it was written, so it is not opened: \
             `salvage` reads its tables and journals without that"
                .to_owned(),
        );
        return Ok(report);
    }
    let copy = folder.join(COPY);
    let opened = if looked.may_open {
        FjallStore::open(folder)
    } else {
        report.notes.push(
            "opening the store would lose what is behind the damage: what follows is said of a \
             copy of it, which ends there"
                .to_owned(),
        );
        store::open_copy(folder, &copy)
    };
    match opened {
        Ok(store) => log(&store, heads.as_ref().map(Option::as_ref), &mut report, progress)?,
        Err(error @ StoreError::Locked { .. }) => return Err(error.into()),
        Err(error) => {
            report.damages.push(runtime::process::chain(&error));
            report.summary = "the log does not open".to_owned();
        }
    }
    if copy.exists() {
        std::fs::remove_dir_all(&copy)?;
    }
    Ok(report)
}

/// Checks an open log, against what its witness saw unless that is unreadable.
fn log(
    store: &FjallStore,
    witnessed: Option<Option<&Heads>>,
    report: &mut Report,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut audit = Audit::new(store, Checks::ALL);
    let mut damages = Vec::new();
    let head = store.head()?;
    while audit.reached() < head.position {
        audit.step((audit.reached() + STEP).min(head.position));
        damages.extend(audit.found());
        progress.position(audit.reached(), head.position);
    }
    audit.finish();
    damages.extend(audit.found());
    if let Some(heads) = witnessed {
        damages.extend(against_witness(store, heads)?);
    }
    let Place { position, hash, .. } = head;
    report.summary = format!("{position} events; head {head} hash {hash}");
    if let Some(fold) = audit.fold() {
        let (state, anomalies) = (fold.state().hash(), fold.state().anomalies());
        report.summary.push_str(&format!("; state {state}; {anomalies} impossible events"));
    }
    report.damages.extend(damages.iter().map(Damage::to_string));
    if report.damages.is_empty() {
        report.summary.push_str("; files, chain, indexes and snapshots are whole");
    }
    Ok(())
}

/// Tells on a terminal how far it is.
#[derive(Debug, Default)]
pub struct Progress {
    on: bool,
    told_ms: u64,
    bytes: u64,
}

impl Progress {
    /// Tells nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::default()
    }

    /// Tells on standard error, when that is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { on: std::io::stderr().is_terminal(), ..Self::default() }
    }

    fn due(&mut self) -> bool {
        let now_ms = clock::mono_ms();
        let due = self.on && now_ms >= self.told_ms + TELL_MS;
        if due {
            self.told_ms = now_ms;
        }
        due
    }

    /// So many bytes more were read.
    pub(crate) fn bytes(&mut self, more: u64) {
        self.bytes += more;
        if self.due() {
            eprint!("\r{} MiB of files read \x1b[K", self.bytes >> 20);
        }
    }

    /// So far it has got.
    pub(crate) fn position(&mut self, at: u64, of: u64) {
        if at == of && self.on {
            eprint!("\r\x1b[K");
        } else if self.due() {
            eprint!("\rposition {at} of {of} \x1b[K");
        }
    }
}

#[cfg(test)]
mod tests;
