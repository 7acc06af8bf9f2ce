//! Who folds something else than the log says is caught by name: an event-log that stands by, and a
//! gateway. Each begins from a snapshot that is not the state of its place, as a bug would make it.

use bus::Bus;
use schemas::id::CommandId;
use schemas::registry::Role;
use schemas::subject;
use serde_json::json;
use tests::bend::bend;
use tests::cluster::{Cluster, program, text};

use super::cli;

/// So many notes are enough events for another mark.
const NOTES: u64 = 600;

const COMPARED: &str = "muster_states_compared_total";
const DIVERGED: &str = "muster_state_diverged_total";

/// Lets history go on by some notes; all that followed from them is in the log then.
async fn goes_on(cluster: &Cluster) {
    let position = |cluster: &Cluster| {
        let head = cli::json(cluster, &["ps"])["at"]["position"].as_u64();
        head.expect("a position")
    };
    let before = tokio::task::block_in_place(|| position(cluster));
    let user = Role::User("tester".to_owned());
    let bus = Bus::connect(&cluster.connect_as(&user)).await.expect("the server is there");
    let note = json!({ "object": "app/main/shop", "text": "another event" });
    let note = serde_json::to_vec(&note).expect("it is JSON");
    let to = subject::command_as("tester", "note.add");
    for _ in 0..NOTES {
        let id = CommandId::new(&runtime::entropy::hex()).expect("an id");
        let headers = [("Nats-Msg-Id", id.as_str())];
        bus.publish_command(&to, note.clone(), &headers).await.expect("it is taken");
    }
    tokio::task::block_in_place(|| {
        cluster
            .until("every note is in the log", |cluster| position(cluster) >= before + 2 * NOTES);
    });
}

/// What an event-log counted of somebody's states.
fn counted(cluster: &Cluster, log: &str, name: &str, service: &str) -> u64 {
    let wanted = format!("{name}{{service=\"{service}\"}} ");
    let page = cluster.page_of(log, "/metrics").map(|(_, page)| page).unwrap_or_default();
    page.lines().find_map(|line| line.strip_prefix(&wanted)?.parse().ok()).unwrap_or(0)
}

fn is_ready(cluster: &Cluster, name: &str) -> bool {
    cluster.page_of(name, "/readyz").is_some_and(|(status, _)| status == 200)
}

fn leads(cluster: &Cluster, log: &str) -> bool {
    let page = cluster.page_of(log, "/metrics").map(|(_, page)| page).unwrap_or_default();
    page.lines().any(|line| line == "muster_log_leads 1" || line == "muster_log_leads{} 1")
}

/// Whether the doctor says of somebody that his state differs, and ends with a failure.
fn is_ill(cluster: &Cluster, who: &str) -> bool {
    let doctor = cluster.muster(&["doctor"]);
    text(&doctor.stdout).contains(&format!("the state of {who} (")) && !doctor.status.success()
}

/// Of whom a type of event was stated, by a field of it.
fn named(cluster: &Cluster, kind: &str, field: &str) -> Vec<String> {
    let events = cli::json(cluster, &["log", "--type", kind]);
    let items = events["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &serde_json::Value| item["data"][field].as_str().map(str::to_owned);
    items.iter().filter_map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_log_that_stands_by_and_a_gateway_are_caught_when_they_fold_something_else() {
    let programs = program("muster").parent().expect("it is in a folder").to_owned();
    let mut cluster = tokio::task::block_in_place(|| Cluster::start_from(&programs, 1));
    let gateway = format!("gateway.{}", cluster.nodes()[0]);
    goes_on(&cluster).await;
    tokio::task::block_in_place(|| {
        for service in ["event-log", "controller", "scheduler", "autoscaler", "health", &gateway] {
            cluster.until(&format!("the state of {service} is compared"), |cluster| {
                counted(cluster, "event-log", COMPARED, service) > 0
            });
        }
        cluster.until("the doctor finds nothing", |cluster| {
            cluster.muster(&["doctor"]).status.success()
        });
        cluster.end("event-log-2");
        let _ = bend(&event_log::config::folder(&cluster.state("event-log-2")));
        cluster.run("event-log-2");
        cluster.until("it stands by", |cluster| is_ready(cluster, "event-log-2"));
    });
    goes_on(&cluster).await;
    tokio::task::block_in_place(|| {
        cluster.until("the doctor names it", |cluster| is_ill(cluster, "event-log"));
        assert_eq!(named(&cluster, "StateDiverged", "writer"), ["event-log"]);
        assert_eq!(counted(&cluster, "event-log", DIVERGED, "event-log"), 1);
        assert!(named(&cluster, "GatewayDiverged", "node").is_empty());

        // A gateway that begins while that one leads gets its snapshot, and follows the log from there.
        cluster.end("event-log");
        cluster.until("the other leads", |cluster| leads(cluster, "event-log-2"));
        cluster.kill("gateway");
        // It would go on from what it knew last.
        let known = format!("gateway-{}-table.fold", cluster.nodes()[0]);
        std::fs::remove_file(cluster.state("gateway").join(known)).expect("it is kept");
        cluster.run("gateway");
        cluster.until("the gateway serves", |cluster| is_ready(cluster, "gateway"));
        cluster.run("event-log");
        cluster.until("it stands by", |cluster| is_ready(cluster, "event-log"));
        cluster.end("event-log-2");
        cluster.until("it leads again", |cluster| leads(cluster, "event-log"));
    });
    goes_on(&cluster).await;
    tokio::task::block_in_place(|| {
        cluster.until("the doctor names it", |cluster| is_ill(cluster, &gateway));
        // Both event-logs may have said so: the bent one, of the gateway before.
        let mut named = named(&cluster, "GatewayDiverged", "node");
        named.dedup();
        assert_eq!(named, [cluster.nodes()[0].as_str()]);
        assert_eq!(counted(&cluster, "event-log", DIVERGED, &gateway), 1);
        assert!(cluster.ok(&["replay", "--verify"]).contains("verified"), "the log is right");
    });
}
