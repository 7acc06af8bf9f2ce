//! One published port's endpoints and numbers: what its listener, its connections and whoever follows
//! the table share.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runtime::{Metrics, clock};

use crate::balance::{Balancer, Pick};
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
    /// Whether it is reached by name, from containers, and not as a published port.
    inside: bool,
    app: String,
    workload: String,
    balancer: Mutex<Balancer>,
    pub(crate) traffic: Traffic,
}

/// An endpoint that a client goes to. It counts as open until it is dropped.
#[derive(Debug)]
pub(crate) struct Picked {
    pool: Arc<Pool>,
    pick: Pick,
    reached: bool,
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
    pub(crate) fn new(published: Published, route: &Route) -> Arc<Self> {
        Self::with(published, route, false)
    }

    /// That of a port of a workload which is reached by name.
    pub(crate) fn inside(port: Published, route: &Route) -> Arc<Self> {
        Self::with(port, route, true)
    }

    fn with(published: Published, route: &Route, inside: bool) -> Arc<Self> {
        let mut balancer = Balancer::default();
        balancer.lead(&route.endpoints);
        Arc::new(Self {
            published,
            inside,
            app: route.app.to_string(),
            workload: route.workload.to_string(),
            balancer: Mutex::new(balancer),
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
            let pick = self.balancer().pick(&tried, now_ms)?;
            tried.push(pick.id);
            let reached = reach(pick.endpoint.address.clone(), pick.endpoint.port);
            let mut picked = Picked { pool: self.clone(), pick, reached: false };
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

    /// Adds its numbers to those of the process.
    pub(crate) fn tell(&self, metrics: &Metrics) {
        let way = if self.inside { "inside " } else { "" };
        let published = format!("{way}{}", self.published);
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
