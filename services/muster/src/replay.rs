//! `muster replay`: folds the whole history again, and compares.

use cluster::Fold;
use schemas::read::LogRequest;

use crate::args::Format;
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;

pub(crate) async fn replay(
    client: &Client,
    verify: bool,
    to: Option<u64>,
    output: Format,
) -> Result<(), CliError> {
    let began = runtime::clock::mono_ms();
    let head = client.head().await?;
    let end = to.unwrap_or(head.place.position);
    if end > head.place.position {
        let text = format!("history has got to {}, not to {end}", head.place);
        return Err(CliError::new(Code::NotFound, text));
    }
    let mut fold = Fold::new();
    look::events(client, LogRequest::default(), |text| {
        // What was recorded after the head was asked for is not part of the comparison.
        if fold.cursor().position < end {
            fold.push(text.as_bytes())
                .map_err(|error| CliError::new(Code::No, error.to_string()))?;
        }
        Ok(())
    })
    .await?;
    let took_ms = runtime::clock::mono_ms().saturating_sub(began);
    let hash = fold.state().hash();
    if verify && head.fold_version != cluster::FOLD_VERSION {
        let (theirs, ours) = (head.fold_version, cluster::FOLD_VERSION);
        let text = format!(
            "the chain is whole; the states are not compared: event-log has version {theirs} of the \
             fold, this muster has {ours}: use the muster of event-log's release"
        );
        return Err(CliError::new(Code::No, text));
    }
    let verified = verify.then(|| fold.place() == head.place && hash == head.state_hash);
    match output {
        Format::Json => look::json(&serde_json::json!({
            "kind": "Replay",
            "at": fold.place(),
            "events": fold.cursor().position,
            "took_ms": took_ms,
            "state_hash": hash,
            "anomalies": fold.state().cluster.anomalous,
            "verified": verified,
        }))?,
        Format::Table => tell(&fold, took_ms, verified),
    }
    if verified == Some(false) {
        let text = format!("event-log has state {} at {}", head.state_hash, head.place);
        return Err(CliError::new(Code::No, text));
    }
    Ok(())
}

fn tell(fold: &Fold, took_ms: u64, verified: Option<bool>) {
    let (events, hash) = (fold.cursor().position, fold.state().hash());
    println!("{events} events in {took_ms} ms, state {hash} at {}", fold.place());
    for anomaly in &fold.state().cluster.anomalous {
        println!("impossible at {}: {}", anomaly.position, anomaly.what);
    }
    if verified == Some(true) {
        println!("verified: the chain is whole, and the state is the one event-log has");
    }
}
