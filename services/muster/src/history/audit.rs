//! `muster audit`: whether history is whole, and history written out for others.

mod chain;
mod proof;

use schemas::read::LogRequest;

use self::chain::Chain;
use super::{cloud_event, filter};
use crate::args::{Audit, Export, Filter, Format};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;
use crate::meter::Meter;

/// How much is written at once.
const CHUNK_BYTES: usize = 64 * 1024;

pub(crate) use self::proof::check;

pub(crate) async fn audit(client: &Client, audit: &Audit) -> Result<(), CliError> {
    match audit {
        Audit::Verify { output } => verify(client, *output).await,
        Audit::Head => proof::head(client).await,
        Audit::Prove { position } => proof::prove(client, *position).await,
        Audit::Check { proof, head, key } => check(proof, head.as_deref(), key.as_deref()),
        Audit::Export { filter, format } => export(client, filter, *format).await,
    }
}

/// Hashes every event up to the head that was there at the beginning.
async fn verify(client: &Client, output: Format) -> Result<(), CliError> {
    let head = client.head().await?;
    let (mut chain, mut meter) = (Chain::default(), Meter::new("verified", 0, head.place.position));
    let request = LogRequest { to: Some(head.place.position), ..LogRequest::default() };
    look::events(client, request, |text| {
        if chain.place().position < head.place.position {
            chain.push(text.as_bytes()).map_err(|what| CliError::new(Code::No, what))?;
            meter.at(chain.place().position);
        }
        Ok(())
    })
    .await?;
    drop(meter);
    let place = chain.place();
    if place != head.place {
        let text = format!(
            "the chain ends with hash {} at r{}, where event-log says {} at r{}: what it serves is not \
             what it claims",
            place.hash, place.position, head.place.hash, head.place.position
        );
        return Err(CliError::new(Code::No, text));
    }
    if output == Format::Json {
        let told = serde_json::json!({
            "kind": "Verified", "at": place, "genesis": head.genesis, "events": place.position,
            "epochs": place.epoch,
        });
        return look::json(&told);
    }
    println!(
        "verified: {} events, r1 to r{}, each following from the one before it; the last hash is\n{}\nKeep it \
         outside: whoever has it can tell later that nothing before it was changed.",
        place.position, place.position, place.hash
    );
    Ok(())
}

async fn export(client: &Client, wanted: &Filter, format: Export) -> Result<(), CliError> {
    let head = client.head().await?;
    let mut request = filter::request(client, wanted).await?;
    // What comes while this writes is not part of it, so that it ends.
    request.to = Some(request.to.map_or(head.place.position, |to| to.min(head.place.position)));
    let (mut text, mut count) = (String::new(), 0_u64);
    let mut meter = Meter::new("exported", 0, 0);
    if format == Export::Csv {
        text.push_str(cloud_event::COLUMNS);
        text.push('\n');
    }
    look::events(client, request, |event| {
        match format {
            Export::Jsonl => text.push_str(event),
            Export::Csv => text.push_str(&cloud_event::row(&look::decode(event)?)),
            Export::Cloudevents => {
                let event = cloud_event::cloud_event(&look::decode(event)?, &head.genesis);
                text.push_str(&event.to_string());
            }
        }
        text.push('\n');
        if text.len() >= CHUNK_BYTES {
            print!("{text}");
            text.clear();
        }
        count += 1;
        meter.at(count);
        Ok(())
    })
    .await?;
    print!("{text}");
    drop(meter);
    eprintln!("exported {count} events, as of r{}", head.place.position);
    Ok(())
}
