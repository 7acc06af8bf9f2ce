//! What is declared, told as the command that would declare it.

use schemas::id::AppKey;
use schemas::spec::AppSpec;

use crate::state::{App, AppStatus, State};

impl State {
    /// What an app is declared as; none when it is not there, or on its way out.
    #[must_use]
    pub fn declared(&self, key: &AppKey) -> Option<AppSpec> {
        let app = self.apps.get(key).filter(|app| app.status != AppStatus::Deleting)?;
        Some(AppSpec { name: key.name.clone(), workloads: workloads(app) })
    }
}

fn workloads(
    app: &App,
) -> std::collections::BTreeMap<schemas::id::WorkloadName, schemas::spec::WorkloadSpec> {
    let declared = app.workloads.iter().filter(|(_, workload)| workload.declared);
    let specs = declared.filter_map(|(name, workload)| {
        let mut spec = app.specs.get(&workload.spec)?.clone();
        // Commands may have changed these since, and two workloads that differ in them alone share a spec.
        spec.replicas = workload.replicas;
        spec.autoscale = workload.autoscale;
        workload.conduct.say(&mut spec);
        Some((name.clone(), spec))
    });
    specs.collect()
}

#[cfg(test)]
mod tests {
    use schemas::event::{AppDeleteStarted, AppDeployed, WorkloadScaled};
    use schemas::id::Writer;
    use schemas::spec::WorkloadSpec;

    use super::*;
    use crate::history::{History, app, workload};

    #[test]
    fn what_is_declared_has_the_number_it_was_scaled_to() {
        let key = app("main/shop");
        let spec = WorkloadSpec { replicas: 2, ..WorkloadSpec::of_image("web:1") };
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: key.name.clone(), workloads };
        let mut history = History::default();
        let deployed = AppDeployed { app: key.clone(), revision: 1, spec: spec.clone() };
        history.add(&Writer::Controller, deployed);
        assert_eq!(history.fold.state().declared(&key), Some(spec.clone()));

        let (app, workload_name) = (key.clone(), workload("web"));
        let scaled = WorkloadScaled { app, workload: workload_name, from: 2, to: 5, reason: None };
        history.add(&Writer::Controller, scaled);
        let declared = history.fold.state().declared(&key).expect("it is declared");
        assert_eq!(declared.workloads[&workload("web")].replicas, 5);

        history.add(&Writer::Controller, AppDeleteStarted { app: key.clone() });
        assert_eq!(history.fold.state().declared(&key), None);
    }
}
