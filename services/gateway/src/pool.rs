//! One published port's endpoints and numbers: what its listener, its connections and whoever follows
//! the table share.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use runtime::tasks::Crew;
use runtime::{Metrics, clock};
use schemas::id::NodeName;
use schemas::spec::{AppProtocol, Balance};
use tokio::sync::watch;

use crate::acme::shelf::Shelf;
use crate::balance::{Balancer, How, mark};
use crate::callers::{Asked, Callers};
use crate::handover::Handover;
use crate::http::stick::{self, Who};
use crate::numbers::Tally;
use crate::open::{Held, Open};
use crate::relay::Pipes;
use crate::site::{self, Site};
use crate::table::{Endpoint, Route};
use crate::traffic::Traffic;
use crate::ways::Ways;

/// How long an endpoint may take to be reached.
pub(crate) const REACH: Duration = Duration::from_secs(1);

/// How long one client waits for an endpoint that can be reached.
pub(crate) const PATIENCE_MS: u64 = 5_000;

/// How long it waits before it tries again those that could not be reached.
const AGAIN: Duration = Duration::from_millis(200);

/// What all ports of a gateway share. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The node.
    pub node: NodeName,
    /// What is under way on replicas.
    pub open: Open,
    /// What went to them.
    pub tally: Tally,
    /// How far it is to the nodes of replicas.
    pub ways: Ways,
    /// Who calls whom by name.
    pub callers: Callers,
    /// How many requests of HTTP are under way.
    pub requests: Arc<AtomicU64>,
    /// Whether a line is written about every request.
    pub access_log: bool,
    /// What is listened on, for the next process.
    pub handover: Handover,
    /// How long what is open may go on when that has taken over, in ms.
    pub drain_ms: u64,
    /// What much of TCP goes through.
    pub(crate) pipes: Pipes,
    /// What is known of certificates by ACME.
    pub(crate) shelf: Arc<Shelf>,
}

impl Shared {
    /// What the ports of a node share, before anything was counted.
    #[must_use]
    pub fn of(node: NodeName, access_log: bool, handover: Handover, drain_ms: u64) -> Self {
        let (open, tally) = (Open::default(), Tally::default());
        let (ways, callers) = (Ways::default(), Callers::default());
        let (requests, pipes, shelf) = (Arc::default(), Pipes::default(), Arc::default());
        Self {
            node,
            open,
            tally,
            ways,
            callers,
            requests,
            access_log,
            handover,
            drain_ms,
            pipes,
            shelf,
        }
    }
}

/// What serves a published port.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    app: String,
    workload: String,
    pub(crate) shared: Shared,
    way: Mutex<Way>,
    led: watch::Sender<()>,
    /// Those who look after endpoints that were not reached.
    looks: Crew,
    pub(crate) traffic: Traffic,
    /// By whom it is called, where those are containers that know its name.
    asked: Option<Arc<Asked>>,
}

/// Where it leads, and how.
#[derive(Debug)]
struct Way {
    balancer: Balancer<Arc<Site>>,
    balance: Balance,
    protocol: AppProtocol,
}

/// An endpoint that a client goes to. It counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    pool: Arc<Pool>,
    pub(crate) id: u64,
    pub(crate) site: Arc<Site>,
    /// The cookie that leads back to it, if the client has to be given one.
    pub(crate) cookie: Option<HeaderValue>,
    connected: bool,
    client: IpAddr,
    _held: Held,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.pool.way().balancer.closed(self.id);
        if self.connected {
            self.pool.traffic.closed();
        }
    }
}

impl Picked {
    /// It was reached.
    pub(crate) fn reached(&self) {
        self.pool.way().balancer.reached(self.id);
    }

    /// A connection of a client has it from now on until its end.
    fn connected(&mut self) {
        self.reached();
        self.connected = true;
        self.pool.traffic.opened();
        self.site.numbers.sent();
        self.asked();
    }

    /// Its client called the workload, and got through.
    fn asked(&self) {
        if let Some(asked) = &self.pool.asked {
            asked.by(self.client);
        }
    }

    /// Whether the table still has it.
    pub(crate) fn is_current(&self) -> bool {
        self.pool.way().balancer.has(self.id)
    }

    /// It could not be reached, or its machine says nothing any more. No client tries it again as long as
    /// there are others: it is found out here whether it can be reached. Where it is the machine that says
    /// nothing, so it is for all that are there.
    pub(crate) fn unreached(&self, why: &io::Error) {
        self.failed(why);
        let mut way = self.pool.way();
        let mut ids = vec![self.id];
        if site::is_silence(why.kind()) {
            ids.extend(way.balancer.doubted(self.id, clock::mono_ms()));
        }
        let sites = way.balancer.sites().filter(|(id, _)| ids.contains(id));
        let sites: Vec<_> = sites.map(|(id, site)| (id, site.clone())).collect();
        for (id, site) in sites {
            site.lanes.forget();
            if way.balancer.look_after(id) {
                let look = look_after(Arc::downgrade(&self.pool), id, site);
                self.pool.looks.hand().spawn(look);
            } else {
                site.news.notify_one();
            }
        }
    }

