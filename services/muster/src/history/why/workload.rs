//! Why an app is as it is, and why a workload has as many replicas as it has.

use schemas::envelope::Envelope;
use schemas::event::{Event, app_entity, replica_entity, workload_entity};
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use schemas::read::{AppView, StatePage, WorkloadView};

use super::answer::{Answer, Case, Link, Part, ending};
use super::certificate;
use super::records::Stop;
use crate::args::Aspect;
use crate::{rollout, tell};

/// How many nodes are told of one by one, and how many replicas are looked at for what fails.
const NODES_SHOWN: usize = 8;
const LOOKED_AT: usize = 5;

pub(crate) fn app(case: &Case<'_>, key: &AppKey, aspect: Option<Aspect>) -> Result<Answer, Stop> {
    let entity = app_entity(key);
    let kinds = ["AppDeployed", "WorkloadScaled", "WorkloadRestarted", "AppDeleteStarted"];
    let changed = case.records.newest(&entity, &kinds, 1, 1)?.first().ok_or(Stop::Unknown)?;
    let short = key.short();
    let more = vec![
        format!("muster log app/{short}"),
        format!("muster blame {short}"),
        format!("muster ps {short}"),
    ];
    let Some(view) = view(case.page, key) else {
        let deleted = case.records.newest(&entity, &["AppDeleted"], 1, 1)?.first();
        let event = deleted.ok_or(Stop::Unknown)?;
        let (at, ago) = (event.header.position, case.ago(event.header.recorded_ms));
        let summary = format!("{short} is gone since r{at}, {ago} ago");
        let part = case.part("Why it is gone", Vec::new(), event, None)?;
        return Ok(Answer { summary, parts: vec![part], more: more[..1].to_vec() });
    };
    if aspect.is_some_and(|aspect| matches!(aspect, Aspect::Here | Aspect::Moved)) {
        return Err(Stop::Asked(
            "exists, pending, dead or count of an app; `here` and `moved` of a replica",
        ));
    }
    let counts: Vec<String> = view
        .workloads
        .iter()
        .map(|(name, w)| format!("{name} {}", ready(case.page, view.revision, name, w)))
        .collect();
    let why = view.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let summary = format!(
        "{short} is {}, revision {}, {}{why}",
        view.status,
        view.revision,
        tell::list(&counts)
    );
    let mut parts = Vec::new();
    if let (Some(failed), None) = (&view.rolled_back, aspect) {
        parts.extend(taken_back(case, key, failed.revision)?);
    }
    if aspect.is_none_or(|aspect| aspect != Aspect::Exists && aspect != Aspect::Count) {
        for (name, w) in &view.workloads {
            parts.extend(held_up(case, key, name, w)?);
        }
    }
    if aspect == Some(Aspect::Count) {
        for name in view.workloads.keys() {
            parts.push(count(case, key, name)?);
        }
    } else if aspect.is_none_or(|aspect| aspect == Aspect::Exists) || parts.is_empty() {
        parts.push(case.part("Why it is declared so", Vec::new(), changed, None)?);
    }
    Ok(Answer { summary, parts, more })
}

/// Why a revision was taken back, and what was found.
fn taken_back(case: &Case<'_>, key: &AppKey, revision: u64) -> Result<Option<Part>, Stop> {
    let told = case.records.newest(&app_entity(key), &["RolloutFailed"], 1, 1)?;
    let Some((event, Event::RolloutFailed(failed))) = told.first().map(|e| (e, &e.event)) else {
        return Ok(None);
    };
    let mut reasons = vec![format!("{}: {}", failed.workload, failed.reason)];
    reasons.extend(rollout::evidence(failed));
    let title = format!("Why revision {revision} was taken back");
    case.part(title, reasons, event, failed.replica.as_ref()).map(Some)
}

