//! What must hold of rollouts, read from the history alone: what goes back goes back to exactly what
//! was there, and no decision leaves fewer ready replicas than a floor says.

use std::collections::{BTreeMap, BTreeSet};

use cluster::state::volumes_of;
use schemas::document::{Assignment, SpecDocument};
use schemas::envelope::Header;
use schemas::event::{ReplicasRetired, RetireReason, RolloutFailed};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::spec::{AppSpec, Mode, Overlap, UpdateStrategy, WorkloadSpec};

use crate::model::{App, Judged, Model, Replica, Workload, wrong};

/// What a run was really given: its image by digest, and its files by their content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    image: Option<String>,
    files: BTreeMap<String, Option<String>>,
}

impl Ran {
    pub(crate) fn of(assignment: &Assignment, document: &SpecDocument) -> Self {
        let files = document.spec.configs.iter();
        let files =
            files.map(|(at, file)| (at.clone(), document.configs.get(&file.digest).cloned()));
        Self { image: assignment.image.clone(), files: files.collect() }
    }
}

/// What was declared, and what ran of it once it was as declared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revision {
    /// Whole specs, with the numbers that they were scaled to.
    specs: BTreeMap<WorkloadName, WorkloadSpec>,
    ran: BTreeMap<WorkloadName, Ran>,
}

/// The way back of an app.
#[derive(Debug, Default)]
pub(crate) struct Way {
    /// The last declaration that converged, while that is another than the present one.
    good: Option<Revision>,
    /// Whether the present one has converged.
    proven: bool,
    /// Whether the present one was just said to have failed.
    pub(crate) failed: bool,
    /// Whether the present one takes a failed one back.
    pub(crate) back: bool,
    /// What has to run again, of one that takes a failed one back.
    again: BTreeMap<WorkloadName, Ran>,
    /// What is declared.
    present: Revision,
}

impl Way {
    /// Whether the present declaration has converged.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven
    }

    /// The spec of a workload that can be gone back to.
    pub(crate) fn good(&self, name: &WorkloadName) -> Option<&WorkloadSpec> {
        self.good.as_ref()?.specs.get(name)
    }
}

