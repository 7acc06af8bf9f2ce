//! Commands that only look.

use schemas::command::Command;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::read::{LogRequest, StatePage, StateRequest};
use schemas::stream;

use crate::args::{Format, Log, Look};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::table::{ago, bytes, table};
use crate::tell;

async fn page(client: &Client, look: &Look) -> Result<StatePage, CliError> {
    let request = StateRequest {
        tenant: look.app.as_ref().map(|app| app.tenant.clone()),
        app: look.app.as_ref().map(|app| app.name.clone()),
        ..StateRequest::default()
    };
    let page = client.state(request).await?;
    match &look.app {
        Some(app) if page.apps.is_empty() => {
            Err(CliError::new(Code::NotFound, format!("there is no app {app}")))
        }
        _ => Ok(page),
    }
}

fn json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| CliError::internal(e.to_string()))?;
    println!("{text}");
    Ok(())
}

pub(crate) async fn ps(client: &Client, look: &Look) -> Result<(), CliError> {
    let page = page(client, look).await?;
    if look.output == Format::Json {
        return json(&page.replicas);
    }
    let now = runtime::clock::utc_ms();
    let rows: Vec<Vec<String>> = page
        .replicas
        .iter()
        .map(|r| {
            vec![
                r.replica.to_string(),
                r.app.to_string(),
                r.node.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
                r.status.clone(),
                r.run.to_string(),
                r.revision.to_string(),
                ago(now.saturating_sub(r.since_ms)),
                if r.status == "ready" {
                    r.endpoints.join(" ")
                } else {
                    r.trouble.clone().unwrap_or_default()
                },
            ]
        })
        .collect();
    print!(
        "{}",
        table(
            &["REPLICA", "APP", "NODE", "STATUS", "RUN", "REVISION", "AGE", "ENDPOINTS OR TROUBLE"],
            &rows
        )
    );
    Ok(())
}

pub(crate) async fn apps(client: &Client, look: &Look) -> Result<(), CliError> {
    let page = page(client, look).await?;
    if look.output == Format::Json {
        return json(&page.apps);
    }
    let mut rows = Vec::new();
    for app in &page.apps {
        for (name, w) in &app.workloads {
            let declared = w.declared.map_or_else(|| "every node".to_owned(), |n| n.to_string());
            rows.push(vec![
                app.app.to_string(),
                name.to_string(),
                w.image.clone(),
                format!("{}/{declared}", w.ready),
                app.revision.to_string(),
                app.status.clone(),
                app.reason.clone().unwrap_or_else(|| w.unplaced.join("; ")),
            ]);
        }
    }
    print!("{}", table(&["APP", "WORKLOAD", "IMAGE", "READY", "REVISION", "STATUS", "WHY"], &rows));
    Ok(())
}

pub(crate) async fn nodes(client: &Client, look: &Look) -> Result<(), CliError> {
    let page = page(client, look).await?;
    if look.output == Format::Json {
        return json(&page.nodes);
    }
    let rows: Vec<Vec<String>> = page
        .nodes
        .iter()
        .map(|n| {
            vec![
                n.node.to_string(),
                n.status.clone(),
                n.admission.clone(),
                n.replicas.to_string(),
                format!("{}/{}m", n.cpu_millis.1, n.cpu_millis.0),
                format!("{}/{}", bytes(n.memory_bytes.1), bytes(n.memory_bytes.0)),
                n.address.clone(),
                n.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(","),
            ]
        })
        .collect();
    print!(
        "{}",
        table(
            &["NODE", "STATUS", "ADMISSION", "REPLICAS", "CPU", "MEMORY", "ADDRESS", "LABELS"],
            &rows
        )
    );
    Ok(())
}

pub(crate) async fn state(client: &Client, look: &Look) -> Result<(), CliError> {
    json(&page(client, look).await?)
}

/// The entity that a person means: `app/shop` is `app/main/shop`, a bare id is a replica.
pub(crate) fn entity(object: &str) -> String {
    match object.split('/').collect::<Vec<_>>().as_slice() {
        ["app", name] => format!("app/main/{name}"),
        ["workload", app, name] => format!("workload/main/{app}/{name}"),
        [id] => format!("replica/{id}"),
        _ => object.to_owned(),
    }
}

