//! Why a node is as it is: silent, closed, gone; and what followed from that.

use schemas::envelope::Envelope;
use schemas::event::{Event, node_entity};
use schemas::id::NodeName;
use schemas::read::LogRequest;

use super::answer::{Answer, Case};
use super::records::Stop;
use crate::args::Aspect;
use crate::tell::{self, count};

/// How many events after one are looked through for what followed from it.
const AFTER: u64 = 500;

/// What changes whether a node is heard.
const HEARD: [&str; 5] =
    ["NodeSuspected", "NodeLost", "NodeDeclaredLost", "NodeReturned", "NodeRemoved"];

/// What changes whether it takes replicas.
const ADMITS: [&str; 2] = ["NodeCordoned", "NodeUncordoned"];

pub(crate) fn answer(
    case: &Case<'_>,
    node: &NodeName,
    aspect: Option<Aspect>,
) -> Result<Answer, Stop> {
    if aspect.is_some_and(|aspect| !matches!(aspect, Aspect::Dead | Aspect::Exists)) {
        return Err(Stop::Asked("exists or dead, of a node"));
    }
    let entity = node_entity(node);
    let newest = |kinds: &[&str]| Ok(case.records.newest(&entity, kinds, 1, 1)?.first());
    let described = newest(&["NodeDescribed"])?.ok_or(Stop::Unknown)?;
    let more = vec![
        format!("muster log node/{node}"),
        "muster nodes".to_owned(),
        "muster doctor".to_owned(),
    ];
    let (heard, admits) = (newest(&HEARD)?, newest(&ADMITS)?);
    let view = case.page.nodes.iter().find(|view| view.node == *node);
    let Some(view) = view else {
        let event = heard.unwrap_or(described);
        let (at, ago) = (event.header.position, case.ago(event.header.recorded_ms));
        let summary = format!("{node} is not a node any more, since r{at}, {ago} ago");
        let part = case.part("Why it is gone", Vec::new(), event, None)?;
        return Ok(Answer { summary, parts: vec![part], more });
    };
    let closed =
        if view.admission == "open" { String::new() } else { format!(", {}", view.admission) };
    let summary =
        format!("{node} is {}{closed}, with {}", view.status, count(view.replicas, "replica"));
    let mut parts = Vec::new();
    if let Some(event) = heard {
        let title = match event.event {
            Event::NodeReturned(_) => "Why it was silent, and is back".to_owned(),
            _ => format!("Why it is {}", view.status),
        };
        let mut reasons = vec![tell::words(&event.event)];
        reasons.extend(silence(case, &entity, event)?);
        reasons.extend(followed(case, event)?);
        parts.push(case.part(title, reasons, event, None)?);
    }
    if let Some(event) = admits.filter(|_| view.admission != "open") {
        let reasons = followed(case, event)?.into_iter().collect();
        parts.push(case.part(format!("Why it is {}", view.admission), reasons, event, None)?);
    }
    if parts.is_empty() || aspect == Some(Aspect::Exists) {
        parts.push(case.part(
            "Why it is a node",
            vec![tell::words(&described.event)],
            described,
            None,
        )?);
    }
    Ok(Answer { summary, parts, more })
}

/// Whether its agent said good-bye before it fell silent.
fn silence(case: &Case<'_>, entity: &str, event: &Envelope) -> Result<Option<String>, Stop> {
    if !matches!(event.event, Event::NodeSuspected(_) | Event::NodeLost(_)) {
        return Ok(None);
    }
    let kinds = ["LeadershipTaken", "LeadershipReleased"];
    let led = case.records.newest(entity, &kinds, 1, 1)?.first();
    Ok(Some(match led.map(|event| (&event.event, event.header.position)) {
        Some((Event::LeadershipReleased(_), at)) => {
            format!("its agent stopped cleanly before, at r{at}: was it shut down?")
        }
        _ => "its agent did not say that it stops: killed, cut off, or the machine is gone"
            .to_owned(),
    }))
}

/// The replicas that others were requested for because of an event.
fn followed(case: &Case<'_>, event: &Envelope) -> Result<Option<String>, Stop> {
    let position = event.header.position;
    let after = case.records.ask(LogRequest {
        from: position,
        kinds: vec!["ReplicasRequested".to_owned()],
        limit: Some(AFTER),
        ..LogRequest::default()
    })?;
    let mut moved = Vec::new();
    for event in after.iter().filter(|event| event.header.causation == Some(position)) {
        if let Event::ReplicasRequested(e) = &event.event {
            let replaced = e.replicas.iter().filter_map(|r| Some((r.replaces.as_ref()?, &r.id)));
            moved.extend(replaced.map(|(old, new)| format!("{old} by {new}")));
        }
    }
    Ok((!moved.is_empty()).then(|| format!("{} replaced: {}", moved.len(), tell::list(&moved))))
}
