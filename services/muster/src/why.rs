//! `muster why`: the chain of causes from an object back to the person or timer at its root.

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::read::LogRequest;

use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;
use crate::tell;

/// How many causes back, at most.
const DEPTH: usize = 16;

pub(crate) async fn why(client: &Client, object: &str) -> Result<(), CliError> {
    let mut own = of(client, &look::entity(object)).await?;
    if own.is_empty() && !object.contains('/') {
        own = of(client, &format!("command/{object}")).await?;
    }
    let Some(last) = own.last() else {
        let text = format!(
            "history knows no {object}: name a replica, app/NAME, node/NAME or a command's id"
        );
        return Err(CliError::new(Code::NotFound, text));
    };
    println!("{object}: {}", tell::words(&last.event));
    println!("\nWhat happened to it:");
    for envelope in &own {
        println!("{}", tell::line(envelope));
        evidence(envelope);
    }
    let first = own.first().unwrap_or(last);
    println!("\nWhy it is there:");
    chain(client, first).await?;
    println!("\nMore: muster log {object}");
    Ok(())
}

async fn of(client: &Client, entity: &str) -> Result<Vec<Envelope>, CliError> {
    let mut found = Vec::new();
    let request = LogRequest { entity: Some(entity.to_owned()), ..LogRequest::default() };
    look::events(client, request, |text| {
        found.push(look::decode(text)?);
        Ok(())
    })
    .await?;
    Ok(found)
}

fn evidence(envelope: &Envelope) {
    if let Event::RunEnded(e) = &envelope.event {
        for line in &e.evidence.last_lines {
            println!("          │ {}", schemas::command::printable(line, 200));
        }
    }
}

/// From an event to what came right before it, and so on; then the command at the root.
async fn chain(client: &Client, from: &Envelope) -> Result<(), CliError> {
    let mut seen = BTreeMap::new();
    let mut next = from.header.causation;
    let mut root = from.header.correlation.clone();
    println!("{}", tell::line(from));
    while let Some(position) = next.filter(|_| seen.len() < DEPTH) {
        if seen.insert(position, ()).is_some() {
            break;
        }
        let request = LogRequest { from: position, limit: Some(1), ..LogRequest::default() };
        let page = client.log(&request).await?;
        let Some(event) = page.events.first() else { break };
        let cause = look::decode(event.get())?;
        println!("{}", tell::line(&cause));
        next = cause.header.causation;
        root = cause.header.correlation.clone().or(root);
    }
    match root {
        Some(command) => {
            for receipt in of(client, &format!("command/{command}")).await? {
                println!("{}", tell::line(&receipt));
            }
        }
        None => {
            println!("        no command is at the root: {} did it by itself", from.header.writer)
        }
    }
    Ok(())
}
