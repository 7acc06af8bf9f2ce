//! Who calls whom, and how far that is, as gateways tell it. What is otherwise than was stated, and stays
//! so for a while, is stated: seldom, and only where nodes are so far apart that it matters.
//!
//! Each gateway counts since its instance began, and calls come in on the node of whoever calls. While one
//! that was there is silent the picture is not whole, and nothing is stated.

mod picture;

use std::collections::{BTreeMap, VecDeque};

use cluster::State;
use decider::Now;
use schemas::event::CallsMeasured;
use schemas::id::{AppKey, NodeName, WorkloadName};
use schemas::report::{TRAFFIC_MS, TrafficReport, WayTo};

use picture::Picture;

/// A gateway that was not heard for longer is silent: five reports were missed.
const FRESH_MS: u64 = 5 * TRAFFIC_MS;

/// One that was not heard for longer is not there any more.
const SILENT_MS: u64 = 60_000;

/// How often it is looked whether anything is otherwise, in ms.
const LOOK_MS: u64 = 1_000;

/// Of how many workloads something is stated at once.
const AT_ONCE: usize = 8;

/// A workload.
type Key = (AppKey, WorkloadName);

/// How long is measured, and how often stated.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Over how long calls are counted, in ms.
    pub window_ms: u64,
    /// For how long something must be as it is, in ms.
    pub hold_ms: u64,
    /// How long after one statement about a workload the next one may follow, in ms.
    pub apart_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { window_ms: 30_000, hold_ms: 30_000, apart_ms: 300_000 }
    }
}

/// What gateways told of calls. It is no state: whoever leads next waits anew.
#[derive(Debug, Default)]
pub struct Calls {
    pace: Pace,
    gateways: BTreeMap<NodeName, Gateway>,
    /// What is otherwise than was stated, and since when it is like this.
    others: BTreeMap<Key, (u64, Picture)>,
    looked_ms: Option<u64>,
}

/// What was heard of a gateway.
#[derive(Debug)]
struct Gateway {
    instance: String,
    /// When its last report was sent, by its clock.
    time_ms: u64,
    /// What it counted by then: who called whom.
    counts: BTreeMap<(Key, Key), u64>,
    /// What came in the window, and one report before that: from there on the next is counted.
    told: VecDeque<Told>,
    ways: Vec<WayTo>,
}

#[derive(Debug)]
struct Told {
    at_ms: u64,
    calls: BTreeMap<(Key, Key), u64>,
}

impl Calls {
    /// At this pace.
    #[must_use]
    pub fn at(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    /// Takes in a gateway's report.
    pub fn hear(&mut self, report: &TrafficReport, now_ms: u64) {
        let counts = counts(report);
        let known = self.gateways.get_mut(&report.node).filter(|known| !known.is_gone(now_ms));
        let Some(known) = known else {
            // Of one that was not heard before nobody knows since when it counts.
            let told = [Told { at_ms: now_ms, calls: BTreeMap::new() }].into();
            let (instance, time_ms) = (report.instance.clone(), report.time_ms);
            let gateway = Gateway { instance, time_ms, counts, told, ways: report.ways.clone() };
            self.gateways.insert(report.node.clone(), gateway);
            return;
        };
        let same = report.instance == known.instance;
        // One that arrives again, or late, is not newer for that.
        if same && report.time_ms <= known.time_ms && known.is_fresh(now_ms) {
            return;
        }
        let since = counts.iter().map(|(call, count)| {
            // Another instance counts from zero.
            let before = known.counts.get(call).filter(|_| same).copied().unwrap_or(0);
            (call.clone(), count.checked_sub(before).unwrap_or(*count))
        });
        let calls = since.filter(|(_, more)| *more > 0).collect();
        known.told.push_back(Told { at_ms: now_ms, calls });
        let begin = now_ms.saturating_sub(self.pace.window_ms);
        while known.told.get(1).is_some_and(|told| told.at_ms <= begin) {
            known.told.pop_front();
        }
        known.instance.clone_from(&report.instance);
        known.ways.clone_from(&report.ways);
        (known.time_ms, known.counts) = (report.time_ms, counts);
    }

    /// Forgets since when things are as they are.
    pub fn begin(&mut self) {
        self.others.clear();
    }

    /// What should be stated now.
    pub fn look(&mut self, state: &State, now: Now) -> Vec<CallsMeasured> {
        let now_ms = now.mono_ms;
        if self.looked_ms.is_some_and(|at| now_ms < at.saturating_add(LOOK_MS)) {
            return Vec::new();
        }
        self.looked_ms = Some(now_ms);
        self.gateways.retain(|_, gateway| !gateway.is_gone(now_ms));
        if self.gateways.is_empty() || !self.is_whole(now_ms) {
            self.others.clear();
            return Vec::new();
        }
        let mut before = std::mem::take(&mut self.others);
        let rates = self.rates();
        let (none, mut events) = (BTreeMap::new(), Vec::new());
        for (app_key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                let key = (app_key.clone(), name.clone());
                let callers = rates.get(&key).unwrap_or(&none);
                if callers.is_empty() && workload.calls.is_none() {
                    continue;
                }
                let picture = Picture::of(state, &key, workload, callers, |node| self.ways(node));
                if !picture.is_news(state, workload) {
                    continue;
                }
                let known = before.remove(&key).filter(|(_, known)| picture.is_like(known));
                let (since_ms, known) = known.unwrap_or((now_ms, picture));
                let said_ms = workload.calls.as_ref().map_or(0, |calls| calls.at_ms);
                let apart =
                    said_ms == 0 || now.utc_ms >= said_ms.saturating_add(self.pace.apart_ms);
                let held = now_ms.saturating_sub(since_ms) >= self.pace.hold_ms;
                if apart && held && events.len() < AT_ONCE {
                    events.push(known.stated(state, &key, self.pace.window_ms));
                }
                self.others.insert(key, (since_ms, known));
            }
        }
        events
    }

    /// Whether every gateway that there is was heard lately, and for a whole window.
    fn is_whole(&self, now_ms: u64) -> bool {
        let whole_ms = self.pace.window_ms.saturating_sub(2 * TRAFFIC_MS).max(1);
        self.gateways.values().all(|g| g.is_fresh(now_ms) && g.span_ms() >= whole_ms)
    }

    /// How often each workload is called by which, in thousandths a second.
    fn rates(&self) -> BTreeMap<Key, BTreeMap<Key, u64>> {
        let mut rates: BTreeMap<Key, BTreeMap<Key, u64>> = BTreeMap::new();
        for gateway in self.gateways.values() {
            let mut counts: BTreeMap<&(Key, Key), u64> = BTreeMap::new();
            for (call, count) in gateway.told.iter().skip(1).flat_map(|told| &told.calls) {
                *counts.entry(call).or_default() += count;
            }
            for ((from, to), count) in counts {
                let rate = count.saturating_mul(1_000_000) / gateway.span_ms().max(1);
                let of = rates.entry(to.clone()).or_default().entry(from.clone()).or_default();
                *of = of.saturating_add(rate);
            }
        }
        rates
    }

    fn ways(&self, node: &NodeName) -> &[WayTo] {
        self.gateways.get(node).map_or(&[], |gateway| &gateway.ways)
    }
}

fn counts(report: &TrafficReport) -> BTreeMap<(Key, Key), u64> {
    let calls = report.calls.iter().map(|calls| {
        let from = (calls.from_app.clone(), calls.from.clone());
        ((from, (calls.to_app.clone(), calls.to.clone())), calls.requests)
    });
    calls.collect()
}

impl Gateway {
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

#[cfg(test)]
mod tests;
