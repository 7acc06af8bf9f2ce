//! `muster doctor`: each line says what was looked at; one that is ill says what to do.

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::Writer;
use schemas::place::Place;
use schemas::read::{Head, LogRequest, StateRequest};
use schemas::report::Beat;
use schemas::{stream, subject};
use serde::Serialize;

use crate::args::Format;
use crate::client::Client;
use crate::colour::{Colour, paint};
use crate::error::{CliError, Code};
use crate::look;
use crate::table::{ago, bytes};

/// How old the last beat of a service that leads may be.
const SILENT_MS: u64 = 5_000;

/// How long a state that differed is told of, in ms.
const DIVERGED_MS: u64 = 3_600_000;

/// How many events behind a service may be that follows.
const LAG: u64 = 1_000;

/// What was looked at, and how it is.
#[derive(Debug, Serialize)]
struct Finding {
    what: String,
    /// `ok`, `ill`, or `unknown`: as it may be, or not for this user to tell.
    state: &'static str,
    /// What to do about it.
    remedy: Option<String>,
}

/// What was found: printed as it is found, or kept to be one JSON value.
struct Report {
    output: Format,
    found: Vec<Finding>,
}

impl Report {
    fn well(&mut self, what: &str) {
        self.add(what, "ok", None);
    }

    fn ill(&mut self, what: &str, remedy: &str) {
        self.add(what, "ill", Some(remedy));
    }

    /// What is as it may be, or cannot be told.
    fn note(&mut self, what: &str) {
        self.add(what, "unknown", None);
    }

    fn add(&mut self, what: &str, state: &'static str, remedy: Option<&str>) {
        if self.output == Format::Table {
            match (state, remedy) {
                (_, Some(remedy)) => println!("{}   {what}: {remedy}", paint(Colour::Red, "ILL")),
                ("ok", None) => println!("{}    {what}", paint(Colour::Green, "ok")),
                (_, None) => println!("{}     {what}", paint(Colour::Grey, "-")),
            }
        }
        let remedy = remedy.map(str::to_owned);
        self.found.push(Finding { what: what.to_owned(), state, remedy });
    }
}

pub(crate) async fn doctor(client: &Client, output: Format) -> Result<(), CliError> {
    let mut report = Report { output, found: Vec::new() };
    report.well(&format!("muster {}", env!("CARGO_PKG_VERSION")));
    report.well(&format!(
        "nats-server {}, at least {} is needed",
        client.bus.server_version(),
        bus::SERVER_MIN_TEXT
    ));
    streams(client, &mut report).await;
    let mut at = None;
    match client.head().await {
        Ok(head) => {
            at = Some(head.place);
            report.well(&format!("event-log at {}, state {}", head.place, head.state_hash));
            history(&head, &mut report);
            services(client, &head, &mut report).await;
            states(client, &mut report).await;
            nodes(client, &mut report).await;
        }
        Err(error) => report.ill("event-log", &error.text),
    }
    if output == Format::Json {
        look::json(&serde_json::json!({ "kind": "FindingList", "at": at, "items": report.found }))?;
    }
    match report.found.iter().filter(|finding| finding.state == "ill").count() {
        0 => Ok(()),
        1 => Err(CliError::new(Code::No, "one thing is ill")),
        n => Err(CliError::new(Code::No, format!("{n} things are ill"))),
    }
}

async fn streams(client: &Client, report: &mut Report) {
    for spec in stream::ALL {
        let name = spec.name;
        match client.bus.stream_drift(spec).await {
            Ok(None) => {
                report
                    .ill(&format!("stream {name} is not there"), "start event-log, which makes it");
            }
            Ok(Some(differences)) => {
                for difference in &differences {
                    let text = difference.to_string();
                    let (what, remedy) = text.rsplit_once(": ").unwrap_or((&text, "restore it"));
                    report.ill(what, remedy);
                }
                if differences.is_empty() {
                    let size = match client.bus.stream_state(name).await {
                        Ok(Some(at)) => format!("{} messages, {}", at.messages, bytes(at.bytes)),
                        _ => "gone meanwhile".to_owned(),
                    };
                    report.well(&format!("stream {name}, every setting as it must be: {size}"));
                }
            }
            // A user who may not look is not told so: the server does not answer.
            Err(_) => report.note(&format!("stream {name}: not for this user to see")),
        }
    }
}

fn history(head: &Head, report: &mut Report) {
    if head.anomalies > 0 {
        let what = format!("{} impossible events", head.anomalies);
        report.ill(&what, "a writer has a bug; `muster replay` names them");
    }
    if head.fold_version != cluster::FOLD_VERSION {
        let (theirs, ours) = (head.fold_version, cluster::FOLD_VERSION);
        let what = format!("event-log folds by version {theirs}, this release by {ours}");
        report.ill(&what, "bring both to one release");
    }
}

