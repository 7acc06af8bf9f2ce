//! Two states compared: what is there of each that the other lacks, and what is otherwise.
//!
//! What comes and goes by itself is counted: restarts, and replicas that only replace others.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use cluster::state::{App, AppStatus, Node, Replica, Workload};
use cluster::view::status;
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use serde::Serialize;
use serde_json::Value;

use super::super::blame::flatten;
use crate::colour::{Colour, paint};

/// What changed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Changes {
    pub(crate) nodes: Vec<Object>,
    pub(crate) apps: Vec<AppChanges>,
}

/// A thing that came, went, or is otherwise.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Object {
    pub(crate) name: String,
    pub(crate) change: Change,
    pub(crate) fields: Vec<Field>,
}

/// How a thing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Added,
    Removed,
    Changed,
}

/// A field that is otherwise; null where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Field {
    pub(crate) path: String,
    pub(crate) from: Value,
    pub(crate) to: Value,
}

/// What changed of an app.
#[derive(Debug, Serialize)]
pub(crate) struct AppChanges {
    #[serde(flatten)]
    pub(crate) app: Object,
    pub(crate) workloads: Vec<WorkloadChanges>,
}

/// What changed of a workload, and of its replicas.
#[derive(Debug, Serialize)]
pub(crate) struct WorkloadChanges {
    #[serde(flatten)]
    pub(crate) workload: Object,
    /// Replicas that are new, with their node and the one they replace.
    pub(crate) created: Vec<New>,
    /// Replicas that are gone, and where they were.
    pub(crate) ended: Vec<(ReplicaId, Option<NodeName>)>,
    /// Replicas that are otherwise: how they were, and how they are.
    pub(crate) status: Vec<(ReplicaId, &'static str, &'static str)>,
    /// How often runs of replicas that stayed were started again.
    pub(crate) restarts: u64,
}

/// A replica that is new.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct New {
    pub(crate) replica: ReplicaId,
    pub(crate) node: Option<NodeName>,
    pub(crate) status: &'static str,
    pub(crate) run: u32,
    pub(crate) replaces: Option<ReplicaId>,
}

/// Compares two states, of one app if wanted.
pub(crate) fn changes(before: &State, after: &State, only: Option<&AppKey>) -> Changes {
    let mut changes = Changes::default();
    if only.is_none() {
        let names: BTreeSet<&NodeName> =
            before.nodes.iter().chain(after.nodes.iter()).map(|(name, _)| name).collect();
        for name in names {
            let of = |state: &State| state.nodes.get(name).map(node_fields);
            changes.nodes.extend(object(name.to_string(), of(before), of(after)));
        }
    }
    let keys: BTreeSet<&AppKey> =
        before.apps.iter().chain(after.apps.iter()).map(|(key, _)| key).collect();
    for key in keys.into_iter().filter(|key| only.is_none_or(|only| only == *key)) {
        changes.apps.extend(app(key, before, after));
    }
    changes
}

type Fields = BTreeMap<String, Value>;

/// What is otherwise of a thing; nothing when it is as it was.
fn object(name: String, before: Option<Fields>, after: Option<Fields>) -> Option<Object> {
    let change = match (&before, &after) {
        (None, None) => return None,
        (None, Some(_)) => Change::Added,
        (Some(_), None) => Change::Removed,
        (Some(_), Some(_)) => Change::Changed,
    };
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let side = |fields: &Fields, path: &String| fields.get(path).cloned().unwrap_or(Value::Null);
    let fields: Vec<Field> = paths
        .into_iter()
        .map(|path| Field { path: path.clone(), from: side(&before, path), to: side(&after, path) })
        .filter(|field| field.from != field.to)
        .collect();
    let same = change == Change::Changed && fields.is_empty();
    (!same).then_some(Object { name, change, fields })
}

