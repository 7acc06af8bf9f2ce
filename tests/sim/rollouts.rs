//! What must hold of rollouts, read from the history alone: what goes back goes back to exactly what
//! was there, and no decision leaves fewer ready replicas than a floor says.

use std::collections::{BTreeMap, BTreeSet};

use cluster::state::volumes_of;
use schemas::envelope::Header;
use schemas::event::{ReplicasRetired, RetireReason};
use schemas::id::{AppKey, Digest, NodeName, ReplicaId, WorkloadName};
use schemas::spec::{AppSpec, Mode, Overlap, UpdateStrategy};

use crate::model::{Judged, Model, Replica, Workload, wrong};

/// The way back of an app.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The specs of the last declaration that converged, while that is another than the present one.
    pub(crate) good: Option<BTreeMap<WorkloadName, Digest>>,
    /// Whether the present one has converged.
    proven: bool,
    /// Whether the present one was just said to have failed.
    pub(crate) failed: bool,
    /// Whether the present one takes a failed one back.
    pub(crate) back: bool,
    /// What is declared.
    present: BTreeMap<WorkloadName, Digest>,
}

impl Way {
    /// Whether the present declaration has converged.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// Another declaration comes: right behind a failure, exactly the good one.
    pub(crate) fn check(&mut self, spec: &AppSpec) -> Judged {
        let specs = spec.workloads.iter().map(|(name, spec)| (name.clone(), spec.digest()));
        let declared: BTreeMap<WorkloadName, Digest> = specs.collect();
        if self.proven {
            self.good = Some(std::mem::take(&mut self.present));
        }
        self.back = std::mem::take(&mut self.failed);
        if self.back && self.good.as_ref() != Some(&declared) {
            let what = format!("{} went back to {declared:?}, not {:?}", spec.name, self.good);
            return wrong("goes-back", what);
        }
        (self.proven, self.present) = (false, declared);
        Ok(())
    }
}

/// How far a rollout is.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Whether there is one.
    pub(crate) rolls: bool,
    pub(crate) paused: bool,
    pub(crate) promoted: bool,
    pub(crate) step: u32,
}

impl Held {
    pub(crate) fn step(step: u32) -> impl FnOnce(&mut Self) {
        move |held| held.step = step
    }
}

impl Workload {
    /// How many replicas of the new spec stand beside the old ones, where that waits for somebody.
    fn waits_with(&self) -> Option<u64> {
        if !self.held.rolls || self.held.promoted {
            return None;
        }
        let beside = |percent: u32| (self.replicas * u64::from(percent)).div_ceil(100);
        match &self.spec.update.strategy {
            UpdateStrategy::Canary { steps } => {
                let step = steps.get(usize::try_from(self.held.step).ok()?)?;
                let waits = self.held.paused || step.hold_ms.is_none();
                let most = self.replicas;
                waits.then(|| beside(step.weight_percent).max(1).min(most))
            }
            UpdateStrategy::BlueGreen { promote_after_ms } => {
                let waits = self.held.paused || promote_after_ms.is_none();
                waits.then_some(self.replicas)
            }
            UpdateStrategy::Rolling | UpdateStrategy::Recreate => None,
        }
    }

    /// Whether an old one ends before a new one begins, so that fewer are ready in between.
    fn ends_first(&self) -> bool {
        self.spec.update.max_surge == Some(0)
            || self.spec.overlap == Overlap::Never
            || self.spec.ports.iter().any(|port| port.host.is_some())
            || volumes_of(&self.spec).next().is_some()
    }

    /// Whether all of the new spec stand there that should while somebody has to say that it goes
    /// on. The old ones are kept at their number meanwhile, and may have to wait for room.
    pub(crate) fn is_held_with(&self, current: usize) -> bool {
        self.waits_with().is_some_and(|beside| u64::try_from(current) == Ok(beside))
    }

    /// Whether it is as it should be while somebody has to say that it goes on.
    pub(crate) fn waits(&self, of_it: &[&Replica], current: &[&&Replica]) -> bool {
        let ready = |n: usize, wanted: u64| u64::try_from(n).unwrap_or(u64::MAX) == wanted;
        let old = of_it.len() - current.len();
        if of_it.iter().any(|replica| !replica.ready) {
            return false;
        }
        match self.waits_with() {
            Some(beside) => ready(old, self.replicas) && ready(current.len(), beside),
            // One that is replaced little by little stands where it was paused.
            None => self.held.rolls && self.held.paused && of_it.len() >= current.len(),
        }
    }
}

impl Model {
    pub(crate) fn converged(&mut self, key: &AppKey) {
        let app = self.apps.entry(key.clone()).or_default();
        app.stalled = None;
        (app.way.proven, app.way.good) = (true, None);
        for workload in app.workloads.values_mut() {
            workload.held = Held::default();
            workload.turn.due = false;
        }
    }

