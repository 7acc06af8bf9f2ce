//! `muster log`: history, filtered, and what is added to it.

use std::collections::VecDeque;

use schemas::envelope::Envelope;
use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::stream;

use crate::args::{Format, Log};
use crate::client::Client;
use crate::error::CliError;
use crate::{lists, look, tell};

/// Which events are wanted.
struct Filter<'a> {
    entity: Option<String>,
    kinds: &'a [String],
    actor: Option<&'a str>,
    since_ms: u64,
}

impl Filter<'_> {
    fn takes(&self, envelope: &Envelope) -> bool {
        let header = &envelope.header;
        let about = |entity: &String| envelope.event.about().entities.contains(entity);
        header.recorded_ms >= self.since_ms
            && (self.kinds.is_empty()
                || self.kinds.iter().any(|kind| kind == envelope.event.kind()))
            && self.actor.is_none_or(|actor| actor == header.actor)
            && self.entity.as_ref().is_none_or(about)
    }

    /// Whether event-log can do all of the choosing by itself.
    fn is_plain(&self) -> bool {
        self.kinds.is_empty() && self.actor.is_none() && self.since_ms == 0
    }
}

pub(crate) async fn log(client: &Client, log: &Log) -> Result<(), CliError> {
    let since = log.since.map(|since| since.at_ms(runtime::clock::utc_ms()));
    let filter = Filter {
        entity: log.object.as_deref().map(look::entity),
        kinds: &log.kinds,
        actor: log.actor.as_deref(),
        since_ms: since.unwrap_or(0),
    };
    let mut from = log.from;
    if let Some(since_ms) = since {
        from = from.max(first_since(client, since_ms).await?);
    }
    let newest = log.newest.filter(|_| filter.is_plain());
    let request = LogRequest {
        from,
        limit: newest,
        newest: newest.is_some(),
        entity: filter.entity.clone(),
        ..LogRequest::default()
    };
    // A list is one JSON value, so it is printed once it is whole.
    let whole = log.output == Format::Json && !log.follow;
    let most = log.newest.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
    let keep = whole || !filter.is_plain() && log.newest.is_some();
    let mut kept: VecDeque<String> = VecDeque::new();
    let at = look::events(client, request, |text| {
        if !filter.is_plain() && !look::decode(text).is_ok_and(|envelope| filter.takes(&envelope)) {
            return Ok(());
        }
        if !keep {
            return print(log.output, text);
        }
        kept.push_back(text.to_owned());
        if kept.len() > most {
            kept.pop_front();
        }
        Ok(())
    })
    .await?;
    if whole {
        let items = kept.iter().map(|text| lists::event(text)).collect::<Result<Vec<_>, _>>()?;
        return look::json(&lists::events(at, items));
    }
    for text in &kept {
        print(log.output, text)?;
    }
    if log.follow { follow(client, &filter, log.output, at).await } else { Ok(()) }
}

/// One line an event.
fn print(output: Format, text: &str) -> Result<(), CliError> {
    match output {
        Format::Json => {
            let line = serde_json::to_string(&lists::event(text)?);
            println!("{}", line.map_err(|error| CliError::internal(error.to_string()))?);
        }
        Format::Table => println!("{}", tell::line(&look::decode(text)?)),
    }
    Ok(())
}

async fn follow(
    client: &Client,
    filter: &Filter<'_>,
    output: Format,
    at: Place,
) -> Result<(), CliError> {
    let mut follow = client.bus.follow(stream::EVENTS.name, at.position + 1, None);
    loop {
        for message in follow.next_batch(64).await? {
            let text = String::from_utf8_lossy(&message.payload);
            // What somebody published there by hand is voided in the log.
            let Ok(envelope) = look::decode(&text) else { continue };
            if filter.takes(&envelope) {
                print(output, &text)?;
            }
        }
    }
}

/// The first position that was recorded at a moment or later. Recorded times never decrease, so it is
/// found by halving.
async fn first_since(client: &Client, ms: u64) -> Result<u64, CliError> {
    let (mut low, mut high) = (1, client.head().await?.place.position + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let request = LogRequest { from: middle, limit: Some(1), ..LogRequest::default() };
        let page = client.log(&request).await?;
        let recorded = page.events.first().map(|event| look::decode(event.get())).transpose()?;
        if recorded.is_some_and(|envelope| envelope.header.recorded_ms < ms) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        let text = include_str!("../../../schemas/golden/v1/event/ReplicaReady.json");
        Envelope::decode(text.trim().as_bytes()).expect("it decodes")
    }

    #[test]
    fn every_filter_must_agree() {
        let event = sample();
        let (ready, ended) = (["ReplicaReady".to_owned()], ["RunEnded".to_owned()]);
        let all = |kinds| Filter { entity: None, kinds, actor: None, since_ms: 0 };
        assert!(all(&[]).takes(&event) && all(&[]).is_plain());
        assert!(all(&ready).takes(&event) && !all(&ended).takes(&event));
        let actor = event.header.actor.clone();
        assert!(Filter { actor: Some(&actor), ..all(&ready) }.takes(&event));
        assert!(!Filter { actor: Some("nobody"), ..all(&ready) }.takes(&event));
        let later = event.header.recorded_ms + 1;
        assert!(!Filter { since_ms: later, ..all(&[]) }.takes(&event));
        assert!(!Filter { entity: Some("node/x".to_owned()), ..all(&[]) }.takes(&event));
    }
}
