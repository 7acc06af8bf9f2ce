//! `muster export`: what happened, to be handed to somebody else: a fork without secrets.
//!
//! History is read twice: for what is secret in it, then to write it. What came of it is compared with
//! what it was made from before anybody gets it.

use std::path::Path;

use cluster::{FOLD_VERSION, Fold};
use redact::{Policy, Redacted, Redactor, Shape, Survey};
use schemas::envelope::SCHEMA;
use schemas::id::Digest;
use schemas::place::Place;
use schemas::read::LogRequest;
use serde::Serialize;

use crate::args::{Bundle, Format, Point, When};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::meter::Meter;
use crate::{fork, look};

/// The file that says what the bundle is.
const FILE: &str = "manifest.json";

/// What a bundle is.
#[derive(Debug, Serialize)]
struct Manifest {
    kind: &'static str,
    /// The release that made it, and its formats.
    muster: &'static str,
    schema: u32,
    fold_version: u32,
    /// What it is of, how much was taken out, and from where to where it goes.
    #[serde(flatten)]
    policy: Policy,
    /// The place of the original history that it goes up to, told by a digest that needs that history.
    original: Original,
    /// The same place in the history of the bundle, its id, and its state there.
    bundle: Place,
    genesis: String,
    state_hash: String,
    anomalies: u64,
    redacted: Redacted,
}

/// A place of a history whose hash is not told: by it, what was taken out could be guessed.
#[derive(Debug, Serialize)]
struct Original {
    epoch: u64,
    position: u64,
    /// SHA-256 of the id of that history, a slash, and its hash there.
    sha256: Digest,
}

pub(crate) async fn export(client: &Client, args: &Bundle) -> Result<(), CliError> {
    let original = client.moment(args.to.unwrap_or(When::Now)).await?.place;
    let from = first(client, args.from).await?;
    if from > original.position {
        let text = format!("nothing lies between r{from} and r{}", original.position);
        return Err(CliError::usage(text));
    }
    is_empty(&args.into)?;
    let app = args.app.clone();
    let policy = Policy { extent: args.redact.into(), app, from, to: original.position };

    let (survey, known) = survey(client, &policy, original).await?;
    if let Some(app) = args.app.as_ref().filter(|_| !survey.knows_the_app()) {
        let text = format!("there was no app {} up to r{}", app.short(), original.position);
        return Err(CliError::new(Code::NotFound, text));
    }
    let manifest = match write(client, survey.done(), &policy, original, &known, &args.into).await {
        Ok(manifest) => manifest,
        Err(error) => {
            // What there is of it by now was not compared with anything.
            let _ = std::fs::remove_dir_all(&args.into);
            return Err(error);
        }
    };
    match args.output {
        Format::Json => look::json(&manifest),
        Format::Table => {
            tell(&manifest, &args.into);
            Ok(())
        }
    }
}

/// The first position that a bundle is about.
async fn first(client: &Client, from: Option<When>) -> Result<u64, CliError> {
    let Some(from) = from else { return Ok(1) };
    match from.point(runtime::clock::utc_ms(), &chrono::Local) {
        Point::Position(position) => Ok(position.max(1)),
        Point::Time(_) | Point::Now => Ok(client.moment(from).await?.place.position + 1),
    }
}

fn is_empty(into: &Path) -> Result<(), CliError> {
    match std::fs::read_dir(into).map(|mut files| files.next()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let text = format!("{} is not empty: name a new folder", into.display());
            Err(CliError::usage(text))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CliError::usage(format!("{}: {error}", into.display()))),
    }
}