async fn services(client: &Client, head: &Head, report: &mut Report) {
    let now = runtime::clock::utc_ms();
    for writer in Writer::DECIDERS {
        let newest = client.bus.get_last(stream::REPORTS.name, &subject::beat(&writer)).await;
        let Ok(newest) = newest else {
            report.note(&format!("{writer}: not for this user to see"));
            continue;
        };
        let beat = newest.and_then(|message| {
            let beat: Beat = serde_json::from_slice(&message.payload).ok()?;
            Some((beat, now.saturating_sub(message.time_ms)))
        });
        let start = format!("start muster-{writer}");
        match beat {
            // Without one nothing scales by itself, and nothing else is amiss.
            None if writer == Writer::Autoscaler => report.note(&format!("{writer}: not running")),
            None => report.ill(&format!("{writer} was not heard"), &start),
            Some((_, age)) if age > SILENT_MS => {
                report.ill(&format!("{writer} was last heard {} ago", ago(age)), &start);
            }
            Some((beat, _)) => {
                let lag = head.place.position.saturating_sub(beat.place.position);
                let leads =
                    format!("{writer} led by {} in term {}", short(&beat.instance), beat.term);
                if lag > LAG {
                    report.ill(&format!("{leads} is {lag} events behind"), "see its log");
                } else {
                    report.well(&format!("{leads}, {lag} events behind"));
                }
            }
        }
    }
}

/// States that differed from the log's, of late.
async fn states(client: &Client, report: &mut Report) {
    let now = runtime::clock::utc_ms();
    let request = LogRequest {
        newest: true,
        since_ms: Some(now.saturating_sub(DIVERGED_MS)),
        kinds: vec!["StateDiverged".to_owned(), "GatewayDiverged".to_owned()],
        ..LogRequest::default()
    };
    let page = match client.log(&request).await {
        Ok(page) => page,
        Err(error) => return report.ill("the log", &error.text),
    };
    let mut last = BTreeMap::new();
    for entry in &page.events {
        let Ok(Envelope { header, event }) = Envelope::decode(entry.get().as_bytes()) else {
            continue;
        };
        if let Some(diverged) = Diverged::of(event) {
            let key = (diverged.who.clone(), diverged.instance.clone());
            last.insert(key, (header.recorded_ms, diverged));
        }
    }
    if last.is_empty() {
        report.well("nobody had another state than the log within the last hour");
    }
    for (recorded_ms, diverged) in last.into_values() {
        diverged.tell(&ago(now.saturating_sub(recorded_ms)), report);
    }
}

/// A state that was not the log's.
struct Diverged {
    who: String,
    instance: String,
    place: Place,
    theirs: String,
    ours: String,
    /// What to do about it.
    remedy: String,
}

impl Diverged {
    fn of(event: Event) -> Option<Self> {
        Some(match event {
            Event::StateDiverged(e) => Self {
                who: e.writer.to_string(),
                remedy: match e.writer {
                    Writer::EventLog => "where a replay verifies, the one that leads is right: move the \
                                         folder of the other aside and start it, and it takes in the \
                                         log anew"
                        .to_owned(),
                    writer => format!("restart muster-{writer}, which folds anew"),
                },
                instance: e.instance,
                place: e.place,
                theirs: e.theirs,
                ours: e.ours,
            },
            Event::GatewayDiverged(e) => Self {
                who: format!("gateway.{}", e.node),
                remedy: format!("restart muster-gateway of {}, which folds anew", e.node),
                instance: e.instance,
                place: e.place,
                theirs: e.theirs,
                ours: e.ours,
            },
            _ => return None,
        })
    }

    fn tell(&self, ago: &str, report: &mut Report) {
        let Self { who, place, theirs, ours, remedy, .. } = self;
        let instance = short(&self.instance);
        let what =
            format!("the state of {who} ({instance}) at {place} was not the log's {ago} ago");
        let remedy = format!(
            "{remedy}; see `muster replay --verify`. The log that led had {ours}, this one {theirs}"
        );
        report.ill(&what, &remedy);
    }
}

async fn nodes(client: &Client, report: &mut Report) {
    let page = match client.state(StateRequest::default()).await {
        Ok(page) => page,
        Err(error) => return report.ill("the state", &error.text),
    };
    if page.nodes.is_empty() {
        report.ill("there is no node", "start muster-node-agent on a machine with an engine");
    }
    for node in &page.nodes {
        let what = format!(
            "node {} is {}, {}: engine {}, agent {}",
            node.node, node.status, node.admission, node.engine, node.agent
        );
        if node.status != "ready" {
            let remedy = format!("look at its agent, or `muster lost-node {}`", node.node);
            report.ill(&what, &remedy);
        } else if node.agent != env!("CARGO_PKG_VERSION") {
            report.ill(&what, "bring the agent and this command line to one release");
        } else {
            report.well(&what);
        }
    }
    for app in page.apps.iter().filter(|app| app.status == "stalled") {
        let why = app.reason.clone().unwrap_or_default();
        let remedy = format!("{why}; see `muster why app/{}`", app.app.short());
        report.ill(&format!("app {} has stalled", app.app.short()), &remedy);
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
