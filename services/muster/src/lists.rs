//! What reads print as JSON. Scripts rely on these shapes: fields are only ever added.

use std::collections::BTreeMap;

use schemas::event::Event;
use schemas::id::ReplicaId;
use schemas::place::Place;
use schemas::read::{AppView, NodeView, ReplicaView};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::error::CliError;

/// Things of one kind, and the place in history at which they are so.
#[derive(Debug, Serialize)]
pub(crate) struct List<T> {
    kind: &'static str,
    at: Place,
    items: Vec<T>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaItem {
    replica: String,
    app: String,
    workload: String,
    node: Option<String>,
    run: u32,
    state: String,
    revision: u64,
    image: String,
    endpoint: Option<String>,
    container: Option<String>,
    since: String,
    /// What gateways sent it, where they sent anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic: Option<TrafficItem>,
}

/// What gateways sent to a replica: counts since they began, rates and times of the last ten seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TrafficItem {
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) in_flight: u64,
    pub(crate) rate_milli: u64,
    pub(crate) p50_us: u64,
    pub(crate) p95_us: u64,
    pub(crate) p99_us: u64,
}

/// A way on which traffic leads to a workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RouteItem {
    pub(crate) way: String,
    pub(crate) app: String,
    pub(crate) workload: String,
    /// The replicas that are ready.
    pub(crate) ready: Vec<String>,
    /// How the order of its certificate went, where one was ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<schemas::tls::Order>,
    /// What gateways sent to all replicas of the workload, on this way or another.
    #[serde(flatten)]
    pub(crate) traffic: TrafficItem,
}

/// A node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeItem {
    node: String,
    state: String,
    cordoned: bool,
    labels: BTreeMap<String, String>,
    capacity: Amount,
    assigned: Amount,
    replicas: u64,
}

/// Cpu and memory.
#[derive(Debug, Serialize)]
struct Amount {
    cpu_milli: u64,
    memory_bytes: u64,
}

/// An app.
#[derive(Debug, Serialize)]
pub(crate) struct AppItem {
    app: String,
    state: String,
    revision: u64,
    reason: Option<String>,
    workloads: Vec<WorkloadItem>,
}

/// A workload of an app; `declared` is null for one that has a replica on every node.
#[derive(Debug, Serialize)]
struct WorkloadItem {
    workload: String,
    image: String,
    declared: Option<u32>,
    replicas: u64,
    ready: u64,
    completed: u64,
    unplaced: Vec<String>,
}

/// An event.
#[derive(Debug, Serialize)]
pub(crate) struct EventItem {
    position: u64,
    recorded: String,
    actor: String,
    writer: String,
    #[serde(rename = "type")]
    kind: String,
    tenant: String,
    entity: Option<String>,
    correlation: Option<String>,
    /// The position of the event that came right before in the chain of causes.
    causation: Option<String>,
    data: Box<RawValue>,
}

/// Replicas.
pub(crate) fn replicas(
    at: Place,
    replicas: &[ReplicaView],
    traffic: &BTreeMap<ReplicaId, TrafficItem>,
) -> List<ReplicaItem> {
    let items = replicas.iter().map(|r| ReplicaItem {
        replica: r.replica.to_string(),
        app: r.app.short(),
        workload: r.workload.to_string(),
        node: r.node.as_ref().map(ToString::to_string),
        run: r.run,
        state: r.status.clone(),
        revision: r.revision,
        image: r.image.clone(),
        endpoint: r.endpoints.first().map(|endpoint| address(endpoint).to_owned()),
        container: r.container.clone(),
        since: moment(r.since_ms),
        traffic: traffic.get(&r.replica).copied(),
    });
    List { kind: "ReplicaList", at, items: items.collect() }
}

/// The part of `address:port->container port` that one connects to.
fn address(endpoint: &str) -> &str {
    endpoint.split_once("->").map_or(endpoint, |(address, _)| address)
}

/// The ways of traffic.
pub(crate) fn routes(at: Place, items: Vec<RouteItem>) -> List<RouteItem> {
    List { kind: "RouteList", at, items }
}

/// Nodes.
pub(crate) fn nodes(at: Place, nodes: &[NodeView]) -> List<NodeItem> {
    let items = nodes.iter().map(|n| NodeItem {
        node: n.node.to_string(),
        state: n.status.clone(),
        cordoned: n.admission != "open",
        labels: n.labels.clone(),
        capacity: Amount { cpu_milli: n.cpu_millis.0, memory_bytes: n.memory_bytes.0 },
        assigned: Amount { cpu_milli: n.cpu_millis.1, memory_bytes: n.memory_bytes.1 },
        replicas: n.replicas,
    });
    List { kind: "NodeList", at, items: items.collect() }
}