    /// The workloads of which something good is ready: nothing is held back for the others.
    pub(crate) fn serving(&self, key: &AppKey) -> BTreeSet<WorkloadName> {
        let good = self.apps.get(key).and_then(|app| app.way.good.as_ref());
        let serves = |name: &WorkloadName, digest: &Digest| {
            self.replicas.values().any(|r| {
                r.app == *key && r.workload == *name && r.digest == *digest && r.ready && !r.retired
            })
        };
        let good = good.into_iter().flatten().filter(|(name, digest)| serves(name, digest));
        good.map(|(name, _)| name.clone()).collect()
    }

    pub(crate) fn held(
        &mut self,
        key: &AppKey,
        name: &WorkloadName,
        change: impl FnOnce(&mut Held),
    ) -> Judged {
        let app = self.apps.get_mut(key).and_then(|app| app.workloads.get_mut(name));
        let Some(workload) = app.filter(|workload| workload.held.rolls) else {
            return wrong("rollouts", format!("{key}/{name} is told of and not rolled out"));
        };
        change(&mut workload.held);
        Ok(())
    }

    /// A replica and the one that takes its place count as one; at most as many as are declared.
    pub(crate) fn check_surge(&self, app: &AppKey, name: &WorkloadName, replaces: bool) -> Judged {
        let workload = self.apps.get(app).and_then(|app| app.workloads.get(name));
        let Some(workload) = workload else { return Ok(()) };
        let (spec, declared) = (&workload.spec, workload.replicas);
        let live: BTreeMap<&ReplicaId, &Replica> = self
            .replicas
            .iter()
            .filter(|(_, r)| r.app == *app && r.workload == *name && !r.retired)
            .collect();
        let beside =
            |replica: &Replica| replica.replaces.as_ref().is_some_and(|old| live.contains_key(old));
        let pairs = live.values().filter(|replica| beside(replica) && !replica.at_once).count();
        let roots = live.values().filter(|replica| !beside(replica)).count();
        let beside_all = matches!(
            spec.update.strategy,
            UpdateStrategy::Canary { .. } | UpdateStrategy::BlueGreen { .. }
        );
        // While it is held back there are two of them.
        let most = usize::try_from(spec.update.parallelism).unwrap_or(usize::MAX);
        let most = if beside_all { most.saturating_mul(2) } else { most };
        if replaces && pairs > most {
            return wrong("surge", format!("{app}/{name}: {pairs} are replaced at once"));
        }
        // What is held back stands beside all of what was there before.
        let new = live.values().filter(|r| !beside(r) && r.digest == workload.digest).count();
        let roots = if beside_all { new.max(roots - new) } else { roots };
        if spec.mode != Mode::Global && u64::try_from(roots).unwrap_or(u64::MAX) > declared {
            return wrong(
                "surge",
                format!("{app}/{name}: {roots} replicas where {declared} are declared"),
            );
        }
        Ok(())
    }

    /// Drains and rollouts leave enough that is ready: judged on what the controller had seen, where
    /// nothing else was heard since.
    pub(crate) fn check_floor(&self, at: &Header, e: &ReplicasRetired) -> Judged {
        let reasons = [RetireReason::Drained, RetireReason::Replaced, RetireReason::NotNeeded];
        let app = self.apps.get(&e.app).filter(|_| reasons.contains(&e.reason));
        let Some(workload) = app.and_then(|app| app.workloads.get(&e.workload)) else {
            return Ok(());
        };
        let basis = at.basis.map_or(0, |basis| basis.position);
        let of_it = || {
            self.replicas
                .iter()
                .filter(|(_, r)| r.app == e.app && r.workload == e.workload && !r.retired)
        };
        let moved = of_it().any(|(_, r)| r.heard_at > basis)
            || self.nodes.values().any(|node| node.since > basis)
            || self.ended_at.get(&(e.app.clone(), e.workload.clone())) > Some(&basis);
        let Some(floor) = workload.spec.min_ready.map(u64::from).filter(|_| !moved) else {
            return Ok(());
        };
        // Scaled to its floor, what must end before another begins could never be replaced.
        let one_less = u64::from(workload.ends_first());
        let floor = match workload.spec.mode {
            Mode::Global => floor,
            Mode::Replicated | Mode::Job => floor.min(workload.replicas.saturating_sub(one_less)),
        };
        let heard = |node: &Option<NodeName>| {
            node.as_ref().and_then(|node| self.nodes.get(node)).is_some_and(|node| node.heard)
        };
        let serves = |r: &Replica| r.ready && heard(&r.node);
        let ended = of_it().filter(|(id, r)| e.replicas.contains(id) && serves(r)).count();
        let left = of_it().filter(|(id, r)| !e.replicas.contains(id) && serves(r)).count();
        if ended > 0 && u64::try_from(left).unwrap_or(u64::MAX) < floor {
            let what = format!("{}/{}: {left} are left of {floor}", e.app, e.workload);
            return wrong("floor", format!("{what}, {ended} end: {:?}", e.reason));
        }
        Ok(())
    }
}
