//! The words on the bus: generated files are fresh, samples decode, subjects parse back.
//!
//! `MUSTER_WRITE=1 cargo test -p tests --test contract` writes the generated files anew.

mod logs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use schemas::command::Command;
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::{NodeName, Tenant};
use schemas::registry::Role;
use schemas::{registry, subject};
use tests::root;

#[expect(clippy::disallowed_methods, reason = "a switch for whoever changes the schemas")]
fn is(path: &Path, wanted: &str) {
    if std::env::var("MUSTER_WRITE").is_ok() {
        fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("it can be made");
        fs::write(path, wanted).expect("it can be written");
        return;
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let hint = "write it anew: MUSTER_WRITE=1 cargo test -p tests --test contract";
    assert!(found == wanted, "{} is stale; {hint}", path.display());
}

#[test]
fn json_schemas_are_fresh() {
    let folder = root().join("schemas/json/v1");
    let pretty = |schema| serde_json::to_string_pretty(&schema).expect("a schema is JSON") + "\n";
    for (verb, schema) in Command::json_schemas() {
        is(&folder.join(format!("command.{verb}.json")), &pretty(schema));
    }
    for (kind, schema) in Event::json_schemas() {
        is(&folder.join(format!("event.{kind}.json")), &pretty(schema));
    }
}

#[test]
fn the_reference_of_messages_is_fresh() {
    let mut text = String::from(
        "# Messages\n\nGenerated from `schemas/src/registry.rs`. Fields: `muster schema NAME`, or `schemas/json/v1/`.\n\n\
         | message | kind | subject | stream | written by | read by |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for m in registry::messages() {
        let stream = m.stream.unwrap_or("-");
        text.push_str(&format!(
            "| {} | {} | `{}` | {stream} | {} | {} |\n",
            m.name, m.kind, m.subject, m.writer, m.readers
        ));
    }
    is(&root().join("docs/messages.md"), &text);
}

#[test]
fn the_permissions_of_the_bus_are_fresh() {
    let mut roles = vec![Role::EventLog];
    roles.extend(Role::DECIDERS.map(Role::Decider));
    let node = NodeName::new("n1").expect("a name");
    roles.extend([Role::Agent(node.clone()), Role::Gateway(node)]);
    roles.push(Role::User("operator".to_owned()));
    let users: Vec<(Role, String)> = roles
        .into_iter()
        .map(|role| {
            let password = format!("PASSWORD OF {}", role.user());
            (role, password)
        })
        .collect();
    let text = format!(
        "# Who may do what on the bus, for nats-server's configuration. Generated from\n\
         # schemas/src/registry.rs; a cluster has an agent and a gateway for each of its nodes, and as\n\
         # many users as it has people. Replace every password; include it with: include permissions.conf\n{}",
        registry::nats_users(&users)
    );
    is(&root().join("infra/permissions.conf"), &text);
}

#[test]
fn the_reference_of_compose_files_is_fresh() {
    is(&root().join("docs/compose.md"), &compose::support::markdown());
}

/// The example, as a user would deploy it: nothing of it is ignored.
#[test]
fn the_example_converts_without_a_warning() {
    let folder = root().join("docs/examples/shop");
    let file = folder.join("compose.yaml");
    let text = fs::read_to_string(&file).expect("it is there");
    let converted = compose::convert(&compose::Project {
        files: &[compose::Source { name: file.display().to_string(), text }],
        folder: &folder.display().to_string(),
        app: None,
        variables: &BTreeMap::new(),
        read: &|path| fs::read(path).map_err(|error| error.to_string()),
    });
    let converted = converted.unwrap_or_else(|invalid| panic!("{invalid}"));
    assert!(converted.warnings.is_empty(), "{:?}", converted.warnings);
    assert_eq!(converted.app.name.as_str(), "shop");
    assert_eq!((converted.app.workloads.len(), converted.contents.len()), (2, 1));
}

fn samples(folder: &str) -> BTreeMap<String, String> {
    let folder = root().join("schemas/golden/v1").join(folder);
    tests::files(&folder, &[".json"])
        .into_iter()
        .map(|path| {
            let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
            (name, fs::read_to_string(path).expect("it is text"))
        })
        .collect()
}

#[test]
fn every_command_has_a_sample_that_decodes_and_encodes_back() {
    let samples = samples("command");
    for verb in Command::VERBS {
        let sample = samples.get(*verb).unwrap_or_else(|| panic!("there is no sample of {verb}"));
        let (common, command) = Command::decode(verb, sample.as_bytes()).expect("it decodes");
        assert_eq!(Command::decode(verb, &command.encode(&common)), Ok((common, command)));
    }
}

#[test]
fn every_event_has_a_sample_that_decodes_for_ever() {
    let samples = samples("event");
    for (kind, _) in Event::TYPES {
        assert!(samples.contains_key(*kind), "there is no sample of {kind}");
    }
    for (name, sample) in &samples {
        // Fields that came later have a sample of their own: `ReplicasPlaced.passed-over`.
        let kind = name.split('.').next().expect("a name");
        let known = Event::TYPES.iter().find(|(known, _)| *known == kind);
        let (_, by) = known.unwrap_or_else(|| panic!("{name} is of no known type"));
        let envelope = Envelope::decode(sample.trim().as_bytes()).expect("it decodes");
        assert_eq!(envelope.event.kind(), kind);
        assert!(by.allows(&envelope.header.writer), "{kind} by {}", envelope.header.writer);
        assert_eq!(Envelope::decode(&envelope.encode()).expect("it decodes"), envelope);
        let about = envelope.event.about();
        let tenant = Tenant::new(envelope.event.tenant()).expect("a name");
        let subject = subject::event(&tenant, &about);
        let parsed = subject::parse_event(&subject).unwrap_or_else(|| panic!("{subject}"));
        assert_eq!(
            (parsed.noun, parsed.id, parsed.verb),
            (about.noun, about.id.as_str(), about.verb)
        );
    }
}
