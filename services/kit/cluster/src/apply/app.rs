//! Apps and their workloads.

use schemas::event::{
    AppConverged, AppDeleteStarted, AppDeleted, AppDeployed, AppStalled, ImageResolved,
    ReplicasUnplaced, WorkloadRestarted, WorkloadScaled,
};
use schemas::id::{AppKey, Digest, WorkloadName};
use schemas::spec::{Mode, WorkloadSpec};

use super::{At, cause};
use crate::state::{App, AppStatus, Conduct, Rollout, State, Workload};

impl State {
    pub(crate) fn app_deployed(&mut self, at: &At<'_>, e: &AppDeployed) {
        let expected = self.apps.get(&e.app).map_or(1, |app| app.revision + 1);
        if e.revision != expected {
            self.anomaly(at, format!("{} went to revision {}", e.app, e.revision));
        }
        let good = self.good_before(&e.app);
        let serving = self.serving(&e.app, good.as_ref());
        let mut app = self.apps.remove(&e.app).unwrap_or_else(|| App {
            revision: 0,
            status: AppStatus::Converging,
            workloads: Default::default(),
            specs: Default::default(),
            images: Default::default(),
            volumes: Default::default(),
            proven: 0,
            good: None,
            rolled_back: None,
            changed_at: 0,
            since_ms: 0,
            cause: cause(at),
        });
        // Right behind a failure comes the declaration that takes it back; the next one is another's.
        app.rolled_back = app.rolled_back.filter(|failed| failed.revision + 1 == e.revision);
        app.good = good;
        app.revision = e.revision;
        app.status = AppStatus::Converging;
        app.changed_at = at.position;
        app.since_ms = at.recorded_ms;
        app.cause = cause(at);
        for (name, workload) in &mut app.workloads {
            if !e.spec.workloads.contains_key(name) && workload.declared {
                workload.declared = false;
                workload.replicas = 0;
                workload.rollout = None;
                workload.cause = cause(at);
            }
        }
        for (name, spec) in &e.spec.workloads {
            declare(&mut app, at, name, spec, serving.contains(name));
        }
        for (name, spec) in &e.spec.workloads {
            if let Some(task) = &spec.task {
                app.make_due(name, &task.of);
            }
        }
        for (name, workload) in app.workloads.iter_mut().filter(|(_, w)| w.number.is_none()) {
            workload.number = self.index.numbers.take(&e.app, name);
        }
        self.apps.insert(e.app.clone(), app);
        self.all_stay(&e.app);
        self.drop_unused(&e.app);
        self.touched.apps.insert(e.app.clone());
    }

    pub(crate) fn app_converged(&mut self, at: &At<'_>, e: &AppConverged) {
        self.set_status(at, &e.app, AppStatus::Converged);
        let over = self.apps.update(&e.app, |app| {
            app.proven = e.revision;
            // One that failed without taking the revision back has had its turn.
            for workload in app.workloads.values_mut() {
                workload.due = false;
            }
            let over = app.good.take().is_some();
            for workload in app.workloads.values_mut().filter(|_| over) {
                workload.rollout = None;
                workload.symptom = None;
            }
            over
        });
        if over == Some(true) {
            self.drop_unused(&e.app);
        }
    }

    pub(crate) fn app_stalled(&mut self, at: &At<'_>, e: &AppStalled) {
        let status = AppStatus::Stalled { workload: e.workload.clone(), reason: e.reason.clone() };
        self.set_status(at, &e.app, status);
    }

    pub(crate) fn app_delete_started(&mut self, at: &At<'_>, e: &AppDeleteStarted) {
        self.set_status(at, &e.app, AppStatus::Deleting);
        self.apps.update(&e.app, |app| {
            app.changed_at = at.position;
            app.cause = cause(at);
            // Whoever ends it wants nothing of it back.
            (app.proven, app.good, app.rolled_back) = (0, None, None);
            for workload in app.workloads.values_mut() {
                workload.declared = false;
                workload.replicas = 0;
                workload.rollout = None;
                workload.cause = cause(at);
            }
        });
    }

