//! What a plan comes to, from the state before and what would follow.

use std::collections::{BTreeMap, BTreeSet};

use cluster::State;
use cluster::state::AppStatus;
use schemas::command::Problem;
use schemas::event::{Event, Outcome as Ending, Unfit};
use schemas::id::{AppKey, NodeName, ReplicaId, WorkloadName};
use schemas::place::Place;
use serde::Serialize;

use super::world::After;
use crate::colour::{Colour, paint};
use crate::difference::{Field, differences};

/// What a deploy would come to.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    kind: &'static str,
    at: Place,
    app: String,
    revision: Change<u64>,
    /// Whether anything of it would differ.
    pub(super) changed: bool,
    /// Whether every replica would have a node.
    placed: bool,
    /// Why the app would not get there, when that is not for want of a place.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalled: Option<String>,
    workloads: Vec<WorkloadPlan>,
    #[serde(skip)]
    pub(super) rejected: Option<Problem>,
}

/// What something is, and what it would be.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change<T> {
    pub(super) from: T,
    pub(super) to: T,
}

/// What would become of one workload.
#[derive(Debug, Serialize)]
struct WorkloadPlan {
    workload: String,
    action: Action,
    replicas: Change<u32>,
    fields: Vec<Field>,
    create: Vec<Created>,
    end: Vec<Ended>,
    unplaced: Vec<Unfit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Create,
    Change,
    Scale,
    Keep,
    End,
}

#[derive(Debug, Serialize)]
struct Created {
    replica: ReplicaId,
    node: Option<NodeName>,
    replaces: Option<ReplicaId>,
}

#[derive(Debug, Serialize)]
struct Ended {
    replica: ReplicaId,
    node: Option<NodeName>,
}

impl Outcome {
    pub(super) fn of(key: &AppKey, before: &State, after: &After, at: Place) -> Self {
        let (was, is) = (before.apps.get(key), after.state().apps.get(key));
        let declared = |app: Option<&cluster::state::App>| -> BTreeSet<WorkloadName> {
            let workloads = app.into_iter().flat_map(|app| &app.workloads);
            workloads.filter(|(_, w)| w.declared).map(|(name, _)| name.clone()).collect()
        };
        let names: BTreeSet<_> = declared(was).union(&declared(is)).cloned().collect();
        let workloads: Vec<WorkloadPlan> =
            names.iter().map(|name| workload(key, name, before, after)).collect();
        let placed = workloads.iter().all(|w| w.unplaced.is_empty());
        let stalled = match is.map(|app| &app.status) {
            Some(AppStatus::Stalled { workload, reason }) if placed => {
                Some(format!("{workload}: {reason}"))
            }
            _ => None,
        };
        Self {
            kind: "Plan",
            at,
            app: key.short(),
            revision: Change {
                from: was.map_or(0, |app| app.revision),
                to: is.map_or(0, |app| app.revision),
            },
            changed: workloads.iter().any(WorkloadPlan::changes),
            placed,
            stalled,
            workloads,
            rejected: after.rejected().map(|rejected| rejected.problem.clone()),
        }
    }

    /// What would fit nowhere, and every reason why.
    pub(super) fn unplaced(&self) -> Option<String> {
        let workloads = self.workloads.iter().filter(|w| !w.unplaced.is_empty());
        let names: Vec<_> = workloads.map(|w| w.workload.as_str()).collect();
        (!names.is_empty()).then(|| format!("replicas of {} would fit nowhere", names.join(", ")))
    }

    /// The app's name.
    pub(super) fn name(&self) -> &str {
        &self.app
    }

    /// What would become of each workload, for people.
    pub(super) fn body(&self) -> String {
        let Change { from, to } = &self.revision;
        let mut text = match from {
            0 => format!("{}  new\n", self.app),
            _ if from == to => format!("{}\n", self.app),
            _ => format!("{}  revision {from} → {to}\n", self.app),
        };
        for workload in &self.workloads {
            workload.tell(&mut text);
        }
        if let Some(why) = &self.stalled {
            text.push_str(&format!("It would stall: {why}\n"));
        }
        text
    }

    /// For people.
    pub(super) fn told(&self) -> String {
        let mut text = self.body();
        let (mut create, mut end) = (0, 0);
        for workload in &self.workloads {
            create += workload.create.len();
            end += workload.end.len();
        }
        let at = self.at.position;
        if self.changed {
            text.push_str(&format!(
                "Creates {create}, ends {end}. Nothing was written. Exactly this: muster deploy --expect-position r{at}\n"
            ));
        } else {
            text.push_str(&format!("Nothing would change, as of r{at}.\n"));
        }
        text
    }
}

impl WorkloadPlan {
    fn changes(&self) -> bool {
        self.action != Action::Keep
            || !(self.create.is_empty() && self.end.is_empty() && self.unplaced.is_empty())
    }