    /// It did not take something, and the next client may try it in a while.
    pub(crate) fn failed(&self, why: &io::Error) {
        self.pool.way().balancer.failed(self.id, clock::mono_ms());
        self.pool.traffic.failed();
        self.site.numbers.sent();
        self.site.numbers.failed();
        self.tell("an endpoint is not reached", why);
    }

    /// It answered a request that was sent then, now.
    pub(crate) fn answered(&self, status: StatusCode, begun_us: u64, now_us: u64) {
        let after_us = now_us.saturating_sub(begun_us);
        self.site.numbers.sent();
        self.site.numbers.answered(after_us);
        self.pool.traffic.answered(status, after_us);
        self.asked();
        if status.is_server_error() {
            self.site.numbers.failed();
        }
        // Other errors are those of an application that is well enough to say so.
        let unwell =
            [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
        let now_ms = now_us / 1_000;
        if unwell.contains(&status) {
            self.disappointed(now_ms);
        } else {
            self.pool.way().balancer.answered(self.id, after_us, now_ms);
        }
    }

    /// It got a request, and broke off or did not answer in time.
    pub(crate) fn unanswered(&self, why: &dyn std::error::Error) {
        self.site.numbers.sent();
        self.broken(why);
    }

    /// It broke off in the midst of its answer.
    pub(crate) fn broken(&self, why: &dyn std::error::Error) {
        self.site.numbers.failed();
        self.pool.traffic.broken();
        self.disappointed(clock::mono_ms());
        self.tell("a replica broke off", why);
    }

    fn disappointed(&self, now_ms: u64) {
        if self.pool.way().balancer.disappointed(self.id, now_ms) {
            let (name, replica) = (&self.pool.name, &self.site.endpoint.replica);
            tracing::warn!(published = name, %replica, "a replica answers badly and is put aside");
        }
    }

    fn tell(&self, what: &str, why: &dyn std::error::Error) {
        let endpoint = &self.site.endpoint;
        let (replica, address, port) = (&endpoint.replica, &endpoint.address, endpoint.port);
        let why = runtime::process::chain(why);
        tracing::debug!(published = self.pool.name, %replica, address, port, why, "{what}");
    }
}

impl Pool {
    pub(crate) fn new(name: String, route: &Route, shared: &Shared) -> Arc<Self> {
        Self::asked_by(None, name, route, shared)
    }

    /// One that containers reach by the workload's name: it is counted who they are.
    pub(crate) fn inside(name: String, route: &Route, shared: &Shared) -> Arc<Self> {
        let asked = shared.callers.of(&route.app, &route.workload);
        Self::asked_by(Some(asked), name, route, shared)
    }

    fn asked_by(
        asked: Option<Arc<Asked>>,
        name: String,
        route: &Route,
        shared: &Shared,
    ) -> Arc<Self> {
        let balancer = Balancer::on(shared.node.clone());
        let way = Way { balancer, balance: route.balance.clone(), protocol: route.protocol };
        let pool = Self {
            name,
            app: route.app.to_string(),
            workload: route.workload.to_string(),
            shared: shared.clone(),
            way: Mutex::new(way),
            led: watch::Sender::default(),
            looks: Crew::default(),
            traffic: Traffic::default(),
            asked,
        };
        pool.lead(route);
        Arc::new(pool)
    }

    /// Whether it is that of this port of this workload.
    pub(crate) fn is_of(&self, name: &str, route: &Route) -> bool {
        self.name == name
            && self.app == route.app.to_string()
            && self.workload == route.workload.to_string()
    }

    /// Sends clients that way from now on. Connections that are elsewhere stay there.
    pub(crate) fn lead(&self, route: &Route) {
        let mut way = self.way();
        way.balance = route.balance.clone();
        way.protocol = route.protocol;
        way.balancer.choose(match route.balance {
            Balance::RoundRobin => How::RoundRobin,
            _ => How::LeastLoaded,
        });
        self.lead_to(way, &route.endpoints);
    }

    /// Changes when the port leads elsewhere.
    pub(crate) fn led(&self) -> watch::Receiver<()> {
        self.led.subscribe()
    }

    /// Sends nobody anywhere any more.
    pub(crate) fn lead_nowhere(&self) {
        self.lead_to(self.way(), &[]);
    }

