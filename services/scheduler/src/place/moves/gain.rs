//! What is gained by having a replica on one node instead of another.

use cluster::near::{Around, Change};
use cluster::state::Need;
use schemas::id::NodeName;

use super::super::{Crowd, fullness_permille};
use super::Plan;

/// By how much the fuller of two nodes must become emptier, in permille, for that to be worth a move.
const WORTH_PERMILLE: u64 = 50;

/// How many nodes are named.
const NAMED: usize = 3;

/// The differences that a move makes smaller, the first that counts before the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct By {
    of_label: u64,
    of_nodes: u64,
    nearer: i128,
    permille: u64,
    replicas: u64,
}

/// What is gained, and that in words.
pub(super) struct Gain {
    pub(super) by: By,
    pub(super) told: String,
    /// The position of the event that says what was measured, when that is why.
    pub(super) measured_at: Option<u64>,
}

impl Gain {
    fn of(by: By, told: String) -> Self {
        Self { by, told, measured_at: None }
    }
}

/// By how much two numbers come closer when one of the first goes to the second. None when they go
/// apart. One more or less is only the other way round, which gains nothing and costs a move.
fn closer(has: u64, gets: u64) -> Option<u64> {
    has.checked_sub(gets + 1)
}

fn told(what: &str, has: u64, gets: u64) -> String {
    format!("{what}: {has} and {gets}, then {} and {}", has - 1, gets + 1)
}

impl<'a> Plan<'a> {
    /// What is gained by a move between two nodes; none when it is nothing, or too little.
    pub(super) fn gain(
        &self,
        crowd: &Crowd<'_>,
        around: Option<&mut Around<'_, 'a>>,
        need: &Need,
        from: usize,
        to: usize,
    ) -> Option<Gain> {
        if from == to {
            return None;
        }
        let spots = &self.placing.spots;
        let between = format!("{} and {}", spots[from].name, spots[to].name);
        if let Some(label) = crowd.label {
            let values = (spots[from].node.label(label), spots[to].node.label(label));
            let count = |value| crowd.by_value.get(&value).copied().unwrap_or(0);
            if values.0 != values.1 {
                let (has, gets) = (count(values.0), count(values.1));
                let of_label = closer(has, gets)?;
                if of_label > 0 {
                    let value = |value: Option<&str>| value.unwrap_or("none").to_owned();
                    let where_ = format!("{label} {} and {}", value(values.0), value(values.1));
                    let told = told(&format!("of the workload in {where_}"), has, gets);
                    return Some(Gain::of(By { of_label, ..By::default() }, told));
                }
            }
        }
        let (has, gets) = (crowd.by_node[from], crowd.by_node[to]);
        let of_nodes = closer(has, gets)?;
        if of_nodes > 0 {
            let told = told(&format!("of the workload on {between}"), has, gets);
            return Some(Gain::of(By { of_nodes, ..By::default() }, told));
        }
        if let Some(around) = around {
            let change = around.moved(spots[from].name, spots[to].name);
            if change.gained < 0 {
                return None;
            }
            if change.is_worth() {
                let by = By { nearer: change.gained, ..By::default() };
                return Some(Gain { by, told: nearer(&change), measured_at: Some(change.at) });
            }
        }
        let permille = self.evens(need, from, to)?;
        if permille > 0 {
            let tenths = (permille / 10, permille % 10);
            let told =
                format!("the fuller of {between} becomes emptier by {}.{} %", tenths.0, tenths.1);
            return Some(Gain::of(By { permille, ..By::default() }, told));
        }
        let (has, gets) = (self.after[from].replicas, self.after[to].replicas);
        let replicas = closer(has, gets).filter(|gains| *gains > 0)?;
        let told = told(&format!("of all replicas on {between}"), has, gets);
        Some(Gain::of(By { replicas, ..By::default() }, told))
    }

    /// By how many permille the fuller of two nodes becomes emptier; 0 when that changes nothing. None
    /// when it is too little, or the opposite.
    fn evens(&self, need: &Need, from: usize, to: usize) -> Option<u64> {
        let full = |at: usize, load: &_| fullness_permille(self.placing.spots[at].node, load);
        let (mut less, mut more) = (self.after[from].clone(), self.after[to].clone());
        less.remove(need);
        more.add(need);
        let before = [full(from, &self.after[from]), full(to, &self.after[to])];
        let then = [full(from, &less), full(to, &more)];
        if before == then {
            return Some(0);
        }
        let squares = |both: [u64; 2]| both.iter().map(|f| f.saturating_mul(*f)).sum::<u64>();
        let emptier = before[0].max(before[1]).checked_sub(then[0].max(then[1]))?;
        (emptier >= WORTH_PERMILLE && squares(then) < squares(before)).then_some(emptier)
    }
}

/// Who becomes nearer, and by how much.
fn nearer(change: &Change<'_>) -> String {
    let sides = [("callers", &change.callers), ("what it calls", &change.called)];
    let sides = sides.into_iter().filter(|(_, on)| !on.is_empty());
    let sides: Vec<String> = sides.map(|(who, on)| format!("{who} on {}", names(on))).collect();
    let (before, then) = (ms(change.before_us), ms(change.then_us));
    format!("{}: {before} to connect, then {then}", sides.join(", "))
}

fn names(nodes: &[&NodeName]) -> String {
    let named: Vec<&str> = nodes.iter().take(NAMED).map(|node| node.as_str()).collect();
    match nodes.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn ms(us: u64) -> String {
    format!("{}.{} ms", us / 1_000, us % 1_000 / 100)
}
