//! A replica, as the model knows it, from its request to its end.

use schemas::envelope::Header;
use schemas::event::{Outcome, ReplicasRequested, RequestedReplica};
use schemas::id::{AppKey, Digest, NodeName, ReplicaId, WorkloadName, Writer};
use schemas::spec::{RestartPolicy, WorkloadSpec};

use super::room::volumes;
use super::{Judged, Model, wrong};

/// A replica that has not ended.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) app: AppKey,
    pub(crate) workload: WorkloadName,
    pub(crate) spec: WorkloadSpec,
    pub(crate) digest: Digest,
    pub(crate) generation: u64,
    pub(crate) node: Option<NodeName>,
    pub(crate) only: Option<NodeName>,
    pub(crate) replaces: Option<ReplicaId>,
    /// Whether it takes the place of one on a lost node, or of one whose image is not to be had there:
    /// such are replaced without waiting for each other.
    pub(crate) at_once: bool,
    pub(crate) retired: bool,
    /// Where and when it was retired, while it finishes what is under way.
    pub(crate) left: Option<(u64, u64)>,
    /// Where something was last heard of it.
    pub(crate) heard_at: u64,
    pub(crate) run: u32,
    pub(crate) running: bool,
    pub(crate) ready: bool,
}

impl Model {
    pub(super) fn requested(&mut self, at: &Header, e: &ReplicasRequested) -> Judged {
        let spec = self.apps.get(&e.app).and_then(|app| app.specs.get(&e.spec)).cloned();
        let Some(spec) = spec else {
            return wrong("declared-first", format!("{}/{} at {}", e.app, e.workload, at.position));
        };
        self.check_jobs(at, e)?;
        let basis = at.basis.map_or(0, |basis| basis.position);
        let workload = self.apps.get_mut(&e.app).and_then(|app| app.workloads.get_mut(&e.workload));
        if let Some(workload) = workload {
            // One that was declared again before its replicas had ended counts on.
            workload.generation = workload.generation.max(e.generation);
        }
        for one in &e.replicas {
            let old = one.replaces.as_ref().and_then(|old| self.replicas.get(old));
            let node = old.and_then(|old| self.nodes.get(old.node.as_ref()?));
            let replica = Replica {
                app: e.app.clone(),
                workload: e.workload.clone(),
                spec: spec.clone(),
                digest: e.spec.clone(),
                generation: e.generation,
                node: None,
                only: one.node.clone(),
                replaces: one.replaces.clone(),
                // The node may have come back since the controller looked.
                at_once: node.is_some_and(|node| node.lost || node.since > basis)
                    || old.is_some_and(|old| self.lacked_image(old, basis)),
                retired: false,
                left: None,
                heard_at: 0,
                run: 0,
                running: false,
                ready: false,
            };
            if self.replicas.insert(one.id.clone(), replica).is_some() {
                return wrong("fresh-ids", format!("{} was requested twice", one.id));
            }
        }
        let begins = |one: &RequestedReplica| {
            one.replaces.is_some() && self.replicas.get(&one.id).is_some_and(|r| !r.at_once)
        };
        let replaces = e.replicas.iter().any(begins);
        self.check_surge(&e.app, &e.workload, replaces)
    }

    pub(super) fn retired(&mut self, at: &Header, ids: &[ReplicaId], leaving: bool) {
        let left = leaving.then_some((at.position, self.now_ms));
        for id in ids {
            match self.replicas.get_mut(id) {
                Some(replica) if replica.node.is_some() => {
                    (replica.retired, replica.left) = (true, left);
                }
                _ => self.forget(id),
            }
        }
    }

