//! The wiring: history in, tables out, ports that follow them, and reports of what they serve by.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use cluster::Fold;
use runtime::manager::Managed;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, clock, history, process, reader};
use schemas::id::NodeName;
use schemas::place::Place;
use schemas::registry::Role;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::acme::kept::Kept;
use crate::config::Config;
use crate::follow::{Follower, Need};
use crate::handover::offer::{Offer, SERVING};
use crate::handover::{self, Turn};
use crate::inside::Inside;
use crate::last::Last;
use crate::meanwhile::{Meanwhile, News, is_so};
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

/// How long certificates from the bus are waited for before we say that we serve.
const CERTIFICATES: Duration = Duration::from_secs(2);

/// How long new connections are taken after we were asked to end, where nobody would until the next process does: each
/// is served once, and those that are open hear meanwhile that they end. Longer than a connection of HTTP is open for
/// one more request.
const LAST_CALL: Duration = Duration::from_millis(1_200);

/// How long a service manager waits at most until it hears that we are ready: history may be away for long, and whoever
/// starts us must not wait for it.
const READY: Duration = Duration::from_secs(10);

/// The task in which one gateway takes over from another.
const TURN: &str = "taking over";

/// Runs a gateway until it is asked to stop, or another one has taken over and what was open has ended. It
/// takes over from one that runs with the same settings.
///
/// # Errors
///
/// When the bus will not do, or the one that runs serves on.
pub async fn run(config: Config, admin: Admin, shutdown: Shutdown) -> Result<(), Failure> {
    let turn = Turn::ask(&config, Managed::default()).await?;
    run_in_turn(config, turn, admin, shutdown).await
}

/// The same, for one that has asked already whose turn it is.
///
/// # Errors
///
/// When the bus will not do, or the one that runs serves on.
pub async fn run_in_turn(
    config: Config,
    turn: Turn,
    admin: Admin,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let Turn { handover, before } = turn;
    let role = Role::Gateway(config.node.clone());
    let name = role.user();
    let folder = &config.settings.state_dir;
    admin.readiness.set(&name, Some("NATS".to_owned()));
    let shared =
        Shared::of(config.node.clone(), config.access_log, handover.clone(), config.drain_ms);
    let certificates = Kept::open(folder, &config.node, &config.acme, &shared.shelf)?;
    let (tables, seen) = watch::channel(Table::default());
    let (served, serving) = watch::channel(Table::default());
    let seen_too = seen.clone();
    let inside = Arc::new(Inside::new(config.service_range, shared.clone()));
    let news = Arc::new(News::default());
    // What takes connections ends when we are asked to, or are not the one whose turn it is.
    let (end, ends) = Shutdown::new();
    let mut tasks = Tasks::default();
    if config.no_names {
        inside.settled.send_replace(true);
    } else {
        let (resolvers, stop) = (config.resolvers.clone(), ends.clone());
        let names = inside.clone().serve(name.clone(), resolvers, admin.clone(), stop);
        tasks.spawn("inside", names);
    }
    let doors = Doors {
        name: name.clone(),
        listen: config.listen,
        http: config.http_port,
        https: config.https_port,
        certificates: config.certificates.clone(),
    };
    let (to_serve, stop) = (shared.clone(), ends.clone());
    let is_ready = ready(serving.clone(), inside.clone(), shared.clone());
    let serve = ports::serve(doors, to_serve, inside.clone(), seen, served, admin.clone(), stop);
    tasks.spawn("ports", serve);
    // What follows history and reports goes on until the last of what is open has ended.
    let (finish, done) = Shutdown::new();
    let mut others = Tasks::default();
    let is_settled = settled(serving.clone(), inside, shared.clone(), seen_too, news.clone());
    let to_tell = news.clone();
    let (taking, over) = (handover.clone(), handover.over());
    let stop = ends.clone();
    others.spawn(TURN, async move {
        tokio::select! {
            // Before it was our turn: the gateway before us sees it, and serves on.
            () = stop.requested() => Ok(()),
            taken = taking.take_turn(before, is_settled, &to_tell.alone) => taken,
        }
    });
    let (to_tell, alone, stop) = (handover.clone(), news.alone.subscribe(), done.clone());
    others.spawn("service manager", async move {
        if let Some(manager) = to_tell.manager() {
            let serves = async {
                is_so(alone, &stop).await;
                is_ready.await;
            };
            let how = tokio::select! {
                () = stop.requested() => return Ok(()),
                () = serves => "serving",
                () = tokio::time::sleep(READY) => "waiting for history: /readyz says more",
            };
            told(manager.ready(how));
        }
        Ok(())
    });
    let path = handover::path(folder, &config.node);
    let (listen, range, within) = (config.listen, config.range(), SERVING);
    let offer = Offer { handover: handover.clone(), path, listen, range, within };
    let (alone, stop, ending) = (news.alone.subscribe(), done.clone(), ends.clone());
    others.spawn("handing over", async move {
        if is_so(alone, &stop).await { offer.run(ending, stop).await } else { Ok(()) }
    });
    let last = Last::of(folder, &config.node);
    let meanwhile = Meanwhile {
        check: format!("{name}, table"),
        last: Last::of(folder, &config.node),
        node: config.node.clone(),
        tables: tables.clone(),
        given_back: handover.given_back(),
        news: news.clone(),
        admin: admin.clone(),
    };
    others.spawn("what was known last", meanwhile.serve(done.clone()));
    // Orders of certificates are those of whoever serves next.
    let (end_orders, no_orders) = Shutdown::new();
    let (no_more_orders, stop) = (no_orders.clone(), done.clone());
    others.spawn("history and reports", async move {
        let unreached = || {
            news.unreached.send_replace(true);
        };
        let Some(bus) = config.settings.connect_or(&role, unreached, &stop).await? else {
            return Ok(());
        };
        let from = (last.read().map(|known| known.fold), last);
        let told = report::Told { served: serving, mark: news.mark.subscribe() };
        let (acme, shelf) = (&config.acme, &shared.shelf);
        tokio::try_join!(
            follow(&bus, &role, &config.node, from, &shared, &tables, &news, &admin, &stop),
            report::tell(&bus, &config.node, told, &shared, &admin, &stop),
            report::traffic(&bus, &shared, &stop),
            acme::serve::serve(
                &bus,
                &config.node,
                acme,
                shelf,
                certificates,
                &no_more_orders,
                &stop
            ),
        )
        .map(|_| ())
    });
    let mut refused = None;
    let well = |task: &str, ended: Result<(), Failure>| {
        // Whoever is started next goes on with the sockets.
        ended.inspect_err(|_| handover.close()).map_err(|error| -> Failure {
            format!("{task}: {}", process::chain(error.as_ref())).into()
        })
    };
    let (mut last_call, mut calls) = (pin!(tokio::time::sleep(LAST_CALL)), false);
    loop {
        tokio::select! {
            () = shutdown.requested(), if !calls && !ends.is_requested() => {
                handover.close();
                told(handover.manager().map_or(Ok(()), |manager| manager.stopping()));
                if handover.is_stored() {
                    calls = true;
                    last_call.as_mut().reset(Instant::now() + LAST_CALL);
                } else {
                    end.stop();
                }
            }
            () = &mut last_call, if calls && !ends.is_requested() => end.stop(),
            () = ends.requested(), if !no_orders.is_requested() => end_orders.stop(),
            () = over.requested(), if !no_orders.is_requested() => end_orders.stop(),
            ended = tasks.ended() => match ended {
                Some((name, ended)) => well(&name, ended)?,
                None => break,
            },
            Some((name, ended)) = others.ended() => match ended {
                Err(error) if name == TURN => {
                    tracing::error!(error = process::chain(error.as_ref()), "not taking over: ending");
                    refused = Some(error);
                    end.stop();
                }
                ended => well(&name, ended)?,
            },
        }
    }
    finish.stop();
    others.all().await?;
    refused.map_or(Ok(()), Err)
}

