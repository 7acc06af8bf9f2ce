//! `muster why`: the chain of causes from an object back to the person or timer at its root.
//!
//! The rules in `why/` are pure: they ask [`Records`] and the state, and begin again with what they
//! lacked once it is fetched.

mod answer;
mod certificate;
mod command;
mod node;
mod records;
mod replica;
#[cfg(test)]
mod tests;
mod workload;

use schemas::event::{Event, replica_entity};
use schemas::id::{AppKey, CLUSTER_TENANT, ReplicaId, Tenant};
use schemas::place::Place;
use schemas::read::{LogRequest, StateRequest};
use serde::Serialize;

use self::answer::{Answer, Case, Link, Part};
use self::records::{Records, Stop};
use super::object::{self, Object};
use crate::args::{Aspect, Format, Why};
use crate::client::Client;
use crate::colour::{Colour, paint};
use crate::error::{CliError, Code};
use crate::{look, tell};

/// How often more may be fetched for one answer.
const FETCHES: usize = 64;

/// How many notes are shown, the newest.
const NOTES: u64 = 5;

/// An answer as JSON.
#[derive(Serialize)]
struct Told<'a> {
    kind: &'static str,
    at: Place,
    object: String,
    #[serde(flatten)]
    answer: &'a Answer,
}

pub(crate) async fn why(client: &Client, asked: &Why) -> Result<(), CliError> {
    let object = object::find(client, &asked.object).await?;
    let moment = super::moment(client, &asked.at).await?;
    let at = moment.as_ref().map(|moment| moment.place.position);
    let page = client.state(state_of(client, &object, at).await?).await?;
    let now_ms = moment.as_ref().map_or_else(runtime::clock::utc_ms, |moment| moment.recorded_ms);
    let mut records = Records::up_to(page.place.position);
    let mut fetches = 0;
    let answer = loop {
        let case = Case { records: &records, page: &page, now_ms };
        let request = match answered(&case, &object, asked.state) {
            Ok(answer) => break answer,
            Err(Stop::Lacks(request)) => *request,
            Err(stop) => return Err(stopped(&stop, &object, asked)),
        };
        fetches += 1;
        if fetches > FETCHES {
            return Err(CliError::internal("the chain of causes does not end"));
        }
        let events = super::events(client, request.clone()).await?;
        records.add(request, events);
    };
    if asked.output == Format::Json {
        let (at, object) = (page.place, object.typed());
        return look::json(&Told { kind: "Why", at, object, answer: &answer });
    }
    let at = match &moment {
        Some(moment) => super::head(moment).replacen('a', "A", 1),
        None => format!("As of r{}", page.place.position),
    };
    print!("{}", text(&answer, now_ms, &at));
    Ok(())
}

/// One rule an object.
fn answered(case: &Case<'_>, object: &Object, aspect: Option<Aspect>) -> Result<Answer, Stop> {
    let mut answer = match object {
        Object::Replica(id) => replica::answer(case, id, aspect),
        Object::App(app) => workload::app(case, app, aspect),
        Object::Workload(app, name) => workload::workload(case, app, name, aspect),
        Object::Node(node) => node::answer(case, node, aspect),
        Object::Certificate(host) => certificate::answer(case, host),
        Object::Command(id) => command::answer(case, id),
        Object::Event(position) => command::event(case, *position),
        Object::Other(_) => {
            Err(Stop::Asked("a replica, an app, a workload, a node, a certificate or a command"))
        }
    }?;
    if let (None, Some(entity)) = (aspect, object.entity()) {
        answer.parts.extend(notes(case, &entity)?);
    }
    Ok(answer)
}

/// What people and programs noted on it.
fn notes(case: &Case<'_>, entity: &str) -> Result<Option<Part>, Stop> {
    let found = case.records.newest(entity, &["NoteAdded"], 1, NOTES)?;
    let chain: Vec<Link> = found.iter().map(|event| Link::of(event, None)).collect();
    let title = "Notes on it".to_owned();
    Ok((!chain.is_empty()).then(|| Part { title, chain, ..Part::default() }))
}

/// The part of the state that an answer needs: one app, or the nodes alone.
async fn state_of(
    client: &Client,
    object: &Object,
    at: Option<u64>,
) -> Result<StateRequest, CliError> {
    let app = match object {
        Object::App(app) | Object::Workload(app, _) => Some(app.clone()),
        Object::Replica(id) => app_of(client, id).await?,
        _ => None,
    };
    let (tenant, app) = match app {
        Some(app) => (app.tenant, Some(app.name)),
        // No app is of this tenant.
        None => (Tenant::new(CLUSTER_TENANT).map_err(|e| CliError::internal(e.to_string()))?, None),
    };
    Ok(StateRequest { tenant: Some(tenant), app, at, ..StateRequest::default() })
}

/// The app of a replica: its id does not say for certain.
async fn app_of(client: &Client, id: &ReplicaId) -> Result<Option<AppKey>, CliError> {
    let entity = Some(replica_entity(id));
    let request = LogRequest { entity, limit: Some(1), ..LogRequest::default() };
    Ok(super::events(client, request).await?.into_iter().find_map(|event| match event.event {
        Event::ReplicasRequested(e) => Some(e.app),
        _ => None,
    }))
}

fn stopped(stop: &Stop, object: &Object, asked: &Why) -> CliError {
    match stop {
        Stop::Asked(what) => CliError::usage(format!("what can be asked: {what}")),
        Stop::Unknown if asked.at.at.is_some() => {
            let text = format!("history had nothing of {} by then", object.typed());
            CliError::new(Code::NotFound, text)
        }
        Stop::Unknown | Stop::Lacks(_) => {
            CliError::new(Code::NotFound, format!("history has nothing of {}", object.typed()))
        }
    }
}

/// An answer for people: what is so first, then why, then where to look on.
fn text(answer: &Answer, now_ms: u64, at: &str) -> String {
    let mut text = format!("{}\n", answer.summary);
    for part in &answer.parts {
        text.push_str(&format!("\n{}\n", part.title));
        part_text(part, now_ms, &mut text);
    }
    let more = answer.more.join(" · ");
    text.push_str(&format!("\n{}\n", paint(Colour::Grey, &format!("{at}. More: {more}"))));
    text
}

fn part_text(part: &Part, now_ms: u64, text: &mut String) {
    for reason in &part.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    if let Some(root) = &part.root {
        text.push_str(&format!("  behind it: {}\n", root.text));
    }
    let widest = part.chain.iter().map(|link| link.writer.len()).max().unwrap_or(0);
    for (i, link) in part.chain.iter().enumerate() {
        let arrow = if i == 0 { ' ' } else { '↳' };
        let (clock, position) =
            (tell::clock(link.recorded_ms, now_ms), format!("r{}", link.position));
        let line = format!("{position:<7} {clock}  {:<widest$}  {}", link.writer, link.text);
        text.push_str(&paint(Colour::Grey, &format!("    {arrow} {line}")));
        text.push('\n');
    }
}
