//! What must hold of the jobs of a rollout, read from the history alone: what runs before has ended well
//! before anything new begins, each runs once for a revision, and none on the way back.

use std::collections::BTreeSet;

use schemas::envelope::Header;
use schemas::event::{AppConverged, Outcome, ReplicasRequested};
use schemas::id::{AppKey, ReplicaId, WorkloadName};
use schemas::spec::{Task, When};

use crate::model::{App, Judged, Model, Workload, wrong};

/// How far a job of a rollout is; of another workload, whether it has begun.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Whether it has yet to run.
    pub(crate) due: bool,
    /// The replicas that were requested for this turn.
    asked: Vec<ReplicaId>,
    /// Whether one of them failed.
    failed: bool,
    /// Whether the newest declaration changed it.
    changed: bool,
    /// Whether a replica of the declared spec was requested since it changed.
    begun: bool,
}

impl Turn {
    /// It is declared anew.
    pub(crate) fn declared(&mut self, changed: bool) {
        self.changed = changed;
        if changed {
            self.again(self.due);
        }
    }

    /// Its turn begins anew.
    pub(crate) fn again(&mut self, due: bool) {
        let changed = self.changed;
        *self = Self { due, changed, ..Self::default() };
    }

    /// Whether nobody asked for it yet.
    pub(crate) fn waits(&self) -> bool {
        self.due && self.asked.is_empty()
    }
}

impl App {
    /// The jobs of what the newest declaration changed have to run, unless it goes back.
    pub(crate) fn begin_turns(&mut self) {
        let changed = self.workloads.iter().filter(|(_, workload)| workload.turn.changed);
        let changed: BTreeSet<WorkloadName> = changed.map(|(name, _)| name.clone()).collect();
        for workload in self.workloads.values_mut() {
            let of = workload.spec.task.as_ref().map(|task| &task.of);
            workload.turn.due &= of.is_some() && !self.way.back;
            if of.is_some_and(|of| changed.contains(of)) && !self.way.back {
                workload.turn.again(true);
                workload.completed = 0;
                workload.generation += 1;
            }
        }
    }

    /// The jobs that have to run before a workload's new replicas.
    pub(crate) fn first<'a>(&'a self, of: &'a WorkloadName) -> impl Iterator<Item = &'a Workload> {
        let due = self.workloads.values().filter(|workload| workload.turn.due);
        due.filter(move |workload| {
            let task = workload.spec.task.as_ref();
            task.is_some_and(|task| task.when == When::Before && task.of == *of)
        })
    }
}

impl Model {
    /// What is requested may be: judged on what the controller had seen.
    pub(crate) fn check_jobs(&mut self, at: &Header, e: &ReplicasRequested) -> Judged {
        let Some(app) = self.apps.get(&e.app) else { return Ok(()) };
        let Some(workload) = app.workloads.get(&e.workload) else { return Ok(()) };
        let basis = at.basis.map_or(0, |basis| basis.position);
        let what = |why: &str| format!("{}/{} at {}: {why}", e.app, e.workload, at.position);
        let live = |digest| {
            self.replicas.values().any(|r| {
                r.app == e.app && r.workload == e.workload && r.digest == digest && !r.retired
            })
        };
        let ended = self.ended_at.get(&(e.app.clone(), e.workload.clone())) > Some(&basis);
        match &workload.spec.task {
            None => {
                let begins = e.spec == workload.digest && !workload.turn.begun && !ended;
                if begins && !live(e.spec.clone()) && app.first(&e.workload).next().is_some() {
                    return wrong("jobs-first", what("a job has to run before it"));
                }
            }
            Some(task) => {
                if !workload.turn.due {
                    return wrong("jobs-once", what("it has not to run"));
                }
                if workload.turn.failed && !ended {
                    return wrong("jobs-once", what("it failed and is tried again"));
                }
                let runs = |id: &&ReplicaId| {
                    self.replicas.get(*id).is_some_and(|r| r.run > 0 && r.heard_at <= basis)
                };
                if let Some(id) = workload.turn.asked.iter().find(runs) {
                    return wrong("jobs-once", what(&format!("{id} has not ended")));
                }
                self.check_after(at, e, app, task)?;
                *self.kinds.entry("a job of a rollout was asked for").or_default() += 1;
            }
        }
        let app = self.apps.get_mut(&e.app);
        let workload = app.and_then(|app| app.workloads.get_mut(&e.workload));
        if let Some(workload) = workload.filter(|workload| workload.digest == e.spec) {
            workload.turn.begun = true;
            workload.turn.asked.extend(e.replicas.iter().map(|one| one.id.clone()));
        }
        Ok(())
    }

    /// What runs after a rollout does not run while there is something old, or something comes first.
    fn check_after(&self, at: &Header, e: &ReplicasRequested, app: &App, task: &Task) -> Judged {
        if task.when == When::Before {
            return Ok(());
        }
        let declared = app.workloads.get(&task.of).map(|of| &of.digest);
        let old = self.replicas.values().any(|r| {
            r.app == e.app && r.workload == task.of && !r.retired && Some(&r.digest) != declared
        });
        if old || app.first(&task.of).next().is_some() {
            let what = format!("{}/{} at {} comes too early", e.app, e.workload, at.position);
            return wrong("jobs-first", what);
        }
        Ok(())
    }

