//! Several files as one.

use super::{files, web};
use schemas::spec::{MountSource, WorkloadSpec};

/// What `web` is when the second text is laid over the first.
#[track_caller]
fn merged(under: &str, upper: &str) -> WorkloadSpec {
    let upper = format!("services:\n  web:\n{}", super::indented(upper, 4));
    let converted = files(&[&(web(under) + "volumes: {data: , other: }\n"), &upper]);
    let converted = converted.unwrap_or_else(|invalid| panic!("{invalid}"));
    assert!(converted.warnings.is_empty(), "{:?}", super::warnings(&converted));
    converted.app.workloads.into_values().next().expect("there is one")
}

#[test]
fn single_values_and_commands_are_replaced() {
    let spec =
        merged("command: [a, b]\nentrypoint: x\nuser: a", "command: c d\nuser: b\nimage: web:2");
    assert_eq!(spec.command, Some(vec!["c".to_owned(), "d".to_owned()]));
    assert_eq!(spec.entrypoint, Some(vec!["x".to_owned()]));
    assert_eq!((spec.user.as_deref(), spec.image.as_str()), (Some("b"), "web:2"));
}

#[test]
fn variables_and_labels_merge_in_either_form() {
    let spec = merged(
        "environment: [A=1, B=1]\nlabels: {a: 1}",
        "environment: {B: 2, C: 3}\nlabels: [b=2]",
    );
    let env: Vec<String> = spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(env, ["A=1", "B=2", "C=3"]);
    assert_eq!(spec.labels.len(), 2);
}

#[test]
fn ports_and_lists_are_appended_once() {
    let spec = merged(
        "ports: ['80:80', '81:81']\ncap_add: [A]",
        "ports: ['80:80', '82:82']\ncap_add: [A, B]",
    );
    let published: Vec<_> = spec.ports.iter().filter_map(|port| port.published).collect();
    assert_eq!(published, [80, 81, 82]);
    assert_eq!(spec.security.cap_add, ["A", "B"]);
}

#[test]
fn volumes_are_replaced_by_their_target() {
    let spec = merged("volumes: ['data:/data', './a:/a']", "volumes: ['other:/data:ro']");
    assert_eq!(spec.mounts.len(), 2);
    assert!(spec.mounts[0].read_only);
    assert!(
        matches!(&spec.mounts[0].source, MountSource::Volume(name) if name.as_str() == "other")
    );
}

#[test]
fn deeper_mappings_merge_and_null_says_nothing() {
    let spec = merged(
        "deploy: {replicas: 2, resources: {limits: {cpus: 1, memory: 64M}}}\nuser: a",
        "deploy: {resources: {limits: {cpus: 2}}}\nuser:",
    );
    assert_eq!(spec.replicas, 2);
    assert_eq!(spec.resources.cpu_limit_millis, Some(2_000));
    assert_eq!(spec.resources.memory_limit_bytes, Some(67_108_864));
    assert_eq!(spec.user.as_deref(), Some("a"));
}

#[test]
fn tags_reset_and_override() {
    let spec = merged(
        "ports: ['80:80']\nuser: a\nenvironment: {A: 1, B: 1}",
        "ports: !override ['81:81']\nuser: !reset null\nenvironment: {A: !reset null}",
    );
    assert_eq!(spec.ports.len(), 1);
    assert_eq!((spec.ports[0].published, spec.user), (Some(81), None));
    assert!(spec.env.contains_key("B"));
}

#[test]
fn a_later_file_adds_services_and_renames_the_app() {
    let converted =
        files(&[&web(""), "name: other\nservices: {db: {image: db}}", "services: {db: {user: x}}"]);
    let converted = converted.expect("it is right");
    assert_eq!(converted.app.name.as_str(), "other");
    assert_eq!(converted.app.workloads["db"].user.as_deref(), Some("x"));
    assert_eq!(converted.app.workloads.len(), 2);
}

#[test]
fn dependencies_merge_in_either_form() {
    let text =
        "services:\n  web: {image: a, depends_on: [db]}\n  db: {image: a}\n  mq: {image: a}\n";
    let upper = "services: {web: {depends_on: {mq: {condition: service_healthy}}}}";
    let converted = files(&[text, upper]).expect("it is right");
    assert_eq!(converted.app.workloads["web"].depends_on.len(), 2);
}
