//! Getting at history: a snapshot to begin from, and the events that the stream has let go of.

use std::time::Duration;

use bus::{Bus, RequestError};
use cluster::Fold;
use schemas::read::{LogPage, LogRequest, Moment, MomentRequest, SnapshotPart, SnapshotRequest};
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

/// Which place a position or a time means.
///
/// # Errors
///
/// When event-log does not answer, or has not got that far.
pub async fn moment(bus: &Bus, request: &MomentRequest) -> Result<Moment, RequestError> {
    let asked = serde_json::to_vec(request).expect("a request has string keys only");
    let answer = bus.request(&subject::api("moment"), asked, DEADLINE).await?;
    serde_json::from_slice(&answer).map_err(|error| RequestError::Failed(error.to_string()))
}

/// The fold of history up to the last end of a batch at or before a position.
///
/// # Errors
///
/// When event-log does not answer, or what it says does not fold.
pub async fn at(bus: &Bus, position: u64) -> Result<Fold, RequestError> {
    let mut fold = newest(bus, Some(position)).await.unwrap_or_default();
    while fold.cursor().position < position {
        let from = fold.cursor().position + 1;
        let request = LogRequest { from, to: Some(position), ..LogRequest::default() };
        let page = page(bus, &request).await?;
        if page.events.is_empty() {
            return Err(RequestError::Failed(format!("history ends at {}", page.place)));
        }
        for event in &page.events {
            let pushed = fold.push(event.get().as_bytes());
            pushed.map_err(|error| RequestError::Failed(error.to_string()))?;
        }
    }
    Ok(fold)
}

/// The newest snapshot that this release can use; none when there is none, or event-log is away.
pub async fn snapshot(bus: &Bus) -> Option<Fold> {
    newest(bus, None).await
}

/// A snapshot that turns out to be bad is skipped for the one before it.
async fn newest(bus: &Bus, mut at: Option<u64>) -> Option<Fold> {
    loop {
        let (position, text) = read(bus, at).await?;
        match Fold::restore(text.as_bytes()) {
            Ok(fold) => return Some(fold),
            Err(error) => tracing::warn!(%error, position, "skipping a bad snapshot"),
        }
        at = Some(position.checked_sub(1)?);
    }
}

/// The newest snapshot at or below a position, whole, and where it stands.
async fn read(bus: &Bus, at: Option<u64>) -> Option<(u64, String)> {
    let mut text = String::new();
    let mut position = None;
    loop {
        let request = SnapshotRequest {
            fold_version: cluster::FOLD_VERSION,
            position,
            at,
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
            return Some((part.place.position, text));
        }
    }
}