impl App {
    /// Another declaration comes: right behind a failure, exactly the good one, with its numbers.
    pub(crate) fn check_way(&mut self, spec: &AppSpec) -> Judged {
        let way = &mut self.way;
        if way.proven {
            let mut good = std::mem::take(&mut way.present);
            for (name, spec) in &mut good.specs {
                let number = self.workloads.get(name).map(|workload| workload.replicas);
                spec.replicas = number.and_then(|n| n.try_into().ok()).unwrap_or(spec.replicas);
            }
            way.good = Some(good);
        }
        way.back = std::mem::take(&mut way.failed);
        way.again.clear();
        if way.back {
            let good = way.good.as_ref();
            if good.map(|good| &good.specs) != Some(&spec.workloads) {
                let what = format!("{} went back to {spec:?}, not {good:?}", spec.name);
                return wrong("goes-back", what);
            }
            way.again = good.map(|good| good.ran.clone()).unwrap_or_default();
        }
        way.present = Revision { specs: spec.workloads.clone(), ran: BTreeMap::new() };
        way.proven = false;
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

    /// Whether nothing is replaced until somebody says that it goes on.
    pub(crate) fn is_paused(&self) -> bool {
        self.held.rolls && self.held.paused
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
    /// A revision has failed, or somebody does not want it any more.
    pub(crate) fn went_back(&mut self, e: &RolloutFailed) {
        self.app(&e.app).way.failed = true;
        self.ways_back += 1;
        let why = match &e.measured {
            Some(_) => "requests failed, and a revision went back",
            None if e.reason.starts_with("it was aborted") => "somebody took a revision back",
            None if e.reason.starts_with("the job") => "a job failed, and a revision went back",
            None => "replicas failed, and a revision went back",
        };
        *self.kinds.entry(why).or_default() += 1;
    }

    /// A run began. Whatever follows on whatever else, a replica runs one thing, and what takes a failed
    /// revision back runs what ran before it.
    pub(crate) fn runs(&mut self, id: &ReplicaId, ran: Ran) -> Judged {
        let before = self.ran.insert(id.clone(), ran);
        let ran = &self.ran[id];
        if let Some(before) = before.filter(|before| before != ran) {
            return wrong("runs-alike", format!("{id} ran {before:?}, and now {ran:?}"));
        }
        let Some(replica) = self.replicas.get(id) else { return Ok(()) };
        self.check_again(id, replica)
    }

    fn check_again(&self, id: &ReplicaId, replica: &Replica) -> Judged {
        let app = self.apps.get(&replica.app);
        let of = app.and_then(|app| app.workloads.get(&replica.workload));
        let current = of.is_some_and(|of| of.digest == replica.digest) && !replica.retired;
        let again = app.and_then(|app| app.way.again.get(&replica.workload));
        let (Some(again), Some(ran)) = (again.filter(|_| current), self.ran.get(id)) else {
            return Ok(());
        };
        if again != ran {
            return wrong("goes-back", format!("{id} runs {ran:?}, before it was {again:?}"));
        }
        Ok(())
    }

    /// What runs of those that went back is what ran before, be it that it never stopped.
    pub(crate) fn check_way_back(&self) -> Judged {
        self.replicas.iter().try_for_each(|(id, replica)| self.check_again(id, replica))
    }

    /// What runs of an app that is as declared: all replicas of a workload alike.
    fn note_ran(&mut self, key: &AppKey) -> Judged {
        let Some(app) = self.apps.get_mut(key) else { return Ok(()) };
        let live = self.replicas.iter().filter(|(_, r)| r.app == *key && !r.retired);
        for (id, replica) in live {
            let current = app.workloads.get(&replica.workload);
            let current = current.is_some_and(|of| of.digest == replica.digest);
            let Some(ran) = self.ran.get(id).filter(|_| current) else { continue };
            let noted = app.way.present.ran.entry(replica.workload.clone());
            if noted.or_insert_with(|| ran.clone()) != ran {
                let noted = &app.way.present.ran[&replica.workload];
                return wrong("runs-alike", format!("{id} runs {ran:?}, another {noted:?}"));
            }
        }
        let again = app.way.again.keys().filter(|name| app.way.present.ran.contains_key(*name));
        let again = u64::try_from(again.count()).unwrap_or(u64::MAX);
        *self.kinds.entry("a workload went back and runs what ran before").or_default() += again;
        Ok(())
    }

    pub(crate) fn converged(&mut self, key: &AppKey) -> Judged {
        self.check_way_back()?;
        self.note_ran(key)?;
        let app = self.apps.entry(key.clone()).or_default();
        app.stalled = None;
        (app.way.proven, app.way.good) = (true, None);
        for workload in app.workloads.values_mut() {
            workload.held = Held::default();
            workload.turn.due = false;
        }
        Ok(())
    }

    /// The workloads of which something good is ready: nothing is held back for the others.
    pub(crate) fn serving(&self, key: &AppKey) -> BTreeSet<WorkloadName> {
        let good = self.apps.get(key).and_then(|app| app.way.good.as_ref());
        let serves = |name: &WorkloadName, spec: &WorkloadSpec| {
            let digest = spec.digest();
            self.replicas.values().any(|r| {
                r.app == *key && r.workload == *name && r.digest == digest && r.ready && !r.retired
            })
        };
        let good = good.into_iter().flat_map(|good| &good.specs);
        let good = good.filter(|(name, spec)| serves(name, spec));
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
        let beside_all = matches!(
            spec.update.strategy,
            UpdateStrategy::Canary { .. } | UpdateStrategy::BlueGreen { .. }
        );
        // While it is held back it is two workloads: none takes the place of one of the other.
        let is_two = beside_all && workload.held.rolls && !workload.held.promoted;
        let is_new = |replica: &Replica| replica.digest == workload.digest;
        let beside = |replica: &Replica| {
            let old = replica.replaces.as_ref().and_then(|old| live.get(old));
            old.is_some_and(|old| !is_two || is_new(old) == is_new(replica))
        };
        let pairs = live.values().filter(|replica| beside(replica) && !replica.at_once).count();
        let roots = live.values().filter(|replica| !beside(replica)).count();
        // While it is held back there are two of them.
        let most = spec.update.max_surge.unwrap_or(u32::MAX).min(spec.update.parallelism);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let most = if beside_all { most.saturating_mul(2) } else { most };
        if replaces && pairs > most {
            return wrong("surge", format!("{app}/{name}: {pairs} are replaced at once"));
        }
        // What is held back stands beside all of what was there before.
        let new = live.values().filter(|r| !beside(r) && is_new(r)).count();
        let roots = if beside_all { new.max(roots - new) } else { roots };
        if spec.mode != Mode::Global && u64::try_from(roots).unwrap_or(u64::MAX) > declared {
            return wrong(
                "surge",
                format!("{app}/{name}: {roots} replicas where {declared} are declared"),
            );
        }
        Ok(())
    }

    /// Drains, rollouts and moves leave enough that is ready: judged on what the controller had seen, where
    /// nothing else was heard since.
    pub(crate) fn check_floor(&self, at: &Header, e: &ReplicasRetired) -> Judged {
        let own = [RetireReason::Drained, RetireReason::Replaced, RetireReason::NotNeeded];
        let judged = own.contains(&e.reason) || e.reason == RetireReason::Rebalanced;
        let app = self.apps.get(&e.app).filter(|_| judged);
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
        let most = match workload.spec.mode {
            // As many as there are: one a node, with what takes its place.
            Mode::Global => {
                let beside = |r: &Replica| {
                    let old = r.replaces.as_ref().and_then(|old| self.replicas.get(old));
                    old.is_some_and(|old| !old.retired)
                };
                let roots = of_it().filter(|(_, r)| !beside(r)).count();
                u64::try_from(roots).unwrap_or(u64::MAX)
            }
            Mode::Replicated | Mode::Job => workload.replicas,
        };
        let floor = floor.min(most.saturating_sub(one_less));
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
