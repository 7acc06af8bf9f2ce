//! An app, as the model knows it: what is declared of it.

use std::collections::BTreeMap;

use schemas::event::Unfit;
use schemas::id::{AppKey, Digest, NodeName, WorkloadName};
use schemas::spec::{AppSpec, WorkloadSpec};

use super::Model;
use crate::rollouts::{Held, Way};
use crate::tasks::Turn;

/// An app.
#[derive(Debug, Default)]
pub(crate) struct App {
    pub(crate) deleting: bool,
    pub(crate) workloads: BTreeMap<WorkloadName, Workload>,
    pub(super) specs: BTreeMap<Digest, WorkloadSpec>,
    pub(crate) stalled: Option<WorkloadName>,
    pub(crate) volumes: BTreeMap<String, NodeName>,
    pub(crate) way: Way,
}

/// A workload that is declared.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) spec: WorkloadSpec,
    pub(crate) digest: Digest,
    pub(crate) replicas: u64,
    pub(crate) generation: u64,
    pub(crate) completed: u64,
    pub(crate) unplaced: Vec<Unfit>,
    pub(crate) held: Held,
    pub(crate) turn: Turn,
}

impl Model {
    pub(super) fn deployed(&mut self, key: &AppKey, spec: &AppSpec) {
        let serving = self.serving(key);
        let app = self.app(key);
        app.deleting = false;
        app.stalled = None;
        app.workloads.retain(|name, _| spec.workloads.contains_key(name));
        for (name, spec) in &spec.workloads {
            let digest = spec.digest();
            app.specs.insert(digest.clone(), spec.clone());
            let changed = app.workloads.get(name).is_none_or(|before| before.digest != digest);
            let workload = app.workloads.entry(name.clone()).or_insert_with(|| Workload {
                spec: spec.clone(),
                digest: digest.clone(),
                replicas: 0,
                generation: 0,
                completed: 0,
                unplaced: Vec::new(),
                held: Held::default(),
                turn: Turn::default(),
            });
            if workload.digest != digest {
                workload.completed = 0;
            }
            let rolls = app.way.good(name).is_some_and(|before| before.digest() != digest);
            if !rolls || changed {
                let promoted = !serving.contains(name);
                workload.held = Held { rolls, promoted, ..Held::default() };
            }
            workload.turn.declared(changed);
            workload.spec = spec.clone();
            workload.digest = digest;
            workload.replicas = u64::from(spec.replicas);
        }
        app.begin_turns();
    }
}
