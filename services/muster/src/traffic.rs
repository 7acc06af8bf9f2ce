//! Where traffic leads, and what gateways say of it.

use std::collections::BTreeMap;

use schemas::id::ReplicaId;
use schemas::read::StatePage;
use schemas::report::TrafficReport;
use schemas::tls::{self, Order, Phase, Told};
use schemas::{stream, subject};

use crate::args::{Format, Look};
use crate::client::Client;
use crate::error::CliError;
use crate::lists::{self, RouteItem, TrafficItem};
use crate::look::{asked, json};
use crate::table::table;

/// After how long a report is not of now any more, in ms.
const OLD_MS: u64 = 10_000;

/// Prints the ways on which traffic leads to workloads.
pub(crate) async fn routes(client: &Client, look: &Look) -> Result<(), CliError> {
    let (page, _) = asked(client, look, look.output).await?;
    let traffic = if look.at.at.is_none() { newest(client, &page).await } else { BTreeMap::new() };
    let mut items = ways(&page, &traffic);
    for item in items.iter_mut().filter(|_| look.at.at.is_none()) {
        item.certificate = order(client, &item.way).await;
    }
    if look.output == Format::Json {
        return json(&lists::routes(page.place, items));
    }
    let row = |item: &RouteItem| {
        vec![
            item.way.clone(),
            item.app.clone(),
            item.workload.clone(),
            words(&item.traffic),
            item.certificate.as_ref().map_or_else(|| "-".to_owned(), order_words),
            if item.ready.is_empty() { "nobody".to_owned() } else { item.ready.join(" ") },
        ]
    };
    let head = ["WAY", "APP", "WORKLOAD", "TRAFFIC", "ORDERED", "READY"];
    print!("{}", table(&head, &items.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

/// What the gateways of all nodes say, by replica. What is not heard is left out: whoever looks wants the
/// rest all the same.
pub(crate) async fn newest(client: &Client, page: &StatePage) -> BTreeMap<ReplicaId, TrafficItem> {
    let now_ms = runtime::clock::utc_ms();
    let mut found = BTreeMap::new();
    for node in &page.nodes {
        let subject = subject::traffic(&node.node);
        let Ok(Some(message)) = client.bus.get_last(stream::REPORTS.name, &subject).await else {
            continue;
        };
        let Ok(report) = serde_json::from_slice::<TrafficReport>(&message.payload) else {
            continue;
        };
        if now_ms.saturating_sub(report.time_ms) <= OLD_MS {
            add(&mut found, report);
        }
    }
    found
}

/// How the order of a certificate goes, where gateways ordered one for a way.
async fn order(client: &Client, way: &str) -> Option<Order> {
    let host = way.strip_prefix("https://")?.split('/').next()?;
    let subject = tls::order_subject(&host.to_ascii_lowercase());
    let message = client.bus.get_last(stream::TLS.name, &subject).await.ok()??;
    match serde_json::from_slice(&message.payload).ok()? {
        Told::Order(order) => Some(order),
        _ => None,
    }
}

/// `done by n1`, `failed 2 times on n1: …; next try 02:14:09`: for people.
fn order_words(order: &Order) -> String {
    let Order { node, failures, error, next_ms, .. } = order;
    match order.phase {
        Phase::Done => format!("by {node}"),
        Phase::Ordering => format!("{node} orders it"),
        Phase::Failed => {
            let times =
                if *failures == 1 { "once".to_owned() } else { format!("{failures} times") };
            let why = error.as_deref().unwrap_or("no reason was told");
            format!(
                "failed {times} on {node}: {why}; next try {}",
                crate::tell::clock(*next_ms, runtime::clock::utc_ms())
            )
        }
    }
}

fn add(found: &mut BTreeMap<ReplicaId, TrafficItem>, report: TrafficReport) {
    for t in report.replicas {
        let more = TrafficItem {
            requests: t.requests,
            failed: t.failed,
            in_flight: t.in_flight,
            rate_milli: t.rate_milli,
            p50_us: t.p50_us,
            p95_us: t.p95_us,
            p99_us: t.p99_us,
        };
        let known = found.entry(t.replica).or_default();
        *known = sum(*known, more);
    }
}

/// Counts add up; of times the longest holds, which is the least that is true of all.
fn sum(one: TrafficItem, other: TrafficItem) -> TrafficItem {
    TrafficItem {
        requests: one.requests + other.requests,
        failed: one.failed + other.failed,
        in_flight: one.in_flight + other.in_flight,
        rate_milli: one.rate_milli + other.rate_milli,
        p50_us: one.p50_us.max(other.p50_us),
        p95_us: one.p95_us.max(other.p95_us),
        p99_us: one.p99_us.max(other.p99_us),
    }
}

fn ways(page: &StatePage, traffic: &BTreeMap<ReplicaId, TrafficItem>) -> Vec<RouteItem> {
    let mut items = Vec::new();
    for app in &page.apps {
        for (workload, view) in &app.workloads {
            let of = page.replicas.iter().filter(|r| r.app == app.app && r.workload == *workload);
            let sent = of.clone().filter_map(|r| traffic.get(&r.replica));
            let sent = sent.fold(TrafficItem::default(), |all, one| sum(all, *one));
            let ready = of.filter(|r| r.status == "ready").map(|r| r.replica.to_string());
            let ready: Vec<String> = ready.collect();
            items.extend(view.ways.iter().map(|way| RouteItem {
                way: way.clone(),
                app: app.app.short(),
                workload: workload.to_string(),
                ready: ready.clone(),
                certificate: None,
                traffic: sent,
            }));
        }
    }
    items
}

/// `12.5/s, p95 3.1 ms, 2 failed`: for people.
pub(crate) fn words(traffic: &TrafficItem) -> String {
    if traffic.requests == 0 {
        return "-".to_owned();
    }
    let tenths = |thousandths: u64| format!("{}.{}", thousandths / 1_000, thousandths / 100 % 10);
    let mut words = format!("{}/s", tenths(traffic.rate_milli));
    if traffic.p95_us > 0 {
        words.push_str(&format!(", p95 {} ms", tenths(traffic.p95_us)));
    }
    if traffic.failed > 0 {
        words.push_str(&format!(", {} failed", traffic.failed));
    }
    words
}

#[cfg(test)]
mod tests {
    use schemas::id::NodeName;
    use schemas::report::Traffic;

    use super::*;

    fn report(node: &str, requests: u64, p95_us: u64) -> TrafficReport {
        let replica = ReplicaId::new("shop-web-aaaaa").expect("an id");
        let traffic = Traffic {
            replica,
            requests,
            failed: 1,
            in_flight: 0,
            rate_milli: 12_345,
            p50_us: 5,
            p95_us,
            p99_us: 9_000,
        };
        TrafficReport {
            node: NodeName::new(node).expect("a name"),
            instance: String::new(),
            time_ms: 0,
            replicas: vec![traffic],
            calls: Vec::new(),
            ways: Vec::new(),
        }
    }

    #[test]
    fn what_several_gateways_sent_adds_up() {
        let mut found = BTreeMap::new();
        add(&mut found, report("n1", 10, 3_149));
        add(&mut found, report("n2", 5, 900));
        let all: Vec<_> = found.into_values().collect();
        assert_eq!((all[0].requests, all[0].failed, all[0].p95_us), (15, 2, 3_149));
        assert_eq!(words(&all[0]), "24.6/s, p95 3.1 ms, 2 failed");
        assert_eq!(words(&TrafficItem::default()), "-");
    }
}
