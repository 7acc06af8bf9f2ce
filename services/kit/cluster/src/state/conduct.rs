//! What a declaration says of a workload that no container of it is made from: kept beside its spec.

use schemas::spec::{Balance, Open, Overlap, Route, Task, Update, WorkloadSpec};
use serde::{Deserialize, Serialize};

/// What a declaration says of how replicas are replaced and which traffic they get. It is no part of a
/// spec's digest, so a change of it replaces nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conduct {
    /// How a changed revision takes over.
    pub update: Update,
    /// How many ready replicas must remain.
    pub min_ready: Option<u32>,
    /// How long what is under way may go on.
    pub drain_ms: u64,
    /// Which requests lead to it.
    pub routes: Vec<Route>,
    /// Which replica gets the next.
    pub balance: Balance,
    /// Which other apps reach it by its name.
    #[serde(default)]
    pub open: Open,
    /// Whether a replica and the one that takes its place may run at once.
    #[serde(default)]
    pub overlap: Overlap,
    /// Of what awaits room, which is placed first.
    #[serde(default)]
    pub priority: i32,
    /// Of whose rollouts it is a part.
    #[serde(default)]
    pub task: Option<Task>,
}

impl Conduct {
    /// What a spec says of it.
    #[must_use]
    pub fn of(spec: &WorkloadSpec) -> Self {
        Self {
            update: spec.update.clone(),
            min_ready: spec.min_ready,
            drain_ms: spec.drain_ms,
            routes: spec.routes.clone(),
            balance: spec.balance.clone(),
            open: spec.open.clone(),
            overlap: spec.overlap,
            priority: spec.priority,
            task: spec.task.clone(),
        }
    }

    /// Writes it into a spec.
    pub fn say(&self, spec: &mut WorkloadSpec) {
        let Self { update, min_ready, drain_ms, routes, balance, open, .. } = self.clone();
        spec.update = update;
        spec.min_ready = min_ready;
        spec.drain_ms = drain_ms;
        spec.routes = routes;
        spec.balance = balance;
        spec.open = open;
        spec.overlap = self.overlap;
        spec.priority = self.priority;
        spec.task.clone_from(&self.task);
    }
}
