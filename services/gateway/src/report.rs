//! What a gateway says of itself: the table it serves by, and what is under way where that leads no more.

use std::time::Duration;

use bus::Bus;
use runtime::{Admin, Failure, Shutdown, clock, entropy};
use schemas::id::NodeName;
use schemas::place::Place;
use schemas::report::{
    GATEWAY_MS, GatewayReport, Mark, OpenOn, Standing, TRAFFIC_MS, TrafficReport,
};
use schemas::subject;
use tokio::sync::watch;

use crate::open::Open;
use crate::pool::Shared;
use crate::table::Table;

/// How long a word that others wait for may take to the server.
const LAST: Duration = Duration::from_secs(1);

/// How many replicas a report may name.
const REPLICAS_MAX: usize = 2_000;

/// What reports tell of, as it is now.
pub(crate) struct Told {
    /// The table that is served by.
    pub(crate) served: watch::Receiver<Table>,
    /// The newest mark of the state.
    pub(crate) mark: watch::Receiver<Option<Mark>>,
}

/// Reports from time to time, and at once when another table is served by or the last thing has ended on
/// a replica that it does not lead to any more, until the gateway has ended: which is its last word.
///
/// # Errors
///
/// When the connection is gone for good.
pub(crate) async fn tell(
    bus: &Bus,
    node: &NodeName,
    Told { mut served, mark }: Told,
    shared: &Shared,
    admin: &Admin,
    done: &Shutdown,
) -> Result<(), Failure> {
    let instance = entropy::hex();
    let subject = subject::gateway(node);
    let (open, over, mut beside) = (&shared.open, shared.handover.over(), shared.handover.beside());
    let mut ended = false;
    let mut emptied = open.emptied();
    let mut tick = tokio::time::interval(Duration::from_millis(GATEWAY_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = done.requested() => ended = true,
            _ = tick.tick() => {}
            Ok(()) = served.changed() => {}
            Ok(()) = beside.changed() => {}
            Ok(()) = emptied.changed() => {}
        }
        let table = served.borrow_and_update().clone();
        // What serves by no table yet sends nothing anywhere. Without a connection the client would keep
        // a report back and send it when it is not true any more.
        if table.place == Place::START || !bus.connected() {
            if ended {
                return Ok(());
            }
            continue;
        }
        let (place, on) = under_way(&table, open);
        let is_beside = *beside.borrow_and_update();
        // In a restart there is one who says it next: until then we are waited for, so that nothing is stopped that the
        // next one, which begins by what we knew, may lead to.
        let last = ended && !shared.handover.is_stored();
        let standing = match (last, is_beside || over.is_requested()) {
            (true, _) => Standing::Ended,
            (false, true) => Standing::Beside,
            (false, false) => Standing::Serves,
        };
        let labels = [("node", node.as_str())];
        let help = "Replicas that the table does not lead to any more with something under way.";
        admin.metrics.set("muster_gateway_leaving", help, &labels, as_u64(on.len()));
        admin.metrics.count("muster_gateway_reports", "Reports that were sent.", &labels, 1);
        let (node, instance) = (node.clone(), instance.clone());
        let mark = mark.borrow().clone();
        let ordered = shared.shelf.ordered(&node);
        let report = GatewayReport { node, instance, standing, place, open: on, mark, ordered };
        let payload = serde_json::to_vec(&report).expect("a report has string keys only");
        bus.publish(&subject, payload).await?;
        if ended {
            // Without it we are waited for, as one that was killed.
            let _ = tokio::time::timeout(LAST, bus.flush()).await;
            return Ok(());
        }
        if is_beside {
            let _ = tokio::time::timeout(LAST, bus.flush()).await;
        }
        shared.handover.told(is_beside);
    }
}