    fn tell(&self, text: &mut String) {
        let Change { from, to } = self.replicas;
        let count = if from == to { format!("{to}") } else { format!("{from} → {to}") };
        let (mark, colour) = match self.action {
            Action::Create => ("+", Colour::Green),
            Action::Change | Action::Scale => ("~", Colour::Yellow),
            Action::Keep => ("=", Colour::Grey),
            Action::End => ("-", Colour::Red),
        };
        let line = format!("{mark} {}", self.workload);
        text.push_str(&format!("  {}  replicas {count}\n", paint(colour, &line)));
        for field in &self.fields {
            text.push_str(&format!("      {}: {} → {}\n", field.path, field.from, field.to));
        }
        for one in &self.create {
            let node = one.node.as_ref().map_or("nowhere", NodeName::as_str);
            let line = format!("+ {}  on {node}", one.replica);
            let instead = one.replaces.as_ref().map(|old| format!("  replaces {old}"));
            let line = paint(Colour::Green, &line) + &instead.unwrap_or_default();
            text.push_str(&format!("    {line}\n"));
        }
        for one in &self.end {
            let node = one.node.as_ref().map(|node| format!("  on {node}")).unwrap_or_default();
            let line = paint(Colour::Red, &format!("- {}{node}", one.replica));
            text.push_str(&format!("    {line}\n"));
        }
        for unfit in &self.unplaced {
            let line = format!("{} ({} nodes): {}", unfit.reason, unfit.nodes, unfit.remedy);
            text.push_str(&format!("    {} {line}\n", paint(Colour::Red, "! fits nowhere:")));
        }
    }
}

fn workload(key: &AppKey, name: &WorkloadName, before: &State, after: &After) -> WorkloadPlan {
    let was = before.apps.get(key).and_then(|app| app.workloads.get(name));
    let is = after.state().apps.get(key).and_then(|app| app.workloads.get(name));
    let (was, is) = (was.filter(|w| w.declared), is.filter(|w| w.declared));
    let spec = |state: &State, workload: Option<&cluster::state::Workload>| {
        let spec = state.apps.get(key)?.specs.get(&workload?.spec)?;
        serde_json::to_value(spec).ok()
    };
    let mut fields = Vec::new();
    let (old, new) = (spec(before, was), spec(after.state(), is));
    if let (Some(old), Some(new)) = (old, new) {
        differences("", &old, &new, &mut fields);
        // Counted by itself: `scale` may have changed it since it was declared.
        fields.retain(|field| field.path != "replicas");
    }
    let count = |workload: Option<&cluster::state::Workload>| workload.map_or(0, |w| w.replicas);
    let replicas = Change { from: count(was), to: count(is) };
    let action = match (was.is_some(), is.is_some()) {
        (false, _) => Action::Create,
        (true, false) => Action::End,
        _ if !fields.is_empty() => Action::Change,
        _ if replicas.from != replicas.to => Action::Scale,
        _ => Action::Keep,
    };
    WorkloadPlan {
        workload: name.to_string(),
        action,
        replicas,
        fields,
        create: created(key, name, after),
        end: ended(key, name, before, after.state()),
        unplaced: is.map(|w| w.unplaced.clone()).unwrap_or_default(),
    }
}

/// What was requested on the way, but for what was given up again before it was of any use.
fn created(key: &AppKey, name: &WorkloadName, after: &After) -> Vec<Created> {
    let mut nodes: BTreeMap<&ReplicaId, &NodeName> = BTreeMap::new();
    let mut completed: BTreeSet<&ReplicaId> = BTreeSet::new();
    let mut requested = Vec::new();
    for envelope in &after.events {
        match &envelope.event {
            Event::ReplicasPlaced(e) => nodes.extend(e.replicas.iter().map(|id| (id, &e.node))),
            Event::ReplicaEnded(e) if e.outcome == Ending::Completed => {
                completed.insert(&e.replica);
            }
            Event::ReplicasRequested(e) if e.app == *key && e.workload == *name => {
                requested.extend(&e.replicas);
            }
            _ => {}
        }
    }
    let stays = |id: &ReplicaId| {
        let there = after.state().replicas.get(id);
        there.is_some_and(|replica| replica.retired.is_none()) || completed.contains(id)
    };
    let created = requested.into_iter().filter(|replica| stays(&replica.id));
    created
        .map(|replica| Created {
            replica: replica.id.clone(),
            node: nodes.get(&replica.id).map(|node| (*node).clone()),
            replaces: replica.replaces.clone(),
        })
        .collect()
}

/// What there was, and is to be no more.
fn ended(key: &AppKey, name: &WorkloadName, before: &State, after: &State) -> Vec<Ended> {
    let old = before.replicas_of(key, name).filter(|(_, replica)| replica.retired.is_none());
    old.filter(|(id, _)| after.replicas.get(*id).is_none_or(|replica| replica.retired.is_some()))
        .map(|(id, replica)| Ended { replica: id.clone(), node: replica.node.clone() })
        .collect()
}
