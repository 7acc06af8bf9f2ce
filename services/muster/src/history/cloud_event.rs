//! An event in other people's formats: a CloudEvents 1.0 envelope, a row of CSV.

use schemas::envelope::Envelope;
use serde_json::{Value, json};

use crate::{lists, tell};

/// The columns of a row.
pub(crate) const COLUMNS: &str =
    "position,recorded,time,writer,actor,type,tenant,entities,command,causation,text,data";

/// An event as a CloudEvents envelope in JSON. What the standard has no attribute for is an extension,
/// in lower case letters as it demands.
pub(crate) fn cloud_event(event: &Envelope, genesis: &str) -> Value {
    let header = &event.header;
    let entities = event.event.about().entities;
    let mut told = json!({
        "specversion": "1.0",
        "id": header.id,
        "source": format!("/muster/{genesis}/{}", header.writer),
        "type": format!("io.muster.{}.v{}", event.event.kind(), header.schema),
        "time": lists::moment(header.time_ms),
        "datacontenttype": "application/json",
        "data": serde_json::from_str::<Value>(&event.event.data()).unwrap_or_default(),
        "recordedtime": lists::moment(header.recorded_ms),
        "sequence": format!("{:020}", header.position),
        "tenant": header.tenant,
        "actor": header.actor,
        "prevhash": header.prev_hash,
    });
    let mut optional = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            told[name] = value.into();
        }
    };
    optional("subject", entities.into_iter().next());
    optional("correlationid", header.correlation.as_ref().map(ToString::to_string));
    optional("causationid", header.causation.map(|position| position.to_string()));
    told
}

/// An event as a row of CSV (RFC 4180).
pub(crate) fn row(event: &Envelope) -> String {
    let header = &event.header;
    let fields = [
        header.position.to_string(),
        lists::moment(header.recorded_ms),
        lists::moment(header.time_ms),
        header.writer.to_string(),
        header.actor.clone(),
        event.event.kind().to_owned(),
        header.tenant.to_string(),
        event.event.about().entities.join(" "),
        header.correlation.as_ref().map(ToString::to_string).unwrap_or_default(),
        header.causation.map(|position| position.to_string()).unwrap_or_default(),
        tell::words(&event.event),
        event.event.data(),
    ];
    fields.map(|field| quoted(&field)).join(",")
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        let text = include_str!("../../../../schemas/golden/v1/event/ReplicasPlaced.json");
        Envelope::decode(text.trim().as_bytes()).expect("it decodes")
    }

    #[test]
    fn an_envelope_has_what_the_standard_asks_for() {
        let told = cloud_event(&sample(), "abc");
        for attribute in ["specversion", "id", "source", "type", "time", "subject", "data"] {
            assert!(!told[attribute].is_null(), "{attribute}");
        }
        assert_eq!(told["type"], "io.muster.ReplicasPlaced.v1");
        assert_eq!((&told["causationid"], &told["correlationid"]), (&"4".into(), &"d-1".into()));
        let lower =
            |key: &String| key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(told.as_object().expect("an object").keys().all(lower));
        assert_eq!(told["data"]["node"], "n1");
    }

    #[test]
    fn a_row_has_as_many_fields_as_there_are_columns() {
        let row = row(&sample());
        // Commas between quotes are no separators.
        let outside =
            row.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>();
        assert_eq!(outside, COLUMNS.matches(',').count(), "{row}");
        assert!(row.contains("\"\"node\"\":\"\"n1\"\""), "{row}");
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