    /// What is released was leaving, and nothing was sent to it any more or there was time enough.
    pub(super) fn released(&mut self, at: &Header, ids: &[ReplicaId]) -> Judged {
        let key = (at.batch.series.clone(), at.batch.n);
        if let Some(what) = self.too_early.get(&key) {
            return wrong("lets-go-first", format!("released at {}: {what}", at.position));
        }
        for id in ids {
            let Some(replica) = self.replicas.get_mut(id) else { continue };
            if replica.left.take().is_none() {
                return wrong("released-once", format!("{id} at {}", at.position));
            }
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, id: &ReplicaId) {
        self.replicas.remove(id);
        self.gone.insert(id.clone());
    }

    pub(super) fn placed(&mut self, node: &NodeName, ids: &[ReplicaId]) -> Judged {
        if !self.nodes.contains_key(node) {
            return Ok(());
        }
        for id in ids {
            let Some(replica) = self.replicas.get_mut(id) else { continue };
            if let Some(before) = self.places.insert(id.clone(), node.clone()) {
                return wrong(
                    "placed-once",
                    format!("{id} is on {before} and was placed on {node}"),
                );
            }
            replica.node = Some(node.clone());
            let key = replica.app.clone();
            let names: Vec<String> = volumes(&replica.spec).collect();
            if let Some(app) = self.apps.get_mut(&key) {
                for volume in names {
                    let home = app.volumes.entry(volume.clone()).or_insert_with(|| node.clone());
                    if home != node {
                        return wrong(
                            "volume-home",
                            format!("{id} is on {node}, {volume} on {home}"),
                        );
                    }
                }
            }
        }
        self.check_room(node)
    }

    /// A replica that an agent speaks of: none when it is no more.
    pub(super) fn told(
        &mut self,
        at: &Header,
        id: &ReplicaId,
    ) -> Result<Option<&mut Replica>, (&'static str, String)> {
        let Some(replica) = self.replicas.get_mut(id) else { return Ok(None) };
        replica.heard_at = at.position;
        let speaks = replica.node.clone().map(Writer::Agent);
        if speaks.as_ref() != Some(&at.writer) {
            return wrong("own-node", format!("{} told of {id} on {speaks:?}", at.writer));
        }
        Ok(Some(replica))
    }

    pub(super) fn started(&mut self, at: &Header, id: &ReplicaId, run: u32) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        if run < replica.run {
            return wrong("run-order", format!("{id} began run {run} after {}", replica.run));
        }
        (replica.run, replica.running, replica.ready) = (run, true, false);
        self.note_image(id, Some(at.position));
        Ok(())
    }

    pub(super) fn ready(&mut self, at: &Header, id: &ReplicaId, run: u32) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        if replica.run != run || !replica.running {
            return wrong("run-order", format!("run {run} of {id} is ready and never began"));
        }
        replica.ready = true;
        Ok(())
    }

    pub(super) fn ended(&mut self, at: &Header, id: &ReplicaId, outcome: &Outcome) -> Judged {
        let Some(replica) = self.told(at, id)? else { return Ok(()) };
        let (app, name, digest) =
            (replica.app.clone(), replica.workload.clone(), replica.digest.clone());
        let of = (app.clone(), name.clone());
        let (generation, retired) = (replica.generation, replica.retired);
        let always = replica.spec.restart.policy == RestartPolicy::Always;
        if *outcome == Outcome::Stopped && !retired {
            return wrong("ended-for-a-reason", format!("{id} was stopped at {}", at.position));
        }
        if *outcome == Outcome::Completed && always {
            return wrong("ended-for-a-reason", format!("{id} completed, and should run for ever"));
        }
        let workload = self.apps.get_mut(&app).and_then(|app| app.workloads.get_mut(&name));
        if let Some(workload) = workload
            && (&workload.digest, workload.generation) == (&digest, generation)
        {
            workload.completed += u64::from(*outcome == Outcome::Completed);
        }
        self.ended_turn(&app, &name, id, outcome)?;
        self.ended_at.insert(of, at.position);
        self.forget(id);
        Ok(())
    }

    /// The node of a replica lacks its image, or a run began there.
    pub(super) fn note_image(&mut self, id: &ReplicaId, began: Option<u64>) {
        let Some(replica) = self.replicas.get(id) else { return };
        let Some(node) = &replica.node else { return };
        let key = (replica.digest.clone(), node.clone());
        match began {
            None => drop(self.lacking.insert(key, None)),
            Some(at) => {
                self.lacking.entry(key).and_modify(|began| {
                    began.get_or_insert(at);
                });
            }
        }
    }

    /// Whether its node lacked its image, as far as was seen at a position: then it is that of every
    /// replica there that does not run.
    fn lacked_image(&self, replica: &Replica, seen: u64) -> bool {
        let key = replica.node.clone().map(|node| (replica.digest.clone(), node));
        let lacking = key.and_then(|key| self.lacking.get(&key));
        lacking.is_some_and(|began| began.is_none_or(|at| at > seen))
    }
}