    fn lead_to(&self, mut way: MutexGuard<'_, Way>, endpoints: &[Endpoint]) {
        let Shared { open, tally, ways, .. } = &self.shared;
        let mut gone: Vec<_> = way.balancer.sites().map(|(id, site)| (id, site.clone())).collect();
        way.balancer.lead(endpoints, clock::mono_ms(), |endpoint| {
            let (count, numbers) = (open.of(&endpoint.replica), tally.of(&endpoint.replica));
            Arc::new(Site::new(endpoint, count, numbers, ways.to(&endpoint.node)))
        });
        gone.retain(|(id, _)| !way.balancer.has(*id));
        drop(way);
        for (_, site) in gone {
            site.lanes.close();
        }
        self.led.send_replace(());
    }

    /// What is spoken on it.
    pub(crate) fn protocol(&self) -> AppProtocol {
        self.way().protocol
    }

    fn way(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint for someone that was not tried yet. None when there is none.
    pub(crate) fn pick(
        self: &Arc<Self>,
        who: Who<'_>,
        tried: &[u64],
        now_ms: u64,
    ) -> Option<Picked> {
        let mut way = self.way();
        let want = stick::want(&way.balance, who);
        let pick = way.balancer.pick(want, tried, now_ms)?;
        let cookie = match &way.balance {
            balance @ Balance::Cookie(_) => {
                stick::cookie(balance, who, mark(pick.site.endpoint.replica.as_str().as_bytes()))
            }
            _ => None,
        };
        // Before the lock is let go of: who replaces the table after that sees it.
        let held = pick.site.count.hold();
        drop(way);
        let (id, site) = (pick.id, pick.site);
        let (pool, client) = (self.clone(), who.ip);
        Some(Picked { pool, id, site, cookie, connected: false, client, _held: held })
    }

    /// The same, and when there is none, or none that was not tried: waits until it is worth a try.
    /// None when that takes too long.
    pub(crate) async fn wait_for_one(
        self: &Arc<Self>,
        who: Who<'_>,
        tried: &mut Vec<u64>,
        until_ms: u64,
    ) -> Option<Picked> {
        let mut led = self.led.subscribe();
        loop {
            let now_ms = clock::mono_ms();
            if let Some(picked) = self.pick(who, tried, now_ms) {
                return Some(picked);
            }
            let left_ms = until_ms.saturating_sub(now_ms);
            if left_ms == 0 {
                return None;
            }
            let left = Duration::from_millis(left_ms);
            let wait = if tried.is_empty() { left } else { left.min(AGAIN) };
            let _ = tokio::time::timeout(wait, led.changed()).await;
            tried.clear();
        }
    }

    /// The first endpoint that can be reached, and what reaching it gave. None when there is none in
    /// time.
    pub(crate) async fn reach<T, F>(
        self: &Arc<Self>,
        client: IpAddr,
        reach: impl Fn(Arc<Site>) -> F,
    ) -> Option<(T, Picked)>
    where
        F: Future<Output = io::Result<T>>,
    {
        let who = Who { ip: client, headers: None };
        let mut now_ms = clock::mono_ms();
        let until_ms = now_ms + PATIENCE_MS;
        let mut tried = Vec::new();
        loop {
            let mut picked = match self.pick(who, &tried, now_ms) {
                Some(picked) => picked,
                None => Box::pin(self.wait_for_one(who, &mut tried, until_ms)).await?,
            };
            match tokio::time::timeout(REACH, reach(picked.site.clone())).await {
                Ok(Ok(reached)) => {
                    picked.connected();
                    return Some((reached, picked));
                }
                Ok(Err(error)) => picked.unreached(&error),
                Err(late) => picked.unreached(&late.into()),
            }
            tried.push(picked.id);
            now_ms = clock::mono_ms();
        }
    }

    /// Adds its numbers to those of the process, and closes connections that nobody uses.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let labels = [
            ("app", self.app.as_str()),
            ("workload", self.workload.as_str()),
            ("published", self.name.as_str()),
        ];
        let now_ms = clock::mono_ms();
        let (sites, ejected) = {
            let way = self.way();
            let sites: Vec<_> = way.balancer.sites().map(|(_, site)| site.clone()).collect();
            (sites, way.balancer.ejected(now_ms))
        };
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        metrics.set(
            "muster_gateway_endpoints",
            "Where a port leads.",
            &labels,
            number(sites.len()),
        );
        metrics.set(
            "muster_gateway_ejected",
            "Replicas that answer badly and are put aside.",
            &labels,
            number(ejected),
        );
        self.traffic.tell(metrics, &labels);
        for site in sites {
            site.lanes.sweep(now_ms);
        }
    }
}

