//! The wiring: history in, tables out, ports that follow them, and reports of what they serve by.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use cluster::Fold;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, history, process, reader};
use schemas::id::NodeName;
use schemas::place::Place;
use schemas::registry::Role;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::follow::{Follower, Need};
use crate::handover::offer::Offer;
use crate::handover::take::Before;
use crate::handover::{self, Handover};
use crate::inside::Inside;
use crate::last::Last;
use crate::pool::Shared;
use crate::ports::Doors;
use crate::table::Table;
use crate::{ports, report};

/// How many entries may wait.
const QUEUE: usize = 8_192;

/// How many are folded before a table is made of them.
const AT_ONCE: usize = 1_024;

/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait before history is read again from its beginning.
const RETRY: Duration = Duration::from_millis(200);

/// How long a table of now is waited for before the last one that was known is served by.
const FRESH: Duration = Duration::from_millis(500);

/// The same while the gateway before us still serves.
const RELIEF: Duration = Duration::from_secs(5);

/// Runs a gateway until it is asked to stop, or another one has taken over and what was open has ended.
///
/// # Errors
///
/// When the bus will not do.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    run_in_turn(config, Handover::default(), admin, shutdown).await
}

/// The same, for one who wants to know when another one takes over.
///
/// # Errors
///
/// When the bus will not do.
pub async fn run_in_turn(
    config: Config,
    handover: Handover,
    admin: Admin,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let role = Role::Gateway(config.node.clone());
    let name = role.user();
    admin.readiness.set(&name, Some("NATS".to_owned()));
    let range = (!config.no_names).then_some(config.service_range);
    let path = handover::path(&config.settings.state_dir, &config.node);
    let before = handover.ask(&path, config.listen, range).await;
    let shared =
        Shared::of(config.node.clone(), config.access_log, handover.clone(), config.drain_ms);
    let (tables, seen) = watch::channel(Table::default());
    let (served, serving) = watch::channel(Table::default());
    let inside = Arc::new(Inside::new(config.service_range, shared.clone()));
    let mut tasks = Tasks::default();
    if config.no_names {
        inside.settled.send_replace(true);
    } else {
        let (resolvers, stop) = (config.resolvers.clone(), shutdown.clone());
        let names = inside.clone().serve(name.clone(), resolvers, admin.clone(), stop);
        tasks.spawn("inside", names);
    }
    let doors = Doors {
        name,
        listen: config.listen,
        http: config.http_port,
        https: config.https_port,
        certificates: config.certificates.clone(),
    };
    let (to_serve, stop) = (shared.clone(), shutdown.clone());
    let serve = ports::serve(doors, to_serve, inside.clone(), seen, served, admin.clone(), stop);
    tasks.spawn("ports", serve);
    // What follows history and reports goes on until the last of what is open has ended.
    let (stopper, done) = Shutdown::new();
    let mut others = Tasks::default();
    let last = Last::of(&config.settings.state_dir, &config.node);
    let patience = if before.is_some() { RELIEF } else { FRESH };
    let in_turn = take_turn(handover.clone(), before, serving.clone(), inside);
    let offer = Offer { handover, path, listen: config.listen, range };
    let stop = done.clone();
    others.spawn("hand-over", async move {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            () = in_turn => {}
        }
        offer.run(stop).await
    });
    let known = last.read();
    let known_table =
        known.clone().and_then(|fold| Follower::new(fold, config.node.clone()).last_known());
    let (late, stop) = (tables.clone(), done.clone());
    others.spawn("what was known last", async move {
        tokio::select! {
            () = stop.requested() => return Ok(()),
            () = tokio::time::sleep(patience) => {}
        }
        serve_last_known(known_table, &late);
        Ok(())
    });
    others.spawn("history and reports", async move {
        let Some(bus) = config.settings.connect(&role, &done).await? else { return Ok(()) };
        tokio::try_join!(
            follow(&bus, &role, &config.node, (known, last), &shared, &tables, &admin, &done),
            report::tell(&bus, &config.node, serving, &shared, &admin, &done),
            report::traffic(&bus, &shared, &done),
        )
        .map(|_| ())
    });
    loop {
        tokio::select! {
            ended = tasks.ended() => match ended {
                Some((name, ended)) => ended.map_err(|error| named(&name, error.as_ref()))?,
                None => break,
            },
            Some((name, ended)) = others.ended() => {
                ended.map_err(|error| named(&name, error.as_ref()))?;
            }
        }
    }
    stopper.stop();
    others.all().await
}

