//! `torn-tail`: what a power cut may leave of the last, never promised group: it is cut short, or some
//! of its sectors were never written while others were. The log must open by itself without that
//! group, or with all of it, and with everything before it.
//!
//! The tail is torn by hand, at places spread over all of its bytes: a real cut hits one of them once
//! in a long while.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bus::testing::Server;
use runtime::Failure;

use crate::audit::Audit;
use crate::load::{Load, connect};
use crate::mount;
use crate::process::{Kind, Log, verify};
use crate::run::{Checked, Run};

/// A sector: what a disk writes as one.
const SECTOR: usize = 512;

/// Of how many tears one is also looked at by `verify`.
const VERIFY_EVERY: u32 = 50;

/// How a tail is torn.
#[derive(Clone, Copy, Debug)]
enum Tear {
    /// The file ends there.
    Short,
    /// Zeroes from there on.
    Zeroes,
    /// Something else from there on.
    Junk,
    /// A sector of zeroes there, and all that is behind it.
    Hole,
}

const TEARS: [Tear; 4] = [Tear::Short, Tear::Zeroes, Tear::Junk, Tear::Hole];

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let tail = Tail::make(run).await?;
    let mut checked = Checked::default();
    for round in 0..run.rounds {
        let tear = TEARS[usize::try_from(round).unwrap_or(0) % TEARS.len()];
        let span = (tail.end - tail.start) as u64;
        let at = tail.start + usize::try_from(u64::from(round) * span / u64::from(run.rounds))?;
        let torn = tokio::task::block_in_place(|| tail.torn(tear, at, &mut run.dice.split()));
        let looked = async {
            let state = torn?;
            if round % VERIFY_EVERY == 0 {
                verify(&state).await?;
                checked.add("torn logs that verify is content with", 1);
            }
            tokio::task::block_in_place(|| tail.check(&state))
        };
        let whole = looked.await.map_err(|error| {
            let (start, end) = (tail.start, tail.end);
            format!("{tear:?} at byte {at} of the last group, {start} to {end}: {error}")
        })?;
        let what = match whole {
            true => "torn tails that were whole all the same",
            false => "torn tails that were cut off, and nothing else",
        };
        checked.add(what, 1);
    }
    Ok(checked)
}

/// A log before and behind its last group.
struct Tail {
    folder: PathBuf,
    /// The last group in the journal's bytes.
    start: usize,
    end: usize,
    before: u64,
    behind: u64,
}

impl Tail {
    /// Lets an event-log work, and finds the last group that it stored.
    async fn make(run: &mut Run) -> Result<Self, Failure> {
        let server = Server::start();
        let bus = connect(&server.url(), "auditor").await?;
        let state = run.folder().join("state");
        let output = run.folder().join("event-log.log");
        let mut log = Log::start(Kind::Real, &server.url(), &state, &output)?;
        log.serving(&bus).await?;
        let load = Load::start(&server.url(), &mut run.dice).await?;
        load.until_answered(200).await?;
        load.pause().await?;
        // The witness as it is before the last group is published.
        let witness = std::fs::read(log.folder().join("witness"))?;
        load.resume();
        load.until_answered(1).await?;
        load.pause().await?;
        log.kill();
        std::fs::write(log.folder().join("witness"), witness)?;

        let behind = length(&copied(&state, run.folder())?.join("event-log"))?;
        let end = written(&journal(&log.folder())?)?;
        let mut tail = Self { folder: run.folder().to_owned(), start: 0, end, before: 0, behind };
        tail.before = tail.cut_at(end - 1)?;
        // The first byte at which a cut leaves as much: there the group before it ends.
        let (mut low, mut high) = (0, end - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if tail.cut_at(middle)? >= tail.before { high = middle } else { low = middle + 1 }
        }
        tail.start = low;
        Ok(tail)
    }

    /// How much of the log is left when its journal ends at a byte.
    fn cut_at(&self, at: usize) -> Result<u64, Failure> {
        let state = copied(&self.folder.join("state"), &self.folder)?;
        let folder = state.join("event-log");
        OpenOptions::new().write(true).open(journal(&folder)?)?.set_len(at as u64)?;
        length(&folder)
    }

    /// A copy with a torn tail.
    fn torn(
        &self,
        tear: Tear,
        at: usize,
        dice: &mut crate::dice::Dice,
    ) -> Result<PathBuf, Failure> {
        let state = copied(&self.folder.join("state"), &self.folder)?;
        let path = journal(&state.join("event-log"))?;
        let file = OpenOptions::new().write(true).open(path)?;
        let until = match tear {
            Tear::Hole => self.end.min((at / SECTOR + 1) * SECTOR),
            _ => self.end,
        };
        let bytes: Vec<u8> = match tear {
            Tear::Short => {
                file.set_len(at as u64)?;
                return Ok(state);
            }
            Tear::Junk => (at..until).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect(),
            Tear::Zeroes | Tear::Hole => vec![0; until - at],
        };
        file.write_all_at(&bytes, at as u64)?;
        Ok(state)
    }

    /// The log opens, and is as before the last group or as behind it. Whether behind it.
    fn check(&self, state: &Path) -> Result<bool, Failure> {
        let len = length(&state.join("event-log"))?;
        match len {
            len if len == self.before => Ok(false),
            len if len == self.behind => Ok(true),
            len => {
                let (before, behind) = (self.before, self.behind);
                Err(format!("it ends at {len}, where {before} or {behind} can be").into())
            }
        }
    }
}

/// A copy of a state folder.
fn copied(state: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let copy = folder.join("torn");
    mount::copy_folder(state, &copy)?;
    Ok(copy)
}

/// The journal that is written to.
fn journal(folder: &Path) -> Result<PathBuf, Failure> {
    let journals = tests::files(&folder.join("store"), &[".jnl"]);
    let number = |path: &PathBuf| path.file_stem()?.to_str()?.parse::<u64>().ok();
    journals.into_iter().max_by_key(number).ok_or_else(|| "the store has no journal".into())
}

/// Where what is written in a journal ends: it is made long, and filled.
fn written(journal: &Path) -> Result<usize, Failure> {
    let bytes = std::fs::read(journal)?;
    Ok(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1))
}

/// How long a log is, all of it read.
fn length(folder: &Path) -> Result<u64, Failure> {
    let mut audit = Audit::default();
    audit.read(folder)?;
    Ok(audit.len())
}