    pub(crate) fn app_deleted(&mut self, at: &At<'_>, e: &AppDeleted) {
        if self.index.by_workload.keys().any(|(app, _)| *app == e.app) {
            self.anomaly(at, format!("{} was deleted before its replicas ended", e.app));
        }
        match self.apps.remove(&e.app) {
            Some(app) => {
                let numbers = app.workloads.values().filter_map(|workload| workload.number);
                self.index.numbers.give_back(numbers);
            }
            None => self.anomaly(at, format!("{} was deleted without being there", e.app)),
        }
    }

    fn set_status(&mut self, at: &At<'_>, key: &AppKey, status: AppStatus) {
        let done = self.apps.update(key, |app| {
            app.status = status;
            app.since_ms = at.recorded_ms;
        });
        if done.is_none() {
            self.anomaly(at, format!("{key} is told of without being there"));
        }
        self.touched.apps.insert(key.clone());
    }

    pub(crate) fn workload_scaled(&mut self, at: &At<'_>, e: &WorkloadScaled) {
        self.change_workload(at, &e.app, &e.workload, |workload| {
            workload.replicas = e.to;
            workload.lacking.clear();
            workload.cause = cause(at);
        });
    }

    pub(crate) fn workload_restarted(&mut self, at: &At<'_>, e: &WorkloadRestarted) {
        self.change_workload(at, &e.app, &e.workload, |workload| {
            workload.generation = e.generation;
            workload.begin_anew();
            workload.due = workload.conduct.task.is_some();
            workload.cause = cause(at);
        });
    }

    pub(super) fn change_workload(
        &mut self,
        at: &At<'_>,
        key: &AppKey,
        name: &WorkloadName,
        change: impl FnOnce(&mut Workload),
    ) {
        self.all_stay(key);
        let done = self.apps.update(key, |app| {
            app.status = AppStatus::Converging;
            app.since_ms = at.recorded_ms;
            app.changed_at = at.position;
            app.cause = cause(at);
            app.workloads.get_mut(name).map(change)
        });
        if done.flatten().is_none() {
            self.anomaly(at, format!("{key}/{name} is told of without being there"));
        }
        self.touched.apps.insert(key.clone());
    }

    /// Lawful when the app has gone meanwhile: the scheduler told of what it saw.
    pub(crate) fn replicas_unplaced(&mut self, e: &ReplicasUnplaced) {
        self.apps.update(&e.app, |app| {
            if let Some(workload) = app.workloads.get_mut(&e.workload) {
                workload.unplaced.clone_from(&e.reasons);
            }
        });
        self.touched.apps.insert(e.app.clone());
    }

    /// The first statement wins. Lawful when the app has gone meanwhile, or declares another spec.
    pub(crate) fn image_resolved(&mut self, e: &ImageResolved) {
        self.apps.update(&e.app, |app| {
            if app.specs.contains_key(&e.spec) {
                app.images.entry(e.spec.clone()).or_insert_with(|| e.image.clone());
            }
        });
        let replicas = self.replicas.iter().filter(|(_, r)| r.app == e.app && r.spec == e.spec);
        self.touched.nodes.extend(replicas.filter_map(|(_, r)| r.node.clone()));
    }