/// Tells of traffic from time to time, until asked to stop.
///
/// # Errors
///
/// When the connection is gone for good.
pub(crate) async fn traffic(
    bus: &Bus,
    shared: &Shared,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let instance = entropy::hex();
    let subject = subject::traffic(&shared.node);
    let mut tick = tokio::time::interval(Duration::from_millis(TRAFFIC_MS));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            _ = tick.tick() => {}
        }
        let (node, instance) = (shared.node.clone(), instance.clone());
        let replicas = shared.tally.tell(&shared.open);
        // Of two instances the one that takes what is new tells, once it alone does: what one says replaces what
        // the other did, and another instance is taken to count from zero.
        let other = shared.handover.over().is_requested() || *shared.handover.shared().borrow();
        if other || !bus.connected() {
            continue;
        }
        let (calls, ways) = (shared.callers.tell(), shared.ways.tell(clock::mono_ms()));
        let time_ms = clock::utc_ms();
        let report = TrafficReport { node, instance, time_ms, replicas, calls, ways };
        let payload = serde_json::to_vec(&report).expect("a report has string keys only");
        bus.publish(&subject, payload).await?;
    }
}

/// The place that is served by, and what is under way where the table does not lead any more. The end of
/// that is awaited from now on.
#[must_use]
pub fn under_way(table: &Table, open: &Open) -> (Place, Vec<OpenOn>) {
    let led_to = table.led_to();
    open.await_end(|replica| !led_to.contains(replica));
    let mut on = open.counts();
    on.retain(|replica, _| !led_to.contains(replica));
    if on.len() > REPLICAS_MAX {
        // What is not named counts as ended, so no place is named by which anything has left.
        return (Place::START, Vec::new());
    }
    let on = on.into_iter().map(|(replica, open)| OpenOn { replica, open }).collect();
    (table.place, on)
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use schemas::id::{AppKey, ReplicaId, WorkloadName};
    use schemas::spec::{AppProtocol, Balance, Protocol};

    use super::*;
    use crate::table::{Endpoint, Published, Route};

    fn id(name: &str) -> ReplicaId {
        ReplicaId::new(&format!("shop-web-{name}")).expect("an id")
    }

    fn table(led_to: &[&str]) -> Table {
        let endpoint = |name: &&str| Endpoint {
            replica: id(name),
            run: 1,
            node: NodeName::new("n1").expect("a name"),
            address: "127.0.0.1".to_owned(),
            port: 80,
            weight: 1,
        };
        let route = Route {
            app: AppKey::parse("shop").expect("a name"),
            workload: WorkloadName::new("web").expect("a name"),
            protocol: AppProtocol::Detect,
            balance: Balance::LeastLoaded,
            endpoints: led_to.iter().map(endpoint).collect(),
        };
        Table {
            place: Place { epoch: 1, position: 9, ..Place::START },
            routes: [(Published { protocol: Protocol::Tcp, port: 80 }, route)].into(),
            ..Table::default()
        }
    }

    fn named(table: &Table, open: &Open) -> Vec<(ReplicaId, u64)> {
        let (place, on) = under_way(table, open);
        assert_eq!(place, table.place);
        on.into_iter().map(|on| (on.replica, on.open)).collect()
    }

    #[test]
    fn what_the_table_does_not_lead_to_is_named_until_its_last_end_which_is_awaited() {
        let open = Open::default();
        let [stays, leaves] = ["stays", "leaves"].map(|name| open.of(&id(name)).hold());
        assert_eq!(named(&table(&["leaves", "stays"]), &open), []);
        assert_eq!(named(&table(&["stays"]), &open), [(id("leaves"), 1)]);
        let mut emptied = open.emptied();
        drop(stays);
        assert!(!emptied.has_changed().expect("the counts are there"));
        drop(leaves);
        assert!(emptied.has_changed().expect("the counts are there"));
        emptied.mark_unchanged();
        assert_eq!(named(&table(&["stays"]), &open), []);
    }

    #[test]
    fn a_report_that_cannot_name_all_of_them_names_no_place() {
        let open = Open::default();
        let held: Vec<_> =
            (0..=REPLICAS_MAX).map(|i| open.of(&id(&i.to_string())).hold()).collect();
        assert_eq!(under_way(&table(&[]), &open), (Place::START, Vec::new()));
        drop(held);
    }
}