/// Apps.
pub(crate) fn apps(at: Place, apps: &[AppView]) -> List<AppItem> {
    let workloads = |app: &AppView| {
        let items = app.workloads.iter().map(|(name, w)| WorkloadItem {
            workload: name.to_string(),
            image: w.image.clone(),
            declared: w.declared,
            replicas: w.replicas,
            ready: w.ready,
            completed: w.completed,
            unplaced: w.unplaced.clone(),
        });
        items.collect()
    };
    let items = apps.iter().map(|app| AppItem {
        app: app.app.short(),
        state: app.status.clone(),
        revision: app.revision,
        reason: app.reason.clone(),
        workloads: workloads(app),
    });
    List { kind: "AppList", at, items: items.collect() }
}

/// Events.
pub(crate) fn events(at: Place, items: Vec<EventItem>) -> List<EventItem> {
    List { kind: "EventList", at, items }
}

/// The whole state.
pub(crate) fn state(page: &schemas::read::StatePage) -> Value {
    serde_json::json!({
        "kind": "State",
        "at": page.place,
        "apps": apps(page.place, &page.apps).items,
        "nodes": nodes(page.place, &page.nodes).items,
        "replicas": replicas(page.place, &page.replicas, &BTreeMap::new()).items,
    })
}

/// An event from the bytes that were recorded. Also one of a type that only a newer release knows.
pub(crate) fn event(text: &str) -> Result<EventItem, CliError> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        position: u64,
        recorded_ms: u64,
        actor: String,
        writer: String,
        #[serde(rename = "type")]
        kind: String,
        tenant: String,
        correlation: Option<String>,
        causation: Option<u64>,
        data: Box<RawValue>,
    }
    let recorded: Recorded =
        serde_json::from_str(text).map_err(|error| CliError::internal(error.to_string()))?;
    let event = Event::decode(&recorded.kind, recorded.data.get()).and_then(Result::ok);
    Ok(EventItem {
        position: recorded.position,
        recorded: moment(recorded.recorded_ms),
        actor: recorded.actor,
        writer: recorded.writer,
        kind: recorded.kind,
        tenant: recorded.tenant,
        entity: event.as_ref().map(entity),
        correlation: recorded.correlation,
        causation: recorded.causation.map(|position| position.to_string()),
        data: recorded.data,
    })
}

/// What an event is mainly about.
fn entity(event: &Event) -> String {
    let about = event.about();
    let noun = || format!("{}/{}", about.noun, about.id);
    about.entities.first().cloned().unwrap_or_else(noun)
}

/// A moment as RFC 3339 in UTC, to the millisecond.
pub(crate) fn moment(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    let moment = moment.unwrap_or(chrono::DateTime::UNIX_EPOCH);
    moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_milliseconds_and_a_z() {
        assert_eq!(moment(1_795_442_591_120), "2026-11-23T14:03:11.120Z");
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn an_endpoint_is_what_one_connects_to() {
        assert_eq!(address("10.0.0.2:32768->8080/tcp"), "10.0.0.2:32768");
    }

    #[test]
    fn an_event_has_the_promised_fields_and_the_recorded_data() {
        let sample = include_str!("../../../schemas/golden/v1/event/ReplicaReady.json");
        let item = serde_json::to_value(event(sample.trim()).expect("it decodes"));
        let item = item.expect("it encodes");
        let sample: Value = serde_json::from_str(sample).expect("it is JSON");
        let wanted = [
            "actor",
            "causation",
            "correlation",
            "data",
            "entity",
            "position",
            "recorded",
            "tenant",
            "type",
            "writer",
        ];
        let keys: Vec<&str> =
            item.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, wanted);
        assert_eq!(item["data"], sample["data"]);
        assert_eq!(item["type"], "ReplicaReady");
        let replica = sample["data"]["replica"].as_str().expect("a name");
        assert_eq!(item["entity"], format!("replica/{replica}"));
    }

    #[test]
    fn an_event_of_a_newer_release_is_printed_too() {
        let text = r#"{"position":7,"recorded_ms":0,"actor":"ana","writer":"controller","type":"AppSung","tenant":"main","data":{"note":"c"}}"#;
        let item = serde_json::to_value(event(text).expect("it decodes")).expect("it encodes");
        assert_eq!(
            (item["entity"].clone(), item["data"]["note"].clone()),
            (Value::Null, "c".into())
        );
    }
}
