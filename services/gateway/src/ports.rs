//! The ports that are served: opened, closed and led elsewhere as the table changes.
//!
//! A port that cannot be taken is told of and tried again; the others serve.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Failure, Shutdown, clock};
use schemas::spec::Protocol;
use tokio::sync::{oneshot, watch};

use crate::inside::Inside;
use crate::pool::Pool;
use crate::table::{Change, Published, Route, Table};
use crate::{tcp, udp};

/// How long a port that could not be taken waits before it is tried again, in ms.
const AGAIN_MS: u64 = 2_000;

/// How often numbers are told.
const TELL: Duration = Duration::from_secs(1);

/// How long connections may go on after a stop was asked for.
const LINGER: Duration = Duration::from_secs(2);

/// Serves what the tables say on an address, until asked to stop; `inside` is told of them as well.
///
/// # Errors
///
/// When a task of it broke. A port that cannot be taken is no such thing.
pub async fn serve(
    name: String,
    listen: IpAddr,
    inside: Arc<Inside>,
    mut tables: watch::Receiver<Table>,
    admin: Admin,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let mut ports = Ports {
        name,
        listen,
        inside,
        admin,
        table: Table::default(),
        taken_up: 0,
        ports: BTreeMap::new(),
        leaving: Vec::new(),
        tasks: Tasks::default(),
    };
    let mut tell = tokio::time::interval(TELL);
    // Whoever made the tables may end before us; the last one holds.
    let mut more = true;
    loop {
        tokio::select! {
            () = shutdown.requested() => return ports.end().await,
            changed = tables.changed(), if more => {
                more = changed.is_ok();
                let table = tables.borrow_and_update().clone();
                ports.become_as(table).await;
            }
            _ = tell.tick() => ports.try_again().await,
            Some((_, ended)) = ports.tasks.ended() => ended?,
        }
        ports.tell();
    }
}

struct Ports {
    name: String,
    listen: IpAddr,
    inside: Arc<Inside>,
    admin: Admin,
    table: Table,
    /// How many tables since it was last told.
    taken_up: u64,
    ports: BTreeMap<Published, Port>,
    /// Pools of closed ports that connections still use.
    leaving: Vec<Arc<Pool>>,
    tasks: Tasks,
}

struct Port {
    pool: Arc<Pool>,
    listening: Listening,
}

enum Listening {
    /// It is served until this asks for an end; the other then says that the port is free.
    Yes(Stopper, oneshot::Receiver<()>),
    /// It could not be taken.
    No { why: String, again_ms: u64 },
}

impl Ports {
    async fn become_as(&mut self, table: Table) {
        self.inside.become_as(&table.inside);
        for change in self.table.changes(&table) {
            match change {
                Change::Close(published) => self.close(published).await,
                Change::Open(published, route) => self.open(published, &route).await,
                Change::Lead(published, endpoints) => {
                    if let Some(port) = self.ports.get(&published) {
                        port.pool.lead(&endpoints);
                    }
                }
            }
        }
        self.table = table;
        self.taken_up += 1;
    }

    async fn open(&mut self, published: Published, route: &Route) {
        // One that is still in use goes on, so that nothing is counted twice.
        let left = self.leaving.iter().position(|pool| pool.is_of(published, route));
        let pool = match left.map(|i| self.leaving.swap_remove(i)) {
            Some(pool) => {
                pool.lead(&route.endpoints);
                pool
            }
            None => Pool::new(published, route),
        };
        let listening = self.take(published, &pool).await;
        match &listening {
            Listening::Yes(..) => {
                tracing::info!(%published, app = %route.app, workload = %route.workload, "serving");
            }
            Listening::No { why, .. } => {
                tracing::error!(%published, app = %route.app, workload = %route.workload, why, "a port is not served");
            }
        }
        self.ports.insert(published, Port { pool, listening });
    }

    async fn take(&mut self, published: Published, pool: &Arc<Pool>) -> Listening {
        let address = SocketAddr::new(self.listen, published.port);
        let (stopper, stop) = Shutdown::new();
        let (listening, gone) = oneshot::channel();
        let pool = pool.clone();
        let name = published.to_string();
        let taken = match published.protocol {
            Protocol::Tcp => tcp::bind(address).map(|listener| {
                self.tasks.spawn(name, tcp::serve(listener, pool, stop, listening));
            }),
            Protocol::Udp => udp::bind(address).await.map(|socket| {
                self.tasks.spawn(name, udp::serve(socket, pool, |_| true, stop, listening));
            }),
        };
        match taken {
            Ok(()) => Listening::Yes(stopper, gone),
            Err(error) => Listening::No {
                why: format!("cannot listen on {address}: {error}"),
                again_ms: clock::mono_ms() + AGAIN_MS,
            },
        }
    }

    /// Frees the port. Its connections go on.
    async fn close(&mut self, published: Published) {
        let Some(Port { pool, listening }) = self.ports.remove(&published) else { return };
        pool.lead(&[]);
        if let Listening::Yes(stopper, gone) = listening {
            stopper.stop();
            // Nothing is ever said on it: it ends with the listener.
            let _ = gone.await;
            tracing::info!(%published, "not serving any more");
        }
        self.leaving.push(pool);
    }

    /// Tries again what could not be taken.
    async fn try_again(&mut self) {
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

    /// What the health page shows.
    fn tell(&mut self) {
        let troubles: Vec<String> = self
            .ports
            .iter()
            .filter_map(|(published, port)| match &port.listening {
                Listening::No { why, .. } => Some(format!("{published} is not served: {why}")),
                Listening::Yes(..) => None,
            })
            .collect();
        let metrics = &self.admin.metrics;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        metrics.set("muster_gateway_routes", "Published ports.", &[], count(self.ports.len()));
        metrics.set(
            "muster_gateway_unbound_ports",
            "Published ports that something else has.",
            &[],
            count(troubles.len()),
        );
        self.admin.readiness.troubles(&self.name, troubles);
        for pool in self.ports.values().map(|port| &port.pool).chain(&self.leaving) {
            pool.tell(metrics);
        }
        self.inside.tell(metrics);
        // Last: whoever sees it sees the rest as that table has it.
        let taken_up = std::mem::take(&mut self.taken_up);
        metrics.count("muster_gateway_tables", "Tables that were taken up.", &[], taken_up);
        self.leaving.retain(|pool| Arc::strong_count(pool) > 1);
    }

    /// Closes every port, and gives connections a moment.
    async fn end(mut self) -> Result<(), Failure> {
        for published in self.ports.keys().copied().collect::<Vec<_>>() {
            self.close(published).await;
        }
        match tokio::time::timeout(LINGER, self.tasks.all()).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }
}
