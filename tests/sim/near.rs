//! Workloads that call each other, on nodes that are near or far: what gateways tell of that, and what must hold
//! of what follows, read from the history alone: calls are never made farther than they were by a move that
//! spreads nothing better.

use std::collections::BTreeMap;

use cluster::State;
use cluster::state::Phase;
use controller::calls::Pace;
use schemas::envelope::Header;
use schemas::event::{CallsMeasured, Move, MovesPlanned};
use schemas::id::{AppKey, NodeName, WorkloadName};
use schemas::report::{Calls, WayTo};

use crate::dice::Dice;
use crate::model::{Judged, Model, wrong};

/// Everything is sooner than with people.
pub(crate) const PACE: Pace = Pace { window_ms: 4_000, hold_ms: 2_000, apart_ms: 6_000 };

/// Who calls whom, and how often for each replica that does, a second. Two call each other.
const CALLS: [(&str, &str, &str, &str, u64); 6] = [
    ("red", "web", "red", "db", 30),
    ("red", "web", "blue", "web", 20),
    ("blue", "web", "red", "web", 20),
    ("green", "web", "red", "web", 10),
    ("green", "web", "green", "db", 10),
    ("blue", "each", "blue", "web", 5),
];

/// How far nodes are apart, in microseconds: within one, within a half of them, and between the halves.
const WITHIN_US: u64 = 80;
const NEAR_US: u64 = 300;
const FAR_US: u64 = 3_000;

type Key = (AppKey, WorkloadName);

/// What a gateway's process counted.
#[derive(Debug)]
pub(crate) struct Talk {
    dice: Dice,
    counts: BTreeMap<(Key, Key), u64>,
    life: u64,
}

impl Talk {
    /// Of a third of all worlds. Chance of its own, so that what is measured moves nothing else about.
    pub(crate) fn of(seed: u64) -> Option<Self> {
        let dice = Dice::new(seed.rotate_left(32));
        let talk = Self { dice, counts: BTreeMap::new(), life: 0 };
        (seed >> 8).is_multiple_of(3).then_some(talk)
    }
}

fn key(app: &str, workload: &str) -> Key {
    let app = AppKey::parse(app).expect("a name");
    (app, WorkloadName::new(workload).expect("a name"))
}

/// The number that a node's name ends with.
fn number(node: &NodeName) -> u64 {
    node.as_str().bytes().last().map_or(0, u64::from)
}

fn distance_us(from: &NodeName, to: &NodeName) -> u64 {
    match number(from).abs_diff(number(to)) {
        0 => WITHIN_US,
        apart if apart.is_multiple_of(2) => NEAR_US,
        _ => FAR_US,
    }
}

impl Talk {
    /// What a gateway's process on a node was asked for by those who call there, and how far others are.
    pub(crate) fn tell(
        &mut self,
        node: &NodeName,
        life: u64,
        state: &State,
        seconds: u64,
    ) -> (Vec<Calls>, Vec<WayTo>) {
        if self.life != life {
            self.life = life;
            self.counts.clear();
        }
        for (app, from, to_app, to, rate) in CALLS {
            let (from, to) = (key(app, from), key(to_app, to));
            let ready = |of: &Key, here: bool| {
                let replicas =
                    state.replicas_of(&of.0, &of.1).filter(|(_, r)| r.phase == Phase::Ready);
                replicas.filter(|(_, r)| !here || r.node.as_ref() == Some(node)).count()
            };
            let callers = u64::try_from(ready(&from, true)).unwrap_or(0);
            if callers > 0 && ready(&to, false) > 0 {
                *self.counts.entry((from, to)).or_default() += rate * callers * seconds;
            }
        }
        let calls = self.counts.iter().map(|((from, to), requests)| Calls {
            from_app: from.0.clone(),
            from: from.1.clone(),
            to_app: to.0.clone(),
            to: to.1.clone(),
            requests: *requests,
        });
        let dice = &mut self.dice;
        let ways = state.nodes.iter().map(|(to, _)| {
            let us = distance_us(node, to);
            WayTo { to: to.clone(), connects: 9, connect_us: us + dice.within(0, us / 20) }
        });
        (calls.collect(), ways.collect())
    }
}

