//! `muster log`: history, filtered by event-log, and what is added to it.

use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::stream;

use super::filter::{request, takes};
use super::graph;
use crate::args::{Format, Log};
use crate::client::Client;
use crate::error::CliError;
use crate::{lists, look, tell};

pub(crate) async fn log(client: &Client, log: &Log) -> Result<(), CliError> {
    let asked = request(client, &log.filter).await?;
    let request = LogRequest { limit: log.newest, newest: log.newest.is_some(), ..asked.clone() };
    if log.graph {
        return graphed(client, request, log.output).await;
    }
    // A list is one JSON value, so it is printed once it is whole.
    let whole = log.output == Format::Json && !log.follow;
    let mut items = Vec::new();
    let at = look::events(client, request, |text| {
        if whole {
            items.push(lists::event(text)?);
            return Ok(());
        }
        print(log.output, text)
    })
    .await?;
    if whole {
        return look::json(&lists::events(at, items));
    }
    if log.follow { follow(client, &asked, log.output, at).await } else { Ok(()) }
}

async fn graphed(client: &Client, request: LogRequest, output: Format) -> Result<(), CliError> {
    let events = super::events(client, request).await?;
    let rows = graph::rows(&events);
    if output == Format::Json {
        let items = rows.iter().map(|row| {
            let text = String::from_utf8(row.envelope.encode()).unwrap_or_default();
            let event = lists::event(&text).and_then(|item| {
                serde_json::to_value(item).map_err(|error| CliError::internal(error.to_string()))
            })?;
            Ok(serde_json::json!({ "under": row.under, "event": event }))
        });
        let items = items.collect::<Result<Vec<_>, CliError>>()?;
        let at = client.head().await?.place;
        return look::json(&serde_json::json!({ "kind": "EventGraph", "at": at, "items": items }));
    }
    for row in rows {
        println!("{}", tell::under(row.envelope, &row.lines));
    }
    Ok(())
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
    request: &LogRequest,
    output: Format,
    at: Place,
) -> Result<(), CliError> {
    let mut follow = client.bus.follow(stream::EVENTS.name, at.position + 1, None);
    loop {
        for message in follow.next_batch(64).await? {
            let text = String::from_utf8_lossy(&message.payload);
            // What somebody published there by hand is voided in the log.
            let Ok(envelope) = look::decode(&text) else { continue };
            if takes(request, &envelope) {
                print(output, &text)?;
            }
        }
    }
}
