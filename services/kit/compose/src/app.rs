//! The app as a whole: its name, what is declared beside services, and how services depend on each other.

use std::collections::BTreeMap;

use schemas::id::{AppName, Digest, VolumeName, WorkloadName};
use schemas::spec::{AppSpec, Condition, Mode, RestartPolicy, WorkloadSpec};

use crate::diagnose::{Notes, Spot, Wrong, meant};
use crate::fields::{Fields, map, text};
use crate::node::{Entry, Node, Value, parse};
use crate::service::Service;
use crate::support::{NETWORK, TOP, VOLUME, Verdict};
use crate::{Converted, Project, configs, merge, service, tasks};

/// What services refer to.
pub(crate) struct Context<'a> {
    pub(crate) project: &'a Project<'a>,
    /// Services by the name in the file.
    pub(crate) services: BTreeMap<String, WorkloadName>,
    /// Volumes by the name in the file.
    pub(crate) volumes: BTreeMap<String, VolumeName>,
    /// Configs by name, as the digests of their contents.
    pub(crate) configs: BTreeMap<String, Digest>,
}

/// Converts what can be converted; what cannot is in the notes.
pub(crate) fn convert(project: &Project<'_>, notes: &mut Notes<'_>) -> Option<Converted> {
    let mut files = Vec::new();
    for (file, source) in project.files.iter().enumerate() {
        let parsed = parse(file, source, project.variables, notes);
        files.push(notes.take(parsed)?);
    }
    let merged = merge::files(files);
    let top = notes.take(merged)??;
    let fields = Fields::of(&top, &TOP, notes);
    let fields = notes.take(fields)?;
    networks(&top, notes);
    let name = app_name(project, fields.get("name"), notes);
    let name = notes.take(name);
    let mut contents = BTreeMap::new();
    let services = named(fields.get("services"), "workload name", WorkloadName::new, notes);
    let volumes = named(fields.get("volumes"), "volume name", VolumeName::new, notes);
    for entry in entries(fields.get("volumes"), notes) {
        let declared = Fields::of(&entry.node, &VOLUME, notes);
        notes.take(declared);
    }
    let configs = configs::declared(fields.get("configs"), project, &mut contents, notes);
    let context = Context { project, services, volumes, configs };
    let workloads = workloads(&fields, &context, notes)?;
    Some(Converted { app: AppSpec { name: name?, workloads }, contents, warnings: Vec::new() })
}

fn workloads(
    fields: &Fields<'_>,
    context: &Context<'_>,
    notes: &mut Notes<'_>,
) -> Option<BTreeMap<WorkloadName, WorkloadSpec>> {
    let mut services = BTreeMap::new();
    let declared = entries(fields.get("services"), notes);
    if declared.is_empty() {
        notes.error(Wrong::at(fields.spot, "there is no service: `services:` needs at least one"));
    }
    let mut whole = true;
    for entry in declared {
        let service = service::convert(entry, context, notes);
        match (notes.take(service), context.services.get(&entry.key)) {
            (Some(service), Some(name)) => {
                services.insert(name.clone(), service);
            }
            _ => whole = false,
        }
    }
    if whole {
        jobs(&mut services, notes);
        tasks::add(&mut services, notes);
    }
    whole.then(|| services.into_iter().map(|(name, service)| (name, service.spec)).collect())
}

/// Only a job completes. A service that another one waits for to complete is one, unless it says
/// that it is something else.
fn jobs(services: &mut BTreeMap<WorkloadName, Service>, notes: &mut Notes<'_>) {
    let mut awaited: BTreeMap<WorkloadName, Spot> = BTreeMap::new();
    for service in services.values() {
        for (name, condition) in &service.spec.depends_on {
            if *condition == Condition::Completed {
                awaited.entry(name.clone()).or_insert(service.spot);
            }
        }
    }
    for (name, spot) in awaited {
        let Some(service) = services.get_mut(&name).filter(|s| s.spec.mode != Mode::Job) else {
            continue;
        };
        let always = service.restart_stated && service.spec.restart.policy == RestartPolicy::Always;
        if service.mode_stated || always {
            let text = format!(
                "`{name}` never completes: give it `deploy: {{mode: replicated-job}}` and no `restart: always`"
            );
            notes.error(Wrong::at(spot, text));
            continue;
        }
        service.spec.mode = Mode::Job;
        let text = format!(
            "`{name}` is run as a job, because another service waits for it to complete: \
             say so with `deploy: {{mode: replicated-job}}`"
        );
        notes.warn(service.spot, text);
    }
}

