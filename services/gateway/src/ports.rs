//! The ports that are served: opened, closed and led elsewhere as the table changes.
//!
//! A port that cannot be taken is told of and tried again; the others serve.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, clock};
use schemas::spec::Protocol;
use tokio::sync::{oneshot, watch};

use crate::handover::{Kept, Socket};
use crate::inside::Inside;
use crate::pool::{Pool, Shared};
use crate::table::{Change, Published, Route, Table};
use crate::web::{self, Web};
use crate::{tcp, udp};

/// How long a port that could not be taken waits before it is tried again, in ms.
const AGAIN_MS: u64 = 2_000;

/// How often numbers are told.
const TELL: Duration = Duration::from_secs(1);

/// How long connections may go on after a stop was asked for, in ms.
const LINGER_MS: u64 = 2_000;

/// The same where whoever comes waits for the next process, after they have heard that they end.
const SHORT_MS: u64 = 500;

/// How long requests may that are under way then.
const FINISH_MS: u64 = 8_000;

/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// Where a gateway listens.
#[derive(Clone, Debug)]
pub struct Doors {
    /// The name under which it says what is wrong.
    pub name: String,
    /// The address of all ports.
    pub listen: IpAddr,
    /// The port that serves HTTP by host and path.
    pub http: Option<u16>,
    /// The same for HTTPS.
    pub https: Option<u16>,
    /// The folder of certificates.
    pub certificates: Option<PathBuf>,
}

/// Serves what the tables say, until asked to stop; `inside` is told of them as well. `served` shows the
/// table that it goes by.
///
/// # Errors
///
/// When a task of it broke. A port that cannot be taken is no such thing.
pub async fn serve(
    doors: Doors,
    shared: Shared,
    inside: Arc<Inside>,
    mut tables: watch::Receiver<Table>,
    served: watch::Sender<Table>,
    admin: Admin,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let (over, mut before) = (shared.handover.over(), shared.handover.shared());
    let web = Web::new(shared.clone(), doors.https, doors.certificates.clone());
    let mut ports = Ports {
        doors,
        shared,
        inside,
        admin,
        served,
        taken_up: 0,
        ports: BTreeMap::new(),
        closed: Vec::new(),
        web: Arc::new(web),
        web_ports: BTreeMap::new(),
        tasks: Tasks::default(),
        over: false,
    };
    ports.open_web();
    let mut tell = tokio::time::interval(TELL);
    // Whoever made the tables may end before us; the last one holds.
    let mut more = true;
    loop {
        tokio::select! {
            () = shutdown.requested() => break,
            () = over.requested() => break,
            changed = tables.changed(), if more => {
                more = changed.is_ok();
                let table = tables.borrow_and_update().clone();
                ports.become_as(table).await;
            }
            _ = tell.tick() => ports.try_again().await,
            // What the one before us took meanwhile is free now.
            Ok(()) = before.changed() => ports.try_at_once().await,
            Some((_, ended)) = ports.tasks.ended() => ended?,
        }
        ports.tell();
    }
    ports.shut().await;
    ports.finish(tables, more, shutdown).await
}

struct Ports {
    doors: Doors,
    shared: Shared,
    inside: Arc<Inside>,
    admin: Admin,
    /// The table that ports lead by.
    served: watch::Sender<Table>,
    /// How many tables since it was last told.
    taken_up: u64,
    ports: BTreeMap<Published, Port>,
    /// Pools of closed ports that connections still use.
    closed: Vec<Arc<Pool>>,
    web: Arc<Web>,
    /// The ports for all workloads, and whether they are of HTTPS.
    web_ports: BTreeMap<(bool, u16), Listening>,
    tasks: Tasks,
    /// Nothing new is taken.
    over: bool,
}

struct Port {
    pool: Arc<Pool>,
    listening: Listening,
}

enum Listening {
    /// It is served until this asks for an end; the other then says that the port is free.
    Yes(Stopper, oneshot::Receiver<()>, Kept),
    /// Nothing new is taken on it: we end, or another process has it.
    Over,
    /// It could not be taken.
    No { why: String, again_ms: u64 },
}

impl Ports {
    async fn become_as(&mut self, table: Table) {
        self.inside.become_as(&table.inside);
        let changes = self.served.borrow().changes(&table);
        for change in changes {
            match change {
                Change::Close(published) if self.over => {
                    if let Some(port) = self.ports.get(&published) {
                        port.pool.lead_nowhere();
                    }
                }
                Change::Open(..) if self.over => {}
                Change::Close(published) => self.close(published).await,
                Change::Open(published, route) => self.open(published, &route).await,
                Change::Lead(published, route) => {
                    if let Some(port) = self.ports.get(&published) {
                        port.pool.lead(&route);
                    }
                }
            }
        }
        if self.served.borrow().web != table.web {
            self.web.lead(&table.web);
        }
        self.served.send_replace(table);
        self.taken_up += 1;
    }

