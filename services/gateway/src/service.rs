//! The wiring: history in, tables out, ports that follow them, and reports of what they serve by.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, history, reader};
use schemas::id::NodeName;
use schemas::registry::Role;
use schemas::report::Mark;
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::follow::{Follower, Need};
use crate::inside::Inside;
use crate::pool::Shared;
use crate::ports::Doors;
use crate::table::Table;
use crate::{acme, ports, report};

/// How many entries may wait.
const QUEUE: usize = 8_192;

/// How many are folded before a table is made of them.
const AT_ONCE: usize = 1_024;

/// How often the connection is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait before history is read again from its beginning.
const RETRY: Duration = Duration::from_millis(200);

/// Runs a gateway until it is asked to stop.
///
/// # Errors
///
/// When the bus will not do.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    let role = Role::Gateway(config.node.clone());
    let name = role.user();
    admin.readiness.set(&name, Some("NATS".to_owned()));
    let shared = Shared::of(config.node.clone(), config.access_log);
    let (tables, seen) = watch::channel(Table::default());
    let (served, serving) = watch::channel(Table::default());
    let (marks, mark) = watch::channel(None);
    let inside = Arc::new(Inside::new(config.service_range, shared.clone()));
    let mut tasks = Tasks::default();
    if !config.no_names {
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
    tasks.spawn("ports", ports::serve(doors, to_serve, inside, seen, served, admin.clone(), stop));
    let on_the_bus = async move {
        let Some(bus) = config.settings.connect(&role, &shutdown).await? else { return Ok(()) };
        let told = report::Told { served: serving, open: shared.open.clone(), mark };
        let news = News { tables, marks };
        tokio::try_join!(
            follow(&bus, &role, &config.node, &news, &admin, &shutdown),
            report::tell(&bus, &config.node, told, &admin, &shutdown),
            report::traffic(&bus, &shared, &shutdown),
            acme::serve::serve(&bus, &config.node, &config.acme, &shared.shelf, &shutdown),
        )
        .map(|_| ())
    };
    tasks.spawn("history and reports", on_the_bus);
    tasks.all().await
}

/// What history says, for those who serve and report.
struct News {
    tables: watch::Sender<Table>,
    marks: watch::Sender<Option<Mark>>,
}

/// Follows history for as long as it takes. The last table stays while there is no newer one.
async fn follow(
    bus: &Bus,
    role: &Role,
    node: &NodeName,
    news: &News,
    admin: &Admin,
    shutdown: &Shutdown,
) -> Result<(), Failure> {
    let name = role.user();
    loop {
        let fold = history::snapshot(bus).await.unwrap_or_default();
        let reading = Reading {
            name: &name,
            bus,
            follower: Follower::new(fold, node.clone()),
            news,
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
    news: &'a News,
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
                changes(&self.news.tables, table);
            }
            changes(&self.news.marks, self.follower.mark().cloned());
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

/// Says something unless it was the last thing that was said.
fn changes<T: PartialEq>(to: &watch::Sender<T>, now: T) {
    to.send_if_modified(|last| {
        let differs = *last != now;
        *last = now;
        differs
    });
}
