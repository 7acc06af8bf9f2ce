//! The forwarding with real sockets: a table goes in, bytes go through.

mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use gateway::table::{Endpoint, Published, Route, Table};
use runtime::process::Stopper;
use runtime::tasks::Tasks;
use runtime::{Admin, Shutdown};
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use schemas::spec::Protocol;
use tokio::sync::watch;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often something is looked at before it counts as not so, and how long between.
const LOOKS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(50);

/// Ports that are served from a table, and the servers behind them. All end with it.
struct Gateway {
    tables: watch::Sender<Table>,
    admin: Admin,
    tasks: Tasks,
    _stopper: Stopper,
}

impl Gateway {
    fn start() -> Self {
        let (tables, seen) = watch::channel(Table::default());
        let (stopper, shutdown) = Shutdown::new();
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let name = "gateway.n1".to_owned();
        // It is told, and nobody serves it.
        let range = runtime::inside::Range::DEFAULT.parse().expect("the default is one");
        let inside = std::sync::Arc::new(gateway::inside::Inside::new(range));
        let serving = gateway::ports::serve(name, HERE, inside, seen, admin.clone(), shutdown);
        tasks.spawn("ports", serving);
        Self { tables, admin, tasks, _stopper: stopper }
    }

    /// Leads ports to endpoints, and waits until that is so.
    async fn lead(&self, protocol: Protocol, routes: &[(u16, &[SocketAddr])]) {
        let route = |(port, endpoints): &(u16, &[SocketAddr])| {
            let published = Published { protocol, port: *port };
            let route = Route {
                app: AppKey::parse("shop").expect("a name"),
                workload: WorkloadName::new("web").expect("a name"),
                endpoints: endpoints.iter().map(endpoint).collect(),
            };
            (published, route)
        };
        let taken_up = || self.number("tables_total");
        let before = taken_up();
        self.tables
            .send_replace(Table { routes: routes.iter().map(route).collect(), ..Table::default() });
        self.until("the table is taken up", |_| taken_up() > before).await;
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

fn endpoint(at: &SocketAddr) -> Endpoint {
    Endpoint {
        replica: ReplicaId::new(&format!("shop-web-{}", at.port())).expect("an id"),
        run: 1,
        address: at.ip().to_string(),
        port: at.port(),
    }
}

/// An address on which nobody listens.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((HERE, 0)).expect("there are ports");
    listener.local_addr().expect("it has an address")
}
