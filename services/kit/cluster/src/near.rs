//! How far workloads are from each other, by who was stated to call whom and how far nodes are apart.
//!
//! What calls cost together is one number: for each caller, its rate times the mean time to connect from
//! where its replicas are to where those of the called one are. It follows from who is where, and not from
//! who is looked at; so whatever makes it smaller cannot be undone by what does not make it larger.

use std::collections::BTreeMap;

use schemas::id::{AppKey, NodeName, WorkloadName};

use crate::State;

/// How long it takes to connect within a node where nobody measured it, in microseconds.
pub const WITHIN_US: u64 = 200;

/// By how much calls must become nearer for that to be worth a move, in microseconds.
pub const WORTH_US: u64 = 500;

/// The same, of a hundred parts of what it is.
pub const WORTH_PERCENT: u64 = 20;

/// Times are told apart by steps of so many microseconds: within one, no node is nearer than another.
const STEP_US: u64 = 250;

/// A workload.
pub type Of<'a> = (&'a AppKey, &'a WorkloadName);

/// How many replicas there are on nodes.
type Spread<'a> = BTreeMap<&'a NodeName, u64>;

/// Who calls whom, and where they are.
#[derive(Clone, Debug, Default)]
pub struct Near<'a> {
    calls: Vec<Call<'a>>,
    on: BTreeMap<Of<'a>, Spread<'a>>,
    /// How long it takes to connect between two nodes, whichever of them does.
    ways: BTreeMap<&'a NodeName, BTreeMap<&'a NodeName, u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    from: Of<'a>,
    to: Of<'a>,
    rate_milli: u64,
    /// The position of the event that says it.
    at: u64,
}

/// What a workload calls and is called by, as seen from nodes it may be on.
#[derive(Debug)]
pub struct Around<'n, 'a> {
    near: &'n Near<'a>,
    ends: Vec<End<'n, 'a>>,
}

/// A workload that it calls, or that calls it.
#[derive(Debug)]
struct End<'n, 'a> {
    call: Call<'a>,
    others: &'n Spread<'a>,
    /// How many pairs of replicas there are.
    pairs: u64,
    /// What they take together.
    sum: Row,
    rows: BTreeMap<&'a NodeName, Row>,
    calls_it: bool,
}

/// How far others are from a node: all of them together.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    us: u64,
    /// The same in whole steps, which is what counts.
    steps: u64,
    /// How many of them it is not known of.
    unknown: u64,
}

/// What becomes of calls by a move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// How long it takes to connect, on average over all calls that change, in microseconds.
    pub before_us: u64,
    /// How long it will.
    pub then_us: u64,
    /// What all calls of the cluster cost together, less what they will.
    pub gained: i128,
    /// Whether it is known of every pair of nodes how far they are apart.
    pub known: bool,
    /// Where those are that call it.
    pub callers: Vec<&'a NodeName>,
    /// Where those are that it calls.
    pub called: Vec<&'a NodeName>,
    /// The position of the event that says most of it.
    pub at: u64,
}

impl Change<'_> {
    /// Whether it is worth a move.
    #[must_use]
    pub fn is_worth(&self) -> bool {
        let nearer = self.before_us.saturating_sub(self.then_us);
        self.known
            && self.gained > 0
            && nearer >= WORTH_US
            && nearer.saturating_mul(100) >= self.before_us.saturating_mul(WORTH_PERCENT)
    }
}

impl<'a> Near<'a> {
    /// What a state says.
    #[must_use]
    pub fn of(state: &'a State) -> Self {
        let mut near = Self::default();
        for (key, app) in state.apps.iter() {
            for (name, workload) in app.workloads.iter().filter(|(_, w)| w.declared) {
                let Some(known) = &workload.calls else { continue };
                let to = (key, name);
                let calls = known.callers.iter().map(|caller| {
                    let from = (&caller.app, &caller.workload);
                    Call { from, to, rate_milli: caller.rate_milli, at: known.at }
                });
                near.calls.extend(calls.filter(|call| call.from != call.to));
            }
        }
        for call in &near.calls {
            for of in [call.from, call.to] {
                near.on.entry(of).or_insert_with(|| spread(state, of));
            }
        }
        if near.calls.is_empty() {
            return near;
        }
        for (name, node) in state.nodes.iter() {
            for (to, us) in &node.ways {
                // A way is as long as the quicker one says: nothing makes it look shorter than it is.
                for (one, other) in [(name, to), (to, name)] {
                    let known = near.ways.entry(one).or_default().entry(other).or_insert(*us);
                    *known = (*known).min(*us);
                }
            }
        }
        near
    }

    /// A workload in its surroundings; none when it calls nobody and nobody calls it.
    #[must_use]
    pub fn around(&self, of: Of<'_>) -> Option<Around<'_, 'a>> {
        let mut ends = Vec::new();
        for call in &self.calls {
            let (own, other, calls_it) = match (call.from == of, call.to == of) {
                (true, _) => (call.from, call.to, false),
                (_, true) => (call.to, call.from, true),
                _ => continue,
            };
            let (Some(mine), Some(others)) = (self.on.get(&own), self.on.get(&other)) else {
                continue;
            };
            let pairs = mine.values().sum::<u64>().saturating_mul(others.values().sum());
            if pairs == 0 {
                continue;
            }
            let mut sum = Row::default();
            for (node, count) in mine {
                sum = sum.plus(self.row(node, others).times(*count));
            }
            ends.push(End { call: *call, others, pairs, sum, rows: BTreeMap::new(), calls_it });
        }
        (!ends.is_empty()).then_some(Around { near: self, ends })
    }

