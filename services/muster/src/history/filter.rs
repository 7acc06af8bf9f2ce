//! Which events are wanted: what event-log is asked for, and the same choice over what is followed.

use schemas::envelope::Envelope;
use schemas::read::LogRequest;

use super::object;
use crate::args::{Filter, Point, When};
use crate::client::Client;
use crate::error::CliError;

/// The request for what a filter lets through.
pub(crate) async fn request(client: &Client, filter: &Filter) -> Result<LogRequest, CliError> {
    let mut request = LogRequest {
        from: 1,
        correlation: filter.correlation.clone(),
        actor: filter.actor.clone(),
        kinds: filter.kinds.clone(),
        ..LogRequest::default()
    };
    if let Some(text) = &filter.object {
        match object::find(client, text).await? {
            object::Object::Event(position) => {
                (request.from, request.to) = (position, Some(position));
            }
            object => request.entity = object.entity(),
        }
    }
    match filter.from.map(point) {
        Some(Point::Position(position)) => request.from = position.max(1),
        Some(Point::Time(ms)) => request.since_ms = Some(ms),
        Some(Point::Now) => request.from = client.head().await?.place.position + 1,
        None => {}
    }
    match filter.to.map(point) {
        Some(Point::Position(position)) => request.to = Some(position),
        Some(Point::Time(ms)) => request.until_ms = Some(ms),
        Some(Point::Now) | None => {}
    }
    Ok(request)
}

fn point(when: When) -> Point {
    when.point(runtime::clock::utc_ms(), &chrono::Local)
}

/// Whether an event is one of those that a request asks for.
pub(crate) fn takes(request: &LogRequest, envelope: &Envelope) -> bool {
    let header = &envelope.header;
    let about = |entity: &String| envelope.event.about().entities.contains(entity);
    header.position >= request.from
        && request.to.is_none_or(|to| header.position <= to)
        && request.since_ms.is_none_or(|ms| header.recorded_ms >= ms)
        && request.until_ms.is_none_or(|ms| header.recorded_ms <= ms)
        && (request.kinds.is_empty() || request.kinds.iter().any(|k| k == envelope.event.kind()))
        && request.actor.as_ref().is_none_or(|actor| *actor == header.actor)
        && (request.correlation.is_none() || request.correlation == header.correlation)
        && request.entity.as_ref().is_none_or(about)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_must_agree() {
        let text = include_str!("../../../../schemas/golden/v1/event/ReplicaReady.json");
        let event = Envelope::decode(text.trim().as_bytes()).expect("it decodes");
        let header = &event.header;
        let all = LogRequest::default();
        let of = |kind: &str| LogRequest { kinds: vec![kind.to_owned()], ..all.clone() };
        assert!(takes(&all, &event) && takes(&of("ReplicaReady"), &event));
        assert!(!takes(&of("RunEnded"), &event));
        assert!(takes(&LogRequest { actor: Some(header.actor.clone()), ..all.clone() }, &event));
        let same = LogRequest { correlation: header.correlation.clone(), ..all.clone() };
        let no = [
            LogRequest { actor: Some("nobody".to_owned()), ..all.clone() },
            LogRequest { since_ms: Some(header.recorded_ms + 1), ..all.clone() },
            LogRequest { until_ms: Some(header.recorded_ms - 1), ..all.clone() },
            LogRequest { from: header.position + 1, ..all.clone() },
            LogRequest { to: Some(header.position - 1), ..all.clone() },
            LogRequest { entity: Some("node/x".to_owned()), ..all.clone() },
            LogRequest { correlation: schemas::id::CommandId::new("other").ok(), ..all.clone() },
        ];
        assert!(takes(&same, &event));
        for (i, request) in no.iter().enumerate() {
            assert!(!takes(request, &event), "{i}");
        }
    }
}
