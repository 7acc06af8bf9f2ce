//! The log's own speed and size: durable appends, replay, a start, and reads, on a long history.
//!
//! Everything is written by the real sequencer into the real store. The events stream is not there:
//! its acknowledgements come at once, and its own cost is another figure's.

mod append;
mod ask;
mod driver;
mod every;
mod jetstream;
mod replay;

use std::path::{Path, PathBuf};

use event_log::packed::Packed;
use event_log::store::{FjallStore, Store as _};
use runtime::Failure;

use self::driver::{Driver, UNDER_WAY};
use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Row, Spread, Unit};

/// Requests in one group while the long history is written.
const GROUP: usize = 2_048;

/// How many of them one after another.
const GROUPS: usize = 16;

/// A folder that goes when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(args: &Args, name: &str) -> Result<Self, Failure> {
        let base = args.folder.clone().unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("muster-bench-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Durable appends.
pub(crate) async fn append(args: &Args) -> Result<Vec<Row>, Failure> {
    append::measure(args).await
}

/// A long history: written once, and read in every way.
pub(crate) async fn long(args: &Args) -> Result<Vec<Row>, Failure> {
    let state_dir = Folder::make(args, "log")?;
    let folder = event_log::config::folder(&state_dir.0);
    std::fs::create_dir(&folder)?;
    let mut rows = Vec::new();
    let since = Since::now();
    let events = {
        let mut driver = Driver::open(&folder)?;
        while driver.position() < args.events {
            args.goes_on()?;
            driver.run(GROUPS, GROUP, UNDER_WAY)?;
        }
        driver.position()
    };
    rows.push(one(format!("{events} events written, in groups of {GROUP}"), events, since.us()));
    let store = FjallStore::open(&folder)?;
    let packed = Packed::of(&folder);
    let since = Since::now();
    packed.catch_up(&store, events)?;
    rows.push(one("packing them".to_owned(), events, since.us()));
    drop(store);
    rows.push(size(&folder, events, "with every index")?);
    rows.push(size(&folder.join("packed"), events, "packed, beside it")?);
    // What took minutes is shown before anything else can fail.
    args.show("log", &rows)?;
    args.show("log", &replay::measure(args, &folder).await?)?;
    ask::measure(args, &state_dir.0).await
}

fn one(what: String, events: u64, us: u64) -> Row {
    let (ours, unit) = (Spread::of([per_second(events, us)]), Unit::PerSecond);
    Row { what, unit, ours, beside: None, goal: None }
}

/// What a folder takes, by event.
fn size(folder: &Path, events: u64, what: &str) -> Result<Row, Failure> {
    let each = bytes_in(folder)? / events.max(1);
    let what = format!("disk of an event, {what}");
    Ok(Row { what, unit: Unit::Bytes, ours: Spread::of([each]), beside: None, goal: None })
}

/// What the files in a folder take.
fn bytes_in(folder: &Path) -> Result<u64, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for found in std::fs::read_dir(folder)? {
        let found = found?;
        let about = found.metadata()?;
        // Blocks: a journal is a file of a fixed length that is mostly not there.
        bytes += if about.is_dir() { bytes_in(&found.path())? } else { about.blocks() * 512 };
    }
    Ok(bytes)
}

/// The head of a store, for one that must have one.
fn head(store: &FjallStore) -> Result<u64, Failure> {
    Ok(store.head()?.position)
}
