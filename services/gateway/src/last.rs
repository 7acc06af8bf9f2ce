//! What was known last, in the gateway's folder: one that starts while the bus is away serves by it.
//!
//! It is a snapshot of the fold, so that whoever begins from it goes on in history where it ends. It is
//! written from time to time when a table came of it, whole or not at all.

use std::path::{Path, PathBuf};

use cluster::Fold;
use runtime::{clock, files};
use schemas::id::NodeName;
use tokio::task::JoinHandle;

/// How long at least lies between two of them, in ms.
const EVERY_MS: u64 = 2_000;

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
        let path = folder.join(format!("gateway-{node}.fold"));
        Self { path, written_ms: None, due: false, writing: None }
    }

    /// What is in the file. None when there is none; one that is bad is named and left out.
    pub(crate) fn read(&self) -> Option<Fold> {
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "what was known last is not read");
                return None;
            }
        };
        match Fold::restore(&bytes) {
            Ok(fold) => Some(fold),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "skipping a bad file of what was known last");
                None
            }
        }
    }

    /// A table came of what is known.
    pub(crate) fn changed(&mut self) {
        self.due = true;
    }

    /// Begins to write it if it is time; whoever follows history does not wait for the disk.
    pub(crate) async fn keep(&mut self, fold: &Fold) {
        if let Some(writing) = self.writing.take_if(|writing| writing.is_finished()) {
            let failed = match writing.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = failed {
                tracing::warn!(path = %self.path.display(), error, "what is known is not kept");
                self.due = true;
            }
        }
        let now_ms = clock::mono_ms();
        let soon = self.written_ms.is_some_and(|at| now_ms < at + EVERY_MS);
        if !self.due || soon || self.writing.is_some() {
            return;
        }
        (self.due, self.written_ms) = (false, Some(now_ms));
        let (path, bytes) = (self.path.clone(), fold.snapshot());
        let write = move || files::write_secret(&path, &bytes);
        self.writing = Some(tokio::task::spawn_blocking(write));
    }
}
