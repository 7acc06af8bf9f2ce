//! Replicas: requested, placed, run, retired, ended. Only ever forward.

use std::collections::BTreeMap;

use schemas::event::{
    Evidence, Outcome, ReplicaEnded, ReplicaReady, ReplicaUnready, ReplicasPlaced,
    ReplicasReleased, ReplicasRequested, ReplicasRetired, RunEnded, RunFailed, RunStarted,
};
use schemas::id::{NodeName, ReplicaId, Writer};

use super::{At, cause};
use crate::state::{Lacking, Need, Phase, Replica, State, volumes_of};

impl State {
    pub(crate) fn replicas_requested(&mut self, at: &At<'_>, e: &ReplicasRequested) {
        let spec = self.apps.get(&e.app).and_then(|app| app.specs.get(&e.spec));
        let Some(need) = spec.map(Need::of) else {
            self.anomaly(at, format!("replicas of unknown {}/{} requested", e.app, e.workload));
            return;
        };
        for requested in &e.replicas {
            if self.replicas.contains(&requested.id) {
                self.anomaly(at, format!("replica {} requested twice", requested.id));
                continue;
            }
            let replica = Replica {
                app: e.app.clone(),
                workload: e.workload.clone(),
                revision: e.revision,
                generation: e.generation,
                spec: e.spec.clone(),
                replaces: requested.replaces.clone(),
                only_node: requested.node.clone(),
                node: None,
                phase: Phase::Pending,
                since_ms: at.recorded_ms,
                run: 0,
                container: None,
                retired: None,
                leaving: false,
                endpoints: Vec::new(),
                inside: None,
                number: self.index.numbers.take_for_replica(&requested.id),
                trouble: None,
                requested_ms: at.recorded_ms,
                ready_ms: None,
                need: need.clone(),
                cause: cause(at),
            };
            self.index.add(&requested.id, &replica);
            self.replicas.insert(requested.id.clone(), replica);
        }
        let count = u64::try_from(e.replicas.len()).unwrap_or(u64::MAX);
        self.apps.update(&e.app, |app| {
            if let Some(workload) = app.workloads.get_mut(&e.workload) {
                workload.requested += count;
            }
        });
        self.touched.apps.insert(e.app.clone());
        self.touched.room = true;
    }

    /// Lawful for a replica that has ended, or a node that was removed, since the scheduler looked.
    pub(crate) fn replicas_placed(&mut self, at: &At<'_>, e: &ReplicasPlaced) {
        if !self.nodes.contains(&e.node) {
            self.touched.room = true;
            return;
        }
        for id in &e.replicas {
            let (touched, index) = (&mut self.touched.apps, &mut self.index);
            let bound = self.replicas.update(id, |replica| {
                if let Some(node) = &replica.node {
                    return Err(node.clone());
                }
                replica.node = Some(e.node.clone());
                replica.phase = Phase::Placed;
                replica.since_ms = at.recorded_ms;
                replica.cause = cause_of(at, replica);
                index.bind(id, &e.node, &replica.need);
                touched.insert(replica.app.clone());
                Ok((replica.app.clone(), replica.workload.clone()))
            });
            let (app, workload) = match bound {
                None => continue,
                Some(Err(node)) => {
                    self.anomaly(at, format!("{id} is on {node} and was placed on {} too", e.node));
                    continue;
                }
                Some(Ok(of)) => of,
            };
            self.settle_volumes(&app, id, &e.node);
            self.clear_unplaced(&app, &workload);
        }
        self.touched.nodes.insert(e.node.clone());
        self.check_load(at, &e.node);
    }

    /// More than the node has is a bug of the scheduler, unless the node said anew what it has.
    fn check_load(&mut self, at: &At<'_>, node: &NodeName) {
        let (Some(load), Some(known)) = (self.index.loads.get(node), self.nodes.get(node)) else {
            return;
        };
        let redescribed = at.basis.is_some_and(|basis| known.described_at > basis.position);
        if load.exceeds(&known.description) && !redescribed {
            self.anomaly(at, format!("{node} was given more than it has"));
        }
    }

    /// A volume lives where its first replica went.
    fn settle_volumes(&mut self, key: &schemas::id::AppKey, id: &ReplicaId, node: &NodeName) {
        let Some(spec) = self.replicas.get(id).and_then(|replica| self.spec_of(replica)) else {
            return;
        };
        let volumes: Vec<_> = volumes_of(spec).cloned().collect();
        if volumes.is_empty() {
            return;
        }
        self.apps.update(key, |app| {
            for volume in volumes {
                app.volumes.entry(volume).or_insert_with(|| node.clone());
            }
        });
    }

