//! Moves of replicas to better nodes: planned, come about, or come to nothing.

use schemas::event::{MovesPlanned, RebalanceSet, RebalanceStarted};
use schemas::id::{AppKey, ReplicaId};

use super::{At, cause};
use crate::state::{Moving, Rebalancing, Replica, State};

impl State {
    pub(crate) fn rebalance_set(&mut self, at: &At<'_>, e: &RebalanceSet) {
        self.cluster.rebalance.auto = e.on.then(|| cause(at));
        self.cluster.rebalance.since_ms = at.recorded_ms;
        self.cluster.rebalance.far.clear();
    }

    pub(crate) fn rebalance_started(&mut self, at: &At<'_>, e: &RebalanceStarted) {
        if self.cluster.rebalance.now.is_some() {
            self.anomaly(at, "a rebalancing began before the last one had ended".to_owned());
        }
        if e.app.is_none() {
            self.cluster.rebalance.since_ms = at.recorded_ms;
            self.cluster.rebalance.far.clear();
        }
        self.cluster.rebalance.now = Some(Rebalancing {
            app: e.app.clone(),
            since_ms: at.recorded_ms,
            planned: 0,
            moves: Default::default(),
            stayed: Default::default(),
            cause: cause(at),
        });
    }

    /// Lawful for a replica that has been retired, or changed, since the scheduler looked.
    pub(crate) fn moves_planned(&mut self, at: &At<'_>, e: &MovesPlanned) {
        let Some(mut now) = self.cluster.rebalance.now.take() else {
            self.anomaly(at, format!("moves of {}/{} without a rebalancing", e.app, e.workload));
            return;
        };
        for one in &e.moves {
            let is_there = self.replicas.get(&one.replica).is_some_and(|replica| {
                replica.retired.is_none() && replica.node.as_ref() == Some(&one.from)
            });
            if is_there {
                let (to, since_ms, cause) = (one.to.clone(), at.recorded_ms, cause(at));
                now.moves.insert(one.replica.clone(), Moving { to, since_ms, cause });
                now.planned += 1;
            }
        }
        self.cluster.rebalance.now = Some(now);
        self.touched.apps.insert(e.app.clone());
    }

    /// What has not come about by now does not.
    pub(crate) fn rebalance_ended(&mut self, at: &At<'_>) {
        let Some(now) = self.cluster.rebalance.now.take() else {
            self.anomaly(at, "a rebalancing ended that had not begun".to_owned());
            return;
        };
        let apps = now.moves.keys().filter_map(|id| self.replicas.get(id));
        let apps: Vec<AppKey> = apps.map(|replica| replica.app.clone()).collect();
        self.touched.apps.extend(apps);
    }

    /// A replica is no more: its own move is over, and one of which it was the other half.
    pub(super) fn move_is_over(&mut self, id: &ReplicaId, replica: &Replica) {
        if let Some(now) = &mut self.cluster.rebalance.now {
            now.moves.remove(id);
        }
        if let Some(replaced) = &replica.replaces {
            self.stays(replaced);
        }
    }

    /// The one that was to take its place does not, so it stays.
    pub(super) fn stays(&mut self, id: &ReplicaId) {
        let lives = self.replicas.get(id).is_some_and(|replica| replica.retired.is_none());
        if let Some(now) = self.cluster.rebalance.now.as_mut().filter(|_| lives)
            && now.moves.remove(id).is_some()
        {
            now.stayed.insert(id.clone());
        }
    }

    /// What is asked of an app goes before its moves.
    pub(super) fn all_stay(&mut self, key: &AppKey) {
        let Some(now) = &self.cluster.rebalance.now else { return };
        let is_of = |id: &&ReplicaId| self.replicas.get(*id).is_some_and(|r| r.app == *key);
        let moving: Vec<ReplicaId> = now.moves.keys().filter(is_of).cloned().collect();
        moving.iter().for_each(|id| self.stays(id));
    }
}
