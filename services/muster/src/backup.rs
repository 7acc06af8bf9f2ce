//! `muster backup` and `muster restore`: history as files, and a log made from them.
//!
//! A backup is read over the bus like any other read, so nothing stops meanwhile, and it needs no
//! access to the machine that event-log runs on. A restore needs no cluster: it writes the folder
//! that event-log is then started on.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use event_log::archive::{Archive, hash_behind};
use schemas::read::{Head, LogRequest};

use crate::client::Client;
use crate::error::{CliError, Code};

/// How long a segment gets before it is written.
const SEGMENT_BYTES: usize = 32 * 1024 * 1024;

/// The folder of a `muster dev` in which its services keep what must outlive them.
const DEV_STATE: &str = "state";

#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The folder for it. A backup that is there already is added to
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true))]
pub(crate) struct Restore {
    /// The folder of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// The folder of a `muster dev`, which must hold no log
    #[arg(long, value_name = "DIR", group = "to")]
    data_dir: Option<PathBuf>,
    /// The state folder of a muster-event-log, which must hold no log
    #[arg(long, value_name = "DIR", group = "to")]
    state_dir: Option<PathBuf>,
}

/// Writes everything that was published and that the archive has not.
pub(crate) async fn backup(client: &Client, wanted: &Backup) -> Result<(), CliError> {
    let mut archive = Archive::open(&wanted.into).map_err(no)?;
    let head = client.head().await?;
    same_history(client, &archive, &head, &wanted.into).await?;
    let first = archive.place().position + 1;
    let mut progress = Progress::default();
    while archive.place().position < head.place.position {
        let from = archive.place().position + 1;
        let page = client.log(&LogRequest { from, ..LogRequest::default() }).await?;
        if page.events.is_empty() {
            let text = format!("event-log has nothing at position {from}");
            return Err(CliError::new(Code::No, text));
        }
        for event in &page.events {
            if archive.place().position < head.place.position {
                archive.add(event.get().as_bytes()).map_err(no)?;
            }
        }
        if archive.unwritten() >= SEGMENT_BYTES {
            archive.write(&head.genesis).map_err(no)?;
        }
        progress.tell(archive.place().position, head.place.position);
    }
    archive.write(&head.genesis).map_err(no)?;
    if archive.place() != head.place {
        let text = format!("event-log says {}, the events lead to {}", head.place, archive.place());
        return Err(CliError::new(Code::No, text));
    }
    archive.note_state(head.place, &head.state_hash, head.fold_version).map_err(no)?;
    let (last, folder) = (head.place.position, wanted.into.display());
    let added = match (last + 1).saturating_sub(first) {
        0 => "nothing new".to_owned(),
        1 => format!("position {last}"),
        _ => format!("positions {first} to {last}"),
    };
    println!(
        "{added} added to {folder}; history {}, state {} at {last}",
        head.genesis, head.state_hash
    );
    Ok(())
}

/// Refuses to add one history to another.
async fn same_history(
    client: &Client,
    archive: &Archive,
    head: &Head,
    folder: &Path,
) -> Result<(), CliError> {
    let at = archive.place();
    if at.position == 0 {
        return Ok(());
    }
    let differs = |what: String| {
        let text = format!("{} holds another history: {what}", folder.display());
        Err(CliError::new(Code::Conflict, text))
    };
    let kept = &archive.manifest().genesis;
    if *kept != head.genesis {
        return differs(format!("{kept}, the cluster has {}", head.genesis));
    }
    if at.position > head.place.position {
        return differs(format!("it has got to {at}, the cluster to {}", head.place));
    }
    let request = LogRequest { from: at.position, limit: Some(1), ..LogRequest::default() };
    let page = client.log(&request).await?;
    let event = page.events.first().map(|event| hash_behind(event.get().as_bytes()));
    match event.transpose().map_err(no)? {
        Some(hash) if hash == at.hash => Ok(()),
        _ => differs(format!("its event at position {} is another one", at.position)),
    }
}

/// Makes a log from an archive.
pub(crate) fn restore(wanted: &Restore) -> Result<(), CliError> {
    let state_dir = match (&wanted.data_dir, &wanted.state_dir) {
        (Some(folder), _) => folder.join(DEV_STATE),
        (None, Some(folder)) => folder.clone(),
        (None, None) => return Err(CliError::usage("--data-dir or --state-dir")),
    };
    let mut progress = Progress::default();
    let mut tell = |at, of| progress.tell(at, of);
    let restored = event_log::restore(&wanted.from, &state_dir, &mut tell).map_err(no)?;
    let event_log::archive::Restored { place, state_hash, compared } = restored;
    println!(
        "restored positions 1 to {} in {}; state {state_hash}{}",
        place.position,
        event_log::config::folder(&state_dir).display(),
        if compared { ", as in the backup" } else { ", which another release wrote: not compared" }
    );
    Ok(())
}

fn no(error: runtime::Failure) -> CliError {
    CliError::new(Code::No, runtime::process::chain(error.as_ref()))
}

/// Tells on a terminal how far it is.
#[derive(Default)]
struct Progress {
    told: u64,
}

impl Progress {
    fn tell(&mut self, at: u64, of: u64) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        if at == of {
            eprint!("\r\x1b[K");
        } else if at * 100 / of.max(1) != self.told {
            self.told = at * 100 / of.max(1);
            eprint!("\rposition {at} of {of} ({} %)\x1b[K", self.told);
        }
    }
}
