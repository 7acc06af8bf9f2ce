//! What it takes to go back to what was declared at another moment, and what no command brings back.

use cluster::State;
use schemas::id::AppKey;
use schemas::spec::{AppSpec, MountSource, WorkloadSpec};
use serde::Serialize;

use crate::difference::{Field, differences};

/// A command that brings an app back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) app: AppKey,
    #[serde(flatten)]
    pub(crate) change: Change,
    /// What differs, from now to then.
    pub(crate) fields: Vec<Field>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum Change {
    /// `app.deploy` of what was declared then.
    Deploy { spec: AppSpec },
    /// `app.delete`: the app was not declared then.
    Delete,
}

/// What stays as it is, whatever is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Kept {
    pub(crate) app: AppKey,
    pub(crate) what: String,
}

/// The steps from what is declared now to what was then. Apps end before others come back: they may
/// hold a port.
pub(crate) fn steps(then: &State, now: &State, apps: &[AppKey]) -> Vec<Step> {
    let wanted = |key: &AppKey| apps.is_empty() || apps.contains(key);
    let mut keys: Vec<&AppKey> =
        then.apps.iter().chain(now.apps.iter()).map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    let mut steps: Vec<Step> =
        keys.into_iter().filter(|key| wanted(key)).filter_map(|key| step(then, now, key)).collect();
    steps.sort_by_key(|step| step.change != Change::Delete);
    steps
}

fn step(then: &State, now: &State, key: &AppKey) -> Option<Step> {
    let (was, is) = (then.declared(key), now.declared(key));
    let app = key.clone();
    match (was, is) {
        (Some(was), is) if is.as_ref() != Some(&was) => {
            let json = |spec: Option<&AppSpec>| serde_json::to_value(spec).unwrap_or_default();
            let mut fields = Vec::new();
            // A new app is said to be new, not field by field.
            if is.is_some() {
                differences("", &json(is.as_ref()), &json(Some(&was)), &mut fields);
            }
            Some(Step { app, change: Change::Deploy { spec: was }, fields })
        }
        (None, Some(_)) => Some(Step { app, change: Change::Delete, fields: Vec::new() }),
        _ => None,
    }
}

/// What those steps cannot bring back.
pub(crate) fn kept(then: &State, now: &State, steps: &[Step]) -> Vec<Kept> {
    let mut kept = Vec::new();
    for step in steps {
        let mut keep = |what| kept.push(Kept { app: step.app.clone(), what });
        let Change::Deploy { spec } = &step.change else {
            for volume in now.apps.get(&step.app).into_iter().flat_map(|app| app.volumes.keys()) {
                keep(format!("volume {volume} stays on its node with its data"));
            }
            continue;
        };
        for (name, workload) in &spec.workloads {
            for mount in &workload.mounts {
                if let MountSource::Volume(volume) = &mount.source {
                    keep(format!("{name}: data written to volume {volume} since then stays"));
                }
            }
            if let Some(image) = moved_image(then, now, &step.app, workload) {
                keep(format!("{name}: {image}"));
            }
        }
    }
    kept.sort_by(|a, b| (&a.app, &a.what).cmp(&(&b.app, &b.what)));
    kept.dedup();
    kept
}

/// An image that was named by a tag is resolved anew: what it meant then may be gone.
fn moved_image(then: &State, now: &State, key: &AppKey, spec: &WorkloadSpec) -> Option<String> {
    if spec.image.contains('@') {
        return None;
    }
    let digest = spec.digest();
    let meant = then.apps.get(key)?.images.get(&digest)?;
    let means = now.apps.get(key).and_then(|app| app.images.get(&digest));
    (means != Some(meant)).then(|| {
        let tag = &spec.image;
        format!("image {tag} meant {meant} then, and is whatever {tag} means when it is deployed")
    })
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, node, workload};
    use schemas::event::{AppDeployed, ImageResolved, WorkloadScaled};
    use schemas::id::{VolumeName, Writer};
    use schemas::spec::Mount;

    use super::*;

    fn deploy(history: &mut History, name: &str, revision: u64, spec: WorkloadSpec) {
        let key = app(name);
        let workloads = [(workload("web"), spec)].into();
        let spec = AppSpec { name: key.name.clone(), workloads };
        history.add(&Writer::Controller, AppDeployed { app: key, revision, spec });
    }

    fn image(name: &str) -> WorkloadSpec {
        WorkloadSpec::of_image(name)
    }

    #[test]
    fn every_app_goes_back_to_what_was_declared() {
        let mut history = History::default();
        deploy(&mut history, "main/shop", 1, image("web:1"));
        deploy(&mut history, "main/same", 1, image("web:1"));
        let then = history.fold.state().clone();
        deploy(&mut history, "main/shop", 2, image("web:2"));
        let (key, web) = (app("main/shop"), workload("web"));
        let (from, to, reason) = (1, 4, None);
        history.add(
            &Writer::Controller,
            WorkloadScaled { app: key.clone(), workload: web, from, to, reason },
        );
        deploy(&mut history, "main/new", 1, image("web:1"));
        let now = history.fold.state();

        let found = steps(&then, now, &[]);
        let names: Vec<String> = found.iter().map(|step| step.app.short()).collect();
        assert_eq!(names, ["new", "shop"], "what is not declared then ends first");
        assert_eq!(found[0].change, Change::Delete);
        let paths: Vec<&str> = found[1].fields.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["workloads.web.image", "workloads.web.replicas"]);
        assert_eq!(
            found[1].change,
            Change::Deploy { spec: then.declared(&key).expect("declared") }
        );
        assert_eq!(steps(&then, now, &[app("main/same")]), []);
        assert_eq!(steps(now, now, &[]), []);
    }

    #[test]
    fn what_stays_is_said() {
        let mut history = History::default();
        let volume = MountSource::Volume(VolumeName::new("data").expect("a name"));
        let mount = Mount { source: volume, target: "/data".to_owned(), read_only: false };
        let spec = WorkloadSpec { mounts: vec![mount], ..image("web:latest") };
        deploy(&mut history, "main/shop", 1, spec.clone());
        let (reference, image_id) = ("web:latest".to_owned(), "sha256:aa".to_owned());
        let resolved = ImageResolved {
            app: app("main/shop"),
            spec: spec.digest(),
            reference,
            image: image_id,
        };
        history.add(&Writer::Agent(node("n1")), resolved);
        let then = history.fold.state().clone();
        deploy(&mut history, "main/shop", 2, image("web:2"));
        let now = history.fold.state();
        let kept = kept(&then, now, &steps(&then, now, &[]));
        let texts: Vec<&str> = kept.iter().map(|kept| kept.what.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("volume data"), "{texts:?}");
        assert!(texts[1].contains("sha256:aa"), "{texts:?}");
    }
}
