//! `muster replay`: folds the whole history again, and compares.

use cluster::Fold;
use schemas::read::LogRequest;

use crate::args::Format;
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;
use crate::meter::Meter;

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
        let text = format!("history has got to r{}, not to r{end}", head.place.position);
        return Err(CliError::new(Code::NotFound, text));
    }
    let (mut fold, mut meter) = (Fold::new(), Meter::new("folded", 0, end));
    let request = LogRequest { to: Some(end), ..LogRequest::default() };
    look::events(client, request, |text| {
        // What was recorded after the head was asked for is not part of the comparison.
        if fold.cursor().position < end {
            fold.push(text.as_bytes())
                .map_err(|error| CliError::new(Code::No, error.to_string()))?;
            meter.at(fold.cursor().position);
        }
        Ok(())
    })
    .await?;
    drop(meter);
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
        Format::Table => print!("{}", told(&fold, took_ms, verified)),
    }
    if verified == Some(false) {
        let (state, at) = (&head.state_hash, head.place.position);
        let text = format!("event-log has state {state} at r{at}");
        return Err(CliError::new(Code::No, text));
    }
    Ok(())
}

fn told(fold: &Fold, took_ms: u64, verified: Option<bool>) -> String {
    let (events, hash) = (fold.cursor().position, fold.state().hash());
    let at = fold.place().position;
    let mut told = format!("{events} events in {took_ms} ms, state {hash} at r{at}\n");
    for anomaly in &fold.state().cluster.anomalous {
        told += &format!("impossible at r{}: {}\n", anomaly.position, anomaly.what);
    }
    if verified == Some(true) {
        told += "verified: the chain is whole, and the state is the one event-log has\n";
    }
    told
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, node};
    use schemas::event::LeadershipReleased;
    use schemas::id::Writer;

    use super::*;

    #[test]
    fn every_position_is_told_as_it_can_be_typed() {
        let mut history = History::default();
        let writer = Writer::Agent(node("n1"));
        history.add(&writer, LeadershipReleased { writer: writer.clone(), term: 7 });
        let at = history.fold.place().position;
        let told = told(&history.fold, 5, Some(true));
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[0].ends_with(&format!(" at r{at}")), "{told}");
        assert!(lines[1].starts_with(&format!("impossible at r{at}: ")), "{told}");
        assert!(lines[2].starts_with("verified"), "{told}");
    }
}