fn node_fields(node: &Node) -> Fields {
    let description = &node.description;
    let mut fields: Fields = [
        ("status", node.status.as_str().into()),
        ("admission", node.admission.as_str().into()),
        ("address", description.address.clone().into()),
        ("engine", description.engine.clone().into()),
        ("agent", description.agent.clone().into()),
        ("cpu_millis", description.cpu_millis.into()),
        ("memory_bytes", description.memory_bytes.into()),
    ]
    .map(|(path, value): (&str, Value)| (path.to_owned(), value))
    .into();
    for key in description.labels.keys().chain(node.labels.keys()) {
        if let Some(value) = node.label(key) {
            fields.insert(format!("labels.{key}"), value.into());
        }
    }
    fields
}

fn app_fields(app: &App) -> Fields {
    let mut fields: Fields = [
        ("revision".to_owned(), app.revision.into()),
        ("status".to_owned(), app.status.as_str().into()),
    ]
    .into();
    if let AppStatus::Stalled { workload, reason } = &app.status {
        fields.insert("reason".to_owned(), format!("{workload}: {reason}").into());
    }
    fields
}

fn workload_fields(app: &App, workload: &Workload) -> Option<Fields> {
    let mut spec = app.specs.get(&workload.spec).filter(|_| workload.declared)?.clone();
    // Commands change these, and what is declared stays as it was written.
    (spec.replicas, spec.autoscale) = (workload.replicas, workload.autoscale);
    let mut found = Fields::new();
    flatten("", &serde_json::to_value(&spec).ok()?, &mut found);
    let mut fields: Fields = found
        .into_iter()
        .map(|(path, value)| (path.trim_start_matches('.').to_owned(), value))
        .collect();
    if workload.generation > 0 {
        fields.insert("restarted by command".to_owned(), workload.generation.into());
    }
    Some(fields)
}

fn app(key: &AppKey, before: &State, after: &State) -> Option<AppChanges> {
    let (was, is) = (before.apps.get(key), after.apps.get(key));
    let names: BTreeSet<&WorkloadName> =
        [was, is].into_iter().flatten().flat_map(|app| app.workloads.keys()).collect();
    let workloads: Vec<WorkloadChanges> =
        names.into_iter().filter_map(|name| workload(key, name, before, after)).collect();
    let changed = object(key.short(), was.map(app_fields), is.map(app_fields));
    if changed.is_none() && workloads.is_empty() {
        return None;
    }
    let same = || Object { name: key.short(), change: Change::Changed, fields: Vec::new() };
    Some(AppChanges { app: changed.unwrap_or_else(same), workloads })
}

fn workload(
    key: &AppKey,
    name: &WorkloadName,
    before: &State,
    after: &State,
) -> Option<WorkloadChanges> {
    let fields = |state: &State| {
        let app = state.apps.get(key)?;
        workload_fields(app, app.workloads.get(name)?)
    };
    let replicas = |state: &'_ State| -> BTreeMap<ReplicaId, Replica> {
        state.replicas_of(key, name).map(|(id, replica)| (id.clone(), replica.clone())).collect()
    };
    let (was, is) = (replicas(before), replicas(after));
    let created: Vec<New> = is
        .iter()
        .filter(|(id, _)| !was.contains_key(*id))
        .map(|(id, replica)| New {
            replica: id.clone(),
            node: replica.node.clone(),
            status: status(after, replica),
            run: replica.run,
            replaces: replica.replaces.clone(),
        })
        .collect();
    let gone = was.iter().filter(|(id, _)| !is.contains_key(*id));
    let ended: Vec<_> = gone.map(|(id, replica)| (id.clone(), replica.node.clone())).collect();
    let stayed: Vec<_> = was.iter().filter_map(|(id, old)| Some((id, old, is.get(id)?))).collect();
    let restarts =
        stayed.iter().map(|(_, old, new)| u64::from(new.run.saturating_sub(old.run.max(1)))).sum();
    let status: Vec<_> = stayed
        .iter()
        .map(|(id, old, new)| ((*id).clone(), status(before, old), status(after, new)))
        .filter(|(_, old, new)| old != new)
        .collect();
    let changed = object(name.to_string(), fields(before), fields(after));
    let quiet = created.is_empty() && ended.is_empty() && status.is_empty() && restarts == 0;
    if changed.is_none() && quiet {
        return None;
    }
    let same = || Object { name: name.to_string(), change: Change::Changed, fields: Vec::new() };
    let workload = changed.unwrap_or_else(same);
    Some(WorkloadChanges { workload, created, ended, status, restarts })
}