    fn clear_unplaced(&mut self, app: &schemas::id::AppKey, name: &schemas::id::WorkloadName) {
        let told = self.apps.get(app).and_then(|app| app.workloads.get(name));
        let waits = || self.replicas_of(app, name).any(|(_, replica)| replica.node.is_none());
        if told.is_some_and(|workload| !workload.unplaced.is_empty()) && !waits() {
            self.apps.update(app, |app| {
                if let Some(workload) = app.workloads.get_mut(name) {
                    workload.unplaced.clear();
                }
            });
        }
    }

    /// Lawful for a replica that has ended meanwhile. One without a node has thereby ended.
    pub(crate) fn replicas_retired(&mut self, at: &At<'_>, e: &ReplicasRetired) {
        for id in &e.replicas {
            let Some(replica) = self.replicas.get(id) else { continue };
            let Some(node) = replica.node.clone() else {
                self.forget_replica(id);
                continue;
            };
            self.touched.nodes.insert(node);
            self.replicas.update(id, |replica| {
                if replica.retired.is_none() {
                    replica.retired = Some(e.reason.clone());
                    replica.leaving = e.leaving;
                    replica.since_ms = at.recorded_ms;
                    replica.cause = cause_of(at, replica);
                }
            });
            if let Some(replaced) = self.replicas.get(id).and_then(|r| r.replaces.clone()) {
                self.stays(&replaced);
            }
        }
        self.touched.apps.insert(e.app.clone());
    }

    /// One that has ended meanwhile is lawful.
    pub(crate) fn replicas_released(&mut self, at: &At<'_>, e: &ReplicasReleased) {
        for id in &e.replicas {
            let Some(replica) = self.replicas.get(id) else { continue };
            if !replica.leaving {
                self.anomaly(at, format!("{id} was released and was not leaving"));
                continue;
            }
            self.touched.nodes.extend(replica.node.clone());
            self.replicas.update(id, |replica| {
                replica.leaving = false;
                replica.cause = cause_of(at, replica);
            });
        }
        self.touched.apps.insert(e.app.clone());
    }

    pub(crate) fn run_failed(&mut self, at: &At<'_>, e: &RunFailed) {
        self.observe(at, &e.replica, |replica| {
            replica.phase = Phase::Waiting;
            replica.run = e.run;
            replica.trouble = Some(format!("cannot {}: {}", e.step, e.error));
        });
        self.note_symptom(at, &e.replica, || Evidence {
            cause: format!("cannot {}: {}", e.step, e.error),
            ..Evidence::default()
        });
        if e.lacks_image() {
            self.note_image(&e.replica, |lacking, node| {
                lacking.insert(node, Lacking { error: e.error.clone(), at_ms: at.recorded_ms });
            });
        }
    }

    /// Notes whether the node of a replica has the image that is declared.
    fn note_image(
        &mut self,
        id: &ReplicaId,
        note: impl FnOnce(&mut BTreeMap<NodeName, Lacking>, NodeName),
    ) {
        let Some(replica) = self.replicas.get(id) else { return };
        let (app, name, spec) =
            (replica.app.clone(), replica.workload.clone(), replica.spec.clone());
        let Some(node) = replica.node.clone() else { return };
        self.apps.update(&app, |app| {
            if let Some(workload) = app.workloads.get_mut(&name).filter(|w| w.spec == spec) {
                note(&mut workload.lacking, node);
            }
        });
    }

    /// Whether a node was said to lack the image of one of its replicas.
    fn lacked_image(&self, id: &ReplicaId) -> bool {
        let lacked = |replica: &Replica| {
            let workload = self.apps.get(&replica.app)?.workloads.get(&replica.workload)?;
            Some(workload.lacking.contains_key(replica.node.as_ref()?))
        };
        self.replicas.get(id).and_then(lacked).unwrap_or(false)
    }

    pub(crate) fn run_started(&mut self, at: &At<'_>, e: &RunStarted) {
        self.observe(at, &e.replica, |replica| {
            replica.phase = Phase::Running;
            replica.run = e.run;
            replica.container = Some(e.container.clone());
            replica.endpoints.clone_from(&e.endpoints);
            replica.inside.clone_from(&e.inside);
        });
        if self.lacked_image(&e.replica) {
            self.note_image(&e.replica, |lacking, node| {
                lacking.remove(&node);
            });
            self.touched.room = true;
        }
    }

    pub(crate) fn run_ended(&mut self, at: &At<'_>, e: &RunEnded) {
        self.observe(at, &e.replica, |replica| {
            replica.phase = Phase::Waiting;
            replica.run = e.run;
            replica.ready_ms = None;
            replica.endpoints.clear();
            replica.trouble = Some(e.evidence.cause.clone());
        });
        self.note_symptom(at, &e.replica, || e.evidence.clone());
    }