fn networks(top: &Node, notes: &mut Notes<'_>) {
    let Some(Value::Map(networks)) = top.get("networks").map(|node| &node.value) else { return };
    for entry in networks {
        // That networks are ignored is said once for all; only what is refused is left to say.
        let mut quiet = entry.node.clone();
        if let Value::Map(entries) = &mut quiet.value {
            let idle = |key: &str| NETWORK.row(key).is_some_and(|r| r.verdict == Verdict::Ignored);
            entries.retain(|entry| !idle(&entry.key));
        }
        let judged = Fields::of(&quiet, &NETWORK, notes);
        notes.take(judged);
    }
}

/// The entries of a mapping, or none with a word about why.
pub(crate) fn entries<'a>(node: Option<&'a Node>, notes: &mut Notes<'_>) -> &'a [Entry] {
    node.and_then(|node| notes.take(map(node))).unwrap_or_default()
}

fn app_name(
    project: &Project<'_>,
    given: Option<&Node>,
    notes: &mut Notes<'_>,
) -> Result<AppName, Wrong> {
    if let Some(app) = project.app {
        let name = AppName::new(app);
        return name.map_err(|wrong| Wrong { spot: None, text: format!("--app: {wrong}") });
    }
    if let Some(node) = given {
        let name = lowered(&text(node)?, node.spot, "app name", notes)?;
        return AppName::new(&name).map_err(|wrong| Wrong::at(node.spot, wrong.to_string()));
    }
    let folder = project.folder.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
    let kept: String = folder
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
        .take(63)
        .collect();
    let name = kept.trim_matches(['-', '_']);
    AppName::new(name).map_err(|_| Wrong {
        spot: None,
        text: "the folder's name gives no name for the app: write `name:` at the top, or use --app"
            .to_owned(),
    })
}

/// The keys of a mapping as names.
fn named<T: Ord + Clone>(
    node: Option<&Node>,
    kind: &str,
    new: impl Fn(&str) -> Result<T, schemas::id::BadId>,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, T> {
    let mut names = BTreeMap::new();
    let mut taken: BTreeMap<T, String> = BTreeMap::new();
    for entry in entries(node, notes) {
        let name = lowered(&entry.key, entry.spot, kind, notes)
            .and_then(|name| new(&name).map_err(|bad| Wrong::at(entry.spot, bad.to_string())));
        let Some(name) = notes.take(name) else { continue };
        if let Some(other) = taken.insert(name.clone(), entry.key.clone()) {
            let text = format!("`{}` and `{other}` are one {kind} in small letters", entry.key);
            notes.error(Wrong::at(entry.spot, text));
        }
        names.insert(entry.key.clone(), name);
    }
    names
}

/// A name in small letters. Dots are refused: a name becomes a part of subjects and host names.
fn lowered(name: &str, spot: Spot, kind: &str, notes: &mut Notes<'_>) -> Result<String, Wrong> {
    let small = name.to_ascii_lowercase();
    if name.contains('.') {
        let better = small.replace('.', "-");
        let text = format!("a {kind} has no dots: write `{better}` instead of `{name}`");
        return Err(Wrong::at(spot, text));
    }
    if small != name {
        notes.warn(spot, format!("the {kind} `{name}` is used in small letters: `{small}`"));
    }
    Ok(small)
}

/// That a name is not declared, and which one was probably meant.
pub(crate) fn undeclared<'a>(
    spot: Spot,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> Wrong {
    let hint = meant(name, known).map(|word| format!(": did you mean `{word}`?"));
    Wrong::at(spot, format!("there is no {what} `{name}`{}", hint.unwrap_or_default()))
}