impl Changes {
    /// Whether nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.apps.is_empty()
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if !self.nodes.is_empty() {
            text.push_str("\nNodes\n");
            self.nodes.iter().for_each(|node| node.tell(2, &mut text));
        }
        for app in &self.apps {
            text.push_str("\nApp\n");
            app.app.tell(2, &mut text);
            app.workloads.iter().for_each(|workload| workload.tell(&mut text));
        }
        text
    }
}

impl Object {
    fn tell(&self, indent: usize, text: &mut String) {
        let (mark, colour) = match self.change {
            Change::Added => ('+', Colour::Green),
            Change::Removed => ('-', Colour::Red),
            Change::Changed => ('~', Colour::Yellow),
        };
        let line = paint(colour, &format!("{mark} {}", self.name));
        text.push_str(&format!("{:indent$}{line}\n", ""));
        // What a thing was when it went, nobody asks here.
        if self.change == Change::Removed {
            return;
        }
        for field in &self.fields {
            let (path, to) = (&field.path, plain(&field.to));
            let line = match self.change {
                Change::Added => format!("{path}: {to}"),
                _ => format!("{path}: {} → {to}", plain(&field.from)),
            };
            text.push_str(&format!("{:indent$}    {line}\n", ""));
        }
    }
}

/// A value without the quotes of a text.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => schemas::command::printable(text, 120),
        other => schemas::command::printable(&other.to_string(), 120),
    }
}

impl WorkloadChanges {
    fn tell(&self, text: &mut String) {
        self.workload.tell(4, text);
        let mut line = |line: String| text.push_str(&format!("        {line}\n"));
        let on = |node: &Option<NodeName>| {
            node.as_ref().map_or_else(|| "no node".to_owned(), |node| format!("on {node}"))
        };
        if !self.created.is_empty() || !self.ended.is_empty() {
            line(format!("{} replicas new, {} gone", self.created.len(), self.ended.len()));
        }
        let ended: BTreeMap<&ReplicaId, &Option<NodeName>> =
            self.ended.iter().map(|(id, node)| (id, node)).collect();
        let mut replaced = BTreeSet::new();
        for new in &self.created {
            // One that is well says no more.
            let how = match (new.status, new.run) {
                ("ready", 0 | 1) => String::new(),
                (status, 0) => format!(" ({status})"),
                (status, run) => format!(" ({status}, run {run})"),
            };
            let old = new.replaces.as_ref().and_then(|old| Some((old, *ended.get(old)?)));
            match old {
                Some((old, node)) => {
                    replaced.insert(old);
                    let (to, now_on) = (&new.replica, on(&new.node));
                    line(format!("{old} {} → {to} {now_on}{how}", on(node)));
                }
                None => {
                    let instead = new.replaces.as_ref().map(|old| format!(", instead of {old}"));
                    let instead = instead.unwrap_or_default();
                    line(format!("+ {} {}{how}{instead}", new.replica, on(&new.node)));
                }
            }
        }
        for (id, node) in self.ended.iter().filter(|(id, _)| !replaced.contains(id)) {
            line(format!("- {id} {}", on(node)));
        }
        for (id, old, new) in &self.status {
            line(format!("{id}: {old} → {new}"));
        }
        if self.restarts > 0 {
            line(format!("restarts of runs that ended by themselves: {}", self.restarts));
        }
    }
}

#[cfg(test)]
mod tests;