/// The first reading, and the state that the bundle must come to. Beyond where it ends is read on: a
/// secret may have been printed before it was declared.
async fn survey(
    client: &Client,
    policy: &Policy,
    original: Place,
) -> Result<(Survey, Fold), CliError> {
    let mut survey = Survey::new(policy.clone());
    let mut fold = Fold::new();
    let mut meter = Meter::new("read", 0, original.position);
    let request = LogRequest { to: Some(original.position), ..LogRequest::default() };
    look::events(client, request, |text| {
        let entry = text.as_bytes();
        survey.read(entry).map_err(newer)?;
        fold.push(entry).map_err(|error| CliError::new(Code::No, error.to_string()))?;
        meter.at(fold.cursor().position);
        Ok(())
    })
    .await?;
    drop(meter);
    let mut beyond = LogRequest { from: original.position + 1, ..LogRequest::default() };
    // A newer event-log may state what this release does not know: then that is met, and told.
    if client.head().await?.fold_version == FOLD_VERSION {
        beyond.kinds = survey.kinds().unwrap_or_default();
    }
    let (mut meter, mut read) = (Meter::new("read beyond", 0, 0), 0);
    look::events(client, beyond, |text| {
        read += 1;
        meter.at(read);
        survey.read(text.as_bytes()).map_err(newer)
    })
    .await?;
    if fold.place() != original {
        let text = format!("the events lead to {}, event-log says {original}", fold.place());
        return Err(CliError::new(Code::No, text));
    }
    Ok((survey, fold))
}

async fn write(
    client: &Client,
    mut redactor: Redactor,
    policy: &Policy,
    original: Place,
    known: &Fold,
    into: &Path,
) -> Result<Manifest, CliError> {
    let mut copy = fork::begin(into)?;
    let mut meter = Meter::new("written", 0, original.position);
    let request = LogRequest { to: Some(original.position), ..LogRequest::default() };
    look::events(client, request, |text| {
        for entry in redactor.take(text.as_bytes()).map_err(newer)? {
            copy.take(&entry)?;
        }
        meter.at(copy.place().position);
        Ok(())
    })
    .await?;
    drop(meter);
    let state = copy.fold().state();
    let (is, was) = [state, known.state()].map(|s| Shape::of(s, policy.app.as_ref())).into();
    let more = match &policy.app {
        Some(_) => state.anomalies() > known.state().anomalies(),
        None => state.anomalies() != known.state().anomalies(),
    };
    if is != was || more || copy.fold().place().position != original.position {
        let text = "the bundle does not come to the state that it was made from, and is not kept: \
                    this is a fault of muster; `muster fork` copies history as it is";
        return Err(CliError::internal(text));
    }
    let (state_hash, anomalies) = (state.hash(), state.anomalies());
    let bundle = fork::finish(copy, into)?;
    let manifest = Manifest {
        kind: "Bundle",
        muster: env!("CARGO_PKG_VERSION"),
        schema: SCHEMA,
        fold_version: FOLD_VERSION,
        policy: policy.clone(),
        original: Original {
            epoch: original.epoch,
            position: original.position,
            sha256: redactor.mark(original),
        },
        bundle,
        genesis: redactor.genesis(),
        state_hash,
        anomalies,
        redacted: redactor.redacted().clone(),
    };
    let text =
        serde_json::to_vec_pretty(&manifest).map_err(|e| CliError::internal(e.to_string()))?;
    let path = into.join(FILE);
    let written = runtime::files::write_atomically(&path, &text);
    written.map_err(|error| CliError::internal(format!("{}: {error}", path.display())))?;
    Ok(manifest)
}

fn newer(error: redact::RedactError) -> CliError {
    let text = format!("{error}: what it cannot read, it cannot take secrets out of");
    CliError::new(Code::No, text)
}

fn tell(manifest: &Manifest, into: &Path) {
    let Manifest { policy, redacted, bundle, .. } = manifest;
    let of = policy.app.as_ref().map_or_else(String::new, |app| format!(" of {}", app.short()));
    let into = into.display();
    println!(
        "history{of} from r{} to r{} is in {into}, without secrets",
        policy.from, bundle.position
    );
    println!(
        "{} values and {} files taken out, {} texts changed, {} events left out",
        redacted.values, redacted.files, redacted.texts, redacted.left_out
    );
    println!("muster dev --fork {into}");
}
