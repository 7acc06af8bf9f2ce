//! What gateways were last heard to send to replicas.
//!
//! Each gateway counts since its instance began; what came since its last report went through since
//! then, by this process's own forward-going clock. A gateway that was not heard lately may still send
//! on: its silence is no lack of traffic, and for a minute nothing that it might carry is taken for gone.

use std::collections::{BTreeMap, VecDeque};

use cluster::State;
use cluster::state::Workload;
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::report::{TRAFFIC_MS, Traffic, TrafficReport};

/// Over how long rates are taken, in ms: as long as gateways take times of answers over.
const WINDOW_MS: u64 = 10_000;

/// From when on enough of the window was heard to be taken for the whole of it.
const WHOLE_MS: u64 = WINDOW_MS - 2 * TRAFFIC_MS;

/// A gateway that was not heard for longer is silent: five reports were missed.
const FRESH_MS: u64 = 5 * TRAFFIC_MS;

/// A gateway that was not heard for longer is not there any more.
const SILENT_MS: u64 = 60_000;

/// What was heard, by node: each has one gateway.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    nodes: BTreeMap<NodeName, Gateway>,
}

/// What gateways send to a workload together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Requests a second, in thousandths.
    pub(crate) requests_milli: u64,
    /// Requests that are under way, on average, in thousandths.
    pub(crate) in_flight_milli: u64,
}

/// What was heard of a gateway.
#[derive(Debug)]
struct Gateway {
    instance: String,
    /// When its last report was sent, by its clock.
    time_ms: u64,
    /// What it last said of each replica.
    last: BTreeMap<ReplicaId, Traffic>,
    /// What it said in the window, and one report before that: from there on the next is counted.
    told: VecDeque<Told>,
}

/// What a report brought, by workload that goes by traffic.
#[derive(Debug)]
struct Told {
    at_ms: u64,
    flows: BTreeMap<AppKey, BTreeMap<WorkloadName, Flow>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// Requests since the report before.
    requests: u64,
    in_flight: u64,
}

impl Gateways {
    /// Takes in a gateway's report.
    pub(crate) fn take(&mut self, report: TrafficReport, state: &State, now_ms: u64) {
        let known = self.nodes.get_mut(&report.node).filter(|known| !known.is_gone(now_ms));
        match known {
            Some(known) => known.take(report, state, now_ms),
            None => {
                // Of one that was not heard before nobody knows since when it counts.
                let told = Told { at_ms: now_ms, flows: BTreeMap::new() };
                let gateway = Gateway {
                    instance: report.instance,
                    time_ms: report.time_ms,
                    last: by_replica(report.replicas),
                    told: [told].into(),
                };
                self.nodes.insert(report.node, gateway);
            }
        }
    }

    /// What all gateways that are heard send to a workload. None when none is.
    pub(crate) fn load(&self, key: &AppKey, name: &WorkloadName, now_ms: u64) -> Option<Load> {
        let heard = self.nodes.values().filter(|gateway| gateway.is_fresh(now_ms));
        let loads = heard.map(|gateway| gateway.load(key, name));
        loads.reduce(|all, one| Load {
            requests_milli: all.requests_milli.saturating_add(one.requests_milli),
            in_flight_milli: all.in_flight_milli.saturating_add(one.in_flight_milli),
        })
    }

    /// The time in which 95 of 100 answers of a replica begin: of each gateway that is heard, weighed by
    /// how many answers it got. 0 when nobody asked the replica anything. None when no gateway is heard,
    /// and while requests are under way of which none is answered.
    pub(crate) fn p95_us(&self, id: &ReplicaId, now_ms: u64) -> Option<u64> {
        let mut heard = self.nodes.values().filter(|gateway| gateway.is_fresh(now_ms)).peekable();
        heard.peek()?;
        let (mut answers, mut sum, mut in_flight) = (0_u128, 0_u128, 0_u64);
        for traffic in heard.filter_map(|gateway| gateway.last.get(id)) {
            // One answer in all of the window is less than a thousandth at times.
            let weight = if traffic.p95_us > 0 { u128::from(traffic.rate_milli.max(1)) } else { 0 };
            answers += weight;
            sum += weight * u128::from(traffic.p95_us);
            in_flight = in_flight.saturating_add(traffic.in_flight);
        }
        match answers {
            0 if in_flight > 0 => None,
            0 => Some(0),
            _ => Some(u64::try_from(sum / answers).unwrap_or(u64::MAX)),
        }
    }