pub(crate) fn workload(
    case: &Case<'_>,
    key: &AppKey,
    name: &WorkloadName,
    aspect: Option<Aspect>,
) -> Result<Answer, Stop> {
    let short = format!("{}/{name}", key.short());
    let view = view(case.page, key).and_then(|app| app.workloads.get(name));
    let summary = match view {
        Some(w) => {
            let declared = match w.declared {
                Some(declared) => format!("{declared} declared"),
                None => "one on every node".to_owned(),
            };
            let ready = ready(case.page, u64::MAX, name, w);
            match &w.task {
                Some(task) => format!("{short}: a job {task}"),
                None => format!("{short}: {declared}, {} there, {ready}", w.replicas),
            }
        }
        None => format!("{short} is not declared"),
    };
    let parts = match aspect {
        Some(Aspect::Count) => vec![count(case, key, name)?],
        Some(Aspect::Here | Aspect::Moved | Aspect::Exists) => {
            return Err(Stop::Asked(
                "count, pending or dead of a workload; the others of a replica",
            ));
        }
        Some(Aspect::Pending | Aspect::Dead) => match view {
            Some(view) => held_up(case, key, name, view)?,
            None => Vec::new(),
        },
        None => {
            let mut parts = match view {
                Some(view) => held_up(case, key, name, view)?,
                None => Vec::new(),
            };
            parts.push(count(case, key, name)?);
            parts.extend(certificate::of_routes(case, key, name)?);
            parts
        }
    };
    let parts = if parts.is_empty() {
        let reasons = vec!["nothing holds it up: all of its replicas are ready".to_owned()];
        vec![Part { title: "Why it is not ready".to_owned(), reasons, ..Part::default() }]
    } else {
        parts
    };
    let more = vec![format!("muster log {short}"), format!("muster blame {}", key.short())];
    Ok(Answer { summary, parts, more })
}

/// How many are ready as declared, and how many of before still serve.
fn ready(page: &StatePage, revision: u64, name: &WorkloadName, w: &WorkloadView) -> String {
    let there = page.replicas.iter().filter(|r| r.workload == *name && r.status == "ready");
    let all = there.filter(|r| r.revision <= revision).count();
    let older = u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(w.ready);
    let older = if older > 0 { format!(" (and {older} of before)") } else { String::new() };
    match w.declared {
        Some(declared) => format!("{} of {declared} ready{older}", w.ready),
        None => format!("{} ready{older}", w.ready),
    }
}

fn view<'a>(page: &'a StatePage, key: &AppKey) -> Option<&'a AppView> {
    page.apps.iter().find(|view| view.app == *key)
}

/// Who last set the number, and what it was before.
fn count(case: &Case<'_>, key: &AppKey, name: &WorkloadName) -> Result<Part, Stop> {
    let kinds = ["WorkloadScaled"];
    let scaled = case.records.newest(&workload_entity(key, name), &kinds, 1, 1)?.first();
    let kinds = ["AppDeployed", "AppDeleteStarted"];
    let deployed = case.records.newest(&app_entity(key), &kinds, 1, 1)?.first();
    let deploy = match deployed.map(|event| &event.event) {
        Some(Event::AppDeployed(e)) => e.spec.workloads.get(name),
        _ => None,
    };
    // A declaration of an autoscaled workload keeps the number that it has.
    let after = |event: &&Envelope| {
        let later = deployed.is_none_or(|d| d.header.position < event.header.position);
        later || deploy.is_some_and(|spec| spec.autoscale.is_some())
    };
    let event = scaled.filter(after).or(deployed).ok_or(Stop::Unknown)?;
    let mut reasons = match &event.event {
        Event::WorkloadScaled(e) => {
            let why = e.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            vec![format!("it was scaled {} → {}{why}", e.from, e.to)]
        }
        Event::AppDeployed(e) => match deploy {
            Some(spec) => vec![format!("revision {} declares {}", e.revision, spec.replicas)],
            None => {
                vec![format!("revision {} does not declare it: there are to be none", e.revision)]
            }
        },
        other => vec![tell::words(other)],
    };
    if let Some(bounds) = deploy.and_then(|spec| spec.autoscale) {
        let targets = [
            bounds.cpu_percent.map(|percent| format!("{percent} % of cpu")),
            bounds.memory_percent.map(|percent| format!("{percent} % of memory")),
            bounds.requests_per_second.map(|rate| format!("{rate} requests a second per replica")),
            bounds.p95_ms.map(|ms| format!("answers in {ms} ms for 95 of 100")),
            bounds.in_flight.map(|count| format!("{count} requests under way per replica")),
        ];
        let targets: Vec<String> = targets.into_iter().flatten().collect();
        reasons.push(format!(
            "the autoscaler may set it between {} and {}, for {}",
            bounds.min,
            bounds.max,
            targets.join(" and ")
        ));
    }
    case.part(format!("Why so many of {name}"), reasons, event, None)
}

