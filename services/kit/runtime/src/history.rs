//! Getting at history: a snapshot to begin from, and the events that the stream has let go of.

use std::time::Duration;

use bus::{Bus, RequestError};
use cluster::Fold;
use schemas::read::{LogPage, LogRequest, SnapshotPart, SnapshotRequest};
use schemas::subject;

/// How long event-log may take to answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A page of events from a position on.
///
/// # Errors
///
/// When event-log does not answer, or not with a page.
pub async fn page(bus: &Bus, request: &LogRequest) -> Result<LogPage, RequestError> {
    let asked = serde_json::to_vec(request).expect("a request has string keys only");
    let answer = bus.request(&subject::api("log"), asked, DEADLINE).await?;
    serde_json::from_slice(&answer).map_err(|error| RequestError::Failed(error.to_string()))
}

/// The newest snapshot that this release can use; none when there is none, or event-log is away.
pub async fn snapshot(bus: &Bus) -> Option<Fold> {
    let mut text = String::new();
    let mut position = None;
    loop {
        let request = SnapshotRequest {
            fold_version: cluster::FOLD_VERSION,
            position,
            offset: u64::try_from(text.len()).unwrap_or(u64::MAX),
        };
        let asked = serde_json::to_vec(&request).expect("a request has string keys only");
        let answer = bus.request(&subject::api("snapshot"), asked, DEADLINE).await.ok()?;
        let part: SnapshotPart = serde_json::from_slice(&answer).ok()?;
        if part.bytes == 0 || part.part.is_empty() {
            return None;
        }
        position = Some(part.place.position);
        text.push_str(&part.part);
        if u64::try_from(text.len()).unwrap_or(u64::MAX) >= part.bytes {
            break;
        }
    }
    match Fold::restore(text.as_bytes()) {
        Ok(fold) => Some(fold),
        Err(error) => {
            tracing::warn!(%error, "reading history from its beginning");
            None
        }
    }
}