    async fn open(&mut self, published: Published, route: &Route) {
        // One that is still in use goes on, so that nothing is counted twice.
        let name = published.to_string();
        let left = self.closed.iter().position(|pool| pool.is_of(&name, route));
        let pool = match left.map(|i| self.closed.swap_remove(i)) {
            Some(pool) => {
                pool.lead(route);
                pool
            }
            None => Pool::new(name, route, &self.shared),
        };
        let listening = self.take(published, &pool).await;
        match &listening {
            Listening::Yes(..) => {
                tracing::info!(%published, app = %route.app, workload = %route.workload, "serving");
            }
            Listening::Over => {}
            Listening::No { why, .. } => {
                tracing::error!(%published, app = %route.app, workload = %route.workload, why, "a port is not served");
            }
        }
        self.ports.insert(published, Port { pool, listening });
    }

    async fn take(&mut self, published: Published, pool: &Arc<Pool>) -> Listening {
        let address = SocketAddr::new(self.doors.listen, published.port);
        let (stopper, stop) = Shutdown::new();
        let (listening, gone) = oneshot::channel();
        let pool = pool.clone();
        let name = published.to_string();
        let handover = self.shared.handover.clone();
        let Published { protocol, port } = published;
        let socket = Socket::Published { protocol, port };
        let before = handover.taken(socket);
        let taken = match protocol {
            Protocol::Tcp => {
                let before = before.and_then(|listener| tcp::go_on(listener, address));
                before.map_or_else(|| tcp::bind(address), Ok).and_then(|listener| {
                    let kept = handover.keep(socket, &listener)?;
                    self.tasks.spawn(name, tcp::serve(listener, pool, stop, listening));
                    Ok(kept)
                })
            }
            Protocol::Udp => {
                let bound = match before.and_then(|socket| udp::go_on(socket, address)) {
                    Some(socket) => Ok(socket),
                    None => udp::bind(address).await,
                };
                bound.and_then(|datagrams| {
                    let kept = handover.keep(socket, &datagrams)?;
                    self.tasks.spawn(name, udp::serve(datagrams, pool, |_| true, stop, listening));
                    Ok(kept)
                })
            }
        };
        match taken {
            Ok(kept) => Listening::Yes(stopper, gone, kept),
            Err(error) => Listening::No {
                why: format!("cannot listen on {address}: {error}"),
                again_ms: clock::mono_ms() + AGAIN_MS,
            },
        }
    }

    /// Frees the port. Its connections go on.
    async fn close(&mut self, published: Published) {
        let Some(Port { pool, listening }) = self.ports.remove(&published) else { return };
        pool.lead_nowhere();
        listening.end().await;
        tracing::info!(%published, "not serving any more");
        self.closed.push(pool);
    }

    /// Tries all again that could not be taken.
    async fn try_at_once(&mut self) {
        let ports = self.ports.values_mut().map(|port| &mut port.listening);
        for listening in ports.chain(self.web_ports.values_mut()) {
            if let Listening::No { again_ms, .. } = listening {
                *again_ms = 0;
            }
        }
        self.try_again().await;
    }

    /// Tries again what could not be taken, where it is time for that.
    async fn try_again(&mut self) {
        self.open_web();
        let now_ms = clock::mono_ms();
        let due = |port: &Port| matches!(&port.listening, Listening::No { again_ms, .. } if *again_ms <= now_ms);
        let waiting: Vec<Published> =
            self.ports.iter().filter(|(_, port)| due(port)).map(|(key, _)| *key).collect();
        for published in waiting {
            let Some(Port { pool, .. }) = self.ports.remove(&published) else { continue };
            let listening = self.take(published, &pool).await;
            if matches!(listening, Listening::Yes(..)) {
                tracing::info!(%published, "the port is free: serving");
            }
            self.ports.insert(published, Port { pool, listening });
        }
    }

    /// Takes the ports for all workloads that are wanted and not served yet.
    fn open_web(&mut self) {
        let wanted =
            [self.doors.http.map(|port| (false, port)), self.doors.https.map(|port| (true, port))];
        let now_ms = clock::mono_ms();
        for (tls, port) in wanted.into_iter().flatten() {
            let waits = |listening: &Listening| match listening {
                Listening::Yes(..) | Listening::Over => true,
                Listening::No { again_ms, .. } => *again_ms > now_ms,
            };
            if self.web_ports.get(&(tls, port)).is_some_and(waits) {
                continue;
            }
            let address = SocketAddr::new(self.doors.listen, port);
            let (stopper, stop) = Shutdown::new();
            let (listening, gone) = oneshot::channel();
            let acceptor = if tls { web::acceptor(&self.web).map(Some) } else { Ok(None) };
            let taken = acceptor.map_err(|error| error.to_string()).and_then(|acceptor| {
                let (handover, socket) = (&self.shared.handover, Socket::Web { tls, port });
                let before = handover.taken(socket).and_then(|l| tcp::go_on(l, address));
                let bound = before.map_or_else(|| tcp::bind(address), Ok);
                let listener = bound.map_err(|error| error.to_string())?;
                let kept = handover.keep(socket, &listener).map_err(|error| error.to_string())?;
                let serving = web::serve(listener, self.web.clone(), acceptor, stop, listening);
                self.tasks.spawn(format!("port {port}"), serving);
                Ok(kept)
            });
            let listening = match taken {
                Ok(kept) => {
                    tracing::info!(port, tls, "serving by host and path");
                    Listening::Yes(stopper, gone, kept)
                }
                Err(error) => Listening::No {
                    why: format!("cannot listen on {address}: {error}"),
                    again_ms: now_ms + AGAIN_MS,
                },
            };
            self.web_ports.insert((tls, port), listening);
        }
    }

