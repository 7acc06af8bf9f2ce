//! Why a command was refused, or what became of it; and the causes of any one event.

use schemas::envelope::Envelope;
use schemas::event::{Event, command_entity};
use schemas::id::CommandId;
use schemas::read::LogRequest;

use super::answer::{Answer, Case, Link, Part};
use super::records::Stop;
use crate::{rollout, tell};

/// How much of what followed is read.
const FOLLOWED: u64 = 1_000;

pub(crate) fn answer(case: &Case<'_>, id: &CommandId) -> Result<Answer, Stop> {
    let receipt = case.records.first(&command_entity(id), 1)?.first().ok_or(Stop::Unknown)?;
    let header = &receipt.header;
    let (at, ago, actor) = (header.position, case.ago(header.recorded_ms), &header.actor);
    match &receipt.event {
        Event::CommandRejected(e) => {
            let summary = format!("{} of {actor} was refused at r{at}, {ago} ago", e.verb);
            let p = &e.problem;
            let field = if p.field.is_empty() { "the command" } else { &p.field };
            let mut reasons = vec![format!("at {field}: got {} ({})", p.got, p.code)];
            if !p.valid.is_empty() {
                reasons.push(format!("what is valid: {}", p.valid));
            }
            if p.code == "changed_meanwhile" {
                reasons.push("somebody else was faster: look at it again and repeat".to_owned());
            }
            let part = case.part("Why it was refused", reasons, receipt, None)?;
            Ok(Answer { summary, parts: vec![part], more: vec![format!("muster show r{at}")] })
        }
        Event::CommandAccepted(e) => {
            let why = e.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let summary = format!("{actor} sent {}, accepted at r{at}, {ago} ago{why}", e.verb);
            let parts =
                vec![became(case, id)?, case.part("Who is behind it", Vec::new(), receipt, None)?];
            let more =
                vec![format!("muster log --correlation {id} --graph"), format!("muster show {id}")];
            Ok(Answer { summary, parts, more })
        }
        _ => Err(Stop::Unknown),
    }
}

/// What followed from a command.
fn became(case: &Case<'_>, id: &CommandId) -> Result<Part, Stop> {
    let events = case.records.ask(LogRequest {
        correlation: Some(id.clone()),
        limit: Some(FOLLOWED),
        ..LogRequest::default()
    })?;
    let mut counts = [0_u64; 5];
    for event in events {
        let (i, more) = match &event.event {
            Event::ReplicasRequested(e) => (0, e.replicas.len()),
            Event::ReplicasPlaced(e) => (1, e.replicas.len()),
            Event::ReplicaReady(_) => (2, 1),
            Event::RunEnded(_) => (3, 1),
            Event::ReplicasRetired(e) => (4, e.replicas.len()),
            _ => continue,
        };
        counts[i] += u64::try_from(more).unwrap_or(u64::MAX);
    }
    let what = ["requested", "placed", "ready", "ended by themselves", "told to end"];
    let told = counts.iter().zip(what).filter(|(n, _)| **n > 0);
    let told: Vec<String> = told.map(|(n, what)| format!("{n} {what}")).collect();
    let mut reasons = Vec::new();
    if !told.is_empty() {
        reasons.push(format!("of replicas: {}", told.join(", ")));
    }
    for event in events {
        if let Event::RolloutFailed(failed) = &event.event {
            reasons.push(format!(
                "revision {} failed: {}: {}",
                failed.revision, failed.workload, failed.reason
            ));
            reasons.extend(rollout::evidence(failed));
        }
    }
    let declares = |event: &&Envelope| {
        !matches!(
            event.event,
            Event::CommandAccepted(_)
                | Event::ReplicasRequested(_)
                | Event::ReplicasPlaced(_)
                | Event::ReplicasRetired(_)
                | Event::RunStarted(_)
                | Event::ReplicaReady(_)
                | Event::ReplicaEnded(_)
                | Event::ImageResolved(_)
        )
    };
    let told: Vec<&Envelope> = events.iter().filter(declares).collect();
    // The first says what was declared, the last how far it got.
    let shown = if told.len() > 8 { [&told[..3], &told[told.len() - 4..]].concat() } else { told };
    if !events.iter().any(ends) {
        reasons.push("it has not come to an end: nothing says that it runs as declared".to_owned());
    }
    let chain = shown.into_iter().map(|event| Link::of(event, None)).collect();
    Ok(Part { title: "What followed".to_owned(), reasons, chain, root: None })
}

/// Whether nothing more is to come of a command.
fn ends(event: &Envelope) -> bool {
    match event.event {
        Event::AppConverged(_) | Event::AppStalled(_) | Event::AppDeleted(_) => true,
        // What concerns no app has come about with its receipt.
        Event::NodeCordoned(_) | Event::NodeUncordoned(_) | Event::NodeLabelled(_) => true,
        Event::NodeRemoved(_) | Event::NodeDeclaredLost(_) => true,
        Event::NoteAdded(_) | Event::ConfigStored(_) => true,
        Event::RebalanceSet(_) | Event::RebalanceEnded(_) => true,
        _ => false,
    }
}

/// The causes of one event.
pub(crate) fn event(case: &Case<'_>, position: u64) -> Result<Answer, Stop> {
    let event = case.records.at(position)?.ok_or(Stop::Unknown)?;
    let summary = format!("r{position}: {}", tell::words(&event.event));
    let part = case.part("Why that happened", Vec::new(), event, None)?;
    Ok(Answer { summary, parts: vec![part], more: vec![format!("muster show r{position}")] })
}
