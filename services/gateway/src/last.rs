//! What was known last, in the gateway's folder: one that starts while the bus is away serves by it.
//!
//! It is a snapshot of the fold, so that whoever begins from it goes on in history where it ends. It is
//! written from time to time when a table came of it, whole or not at all. The file's time is when that was
//! the newest there was.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use cluster::Fold;
use runtime::{clock, files};
use schemas::id::NodeName;
use tokio::task::JoinHandle;

/// How long at least lies between two of them, in ms.
const EVERY_MS: u64 = 2_000;

/// How often it is marked as still the newest there is, in ms.
const STILL_MS: u64 = 10_000;

/// What was known last.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) fold: Fold,
    /// When it was the newest there was, in ms since 1970.
    pub(crate) since_ms: u64,
}

/// The file of what was known last.
#[derive(Debug)]
pub(crate) struct Last {
    path: PathBuf,
    written_ms: Option<u64>,
    /// Whether what is known has changed since.
    due: bool,
    writing: Option<JoinHandle<std::io::Result<()>>>,
}

impl Last {
    pub(crate) fn of(folder: &Path, node: &NodeName) -> Self {
        let path = folder.join(format!("gateway-{node}-table.fold"));
        Self { path, written_ms: None, due: false, writing: None }
    }

    /// What is in the file. None when there is none; one that is bad is named and left out.
    pub(crate) fn read(&self) -> Option<Known> {
        match self.known() {
            Ok(known) => Some(known),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "what was known last is left out: the file is bad");
                None
            }
        }
    }

    fn known(&self) -> io::Result<Known> {
        let bytes = std::fs::read(&self.path)?;
        let since = std::fs::metadata(&self.path)?.modified()?.duration_since(UNIX_EPOCH);
        let since_ms =
            since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let fold = Fold::restore(&bytes).map_err(io::Error::other)?;
        Ok(Known { fold, since_ms })
    }

    /// A table came of what is known.
    pub(crate) fn changed(&mut self) {
        self.due = true;
    }

    /// Another process keeps it, for now or from now on.
    pub(crate) fn leave(&mut self) {
        // Not at once after that either: it may be about to write.
        self.written_ms = Some(clock::mono_ms());
    }

    /// Begins to write it if it is time; whoever follows history does not wait for the disk. `newest`: no newer
    /// one is there, as far as can be known.
    pub(crate) async fn keep(&mut self, fold: &Fold, newest: bool) {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.written().await;
        }
        let now_ms = clock::mono_ms();
        let passed = |ms: u64| self.written_ms.is_none_or(|at| now_ms >= at + ms);
        if self.writing.is_some() {
            return;
        }
        if self.due && passed(EVERY_MS) {
            self.begin(fold);
        } else if newest && !self.due && self.written_ms.is_some() && passed(STILL_MS) {
            self.written_ms = Some(now_ms);
            let path = self.path.clone();
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let now = UNIX_EPOCH + Duration::from_millis(clock::utc_ms());
                std::fs::File::options().write(true).open(path)?.set_modified(now)
            }));
        }
    }

    /// Writes what is not written yet.
    pub(crate) async fn end(&mut self, fold: &Fold) {
        self.written().await;
        if self.due {
            self.begin(fold);
            self.written().await;
        }
    }

    fn begin(&mut self, fold: &Fold) {
        (self.due, self.written_ms) = (false, Some(clock::mono_ms()));
        let (path, bytes) = (self.path.clone(), fold.snapshot());
        let write = move || files::write_secret(&path, &bytes);
        self.writing = Some(tokio::task::spawn_blocking(write));
    }

    /// Waits for what is being written.
    async fn written(&mut self) {
        let Some(writing) = self.writing.take() else { return };
        let failed = match writing.await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(path = %self.path.display(), error = failed, "what is known is not kept");
        self.due = true;
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::History;

    use super::*;

    #[tokio::test]
    async fn what_was_known_is_read_again_with_its_age_and_a_bad_file_is_left_out() {
        let folder = std::env::temp_dir().join(format!("muster-last-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
        let node = NodeName::new("n1").expect("a name");
        let mut last = Last::of(&folder, &node);
        assert!(last.read().is_none());
        let mut history = History::default();
        history.node("n1", 4, 4);
        last.changed();
        last.end(&history.fold).await;
        let known = last.read().expect("it is written");
        assert_eq!(known.fold.place(), history.fold.place());
        assert!(clock::utc_ms() - known.since_ms < 60_000, "{}", known.since_ms);

        // Where nothing changed, it is as old as when it was last known to be so.
        let path = folder.join("gateway-n1-table.fold");
        let old = UNIX_EPOCH + Duration::from_secs(1_000);
        let file = std::fs::File::options().write(true).open(&path).expect("it is there");
        file.set_modified(old).expect("it takes a time");
        assert_eq!(last.read().expect("it is there").since_ms, 1_000_000);
        last.written_ms = Some(0);
        last.keep(&history.fold, false).await;
        assert!(last.writing.is_none(), "a newer one may be there");
        // Long ago: the clock of a machine begins at its start.
        last.written_ms = clock::mono_ms().checked_sub(STILL_MS);
        if last.written_ms.is_some() {
            last.keep(&history.fold, true).await;
            last.end(&history.fold).await;
            assert!(last.read().expect("it is there").since_ms > 1_000_000);
        }

        std::fs::write(&path, b"{").expect("the folder takes files");
        assert!(last.read().is_none());
        std::fs::remove_dir_all(&folder).expect("it is ours");
    }
}