    /// Forgets the specs, images and workloads of an app that nothing has any more.
    pub(crate) fn drop_unused(&mut self, key: &AppKey) {
        let Some(app) = self.apps.get(key) else { return };
        let idle = |name: &WorkloadName| self.replicas_of(key, name).next().is_none();
        let gone: Vec<WorkloadName> = app
            .workloads
            .iter()
            .filter(|(name, workload)| !workload.declared && idle(name))
            .map(|(name, _)| name.clone())
            .collect();
        // A workload that is not declared any more has its spec until its replicas are gone: the spec
        // says what ends before what.
        let used = |digest: &Digest| {
            if app.good.as_ref().is_some_and(|good| good.digests.values().any(|d| d == digest)) {
                return true;
            }
            let mut there = app.workloads.iter().filter(|(name, _)| !gone.contains(name));
            there.any(|(name, workload)| {
                workload.spec == *digest
                    || self.replicas_of(key, name).any(|(_, replica)| replica.spec == *digest)
            })
        };
        let unused: Vec<Digest> = app.specs.keys().filter(|d| !used(d)).cloned().collect();
        if gone.is_empty() && unused.is_empty() {
            return;
        }
        let numbers = &mut self.index.numbers;
        self.apps.update(key, |app| {
            for name in &gone {
                let workload = app.workloads.remove(name);
                numbers.give_back(workload.and_then(|workload| workload.number));
            }
            for digest in &unused {
                app.specs.remove(digest);
                app.images.remove(digest);
            }
        });
    }
}

fn declare(
    app: &mut App,
    at: &At<'_>,
    name: &WorkloadName,
    spec: &WorkloadSpec,
    good_serves: bool,
) {
    let digest = spec.digest();
    let replicas = count(app, name, spec);
    app.specs.insert(digest.clone(), spec.clone());
    let revision = app.revision;
    let workload = app.workloads.entry(name.clone()).or_insert_with(|| Workload {
        declared: true,
        spec: digest.clone(),
        revision,
        replicas,
        autoscale: spec.autoscale,
        conduct: Conduct::of(spec),
        number: None,
        calls: None,
        generation: 0,
        requested: 0,
        completed: 0,
        failures: 0,
        failed_ms: 0,
        failure: String::new(),
        was_ready: false,
        due: false,
        unplaced: Vec::new(),
        lacking: Default::default(),
        rollout: None,
        symptom: None,
        cause: cause(at),
    });
    if workload.spec != digest || !workload.declared {
        workload.spec = digest;
        workload.revision = revision;
        workload.begin_anew();
        // What goes back to the good spec is held back by nothing.
        let good = app.good.as_ref().and_then(|good| good.digests.get(name));
        let from = good.filter(|from| **from != workload.spec);
        workload.rollout =
            from.map(|from| Rollout::begin(from.clone(), good_serves, at.recorded_ms));
    }
    workload.declared = true;
    workload.replicas = replicas;
    workload.autoscale = spec.autoscale;
    workload.conduct = Conduct::of(spec);
    // Whoever declares again may have brought the image.
    workload.lacking.clear();
    workload.cause = cause(at);
}

/// How many replicas a declaration asks for. An autoscaled workload keeps the number it has, within
/// bounds: the one in the declaration is as old as the file, and the load is not.
fn count(app: &App, name: &WorkloadName, spec: &WorkloadSpec) -> u32 {
    let Some(autoscale) = &spec.autoscale else { return spec.replicas };
    let has = app.workloads.get(name).filter(|workload| {
        let mode = app.specs.get(&workload.spec).map(|spec| spec.mode);
        workload.declared && mode == Some(Mode::Replicated)
    });
    autoscale.nearest(has.map_or(spec.replicas, |workload| workload.replicas))
}

impl App {
    /// A job of a rollout has to run when the newest declaration changes the workload that it is for,
    /// unless that takes a failed one back.
    fn make_due(&mut self, name: &WorkloadName, of: &WorkloadName) {
        let changes = self.workloads.get(of).is_some_and(|of| of.revision == self.revision);
        let goes_back = self.rolled_back.is_some();
        let Some(job) = self.workloads.get_mut(name) else { return };
        job.due &= !goes_back;
        if changes && !goes_back {
            job.begin_anew();
            job.generation += 1;
            job.due = true;
        }
    }
}

impl Workload {
    /// Forgets how replicas of another spec or generation fared.
    fn begin_anew(&mut self) {
        self.completed = 0;
        self.failures = 0;
        self.failed_ms = 0;
        self.failure.clear();
        self.was_ready = false;
        self.unplaced.clear();
        self.lacking.clear();
        self.symptom = None;
    }
}
