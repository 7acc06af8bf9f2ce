//! `muster blame`: who last set each field of what an app declares.

mod fields;

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::{Event, app_entity};
use schemas::id::CommandId;
use schemas::read::LogRequest;
use serde::Serialize;
use serde_json::Value;

pub(crate) use self::fields::flatten;

use self::fields::fields;
use crate::args::{Blame, Format};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::table::{ago, table};
use crate::{lists, look};

/// How long a value may be in a table.
const VALUE: usize = 40;

/// A field, and who set it.
#[derive(Serialize)]
struct Item {
    field: String,
    value: Value,
    position: u64,
    recorded: String,
    actor: String,
    command: Option<CommandId>,
    verb: Option<String>,
    reason: Option<String>,
    #[serde(skip)]
    recorded_ms: u64,
}

pub(crate) async fn blame(client: &Client, blame: &Blame) -> Result<(), CliError> {
    let moment = super::moment(client, &blame.at).await?;
    let place = match &moment {
        Some(moment) => moment.place,
        None => client.head().await?.place,
    };
    let kinds = ["AppDeployed", "WorkloadScaled", "WorkloadRestarted", "AppDeleted"];
    let request = LogRequest {
        entity: Some(app_entity(&blame.app)),
        kinds: kinds.map(str::to_owned).to_vec(),
        to: Some(place.position),
        ..LogRequest::default()
    };
    let events = super::events(client, request).await?;
    let short = blame.app.short();
    let fields = fields(&events);
    if fields.is_empty() {
        let text =
            format!("there is no app {short} at r{}: `muster apps` lists them", place.position);
        return Err(CliError::new(Code::NotFound, text));
    }
    let mut receipts: BTreeMap<CommandId, Option<Envelope>> = BTreeMap::new();
    let mut items = Vec::new();
    for (field, (value, event)) in fields {
        let command = event.header.correlation.clone();
        if let Some(id) = &command
            && !receipts.contains_key(id)
        {
            receipts.insert(id.clone(), super::receipt(client, id).await?);
        }
        let receipt = command.as_ref().and_then(|id| receipts.get(id)?.as_ref());
        items.push(item(field, value, event, receipt));
    }
    if blame.output == Format::Json {
        let told = serde_json::json!({
            "kind": "Blame", "at": place, "app": short, "items": items,
        });
        return look::json(&told);
    }
    let now = runtime::clock::utc_ms();
    let row = |item: &Item| {
        vec![
            item.field.clone(),
            schemas::command::printable(&item.value.to_string(), VALUE),
            format!("r{}", item.position),
            format!("{} ago", ago(now.saturating_sub(item.recorded_ms))),
            item.actor.clone(),
            match (&item.verb, &item.reason) {
                (Some(verb), Some(reason)) => format!("{verb}: {reason}"),
                (verb, _) => verb.clone().unwrap_or_default(),
            },
        ]
    };
    let at = match &moment {
        Some(moment) => super::head(moment),
        None => format!("as of r{}", place.position),
    };
    println!("{short}, {at}");
    print!(
        "{}",
        table(
            &["FIELD", "VALUE", "SET", "WHEN", "BY", "HOW"],
            &items.iter().map(row).collect::<Vec<_>>()
        )
    );
    Ok(())
}

fn item(field: String, value: Value, event: &Envelope, receipt: Option<&Envelope>) -> Item {
    let header = &event.header;
    let (verb, reason) = match receipt.map(|receipt| &receipt.event) {
        Some(Event::CommandAccepted(e)) => (Some(e.verb.clone()), e.reason.clone()),
        _ => (None, None),
    };
    Item {
        field,
        value,
        position: header.position,
        recorded: lists::moment(header.recorded_ms),
        actor: header.actor.clone(),
        command: header.correlation.clone(),
        verb,
        reason,
        recorded_ms: header.recorded_ms,
    }
}