    /// A replica has ended, maybe that of a job.
    pub(crate) fn ended_turn(
        &mut self,
        app: &AppKey,
        name: &WorkloadName,
        id: &ReplicaId,
        outcome: &Outcome,
    ) -> Judged {
        let retired = self.replicas.get(id).is_some_and(|replica| replica.retired);
        let workload = self.apps.get_mut(app).and_then(|app| app.workloads.get_mut(name));
        let workload = workload.filter(|w| w.spec.task.is_some() && w.turn.asked.contains(id));
        let Some(workload) = workload else { return Ok(()) };
        match outcome {
            Outcome::Completed if workload.completed > 1 => {
                return wrong(
                    "jobs-once",
                    format!("{id} of {app}/{name} is another that completed"),
                );
            }
            Outcome::Completed => {
                workload.turn.due = false;
                *self.kinds.entry("a job of a rollout completed").or_default() += 1;
            }
            Outcome::Failed { .. } if !retired => {
                workload.turn.failed = true;
                *self.kinds.entry("a job of a rollout failed").or_default() += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// An app is as declared when its jobs have run; those that failed and let it be are named.
    pub(crate) fn check_turns(&self, e: &AppConverged) -> Judged {
        let Some(app) = self.apps.get(&e.app) else { return Ok(()) };
        let due = app.workloads.iter().filter(|(_, workload)| workload.turn.due);
        let failed: BTreeSet<&WorkloadName> = due.map(|(name, _)| name).collect();
        let named: BTreeSet<&WorkloadName> = e.failed.iter().map(|one| &one.workload).collect();
        let fails = |name: &&&WorkloadName| {
            let task = app.workloads.get(**name).and_then(|workload| workload.spec.task.as_ref());
            task.is_none_or(Task::fails_revision)
        };
        if failed != named || named.iter().any(|name| fails(&name)) {
            let what = format!("{} converged with {named:?}, and not {failed:?}", e.app);
            return wrong("jobs-first", what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, replica, workload};
    use schemas::event::{AppDeployed, CommandAccepted, Event, RequestedReplica};
    use schemas::id::{CommandId, Writer};
    use schemas::spec::{AppSpec, Mode, WorkloadSpec};

    use super::*;

    fn job(when: When) -> WorkloadSpec {
        let task = Some(Task { of: workload("web"), when, rollback: false });
        WorkloadSpec { mode: Mode::Job, task, ..WorkloadSpec::of_image("job:1") }
    }

    fn request(name: &str, id: &str, spec: &WorkloadSpec, generation: u64) -> Event {
        let one = RequestedReplica { id: replica(id), replaces: None, node: None };
        let (app, spec, replicas) = (app("shop"), spec.digest(), vec![one]);
        let workload = workload(name);
        ReplicasRequested { app, workload, revision: 1, spec, generation, replicas }.into()
    }

    /// What the model says of these, said after a web and its job were declared.
    fn judged(when: When, events: Vec<Event>) -> Judged {
        let mut history = History::default();
        let id = CommandId::new("c1").expect("an id");
        let workloads =
            [(workload("web"), WorkloadSpec::of_image("web:1")), (workload("job"), job(when))];
        let spec = AppSpec { name: app("shop").name, workloads: workloads.into() };
        let accepted = CommandAccepted {
            command: id.clone(),
            verb: "app.deploy".to_owned(),
            sequence: 1,
            proved: true,
            reason: None,
        };
        let mut all: Vec<Event> =
            vec![accepted.into(), AppDeployed { app: app("shop"), revision: 1, spec }.into()];
        all.extend(events);
        history.caused(&Writer::Controller, all, Some(id));
        let mut model = Model::new();
        history.entries.iter().try_for_each(|bytes| model.read(bytes))
    }

    #[test]
    fn what_begins_before_its_job_is_noticed() {
        let web = request("web", "shop-web-a", &WorkloadSpec::of_image("web:1"), 0);
        let noticed = judged(When::Before, vec![web.clone()]);
        assert_eq!(noticed.map_err(|(check, _)| check), Err("jobs-first"));
        assert_eq!(judged(When::After, vec![web]), Ok(()));
    }

    #[test]
    fn an_end_that_does_not_name_the_job_is_noticed() {
        for when in [When::Before, When::After] {
            let end = AppConverged { app: app("shop"), revision: 1, failed: Vec::new() };
            let noticed = judged(when, vec![end.into()]);
            assert_eq!(noticed.map_err(|(check, _)| check), Err("jobs-first"));
        }
    }

    #[test]
    fn a_job_that_has_not_to_run_is_noticed() {
        let spec = job(When::Before);
        let first = request("job", "shop-job-a", &spec, 1);
        assert_eq!(judged(When::Before, vec![first.clone()]), Ok(()));
        let named = schemas::event::TaskFailed { workload: workload("job"), reason: String::new() };
        let end = AppConverged { app: app("shop"), revision: 1, failed: vec![named] };
        let again = request("job", "shop-job-b", &spec, 1);
        let noticed = judged(When::After, vec![first, end.into(), again]);
        assert_eq!(noticed.map_err(|(check, _)| check), Err("jobs-once"));
    }
}