/// Connects to an endpoint from time to time until that succeeds, or it is none any more. One that a client
/// reached meanwhile, and that was lost again, is not left until the end of the earlier wait.
async fn look_after(pool: Weak<Pool>, id: u64, site: Arc<Site>) {
    let next = |pool: &Pool| pool.way().balancer.next_look(id, clock::mono_ms());
    while let Some(wait_ms) = pool.upgrade().and_then(|pool| next(&pool)) {
        if wait_ms > 0 {
            let rest = tokio::time::sleep(Duration::from_millis(wait_ms));
            tokio::select! {
                () = rest => {}
                () = site.news.notified() => {}
            }
            // It may be none any more by now.
            continue;
        }
        let connected = tokio::time::timeout(REACH, site.connect()).await;
        let Some(pool) = pool.upgrade() else { return };
        let mut way = pool.way();
        match connected {
            Ok(Ok(_)) => way.balancer.reached(id),
            Ok(Err(_)) | Err(_) => way.balancer.failed(id, clock::mono_ms()),
        }
    }
}

#[cfg(test)]
mod tests {
    use schemas::id::{AppKey, ReplicaId, WorkloadName};
    use tokio::net::TcpListener;

    use super::*;

    /// The longest time that an endpoint is put aside.
    const LONGEST: Duration = Duration::from_secs(10);

    /// A way to one endpoint that is listened at.
    async fn route() -> (TcpListener, Route) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("there are ports");
        let at = listener.local_addr().expect("it has an address");
        let endpoint = Endpoint {
            replica: ReplicaId::new("shop-web-a").expect("an id"),
            run: 1,
            node: NodeName::new("n1").expect("a name"),
            address: at.ip().to_string(),
            port: at.port(),
            weight: 1,
        };
        let route = Route {
            app: AppKey::parse("shop").expect("a name"),
            workload: WorkloadName::new("web").expect("a name"),
            protocol: AppProtocol::Tcp,
            balance: Balance::LeastLoaded,
            endpoints: vec![endpoint],
        };
        (listener, route)
    }

    fn shared() -> Shared {
        let node = NodeName::new("n1").expect("a name");
        Shared::of(node, false, crate::handover::Handover::default(), 60_000)
    }

    #[tokio::test]
    async fn who_calls_by_name_is_counted_once_a_request_and_every_connection_is_timed() {
        let (listener, route) = route().await;
        let (shared, ip) = (shared(), listener.local_addr().expect("an address").ip());
        let front = (route.app.clone(), WorkloadName::new("front").expect("a name"));
        shared.callers.are([(ip, front.clone())].into());
        let inside = Pool::inside("inside 80/tcp".to_owned(), &route, &shared);
        let published = Pool::new("80/tcp".to_owned(), &route, &shared);
        for pool in [&inside, &published] {
            for _ in 0..3 {
                let reached = pool.reach(ip, |site| async move { site.connect().await }).await;
                assert!(reached.is_some(), "it listens");
            }
        }
        let picked =
            inside.pick(Who { ip, headers: None }, &[], clock::mono_ms()).expect("there is one");
        picked.answered(StatusCode::OK, 10, 20);
        picked.unreached(&io::Error::from(io::ErrorKind::ConnectionRefused));
        let told = shared.callers.tell();
        let [calls] = told.as_slice() else { panic!("one calls one: {told:?}") };
        assert_eq!((calls.from.as_str(), calls.to.as_str(), calls.requests), ("front", "web", 4));
        let ways = shared.ways.tell(clock::mono_ms());
        let [way] = ways.as_slice() else { panic!("to one node: {ways:?}") };
        assert!(way.to.as_str() == "n1" && way.connects >= 6, "{way:?}");
    }

    #[tokio::test]
    async fn an_endpoint_that_is_lost_again_is_looked_after_before_the_earlier_wait_is_over() {
        let (listener, route) = route().await;
        let at = listener.local_addr().expect("it has an address");
        let shared = shared();
        let pool = Pool::new("80/tcp".to_owned(), &route, &shared);
        let who = Who { ip: at.ip(), headers: None };
        let picked = pool.pick(who, &[], clock::mono_ms()).expect("there is one");
        let gone = io::Error::from(io::ErrorKind::ConnectionRefused);
        for _ in 0..5 {
            picked.failed(&gone);
        }
        // Who looks after it from now on sleeps for as long as anybody does.
        picked.unreached(&gone);
        tokio::task::yield_now().await;
        picked.reached();
        picked.unreached(&gone);
        let looked = tokio::time::timeout(LONGEST / 2, listener.accept()).await;
        assert!(looked.is_ok(), "nobody looked");
    }
}
