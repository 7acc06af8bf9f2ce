//! The forwarding with real sockets: a table goes in, bytes go through.

mod backend;
mod detect;
mod http;
mod http2;
mod silence;
mod tcp;
mod udp;
mod web;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use gateway::Shared;
use gateway::open::Open;
use gateway::ports::Doors;
use gateway::table::{Endpoint, Published, Route, Table};
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Shutdown};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::place::Place;
use schemas::spec::{AppProtocol, Balance, Protocol};
use tokio::sync::watch;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often something is looked at before it counts as not so, and how long between.
const LOOKS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(50);

/// Ports that are served from a table, and the servers behind them. All end with it.
struct Gateway {
    tables: watch::Sender<Table>,
    served: watch::Receiver<Table>,
    open: Open,
    admin: Admin,
    tasks: Tasks,
    shared: Shared,
    speaks: AppProtocol,
    balance: Balance,
    stopper: Stopper,
}

impl Gateway {
    fn start() -> Self {
        Self::with(None, None, None)
    }

    /// One that serves by host and path as well.
    fn with(http: Option<u16>, https: Option<u16>, certificates: Option<PathBuf>) -> Self {
        let (tables, seen) = watch::channel(Table::default());
        let (stopper, shutdown) = Shutdown::new();
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let (serving, served) = watch::channel(Table::default());
        let node = NodeName::new("n1").expect("a name");
        let shared = Shared::of(node, false, gateway::handover::Handover::default(), 60_000);
        let open = shared.open.clone();
        // It is told, and nobody serves it.
        let range = runtime::inside::Range::DEFAULT.parse().expect("the default is one");
        let inside = std::sync::Arc::new(gateway::inside::Inside::new(range, shared.clone()));
        let doors =
            Doors { name: "gateway.n1".to_owned(), listen: HERE, http, https, certificates };
        let (all, told) = (shared.clone(), admin.clone());
        let ports = gateway::ports::serve(doors, all, inside, seen, serving, told, shutdown);
        tasks.spawn("ports", ports);
        let (speaks, balance) = (AppProtocol::Detect, Balance::LeastLoaded);
        Self { tables, served, open, admin, tasks, shared, speaks, balance, stopper }
    }

    /// One whose ports speak this.
    fn speaking(speaks: AppProtocol) -> Self {
        Self { speaks, ..Self::start() }
    }

    /// Leads ports to endpoints, and waits until that is so.
    async fn lead(&self, protocol: Protocol, routes: &[(u16, &[SocketAddr])]) {
        let even: Vec<_> = routes
            .iter()
            .map(|(port, at)| (*port, at.iter().map(|at| (*at, 1)).collect::<Vec<_>>()))
            .collect();
        self.weigh(protocol, &even).await;
    }

    /// The same, each endpoint with its weight.
    async fn weigh(&self, protocol: Protocol, routes: &[(u16, Vec<(SocketAddr, u32)>)]) {
        let route = |(port, endpoints): &(u16, Vec<(SocketAddr, u32)>)| {
            let published = Published { protocol, port: *port };
            let route = Route {
                app: AppKey::parse("shop").expect("a name"),
                workload: WorkloadName::new("web").expect("a name"),
                protocol: self.speaks,
                balance: self.balance.clone(),
                endpoints: endpoints
                    .iter()
                    .map(|(at, weight)| Endpoint { weight: *weight, ..endpoint(at) })
                    .collect(),
            };
            (published, route)
        };
        let taken_up = || self.number("tables_total");
        let before = taken_up();
        let place = Place { position: self.served.borrow().place.position + 1, ..Place::START };
        let routes = routes.iter().map(route).collect();
        self.tables.send_replace(Table { place, routes, ..Table::default() });
        self.until("the table is taken up", |_| taken_up() > before).await;
        assert_eq!(self.served.borrow().place, place);
    }

    /// Waits until its numbers are so.
    async fn until(&self, what: &str, so: impl Fn(&str) -> bool) {
        for _ in 0..LOOKS {
            if so(&self.admin.metrics.text()) {
                return;
            }
            tokio::time::sleep(BETWEEN).await;
        }
        panic!("not so in time: {what}\n{}", self.admin.metrics.text());
    }

    /// A number of the one port that there is; 0 before it was ever told.
    fn number(&self, name: &str) -> u64 {
        let text = self.admin.metrics.text();
        let line = text.lines().find(|line| line.starts_with(&format!("muster_gateway_{name}{{")));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.map_or(0, |value| value.parse().expect("a whole number"))
    }
}

fn replica(at: &SocketAddr) -> ReplicaId {
    ReplicaId::new(&format!("shop-web-{}", at.port())).expect("an id")
}

fn endpoint(at: &SocketAddr) -> Endpoint {
    Endpoint {
        replica: replica(at),
        run: 1,
        node: NodeName::new("n2").expect("a name"),
        address: at.ip().to_string(),
        port: at.port(),
        weight: 1,
    }
}

/// An address on which nobody listens.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((HERE, 0)).expect("there are ports");
    listener.local_addr().expect("it has an address")
}
