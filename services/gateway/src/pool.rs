//! One published port's endpoints and numbers: what its listener, its connections and whoever follows
//! the table share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::{Metrics, clock};
use tokio::sync::watch;

use crate::balance::{Balancer, Pick};
use crate::open::{Held, Open};
use crate::table::{Endpoint, Published, Route};
use crate::traffic::Traffic;

/// How long an endpoint may take to be reached.
pub(crate) const REACH: Duration = Duration::from_secs(1);

/// How long endpoints are tried for one client.
const GIVE_UP_MS: u64 = 10_000;

/// What serves a published port.
#[derive(Debug)]
pub(crate) struct Pool {
    published: Published,
    app: String,
    workload: String,
    balancer: Mutex<Balancer>,
    open: Open,
    /// Changes when the port leads elsewhere.
    led: watch::Sender<()>,
    pub(crate) traffic: Traffic,
}

/// An endpoint that a client goes to. It counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    pool: Arc<Pool>,
    pick: Pick,
    reached: bool,
    _held: Held,
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.pool.balancer().closed(self.pick.id);
        if self.reached {
            self.pool.traffic.closed();
        }
    }
}

impl Picked {
    fn reached(&mut self) {
        self.reached = true;
        self.pool.balancer().reached(self.pick.id);
        self.pool.traffic.opened();
    }

    /// Whether the table still has it.
    pub(crate) fn is_current(&self) -> bool {
        self.pool.balancer().has(self.pick.id)
    }

    /// It could not be reached, or not any more.
    pub(crate) fn failed(&self, why: &io::Error) {
        self.pool.balancer().failed(self.pick.id, clock::mono_ms());
        self.pool.traffic.failed();
        let Endpoint { replica, address, port, .. } = &self.pick.endpoint;
        let published = self.pool.published;
        tracing::debug!(%published, %replica, address, port, %why, "an endpoint is not reached");
    }
}

impl Pool {
    pub(crate) fn new(published: Published, route: &Route, open: Open) -> Arc<Self> {
        let mut balancer = Balancer::default();
        balancer.lead(&route.endpoints);
        Arc::new(Self {
            published,
            app: route.app.to_string(),
            workload: route.workload.to_string(),
            balancer: Mutex::new(balancer),
            open,
            led: watch::Sender::default(),
            traffic: Traffic::default(),
        })
    }

    /// Whether it is that of this port of this workload.
    pub(crate) fn is_of(&self, published: Published, route: &Route) -> bool {
        self.published == published
            && self.app == route.app.to_string()
            && self.workload == route.workload.to_string()
    }

    /// Sends clients to these from now on. Those who are elsewhere stay there.
    pub(crate) fn lead(&self, endpoints: &[Endpoint]) {
        self.balancer().lead(endpoints);
        self.led.send_replace(());
    }

    /// Changes when the port leads elsewhere.
    pub(crate) fn led(&self) -> watch::Receiver<()> {
        self.led.subscribe()
    }

    fn balancer(&self) -> MutexGuard<'_, Balancer> {
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first endpoint that can be reached, and what reaching it gave. None when there is none, or
    /// none in time.
    pub(crate) async fn reach<T, F>(
        self: &Arc<Self>,
        reach: impl Fn(String, u16) -> F,
    ) -> Option<(T, Picked)>
    where
        F: Future<Output = io::Result<T>>,
    {
        let until_ms = clock::mono_ms() + GIVE_UP_MS;
        let mut tried = Vec::new();
        loop {
            let now_ms = clock::mono_ms();
            if now_ms > until_ms {
                return None;
            }
            let mut picked = self.pick(&tried, now_ms)?;
            tried.push(picked.pick.id);
            let Endpoint { address, port, .. } = &picked.pick.endpoint;
            let reached = reach(address.clone(), *port);
            match tokio::time::timeout(REACH, reached).await {
                Ok(Ok(reached)) => {
                    picked.reached();
                    return Some((reached, picked));
                }
                Ok(Err(error)) => picked.failed(&error),
                Err(late) => picked.failed(&late.into()),
            }
        }
    }

    /// Picks an endpoint. It is held before the port can be led elsewhere, so that nothing is on its way
    /// unseen to one that the port does not lead to any more.
    fn pick(self: &Arc<Self>, tried: &[u64], now_ms: u64) -> Option<Picked> {
        let mut balancer = self.balancer();
        let pick = balancer.pick(tried, now_ms)?;
        let held = self.open.of(&pick.endpoint.replica).hold();
        drop(balancer);
        Some(Picked { pool: self.clone(), pick, reached: false, _held: held })
    }

    /// Adds its numbers to those of the process.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let published = self.published.to_string();
        let labels = [
            ("app", self.app.as_str()),
            ("workload", self.workload.as_str()),
            ("published", published.as_str()),
        ];
        let endpoints = u64::try_from(self.balancer().len()).unwrap_or(u64::MAX);
        metrics.set("muster_gateway_endpoints", "Where a port leads.", &labels, endpoints);
        self.traffic.tell(metrics, &labels);
    }
}