fn named(task: &str, error: &(dyn std::error::Error + Send + Sync + 'static)) -> String {
    format!("{task}: {}", process::chain(error))
}

/// Has the gateway before us let go as soon as we serve.
async fn take_turn(
    handover: Handover,
    before: Option<Before>,
    mut serving: watch::Receiver<Table>,
    inside: Arc<Inside>,
) {
    let Some(mut before) = before else { return };
    let mut settled = inside.settled.subscribe();
    // Neither ends before there is one who serves.
    let _ = serving.wait_for(|table| table.place != Place::START).await;
    let _ = settled.wait_for(|settled| *settled).await;
    handover.let_go(&mut before).await;
}

/// Serves by the last table that was known, if there is none of now.
fn serve_last_known(known: Option<Table>, tables: &watch::Sender<Table>) {
    let Some(known) = known else { return };
    let place = known.place;
    let served = tables.send_if_modified(|table| {
        let none = table.place == Place::START;
        if none {
            *table = known;
        }
        none
    });
    if served {
        tracing::warn!(%place, "history is not heard: serving by what was known last");
    }
}

/// Follows history for as long as it takes. The last table stays while there is no newer one.
#[expect(clippy::too_many_arguments, reason = "it is the wiring")]
async fn follow(
    bus: &Bus,
    role: &Role,
    node: &NodeName,
    (mut known, mut last): (Option<Fold>, Last),
    shared: &Shared,
    tables: &watch::Sender<Table>,
    admin: &Admin,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let name = role.user();
    loop {
        let fold = match known.take() {
            Some(known) => known,
            None => history::snapshot(bus).await.unwrap_or_default(),
        };
        let reading = Reading {
            name: &name,
            bus,
            follower: Follower::new(fold, node.clone()),
            last: &mut last,
            over: shared.handover.over(),
            tables,
            admin,
            heard: reader::Heard::default(),
        };
        let Some(why) = reading.run(shutdown).await? else { return Ok(()) };
        tracing::error!(
            service = name,
            why,
            "what was folded is not in the history: reading it again"
        );
        let labels = [("service", name.as_str())];
        let help = "States dropped because history differed.";
        admin.metrics.count("muster_rebuilds", help, &labels, 1);
        tokio::time::sleep(RETRY).await;
    }
}

/// One reading of history, from a snapshot or its beginning.
struct Reading<'a> {
    name: &'a str,
    bus: &'a Bus,
    follower: Follower,
    last: &'a mut Last,
    /// The next one keeps what is known.
    over: Shutdown,
    tables: &'a watch::Sender<Table>,
    admin: &'a Admin,
    heard: reader::Heard,
}

impl Reading<'_> {
    /// Reads until asked to stop, or until something does not fit: then says what.
    async fn run(mut self, shutdown: &Shutdown) -> Result<Option<String>, Failure> {
        let (queue, mut arrived) = mpsc::channel(QUEUE);
        let mut from = self.follower.fold().cursor().position + 1;
        let mut log_first = false;
        let mut reader = Tasks::default();
        loop {
            if reader.is_empty() {
                let (bus, heard) = (self.bus.clone(), self.heard.clone());
                let reading = reader::events(bus, queue.clone(), from, log_first, heard);
                reader.spawn("events", reading);
            }
            let mut read = Vec::new();
            tokio::select! {
                () = shutdown.requested() => return Ok(None),
                _ = arrived.recv_many(&mut read, AT_ONCE) => {}
                Some((_, ended)) = reader.ended() => ended?,
                () = tokio::time::sleep(LOOK) => {}
            }
            for read in read {
                match self.follower.take(read) {
                    None => {}
                    Some(Need::Rebuild { why }) => return Ok(Some(why)),
                    Some(Need::Fetch { from: wanted }) => {
                        (from, log_first) = (wanted, true);
                        reader.shutdown().await;
                    }
                }
            }
            if let Some(table) = self.follower.table() {
                self.tables.send_if_modified(|last| {
                    let differs = *last != table;
                    *last = table;
                    differs
                });
                self.last.changed();
            }
            if !self.over.is_requested() {
                self.last.keep(self.follower.fold()).await;
            }
            self.tell();
        }
    }

    /// What the health page shows.
    fn tell(&self) {
        let missing = if self.bus.connected() {
            self.follower.waits_for()
        } else {
            Some("NATS, and serves what it last knew".to_owned())
        };
        self.admin.readiness.set(self.name, missing);
        self.heard.tell(&self.admin.metrics, self.name, self.follower.fold().place());
    }
}