/// A service manager that does not listen is nothing to end for.
fn told(said: std::io::Result<()>) {
    if let Err(error) = said {
        tracing::warn!(%error, "the service manager does not hear us");
    }
}

/// Waits until everything is served that the gateway before us serves.
async fn ready(mut serving: watch::Receiver<Table>, inside: Arc<Inside>, shared: Shared) {
    let mut settled = inside.settled.subscribe();
    let served = serving.wait_for(|table| table.place != Place::START).await.is_ok();
    if !served || settled.wait_for(|settled| *settled).await.is_err() {
        // Whoever was to serve has ended.
        return std::future::pending().await;
    }
    let mut read = shared.shelf.is_read();
    let _ = tokio::time::timeout(CERTIFICATES, read.wait_for(|read| *read)).await;
}

/// The same, and where we go on with what was left, until it is served what is so now: what nobody has a use for then is
/// not left any more.
async fn settled(
    mut serving: watch::Receiver<Table>,
    inside: Arc<Inside>,
    shared: Shared,
    tables: watch::Receiver<Table>,
    news: Arc<News>,
) {
    let given_back = shared.handover.given_back();
    ready(serving.clone(), inside, shared).await;
    if given_back {
        // Never errors: whoever says these is there as long as this.
        let _ = news.heard.subscribe().wait_for(|heard| *heard).await;
        let now = tables.borrow().place;
        let _ = serving.wait_for(|served| !now.after(&served.place)).await;
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
    news: &News,
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
            news,
            admin,
            heard: reader::Heard::default(),
            connected_ms: clock::mono_ms(),
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
    /// Another process has taken over.
    over: Shutdown,
    tables: &'a watch::Sender<Table>,
    news: &'a News,
    admin: &'a Admin,
    heard: reader::Heard,
    /// When NATS was seen connected last.
    connected_ms: u64,
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
                () = shutdown.requested() => {
                    if self.keeps() {
                        self.last.end(self.follower.fold()).await;
                    }
                    return Ok(None);
                }
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
                changes(self.tables, table);
                self.last.changed();
                self.news.heard.send_replace(true);
            }
            if self.keeps() {
                let newest = self.bus.connected() && self.follower.waits_for().is_none();
                self.last.keep(self.follower.fold(), newest).await;
            } else {
                self.last.leave();
            }
            changes(&self.news.mark, self.follower.mark().cloned());
            self.tell();
        }
    }

    /// Whether what is known is ours to keep: of two processes it is the one that serves alone.
    fn keeps(&self) -> bool {
        *self.news.alone.borrow() && !self.over.is_requested()
    }

    /// What the health page shows.
    fn tell(&mut self) {
        let now_ms = clock::mono_ms();
        let missing = if self.bus.connected() {
            self.connected_ms = now_ms;
            self.follower.waits_for()
        } else {
            let ago_s = (now_ms - self.connected_ms) / 1_000;
            Some(format!("NATS, and serves what it last knew {ago_s} s ago"))
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