    /// Whether each gateway that there is was heard lately, and for a whole window: nothing is carried
    /// of which nothing is known.
    pub(crate) fn all_heard(&self, now_ms: u64) -> bool {
        let there = |gateway: &&Gateway| !gateway.is_gone(now_ms);
        let heard = |gateway: &Gateway| gateway.is_fresh(now_ms) && gateway.span_ms() >= WHOLE_MS;
        self.nodes.values().filter(there).all(heard)
    }

    /// Forgets gateways that are not there any more.
    pub(crate) fn forget(&mut self, now_ms: u64) {
        self.nodes.retain(|_, gateway| !gateway.is_gone(now_ms));
    }
}

impl Gateway {
    fn take(&mut self, report: TrafficReport, state: &State, now_ms: u64) {
        let same = report.instance == self.instance;
        // One that arrives again, or late, is not newer for that. A clock that went back is believed
        // again once the gateway has been silent.
        if same && report.time_ms <= self.time_ms && self.is_fresh(now_ms) {
            return;
        }
        let last = by_replica(report.replicas);
        let mut flows: BTreeMap<AppKey, BTreeMap<WorkloadName, Flow>> = BTreeMap::new();
        for (id, traffic) in &last {
            let Some((key, name)) = going_by_traffic(id, state) else { continue };
            // Another instance counts from zero, and so does one that forgot a replica meanwhile.
            let before = self.last.get(id).filter(|_| same).map_or(0, |before| before.requests);
            let since = traffic.requests.checked_sub(before).unwrap_or(traffic.requests);
            let of_app = flows.entry(key.clone()).or_default();
            let flow = of_app.entry(name.clone()).or_default();
            flow.requests = flow.requests.saturating_add(since);
            flow.in_flight = flow.in_flight.saturating_add(traffic.in_flight);
        }
        self.told.push_back(Told { at_ms: now_ms, flows });
        let begin = now_ms.saturating_sub(WINDOW_MS);
        while self.told.get(1).is_some_and(|told| told.at_ms <= begin) {
            self.told.pop_front();
        }
        (self.instance, self.time_ms, self.last) = (report.instance, report.time_ms, last);
    }

    /// What it sends to a workload. Where less than the window was heard, as if nothing was sent before.
    fn load(&self, key: &AppKey, name: &WorkloadName) -> Load {
        let flow = |told: &Told| {
            told.flows.get(key).and_then(|app| app.get(name)).copied().unwrap_or_default()
        };
        let (mut requests, mut in_flight, mut tells) = (0_u64, 0_u64, 0_u64);
        for flow in self.told.iter().skip(1).map(flow) {
            requests = requests.saturating_add(flow.requests);
            in_flight = in_flight.saturating_add(flow.in_flight);
            tells += 1;
        }
        let span_ms = self.span_ms();
        let over_ms = if span_ms < WHOLE_MS { WINDOW_MS } else { span_ms };
        Load {
            requests_milli: requests.saturating_mul(1_000_000) / over_ms,
            in_flight_milli: in_flight.saturating_mul(1_000) / tells.max(1),
        }
    }

    /// How long it was heard for, as far as that is kept.
    fn span_ms(&self) -> u64 {
        let first = self.told.front().map_or(0, |told| told.at_ms);
        self.heard_ms().saturating_sub(first)
    }

    fn heard_ms(&self) -> u64 {
        self.told.back().map_or(0, |told| told.at_ms)
    }

    fn is_fresh(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms()) <= FRESH_MS
    }

    fn is_gone(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.heard_ms()) > SILENT_MS
    }
}

fn by_replica(replicas: Vec<Traffic>) -> BTreeMap<ReplicaId, Traffic> {
    replicas.into_iter().map(|traffic| (traffic.replica.clone(), traffic)).collect()
}

/// Whose replica that is, if the number of replicas there goes by traffic.
fn going_by_traffic<'a>(
    id: &ReplicaId,
    state: &'a State,
) -> Option<(&'a AppKey, &'a WorkloadName)> {
    let replica = state.replicas.get(id)?;
    let workload: &Workload = state.apps.get(&replica.app)?.workloads.get(&replica.workload)?;
    let by_traffic = workload.autoscale.is_some_and(|autoscale| autoscale.needs_traffic());
    by_traffic.then_some((&replica.app, &replica.workload))
}

#[cfg(test)]
mod tests;
