//! Placements in memory, beside a scan of every node for every replica.

use crate::Args;
use crate::clock::{Since, per_second};
use crate::figure::{Row, Spread, Unit};
use crate::world;

const NODES: [u64; 2] = [1_000, 5_000];

/// Replicas for each node.
const PER_NODE: u64 = 10;

pub(crate) fn measure(args: &Args) -> Vec<Row> {
    NODES.map(|nodes| of(nodes, args.repeat)).into()
}

fn of(nodes: u64, repeat: u32) -> Row {
    let waiting = world::waiting(nodes, nodes * PER_NODE);
    let wanted = waiting.fold.state().replicas.len();
    let (mut ours, mut scanned) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let mut history = waiting.clone();
        let us = world::place(&mut history);
        let state = history.fold.state();
        assert!(state.index.pending.is_empty() && state.anomalies() == 0, "not all were placed");
        ours.push(per_second(world::replicas(state), us));
        let since = Since::now();
        let best = scan(nodes, wanted);
        scanned.push(per_second(best, since.us()));
    }
    Row {
        what: format!("placements, {nodes} nodes, {} replicas each", PER_NODE),
        unit: Unit::PerSecond,
        ours: Spread::of(ours),
        beside: Some(("plain best-fit scan of all nodes".to_owned(), Spread::of(scanned))),
        goal: None,
    }
}

/// The simplest scheduler there is: bare numbers, and the emptiest node that fits. How many it placed.
fn scan(nodes: u64, replicas: usize) -> u64 {
    let mut free: Vec<(u64, u64)> = (0..nodes).map(|_| (16_000, 64 << 30)).collect();
    let mut placed = 0;
    for _ in 0..replicas {
        let fits = free.iter_mut().filter(|(cpu, memory)| *cpu >= 100 && *memory >= 64 << 20);
        if let Some(best) = std::hint::black_box(fits.max_by_key(|(cpu, memory)| (*cpu, *memory))) {
            best.0 -= 100;
            best.1 -= 64 << 20;
            placed += 1;
        }
    }
    placed
}
