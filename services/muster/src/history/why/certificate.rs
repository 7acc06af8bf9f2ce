//! Why a host has the certificate that it has, or none.

use schemas::envelope::Envelope;
use schemas::event::{Event, app_entity, certificate_entity};
use schemas::id::{AppKey, WorkloadName};
use schemas::spec::Tls;

use super::answer::{Answer, Case, Part};
use super::records::Stop;
use crate::tell::{self, count};

/// The steps of an order.
const STEPS: [&str; 3] = ["CertificateOrdered", "CertificateIssued", "CertificateFailed"];

const DAY_MS: u64 = 86_400_000;

/// All that is known of a host's certificate.
pub(crate) fn answer(case: &Case<'_>, host: &str) -> Result<Answer, Stop> {
    let part = part(case, host)?.ok_or(Stop::Unknown)?;
    let summary = match issued(case, host)? {
        Some((event, _, until_ms)) if until_ms > case.now_ms => {
            let ago = case.ago(event.header.recorded_ms);
            format!("{host} has a certificate since {ago} ago, {}", ends(until_ms, case.now_ms))
        }
        Some((_, _, until_ms)) => format!("{host} has {}", ends(until_ms, case.now_ms)),
        None => format!("{host} has no certificate yet"),
    };
    let more = vec![format!("muster log certificate/{host}"), "muster routes".to_owned()];
    Ok(Answer { summary, parts: vec![part], more })
}

/// The certificates of a workload's routes.
pub(super) fn of_routes(
    case: &Case<'_>,
    key: &AppKey,
    name: &WorkloadName,
) -> Result<Vec<Part>, Stop> {
    let deployed = case.records.newest(&app_entity(key), &["AppDeployed"], 1, 1)?.first();
    let Some((event, Event::AppDeployed(e))) = deployed.map(|event| (event, &event.event)) else {
        return Ok(Vec::new());
    };
    let routes = e.spec.workloads.get(name).map_or(&[][..], |spec| &spec.routes);
    let (mut parts, mut seen) = (Vec::new(), Vec::new());
    for route in routes {
        let (Some(host), Some(tls)) = (&route.host, &route.tls) else { continue };
        let host = host.to_ascii_lowercase();
        if seen.contains(&host) {
            continue;
        }
        let found = match tls {
            Tls::Acme { .. } => part(case, &host)?,
            Tls::File { .. } => None,
        };
        let reasons = match tls {
            Tls::Acme { .. } => vec![
                "no gateway has begun to order it: one that serves must be given --acme-directory; /readyz of \
                 gateways says what they lack"
                    .to_owned(),
            ],
            Tls::File { name, .. } => vec![format!(
                "it is the file {name}.crt in the folder that --certificates of each gateway names; /readyz \
                 of gateways says what is wrong with one"
            )],
        };
        parts.push(match found {
            Some(part) => part,
            None => case.part(format!("Which certificate {host} has"), reasons, event, None)?,
        });
        seen.push(host);
    }
    Ok(parts)
}

/// How the order of a host's certificate stands, and who asked for it. None where none was ordered.
fn part(case: &Case<'_>, host: &str) -> Result<Option<Part>, Stop> {
    let newest = case.records.newest(&certificate_entity(host), &STEPS, 1, 1)?;
    let Some(event) = newest.first() else { return Ok(None) };
    let issued = issued(case, host)?;
    let valid = issued.is_some_and(|(_, _, until_ms)| until_ms > case.now_ms);
    let title = match valid {
        true => format!("Which certificate {host} has"),
        false => format!("Why {host} has no certificate"),
    };
    let mut reasons = vec![tell::words(&event.event)];
    match &event.event {
        Event::CertificateOrdered(e) => {
            let since = case.ago(e.since_ms);
            reasons.push(format!("that began {since} ago, and the CA has not answered yet"));
        }
        Event::CertificateFailed(e) => {
            let times = count(u64::from(e.failures), "time");
            let next = match e.next_ms > case.now_ms {
                true => format!("tried again at {}", tell::clock(e.next_ms, case.now_ms)),
                false => "due to be tried again".to_owned(),
            };
            reasons.push(format!("it failed {times} in a row, and is {next}"));
        }
        _ => {}
    }
    if let Some((event, from_ms, until_ms)) = issued {
        let position = event.header.position;
        let ends = ends(until_ms, case.now_ms);
        reasons.push(match event.event == newest[0].event {
            true => format!("gateways serve {ends}"),
            false => format!("meanwhile gateways serve the one of r{position}, {ends}"),
        });
        let due_ms = from_ms + until_ms.saturating_sub(from_ms) / 3 * 2;
        if due_ms <= case.now_ms {
            reasons.push("two thirds of its time are over: it is to be replaced".to_owned());
        }
    }
    case.part(title, reasons, event, None).map(Some)
}

/// The newest one that was issued, and from when until when it is valid.
fn issued<'a>(case: &Case<'a>, host: &str) -> Result<Option<(&'a Envelope, u64, u64)>, Stop> {
    let newest = case.records.newest(&certificate_entity(host), &["CertificateIssued"], 1, 1)?;
    Ok(newest.first().and_then(|event| match &event.event {
        Event::CertificateIssued(e) => Some((event, e.not_before_ms, e.not_after_ms)),
        _ => None,
    }))
}

fn ends(until_ms: u64, now_ms: u64) -> String {
    let until = tell::clock(until_ms, now_ms);
    match until_ms.checked_sub(now_ms) {
        Some(left) if left >= DAY_MS => {
            format!("one that is valid until {until}, for {} more", count(left / DAY_MS, "day"))
        }
        Some(_) => format!("one that is valid until {until}, for less than a day"),
        None => format!("one that is over since {until}"),
    }
}