    /// What the health page shows.
    fn tell(&mut self) {
        let mut troubles: Vec<String> = self
            .ports
            .iter()
            .filter_map(|(published, port)| match &port.listening {
                Listening::No { why, .. } => Some(format!("{published} is not served: {why}")),
                Listening::Yes(..) | Listening::Over => None,
            })
            .collect();
        for ((_, port), listening) in &self.web_ports {
            if let Listening::No { why, .. } = listening {
                troubles.push(format!("{port}/tcp is not served: {why}"));
            }
        }
        let metrics = &self.admin.metrics;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        metrics.set("muster_gateway_routes", "Published ports.", &[], count(self.ports.len()));
        metrics.set(
            "muster_gateway_unbound_ports",
            "Published ports that something else has.",
            &[],
            count(troubles.len()),
        );
        troubles.extend(self.web.refresh());
        self.web.tell(metrics);
        self.admin.readiness.troubles(&self.doors.name, troubles);
        for pool in self.ports.values().map(|port| &port.pool).chain(&self.closed) {
            pool.tell(metrics);
        }
        self.inside.tell(metrics);
        // Last: whoever sees it sees the rest as that table has it.
        let taken_up = std::mem::take(&mut self.taken_up);
        metrics.count("muster_gateway_tables", "Tables that were taken up.", &[], taken_up);
        self.closed.retain(|pool| Arc::strong_count(pool) > 1);
    }

    /// Closes every port.
    async fn shut(&mut self) {
        self.over = true;
        let over = |port: &mut Port| std::mem::replace(&mut port.listening, Listening::Over);
        let ports: Vec<_> = self.ports.values_mut().map(over).collect();
        let web = self.web_ports.values_mut();
        let web: Vec<_> = web.map(|port| std::mem::replace(port, Listening::Over)).collect();
        for listening in ports.into_iter().chain(web) {
            listening.end().await;
        }
    }

    /// Lets connections go on for a moment, and requests that are under way some more; where another
    /// process has taken over, all of them for as long as they may. What is sent meanwhile goes where the
    /// table says.
    async fn finish(
        mut self,
        mut tables: watch::Receiver<Table>,
        mut more: bool,
        shutdown: Shutdown,
    ) -> Result<(), Failure> {
        let begun_ms = clock::mono_ms();
        let mut asked_ms = None;
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                ended = self.tasks.ended() => match ended {
                    Some((_, ended)) => ended?,
                    None => return Ok(()),
                },
                changed = tables.changed(), if more => {
                    more = changed.is_ok();
                    let table = tables.borrow_and_update().clone();
                    self.become_as(table).await;
                }
                _ = look.tick() => {}
            }
            self.tell();
            let now_ms = clock::mono_ms();
            let until_ms = if shutdown.is_requested() {
                *asked_ms.get_or_insert(now_ms) + linger_ms(&self.shared)
            } else {
                begun_ms + self.shared.drain_ms
            };
            if now_ms > until_ms {
                let (open, requests) = (self.tasks.len(), self.shared.requests.load(Relaxed));
                tracing::info!(ports = open, requests, "what is still open is ended");
                return Ok(());
            }
        }
    }
}

/// Waits as long as connections may go on once a stop was asked for.
pub(crate) async fn lingered(shared: &Shared) {
    let begun_ms = clock::mono_ms();
    while clock::mono_ms() < begun_ms + linger_ms(shared) {
        tokio::time::sleep(LOOK).await;
    }
}

fn linger_ms(shared: &Shared) -> u64 {
    match shared.requests.load(Relaxed) {
        0 if shared.handover.is_stored() => SHORT_MS,
        0 => LINGER_MS,
        _ => FINISH_MS,
    }
}

impl Listening {
    /// Has nobody listen any more.
    async fn end(self) {
        if let Self::Yes(stopper, gone, kept) = self {
            stopper.stop();
            // Nothing is ever said on it: it ends with the listener.
            let _ = gone.await;
            drop(kept);
        }
    }
}