/// What was stated of calls and ways.
#[derive(Debug, Default)]
pub(crate) struct Near {
    callers: BTreeMap<Key, Vec<(Key, u64)>>,
    ways: BTreeMap<(NodeName, NodeName), u64>,
    /// Where that last changed, or what is declared.
    at: u64,
    /// The moves of a round so far: they are planned one upon the other.
    round: (String, u64),
    carried: Vec<(Key, NodeName, NodeName)>,
}

impl Near {
    pub(crate) fn changed(&mut self, at: &Header) {
        self.at = at.position;
    }

    fn steps(&self, from: &NodeName, to: &NodeName) -> u64 {
        let said = |from: &NodeName, to: &NodeName| self.ways.get(&(from.clone(), to.clone()));
        let known = said(from, to).into_iter().chain(said(to, from)).min();
        known.map_or(0, |us| us / 250)
    }
}

impl Model {
    pub(crate) fn note_calls(&mut self, at: &Header, e: &CallsMeasured) {
        let near = &mut self.moves.near;
        near.at = at.position;
        let of = (e.app.clone(), e.workload.clone());
        let callers =
            e.callers.iter().map(|c| ((c.app.clone(), c.workload.clone()), c.rate_milli)).collect();
        near.callers.insert(of, callers);
        for way in e.ways.iter().filter(|way| way.connect_us > 0) {
            near.ways.insert((way.from.clone(), way.to.clone()), way.connect_us);
        }
    }

    /// Calls do not become farther by a move that spreads nothing better; judged on what the scheduler had seen,
    /// where nothing changed since.
    pub(crate) fn check_near(
        &mut self,
        at: &Header,
        e: &MovesPlanned,
        one: &Move,
        spreads: bool,
    ) -> Judged {
        let of = (e.app.clone(), e.workload.clone());
        let round = (at.batch.series.to_string(), at.batch.n);
        if self.moves.near.round != round {
            self.moves.near.round = round;
            self.moves.near.carried.clear();
        }
        let basis = at.basis.map_or(0, |basis| basis.position);
        let ended = self.ended_at.values().max().copied().unwrap_or(0);
        let last = ended.max(self.moves.near.at).max(self.moves.last_retired());
        let before = self.cost();
        self.moves.near.carried.push((of, one.from.clone(), one.to.clone()));
        let then = self.cost();
        if one.measured_at.is_some() {
            *self.kinds.entry("a move was planned to be nearer").or_default() += 1;
        }
        let worse = then > before + before / 1_000;
        if !spreads && last <= basis && (worse || one.measured_at.is_some() && then >= before) {
            return wrong("moves-gain", format!("calls cost {before}, then {then}: {one:?}"));
        }
        Ok(())
    }

    /// What all calls cost together.
    fn cost(&self) -> u64 {
        let near = &self.moves.near;
        let on = |of: &Key| {
            let mut on: BTreeMap<&NodeName, i64> = BTreeMap::new();
            let live = self.replicas.values().filter(|r| (&r.app, &r.workload) == (&of.0, &of.1));
            for node in live.filter(|r| !r.retired).filter_map(|r| r.node.as_ref()) {
                *on.entry(node).or_default() += 1;
            }
            for (_, from, to) in near.carried.iter().filter(|(carried, ..)| carried == of) {
                *on.entry(from).or_default() -= 1;
                *on.entry(to).or_default() += 1;
            }
            on
        };
        let mut all = 0;
        for (of, callers) in &near.callers {
            let declared =
                self.apps.get(&of.0).is_some_and(|app| app.workloads.contains_key(&of.1));
            for (from, rate) in callers.iter().filter(|(from, _)| declared && from != of) {
                let (from, to) = (on(from), on(of));
                let pairs = from.values().sum::<i64>() * to.values().sum::<i64>();
                let steps =
                    from.iter().flat_map(|(a, n)| to.iter().map(move |(b, m)| (a, b, n * m)));
                let steps: i64 =
                    steps.map(|(a, b, n)| n * i64::try_from(near.steps(a, b)).unwrap_or(0)).sum();
                let mean = (steps * 1_000).checked_div(pairs).unwrap_or(0);
                all += rate * u64::try_from(mean).unwrap_or(0);
            }
        }
        all
    }
}
