//! The fields of a declaration, each with the event that last set it.

use std::collections::BTreeMap;

use schemas::envelope::Envelope;
use schemas::event::{AppDeployed, Event};
use schemas::spec::Mode;
use serde_json::Value;

/// Fields by their path, as rejections name them.
pub(crate) type Fields<'a> = BTreeMap<String, (Value, &'a Envelope)>;

/// What an app's events make of its declaration. Empty: it is not declared.
pub(crate) fn fields(events: &[Envelope]) -> Fields<'_> {
    let mut fields = Fields::new();
    for event in events {
        match &event.event {
            Event::AppDeployed(e) => deployed(&mut fields, event, e),
            Event::WorkloadScaled(e) => {
                fields.insert(count_of(e.workload.as_str()), (e.to.into(), event));
            }
            Event::WorkloadRestarted(e) => {
                let path = format!("app.workloads.{}", e.workload);
                fields.insert(format!("{path} (restarts)"), (e.generation.into(), event));
            }
            Event::AppDeleted(_) => fields.clear(),
            _ => {}
        }
    }
    fields
}

fn count_of(workload: &str) -> String {
    format!("app.workloads.{workload}.replicas")
}

/// A field that stays as it was is still whoever's it was.
fn deployed<'a>(fields: &mut Fields<'a>, event: &'a Envelope, e: &AppDeployed) {
    let spec = serde_json::to_value(&e.spec).expect("a spec has string keys only");
    let mut found = BTreeMap::new();
    flatten("app", &spec, &mut found);
    for (name, spec) in &e.spec.workloads {
        let count = count_of(name.as_str());
        // An autoscaled workload that is declared again keeps the number it has, within bounds.
        if let (Some(bounds), Mode::Replicated) = (&spec.autoscale, spec.mode)
            && let Some(has) = fields.get(&count).and_then(|(value, _)| value.as_u64())
        {
            let has = u32::try_from(has).unwrap_or(u32::MAX);
            found.insert(count, bounds.nearest(has).into());
        }
        // How often it was restarted is not declared, and outlives a declaration.
        let restarts = format!("app.workloads.{name} (restarts)");
        if let Some((value, _)) = fields.get(&restarts) {
            found.insert(restarts, value.clone());
        }
    }
    let kept = |path: &String, value: &Value| {
        fields.get(path).filter(|(was, _)| was == value).map(|(_, by)| *by)
    };
    *fields = found
        .into_iter()
        .map(|(path, value)| {
            let by = kept(&path, &value).unwrap_or(event);
            (path, (value, by))
        })
        .collect();
}

/// The leaves of a JSON value by their path: `app.workloads.web.ports[0].container`.
pub(crate) fn flatten(path: &str, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                flatten(&format!("{path}.{key}"), value, found);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, value) in items.iter().enumerate() {
                flatten(&format!("{path}[{i}]"), value, found);
            }
        }
        leaf => {
            found.insert(path.to_owned(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::{History, app, workload};
    use schemas::event::{AppDeleted, WorkloadRestarted, WorkloadScaled};
    use schemas::id::Writer;
    use schemas::spec::{AppSpec, Autoscale, Port, Protocol, WorkloadSpec};

    use super::*;

    /// A history of declarations of `shop/web`, and the position of each event relative to the first.
    fn told(events: Vec<Event>) -> (Vec<Envelope>, u64) {
        let mut history = History::default();
        let begin = history.entries.len();
        for event in events {
            history.add(&Writer::Controller, event);
        }
        let decoded: Vec<Envelope> = history.entries[begin..]
            .iter()
            .map(|entry| Envelope::decode(entry).expect("it decodes"))
            .collect();
        let first = decoded[0].header.position;
        (decoded, first)
    }

    fn deploy(revision: u64, spec: WorkloadSpec) -> Event {
        let spec = AppSpec { name: app("shop").name, workloads: [(workload("web"), spec)].into() };
        AppDeployed { app: app("shop"), revision, spec }.into()
    }

    fn scale(from: u32, to: u32) -> Event {
        let (app, workload) = (app("shop"), workload("web"));
        WorkloadScaled { app, workload, from, to, reason: None }.into()
    }

    fn spec(image: &str, replicas: u32) -> WorkloadSpec {
        let port = Port {
            container: 8080,
            host: None,
            published: None,
            protocol: Protocol::Tcp,
            app: Default::default(),
        };
        let mut spec =
            WorkloadSpec { replicas, ports: vec![port], ..WorkloadSpec::of_image(image) };
        spec.env.insert("MODE".to_owned(), "fast".to_owned());
        spec
    }

    fn set_by(events: &[Envelope], path: &str) -> Option<(Value, u64)> {
        fields(events).get(path).map(|(value, by)| (value.clone(), by.header.position))
    }

    #[test]
    fn each_field_is_whoever_set_it_last() {
        let (events, at) = told(vec![
            deploy(1, spec("web:1", 2)),
            scale(2, 5),
            deploy(2, spec("web:2", 5)),
            WorkloadRestarted { app: app("shop"), workload: workload("web"), generation: 1 }.into(),
        ]);
        let of = |path: &str| set_by(&events, path);
        assert_eq!(of("app.workloads.web.image"), Some(("web:2".into(), at + 2)));
        assert_eq!(of("app.workloads.web.replicas"), Some((5.into(), at + 1)));
        assert_eq!(of("app.workloads.web.env.MODE"), Some(("fast".into(), at)));
        assert_eq!(of("app.workloads.web.ports[0].container"), Some((8080.into(), at)));
        assert_eq!(of("app.workloads.web (restarts)"), Some((1.into(), at + 3)));
    }

    #[test]
    fn a_declaration_takes_a_number_back_unless_it_is_autoscaled() {
        let (events, at) =
            told(vec![deploy(1, spec("web:1", 2)), scale(2, 5), deploy(2, spec("web:1", 2))]);
        assert_eq!(set_by(&events, "app.workloads.web.replicas"), Some((2.into(), at + 2)));
        let bounds = Some(Autoscale { cpu_percent: Some(50), ..Autoscale::of_bounds(1, 9) });
        let scaled = |image| WorkloadSpec { autoscale: bounds, ..spec(image, 2) };
        let (events, at) =
            told(vec![deploy(1, scaled("web:1")), scale(2, 5), deploy(2, scaled("web:2"))]);
        assert_eq!(set_by(&events, "app.workloads.web.replicas"), Some((5.into(), at + 1)));
    }

    #[test]
    fn what_is_deleted_or_left_out_is_not_declared() {
        let mut without = spec("web:1", 2);
        without.env.clear();
        let (events, _) = told(vec![deploy(1, spec("web:1", 2)), deploy(2, without)]);
        assert_eq!(set_by(&events, "app.workloads.web.env.MODE"), None);
        let gone = AppDeleted { app: app("shop") };
        let (events, _) = told(vec![deploy(1, spec("web:1", 2)), gone.into()]);
        assert!(fields(&events).is_empty());
    }
}
