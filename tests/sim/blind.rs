//! The real controller, blind to something that its rules go by: what it decides then must be seen to be wrong.

use cluster::State;
use cluster::state::{App, Workload};
use controller::{Controller, Heard};
use decider::{Decision, Now, Rules};
use schemas::id::{AppKey, Writer};
use schemas::place::Place;
use schemas::spec::When;

use crate::near::PACE;

/// What it is blind to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blindness {
    /// How many ready replicas must be left.
    Floors,
    /// How many may stand beside those that they replace.
    Surge,
    /// That a job comes before what it is a job of.
    Before,
    /// That a job has run.
    Done,
    /// Which files the good declaration had: it takes those that are declared.
    Files,
}

impl Blindness {
    /// A workload as it is seen.
    fn hide(self, workload: &mut Workload, begun: bool) {
        let conduct = &mut workload.conduct;
        match self {
            Self::Floors => conduct.min_ready = None,
            Self::Surge => conduct.update.max_surge = None,
            Self::Before => {
                if let Some(task) = &mut conduct.task {
                    task.when = When::After;
                }
            }
            Self::Done if conduct.task.is_some() && !begun => {
                (workload.due, workload.failures, workload.completed) = (true, 0, 0);
            }
            Self::Done | Self::Files => {}
        }
    }

    /// An app as it is seen.
    fn hide_of(self, app: &mut App) {
        let Some(good) = app.good.as_mut().filter(|_| self == Self::Files) else { return };
        for (name, spec) in &mut good.spec.workloads {
            let declared =
                app.workloads.get(name).and_then(|workload| app.specs.get(&workload.spec));
            if let Some(declared) = declared {
                spec.configs.clone_from(&declared.configs);
            }
        }
    }
}

/// The controller, and what it is blind to, if anything.
pub(crate) struct Blind {
    controller: Controller,
    to: Option<Blindness>,
}

impl Blind {
    pub(crate) fn to(to: Option<Blindness>) -> Self {
        Self { controller: Controller::default().measuring(PACE), to }
    }
}

impl Rules for Blind {
    type Input = Heard;
    type Output = <Controller as Rules>::Output;

    fn writer(&self) -> Writer {
        self.controller.writer()
    }

    fn input(&mut self, heard: Heard, state: &State, now: Now) {
        self.controller.input(heard, state, now);
    }

    fn connected(&mut self, now: Now) {
        self.controller.connected(now);
    }

    fn decide(&mut self, state: &mut State, now: Now) -> Decision {
        let Some(to) = self.to else { return self.controller.decide(state, now) };
        let mut seen = state.clone();
        let apps: Vec<AppKey> = seen.apps.iter().map(|(key, _)| key.clone()).collect();
        for key in &apps {
            seen.apps.update(key, |app| {
                to.hide_of(app);
                for (name, workload) in &mut app.workloads {
                    let begun = state.replicas_of(key, name).next().is_some();
                    to.hide(workload, begun);
                }
            });
        }
        let decision = self.controller.decide(&mut seen, now);
        state.touched = seen.touched;
        decision
    }

    fn reflect(&mut self, state: &mut State, place: Place, now: Now) -> Vec<Self::Output> {
        self.controller.reflect(state, place, now)
    }

    fn exists(&mut self, entity: &str) {
        self.controller.exists(entity);
    }

    fn lead(&mut self, state: &State, now: Now) {
        self.controller.lead(state, now);
    }
}