    pub(crate) fn replica_ready(&mut self, at: &At<'_>, e: &ReplicaReady) {
        self.observe(at, &e.replica, |replica| {
            replica.phase = Phase::Ready;
            replica.ready_ms = Some(at.recorded_ms);
        });
        let Some(replica) = self.replicas.get(&e.replica) else { return };
        let (app, name) = (replica.app.clone(), replica.workload.clone());
        let (spec, generation) = (replica.spec.clone(), replica.generation);
        let news = self.apps.get(&app).and_then(|app| app.workloads.get(&name)).is_some_and(|w| {
            w.spec == spec && w.generation == generation && (!w.was_ready || w.failures > 0)
        });
        if news {
            self.apps.update(&app, |app| {
                if let Some(workload) = app.workloads.get_mut(&name) {
                    workload.was_ready = true;
                    workload.failures = 0;
                }
            });
        }
        self.good_ready(&app, &name, &spec);
    }

    pub(crate) fn replica_unready(&mut self, at: &At<'_>, e: &ReplicaUnready) {
        self.observe(at, &e.replica, |replica| {
            replica.phase = Phase::Running;
            replica.ready_ms = None;
            replica.trouble = Some(e.output.clone());
        });
        self.note_symptom(at, &e.replica, || Evidence {
            cause: e.output.clone(),
            ..Evidence::default()
        });
    }

    pub(crate) fn replica_ended(&mut self, at: &At<'_>, e: &ReplicaEnded) {
        let Some(replica) = self.replicas.get(&e.replica) else { return };
        if !may_tell(at, replica) {
            self.not_its_own(at, &e.replica);
            return;
        }
        let (app, name) = (replica.app.clone(), replica.workload.clone());
        let (spec, generation) = (replica.spec.clone(), replica.generation);
        let retired = replica.retired.is_some();
        self.apps.update(&app, |app| {
            let Some(workload) = app.workloads.get_mut(&name) else { return };
            if workload.spec != spec || workload.generation != generation {
                if matches!(e.outcome, Outcome::Failed { .. }) && !retired {
                    workload.good_failed(&spec, at.recorded_ms);
                }
                return;
            }
            match &e.outcome {
                Outcome::Completed => {
                    workload.completed += 1;
                    workload.due &= workload.completed < u64::from(workload.replicas);
                }
                Outcome::Failed { reason } if !retired => {
                    workload.failures = workload.failures.saturating_add(1);
                    workload.failed_ms = at.recorded_ms;
                    workload.failure.clone_from(reason);
                }
                Outcome::Failed { .. } | Outcome::Stopped => {}
            }
        });
        self.forget_replica(&e.replica);
    }

    /// Changes a replica that an agent speaks of. One that has ended meanwhile is lawful.
    fn observe(&mut self, at: &At<'_>, id: &ReplicaId, change: impl FnOnce(&mut Replica)) {
        let touched = &mut self.touched.apps;
        let known = self.replicas.update(id, |replica| {
            if !may_tell(at, replica) {
                return false;
            }
            let before = replica.phase;
            change(replica);
            // One that is ending stays what it is, whatever is still heard of it.
            if replica.phase != before && replica.retired.is_none() {
                replica.since_ms = at.recorded_ms;
            }
            if !touched.contains(&replica.app) {
                touched.insert(replica.app.clone());
            }
            true
        });
        if known == Some(false) {
            self.not_its_own(at, id);
        }
    }

    fn not_its_own(&mut self, at: &At<'_>, id: &ReplicaId) {
        self.anomaly(at, format!("{} told of {id}, which is not its own", at.writer));
    }

    /// Takes a replica out of the state: nothing of it runs any more.
    pub(crate) fn forget_replica(&mut self, id: &ReplicaId) {
        let Some(replica) = self.replicas.remove(id) else { return };
        self.index.remove(id, &replica);
        self.index.numbers.give_back(replica.number);
        self.move_is_over(id, &replica);
        self.touched.nodes.extend(replica.node.clone());
        self.touched.room = true;
        self.clear_unplaced(&replica.app, &replica.workload);
        self.drop_unused(&replica.app);
        self.touched.apps.insert(replica.app);
    }
}

/// Whether it is the agent of the replica's node that speaks.
fn may_tell(at: &At<'_>, replica: &Replica) -> bool {
    matches!((at.writer, &replica.node), (Writer::Agent(speaks), Some(node)) if speaks == node)
}

/// What follows from a replica goes back to the command that first asked for it, unless the event
/// names another.
fn cause_of(at: &At<'_>, replica: &Replica) -> crate::state::Cause {
    let mut cause = cause(at);
    if cause.correlation.is_none() {
        cause.correlation.clone_from(&replica.cause.correlation);
    }
    cause
}