    /// A replica of a workload goes from one node to another.
    pub fn carry(&mut self, of: Of<'a>, from: &NodeName, to: &'a NodeName) {
        let Some(spread) = self.on.get_mut(&of) else { return };
        if let Some(left) = spread.get_mut(from) {
            *left = left.saturating_sub(1);
            if *left == 0 {
                spread.remove(from);
            }
            *spread.entry(to).or_default() += 1;
        }
    }

    /// How long calls take to connect, as things are, on average, in microseconds; none while that is not
    /// known of every pair of nodes.
    #[must_use]
    pub fn mean_us(&self, of: Of<'_>) -> Option<u64> {
        let around = self.around(of)?;
        let ends = || around.ends.iter().filter(|end| end.calls_it);
        let known = ends().all(|end| end.sum.unknown == 0);
        let means = ends().map(|end| (end.call.rate_milli, end.sum.us / end.pairs));
        mean(means).filter(|_| known)
    }

    /// How far others are from a node.
    fn row(&self, from: &NodeName, others: &Spread<'_>) -> Row {
        let none = BTreeMap::new();
        let ways = self.ways.get(from).unwrap_or(&none);
        let mut row = Row::default();
        let mut add = |us: u64, count: u64| {
            row.us = row.us.saturating_add(us.saturating_mul(count));
            row.steps = row.steps.saturating_add((us / STEP_US).saturating_mul(count));
        };
        let (mut known, here) = (0, ways.get(from).copied().unwrap_or(WITHIN_US));
        if let Some(count) = others.get(from) {
            add(here, *count);
            known += 1;
        }
        let mut also = |to: &NodeName, us: u64, count: u64| {
            if to != from {
                add(us, count);
                known += 1;
            }
        };
        if ways.len() < others.len() {
            let there = ways.iter().filter_map(|(to, us)| Some((to, us, others.get(*to)?)));
            there.for_each(|(to, us, count)| also(to, *us, *count));
        } else {
            let there = others.iter().filter_map(|(to, count)| Some((to, ways.get(*to)?, count)));
            there.for_each(|(to, us, count)| also(to, *us, *count));
        }
        row.unknown = u64::try_from(others.len() - known).unwrap_or(u64::MAX);
        row
    }
}

impl<'a> Around<'_, 'a> {
    /// What becomes of calls when a replica goes from a node, where it is, to another one.
    pub fn moved(&mut self, from: &'a NodeName, to: &'a NodeName) -> Change<'a> {
        let near = self.near;
        let (mut gained, mut known, mut at) = (0_i128, true, (0_u64, 0_u64));
        let (mut before, mut then) = (Vec::new(), Vec::new());
        let (mut callers, mut called) = (Vec::new(), Vec::new());
        for end in &mut self.ends {
            let others = end.others;
            let mut row = |node| *end.rows.entry(node).or_insert_with(|| near.row(node, others));
            let (left, got) = (row(from), row(to));
            let sum = end.sum.minus(left).plus(got);
            known &= end.sum.unknown == 0 && got.unknown == 0;
            let rate = end.call.rate_milli;
            gained += cost(rate, end.sum, end.pairs) - cost(rate, sum, end.pairs);
            before.push((rate, end.sum.us / end.pairs));
            then.push((rate, sum.us / end.pairs));
            at = at.max((rate, end.call.at));
            let side = if end.calls_it { &mut callers } else { &mut called };
            side.extend(others.keys().copied());
        }
        for side in [&mut callers, &mut called] {
            side.sort_unstable();
            side.dedup();
        }
        let (before_us, then_us) = (mean(before).unwrap_or(0), mean(then).unwrap_or(0));
        Change { before_us, then_us, gained, known, callers, called, at: at.1 }
    }
}

impl Row {
    fn times(self, count: u64) -> Self {
        let times = |number: u64| number.saturating_mul(count);
        Self { us: times(self.us), steps: times(self.steps), unknown: times(self.unknown) }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            us: self.us.saturating_add(other.us),
            steps: self.steps.saturating_add(other.steps),
            unknown: self.unknown.saturating_add(other.unknown),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            us: self.us.saturating_sub(other.us),
            steps: self.steps.saturating_sub(other.steps),
            unknown: self.unknown.saturating_sub(other.unknown),
        }
    }
}

/// What calls at a rate cost, in whole steps: thousandths of one for each pair.
fn cost(rate_milli: u64, sum: Row, pairs: u64) -> i128 {
    i128::from(rate_milli) * (i128::from(sum.steps) * 1_000 / i128::from(pairs))
}

/// The mean of numbers that count as often as they say.
fn mean(numbers: impl IntoIterator<Item = (u64, u64)>) -> Option<u64> {
    let (mut sum, mut all) = (0_u128, 0_u128);
    for (often, number) in numbers {
        sum += u128::from(often) * u128::from(number);
        all += u128::from(often);
    }
    (all > 0).then(|| u64::try_from(sum / all).unwrap_or(u64::MAX))
}

/// Where the replicas of a workload are that are to stay.
fn spread<'a>(state: &'a State, (key, name): Of<'_>) -> Spread<'a> {
    let mut spread = Spread::new();
    for (_, replica) in state.replicas_of(key, name).filter(|(_, r)| r.retired.is_none()) {
        if let Some(node) = &replica.node {
            *spread.entry(node).or_default() += 1;
        }
    }
    spread
}

#[cfg(test)]
mod tests;
