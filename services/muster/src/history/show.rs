//! `muster show`: one event in full, or all of one command, with its cause and what it caused.

use schemas::envelope::Envelope;
use schemas::read::LogRequest;
use serde_json::Value;

use super::object::{self, Object};
use crate::args::{Format, Show};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::{lists, look, tell};

/// How many events after one are looked through for what it caused, where no command ties them.
const AFTER: u64 = 2_000;

pub(crate) async fn show(client: &Client, show: &Show) -> Result<(), CliError> {
    let events = match object::find(client, &show.what).await? {
        Object::Event(position) => vec![event(client, position).await?],
        Object::Command(id) => of_command(client, &id).await?,
        other => {
            let text = format!(
                "{} is neither a position nor a command's id: `muster log {0}` has its events",
                other.typed()
            );
            return Err(CliError::usage(text));
        }
    };
    if show.output == Format::Json {
        let at = client.head().await?.place;
        let mut items = Vec::new();
        for event in &events {
            let (cause, caused) = around(client, event).await?;
            items.push(full(event, cause.as_ref(), &caused)?);
        }
        return look::json(&serde_json::json!({ "kind": "EventList", "at": at, "items": items }));
    }
    for (i, event) in events.iter().enumerate() {
        let (cause, caused) = around(client, event).await?;
        let gap = if i > 0 { "\n" } else { "" };
        print!("{gap}{}", text(event, cause.as_ref(), &caused));
    }
    Ok(())
}

async fn event(client: &Client, position: u64) -> Result<Envelope, CliError> {
    let request = LogRequest { from: position, to: Some(position), ..LogRequest::default() };
    let page = client.log(&request).await?;
    let Some(found) = page.events.first() else {
        let text = format!("there is no r{position}: history has got to r{}", page.place.position);
        return Err(CliError::new(Code::NotFound, text));
    };
    look::decode(found.get())
}

/// What goes back to a command, and its receipt first.
async fn of_command(
    client: &Client,
    id: &schemas::id::CommandId,
) -> Result<Vec<Envelope>, CliError> {
    let request = LogRequest { correlation: Some(id.clone()), ..LogRequest::default() };
    super::events(client, request).await
}

/// What came right before an event, and what followed right from it.
async fn around(
    client: &Client,
    event: &Envelope,
) -> Result<(Option<Envelope>, Vec<Envelope>), CliError> {
    let header = &event.header;
    let cause = match header.causation {
        Some(position) => Some(self::event(client, position).await?),
        None => None,
    };
    let request = LogRequest {
        from: header.position + 1,
        to: Some(header.position + AFTER),
        ..LogRequest::default()
    };
    let mut after = super::events(client, request).await?;
    // What a command caused may come weeks later.
    if let Some(id) = &header.correlation {
        let request = LogRequest {
            from: header.position + AFTER + 1,
            correlation: Some(id.clone()),
            ..LogRequest::default()
        };
        after.extend(super::events(client, request).await?);
    }
    after.retain(|later| later.header.causation == Some(header.position));
    Ok((cause, after))
}

fn full(
    event: &Envelope,
    cause: Option<&Envelope>,
    caused: &[Envelope],
) -> Result<Value, CliError> {
    let text = String::from_utf8(event.encode()).unwrap_or_default();
    let wrong = |error: serde_json::Error| CliError::internal(error.to_string());
    let mut item = serde_json::to_value(lists::event(&text)?).map_err(wrong)?;
    let brief = |event: &Envelope| {
        serde_json::json!({ "position": event.header.position, "type": event.event.kind(),
            "text": tell::words(&event.event) })
    };
    let recorded: Value = serde_json::from_str(&text).map_err(wrong)?;
    item["text"] = tell::words(&event.event).into();
    item["envelope"] = recorded;
    item["cause"] = cause.map_or(Value::Null, brief);
    item["caused"] = caused.iter().map(brief).collect();
    Ok(item)
}

/// An event for people: what it says, then everything about it.
fn text(event: &Envelope, cause: Option<&Envelope>, caused: &[Envelope]) -> String {
    let header = &event.header;
    let mut text = format!(
        "r{}  {}  {}\n",
        header.position,
        event.event.kind(),
        tell::time(header.recorded_ms)
    );
    text.push_str(&format!("  {}\n\n", tell::words(&event.event)));
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {value}\n"));
    line("writer", &format!("{}, term {}", header.writer, header.term));
    line("actor", &header.actor);
    let entities = event.event.about().entities;
    if !entities.is_empty() {
        line("about", &entities.join(" "));
    }
    if let Some(id) = &header.correlation {
        line("command", id.as_str());
    }
    if header.time_ms != header.recorded_ms {
        line("happened", &tell::time(header.time_ms));
    }
    if header.batch.of > 1 {
        let (i, of) = (header.batch.i + 1, header.batch.of);
        line("batch", &format!("{i} of the {of} events of one decision"));
    }
    if let Some(basis) = &header.basis {
        line("basis", &format!("decided on what was so at r{}", basis.position));
    }
    line("follows", &format!("hash {}", header.prev_hash));
    let brief =
        |event: &Envelope| format!("r{}  {}", event.header.position, tell::words(&event.event));
    match cause {
        Some(cause) => line("cause", &brief(cause)),
        None => line("cause", "none: it begins a chain"),
    }
    for (i, event) in caused.iter().enumerate() {
        line(if i == 0 { "caused" } else { "" }, &brief(event));
    }
    let data: Value = serde_json::from_str(&event.event.data()).unwrap_or_default();
    let data = serde_json::to_string_pretty(&data).unwrap_or_default();
    text.push_str("  data\n");
    for line in data.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