/// All events of a request, page by page, each handed to `each`. Says where the log ended.
pub(crate) async fn events(
    client: &Client,
    mut request: LogRequest,
    mut each: impl FnMut(&str) -> Result<(), CliError>,
) -> Result<u64, CliError> {
    loop {
        let page = client.log(&request).await?;
        for event in &page.events {
            each(event.get())?;
        }
        match page.next.filter(|_| !request.newest) {
            Some(next) => request.from = next,
            None => return Ok(page.place.position),
        }
    }
}

pub(crate) fn decode(text: &str) -> Result<Envelope, CliError> {
    Envelope::decode(text.as_bytes()).map_err(|error| CliError::internal(error.to_string()))
}

pub(crate) async fn log(client: &Client, log: &Log) -> Result<(), CliError> {
    let request = LogRequest {
        from: log.from,
        limit: log.newest,
        newest: log.newest.is_some(),
        entity: log.object.as_deref().map(entity),
        ..LogRequest::default()
    };
    let wanted = request.entity.clone();
    let print = |text: &str| {
        match log.output {
            Format::Json => println!("{text}"),
            Format::Table => println!("{}", tell::line(&decode(text)?)),
        }
        Ok(())
    };
    let head = events(client, request, print).await?;
    if !log.follow {
        return Ok(());
    }
    let mut follow = client.bus.follow(stream::EVENTS.name, head + 1, None);
    loop {
        let batch = follow
            .next_batch(64)
            .await
            .map_err(|e| CliError::new(Code::Unreachable, e.to_string()))?;
        for message in batch {
            let text = String::from_utf8_lossy(&message.payload);
            // What somebody published there by hand is voided in the log.
            let Ok(envelope) = decode(&text) else { continue };
            let about = envelope.event.about();
            if wanted.as_ref().is_none_or(|wanted| about.entities.contains(wanted)) {
                print(&text)?;
            }
        }
    }
}

pub(crate) fn schema(name: Option<&str>) -> Result<(), CliError> {
    let all = Command::json_schemas().into_iter().chain(Event::json_schemas());
    match name {
        None => {
            for (name, _) in all {
                println!("{name}");
            }
            Ok(())
        }
        Some(wanted) => {
            let mut all = all;
            let Some((_, schema)) = all.find(|(name, _)| *name == wanted) else {
                return Err(CliError::new(
                    Code::NotFound,
                    format!("no message {wanted:?}: `muster schema` lists them"),
                ));
            };
            json(&schema)
        }
    }
}

/// Each line says what was looked at; one that is not well says what to do.
pub(crate) async fn doctor(client: &Client) -> Result<(), CliError> {
    let mut ill = false;
    println!("ok    nats-server {}", client.bus.server_version());
    for spec in stream::ALL {
        match client.bus.stream_state(spec.name).await {
            Ok(Some(state)) => println!(
                "ok    stream {}: {} messages, {}",
                spec.name,
                state.messages,
                bytes(state.bytes)
            ),
            Ok(None) => {
                ill = true;
                println!(
                    "ILL   stream {} is not there: start event-log, which makes it",
                    spec.name
                );
            }
            // A role that may not read a stream is not told of it either.
            Err(_) => println!("-     stream {}: not for this user to see", spec.name),
        }
    }
    match client.head().await {
        Ok(head) => {
            println!("ok    event-log at {}, state {}", head.place, head.state_hash);
            if head.anomalies > 0 {
                ill = true;
                println!(
                    "ILL   {} impossible events: a writer has a bug; report it with `muster log -o json`",
                    head.anomalies
                );
            }
        }
        Err(error) => {
            ill = true;
            println!("ILL   event-log: {}", error.text);
        }
    }
    if let Ok(page) = client.state(StateRequest::default()).await {
        for node in page.nodes {
            let well = node.status == "ready";
            ill |= !well;
            println!("{}   node {}: {}", if well { "ok " } else { "ILL" }, node.node, node.status);
        }
    }
    if ill { Err(CliError::new(Code::No, "something is not well")) } else { Ok(()) }
}
