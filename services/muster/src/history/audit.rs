//! `muster audit`: whether history is whole, and history written out for others.

mod chain;
mod proof;

use std::io::IsTerminal as _;

use schemas::read::LogRequest;

use self::chain::Chain;
use super::{cloud_event, filter};
use crate::args::{Audit, Export, Filter, Format};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;

/// How often progress is told, in ms.
const EVERY_MS: u64 = 250;

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
    let (mut chain, mut progress) = (Chain::default(), Progress::new("verified"));
    let request = LogRequest { to: Some(head.place.position), ..LogRequest::default() };
    look::events(client, request, |text| {
        if chain.place().position < head.place.position {
            chain.push(text.as_bytes()).map_err(|what| CliError::new(Code::No, what))?;
            progress.step(chain.place().position, head.place.position);
        }
        Ok(())
    })
    .await?;
    progress.end();
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
    let mut progress = Progress::new("exported");
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
        progress.step(count, 0);
        Ok(())
    })
    .await?;
    print!("{text}");
    progress.end();
    eprintln!("exported {count} events, as of r{}", head.place.position);
    Ok(())
}

/// A line on standard error that is written over, where that is a terminal.
struct Progress {
    what: &'static str,
    shown: bool,
    next_ms: u64,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        Self { what, shown: false, next_ms: runtime::clock::mono_ms() + EVERY_MS }
    }

    /// So many of so many; 0: nobody knows of how many.
    fn step(&mut self, count: u64, of: u64) {
        // A look at the clock an event is dear.
        if !count.is_multiple_of(512) || runtime::clock::mono_ms() < self.next_ms {
            return;
        }
        self.next_ms = runtime::clock::mono_ms() + EVERY_MS;
        if std::io::stderr().is_terminal() {
            let part = (count * 100).checked_div(of);
            let of = part.map_or_else(String::new, |part| format!(" of {of} ({part} %)"));
            eprint!("\r\u{1b}[K{} {count}{of}", self.what);
            self.shown = true;
        }
    }

    fn end(&self) {
        if self.shown {
            eprint!("\r\u{1b}[K");
        }
    }
}
