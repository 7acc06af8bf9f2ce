//! Who calls a workload, and how far that is.

use schemas::event::{Called, CallsMeasured};
use schemas::id::NodeName;

use super::At;
use crate::near::WORTH_US;
use crate::state::{Calls, State};

impl State {
    /// Lawful for a workload or a node that is not there any more.
    pub(crate) fn calls_measured(&mut self, at: &At<'_>, e: &CallsMeasured) {
        for way in &e.ways {
            if self.nodes.contains(&way.to) {
                let to = way.to.clone();
                self.nodes.update(&way.from, |node| node.ways.insert(to, way.connect_us));
            }
        }
        let (callers, at_ms) = (e.callers.clone(), at.recorded_ms);
        let known = self.apps.update(&e.app, |app| {
            let workload = app.workloads.get_mut(&e.workload)?;
            workload.calls = Some(Calls { callers, at: at.position, at_ms });
            Some(())
        });
        let is_there = known.flatten().is_some();
        let rebalance = &mut self.cluster.rebalance;
        let called = Called { app: e.app.clone(), workload: e.workload.clone() };
        if e.connect_us < WORTH_US || !is_there {
            rebalance.far.remove(&called);
        } else if rebalance.auto.is_some() {
            rebalance.far.insert(called);
            rebalance.far_at = at.position;
        }
    }

    /// A node is no more, and nothing is far from it or near.
    pub(super) fn forget_ways_to(&mut self, gone: &NodeName) {
        let knowing = self.nodes.iter().filter(|(_, node)| node.ways.contains_key(gone));
        let knowing: Vec<NodeName> = knowing.map(|(name, _)| name.clone()).collect();
        for name in knowing {
            self.nodes.update(&name, |node| node.ways.remove(gone));
        }
    }
}
