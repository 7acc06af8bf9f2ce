//! Who calls a workload and how far that is, as measured; and whether it is otherwise than was stated.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use cluster::near::{WITHIN_US, WORTH_US};
use cluster::state::Workload;
use schemas::event::{Caller, CallsMeasured, Way};
use schemas::id::NodeName;
use schemas::report::WayTo;

use super::Key;

/// How often at least one must call to be a caller, in thousandths a second. One that was stated to be one
/// stays it until it does so half as often.
const LEAST_MILLI: u64 = 1_000;

/// By how many times a rate must change for that to be news.
const TIMES: u64 = 2;

/// By how much a time must change for that to be news: in microseconds, and in percent of what it was.
const NEWS_US: u64 = 250;
const NEWS_PERCENT: u64 = 25;

/// The most ways that are stated of one workload, and the most callers.
const WAYS_MAX: usize = 300;
const CALLERS_MAX: usize = 100;

/// Who calls a workload, and how far it is from where they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    callers: BTreeMap<Key, u64>,
    ways: BTreeMap<(NodeName, NodeName), (u64, u64)>,
}

impl Picture {
    /// The one of now: `rates` say who calls it, `ways` what the gateway of a node measured.
    pub(super) fn of<'a>(
        state: &State,
        key: &Key,
        workload: &Workload,
        rates: &BTreeMap<Key, u64>,
        ways: impl Fn(&NodeName) -> &'a [WayTo],
    ) -> Self {
        let least = |from: &Key| if stated(workload, from).is_some() { 2 } else { 1 };
        let callers = rates
            .iter()
            .filter(|(from, rate)| **rate >= LEAST_MILLI / least(from) && *from != key)
            .filter(|(from, _)| nodes_of(state, from).next().is_some())
            .take(CALLERS_MAX);
        let callers: BTreeMap<Key, u64> =
            callers.map(|(from, rate)| (from.clone(), *rate)).collect();
        let from: BTreeSet<&NodeName> =
            callers.keys().flat_map(|caller| nodes_of(state, caller)).collect();
        let ways = from.into_iter().flat_map(|from| {
            let known = ways(from).iter().filter(|way| state.nodes.contains(&way.to));
            known.map(move |w| ((from.clone(), w.to.clone()), (w.connect_us, w.connects)))
        });
        Self { callers, ways: ways.take(WAYS_MAX).collect() }
    }

    /// Whether it is otherwise than was stated. Where nothing was and all nodes are near it does not matter.
    pub(super) fn is_news(&self, state: &State, workload: &Workload) -> bool {
        let known = workload.calls.iter().flat_map(|calls| &calls.callers);
        let mut known = known.map(|c| (c.app.clone(), c.workload.clone())).peekable();
        if known.peek().is_none() && !self.ways.values().any(|(us, _)| *us >= WORTH_US) {
            return false;
        }
        known.any(|caller| !self.callers.contains_key(&caller))
            || self.callers.iter().any(|(caller, rate)| {
                stated(workload, caller).is_none_or(|stated| is_other_rate(stated, *rate))
            })
            || self.ways.iter().any(|((from, to), (us, _))| {
                let stated = |from, to: &NodeName| state.nodes.get(from)?.ways.get(to).copied();
                let within = (from == to).then_some(WITHIN_US);
                let stated = stated(from, to).or_else(|| stated(to, from)).or(within);
                stated.is_none_or(|stated| is_other_time(stated, *us))
            })
    }

    /// Whether another one, of before, is like it. A way on which nobody goes any more is as long as before.
    pub(super) fn is_like(&self, before: &Self) -> bool {
        let same = self.callers.len() == before.callers.len()
            && self.callers.iter().all(|(caller, rate)| {
                before.callers.get(caller).is_some_and(|was| !is_other_rate(*was, *rate))
            });
        same && self.ways.iter().all(|(way, (us, _))| {
            before.ways.get(way).is_some_and(|(was, _)| !is_other_time(*was, *us))
        })
    }

    /// What is said of it.
    pub(super) fn stated(&self, state: &State, key: &Key, over_ms: u64) -> CallsMeasured {
        let callers = self.callers.iter().map(|((app, workload), rate_milli)| {
            let (app, workload) = (app.clone(), workload.clone());
            Caller { app, workload, rate_milli: *rate_milli }
        });
        let ways = self.ways.iter().map(|((from, to), (connect_us, connects))| Way {
            from: from.clone(),
            to: to.clone(),
            connect_us: *connect_us,
            connects: *connects,
        });
        CallsMeasured {
            app: key.0.clone(),
            workload: key.1.clone(),
            connect_us: self.mean_us(state, key),
            over_ms,
            callers: callers.collect(),
            ways: ways.collect(),
        }
    }

    /// How long it takes to connect from its callers, on average over those of which it is known.
    fn mean_us(&self, state: &State, key: &Key) -> u64 {
        let (mut sum, mut all) = (0_u128, 0_u128);
        for (caller, rate) in &self.callers {
            let (mut us, mut pairs) = (0_u128, 0_u128);
            for from in nodes_of(state, caller) {
                for way in nodes_of(state, key).filter_map(|to| self.way_us(state, from, to)) {
                    us += u128::from(way);
                    pairs += 1;
                }
            }
            if let Some(mean) = us.checked_div(pairs) {
                sum += u128::from(*rate) * mean;
                all += u128::from(*rate);
            }
        }
        let mean = sum.checked_div(all).unwrap_or(0);
        u64::try_from(mean).unwrap_or(u64::MAX)
    }

    fn way_us(&self, state: &State, from: &NodeName, to: &NodeName) -> Option<u64> {
        let measured = self.ways.get(&(from.clone(), to.clone())).map(|(us, _)| *us);
        let stated = || state.nodes.get(from)?.ways.get(to).copied();
        measured.or_else(stated).or((from == to).then_some(WITHIN_US))
    }
}

fn stated(workload: &Workload, caller: &Key) -> Option<u64> {
    let callers = workload.calls.iter().flat_map(|calls| &calls.callers);
    let mut of_it = callers.filter(|c| (&c.app, &c.workload) == (&caller.0, &caller.1));
    of_it.next().map(|caller| caller.rate_milli)
}

/// The nodes of the replicas of a workload that are to stay, each as often as it has some.
fn nodes_of<'a>(
    state: &'a State,
    (app, name): &Key,
) -> impl Iterator<Item = &'a NodeName> + use<'a> {
    let replicas = state.replicas_of(app, name).filter(|(_, r)| r.retired.is_none());
    replicas.filter_map(|(_, replica)| replica.node.as_ref())
}

fn is_other_rate(was: u64, is: u64) -> bool {
    was.max(is) >= was.min(is).saturating_mul(TIMES)
}

fn is_other_time(was: u64, is: u64) -> bool {
    let by = was.abs_diff(is);
    by >= NEWS_US && by.saturating_mul(100) >= was.saturating_mul(NEWS_PERCENT)
}