/// Why a workload does not get to what is declared: what fits nowhere, and what fails.
fn held_up(
    case: &Case<'_>,
    key: &AppKey,
    name: &WorkloadName,
    view: &WorkloadView,
) -> Result<Vec<Part>, Stop> {
    let mut parts = Vec::new();
    let entity = workload_entity(key, name);
    if !view.unplaced.is_empty() {
        let told = case.records.newest(&entity, &["ReplicasUnplaced"], 1, 1)?;
        if let Some(event) = told.first() {
            let mut reasons = unfit(event);
            reasons.extend(room(case.page));
            let chain = vec![Link::of(event, None)];
            let title = format!("Why replicas of {name} are pending");
            parts.push(Part { title, reasons, chain, root: None });
        }
    }
    let short =
        view.declared.is_some_and(|declared| view.ready + view.completed < u64::from(declared));
    if short && let Some((id, event)) = failing(case, &entity)? {
        let reasons = match &event.event {
            Event::RunEnded(e) => ending(e, case, event.header.recorded_ms),
            other => vec![tell::words(other)],
        };
        let chain = vec![Link::of(event, Some(id))];
        let title = format!("Why {name} is not ready");
        parts.push(Part { title, reasons, chain, root: None });
    } else if short && view.unplaced.is_empty() {
        parts.extend(waiting(case, key, name)?);
    }
    Ok(parts)
}

/// The newest trouble of the newest replicas of a workload.
fn failing<'a>(
    case: &Case<'a>,
    entity: &str,
) -> Result<Option<(&'a ReplicaId, &'a Envelope)>, Stop> {
    let requests = case.records.newest(entity, &["ReplicasRequested"], 1, 3)?;
    let ids = requests.iter().rev().flat_map(|event| match &event.event {
        Event::ReplicasRequested(e) => e.replicas.as_slice(),
        _ => &[],
    });
    let mut worst: Option<(&ReplicaId, &Envelope)> = None;
    for replica in ids.take(LOOKED_AT) {
        let kinds = ["RunEnded", "RunFailed", "ReplicaUnready", "ReplicaReady"];
        let newest = case.records.newest(&replica_entity(&replica.id), &kinds, 1, 1)?;
        let ill = newest.first().filter(|e| !matches!(e.event, Event::ReplicaReady(_)));
        let later = |event: &&Envelope| {
            worst.is_none_or(|(_, known)| known.header.position < event.header.position)
        };
        worst = ill.filter(later).map(|event| (&replica.id, event)).or(worst);
    }
    Ok(worst)
}

/// What a workload that has begun nothing waits for: what it depends on.
fn waiting(case: &Case<'_>, key: &AppKey, name: &WorkloadName) -> Result<Option<Part>, Stop> {
    let deployed = case.records.newest(&app_entity(key), &["AppDeployed"], 1, 1)?.first();
    let Some((event, Event::AppDeployed(e))) = deployed.map(|event| (event, &event.event)) else {
        return Ok(None);
    };
    let Some(spec) = e.spec.workloads.get(name) else { return Ok(None) };
    let (Some(app), false) = (view(case.page, key), spec.depends_on.is_empty()) else {
        return Ok(None);
    };
    let reasons = spec.depends_on.iter().map(|(other, condition)| {
        let how = app.workloads.get(other).map_or_else(
            || "is not there".to_owned(),
            |w| match w.declared {
                Some(declared) => {
                    format!("has {} of {declared} ready, {} completed", w.ready, w.completed)
                }
                None => format!("has {} ready", w.ready),
            },
        );
        let until = format!("{condition:?}").to_lowercase();
        format!("it depends on {other}, which must be {until} and {how}")
    });
    let title = format!("Why {name} has not begun");
    let chain = vec![Link::of(event, None)];
    Ok(Some(Part { title, reasons: reasons.collect(), chain, root: None }))
}

/// Everything that keeps replicas from nodes, on how many, and what would help.
pub(super) fn unfit(event: &Envelope) -> Vec<String> {
    let Event::ReplicasUnplaced(e) = &event.event else { return Vec::new() };
    let reason = |unfit: &schemas::event::Unfit| {
        let nodes = tell::count(unfit.nodes, "node");
        format!("{nodes}: {}; what would help: {}", unfit.reason, unfit.remedy)
    };
    e.reasons.iter().map(reason).collect()
}

/// What nodes have left.
pub(super) fn room(page: &StatePage) -> Vec<String> {
    let mut said: Vec<String> = page
        .nodes
        .iter()
        .take(NODES_SHOWN)
        .map(|node| {
            let free = |(has, taken): (u64, u64)| has.saturating_sub(taken);
            let how = match (node.status.as_str(), node.admission.as_str()) {
                ("ready", "open") => String::new(),
                ("ready", admission) => format!("{admission}, "),
                (status, _) => format!("{status}, "),
            };
            format!(
                "{}: {how}{} of {} millis of cpu free, {} of {} of memory",
                node.node,
                free(node.cpu_millis),
                node.cpu_millis.0,
                crate::table::bytes(free(node.memory_bytes)),
                crate::table::bytes(node.memory_bytes.0),
            )
        })
        .collect();
    if page.nodes.len() > NODES_SHOWN {
        said.push(format!("and {} nodes more: `muster nodes`", page.nodes.len() - NODES_SHOWN));
    }
    said
}
