//! `muster whatif`: what would follow if nodes came and went, and workloads were other than they are.

use std::collections::{BTreeMap, BTreeSet};

use cluster::{Fold, State};
use controller::commands::CommandMessage;
use schemas::command::{Command, Common, Deploy, Problem, Scale};
use schemas::event::{Event, LeadershipTaken, NodeDescribed, NodeLost, NodeSuspected};
use schemas::id::{AppKey, NodeName, Writer};
use schemas::place::Place;
use schemas::spec::AppSpec;
use serde::Serialize;

use super::message;
use super::outcome::{Change, Outcome};
use super::world::World;
use crate::args::{Changes, Format, Whatif, Workload};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::look;
use crate::table::{bytes, table};

/// What would follow.
#[derive(Serialize)]
struct Answer {
    kind: &'static str,
    at: Place,
    /// The apps that would change.
    items: Vec<Outcome>,
    nodes: Vec<NodeLoad>,
}

/// How full a node is, and would be.
#[derive(Debug, Serialize)]
pub(super) struct NodeLoad {
    node: NodeName,
    state: String,
    replicas: Change<u64>,
    cpu_milli: Change<u64>,
    memory_bytes: Change<u64>,
}

pub(crate) async fn whatif(client: &Client, args: &Whatif) -> Result<(), CliError> {
    let head = client.head().await?.place.position;
    let fold = runtime::history::at(&client.bus, head).await?;
    let (at, before) = (fold.place(), fold.state().clone());
    let events = supposed(&before, &args.changes)?;
    let messages = commands(&before, &args.changes)?;
    let messages: Vec<CommandMessage> =
        messages.into_iter().map(|(command, common)| message(client, &command, &common)).collect();
    let answer = follow_up(fold, events, messages, &before, at)?;
    match args.output {
        Format::Json => look::json(&answer)?,
        Format::Table => print!("{}", answer.told()),
    }
    match answer.items.iter().find_map(|outcome| Some((outcome.name(), outcome.unplaced()?))) {
        Some((app, unplaced)) => Err(CliError::new(Code::Refused, format!("{app}: {unplaced}"))),
        None => Ok(()),
    }
}

fn follow_up(
    fold: Fold,
    events: Vec<(Writer, Vec<Event>)>,
    messages: Vec<CommandMessage>,
    before: &State,
    at: Place,
) -> Result<Answer, CliError> {
    let failed = |error: cluster::FoldError| CliError::internal(error.to_string());
    let mut world = World::new(fold, None, runtime::clock::now());
    for (writer, events) in events {
        world.suppose(&writer, events).map_err(failed)?;
    }
    let after = world.run(messages).map_err(failed)?;
    if let Some(rejected) = after.rejected() {
        return Err(CliError::rejected(&rejected.problem));
    }
    let apps = before.apps.iter().chain(after.state().apps.iter());
    let keys: BTreeSet<AppKey> = apps.map(|(key, _)| key.clone()).collect();
    let outcomes = keys.iter().map(|key| Outcome::of(key, before, &after, at));
    let items =
        outcomes.filter(|outcome| outcome.changed || outcome.unplaced().is_some()).collect();
    Ok(Answer { kind: "WhatIf", at, items, nodes: loads(before, after.state()) })
}

/// What would have happened to nodes.
fn supposed(state: &State, changes: &Changes) -> Result<Vec<(Writer, Vec<Event>)>, CliError> {
    let node = |name: &NodeName| {
        let found = state.nodes.get(name);
        found.ok_or_else(|| {
            let text = format!("there is no node {name}: `muster nodes` lists them");
            CliError::new(Code::NotFound, text)
        })
    };
    let mut events = Vec::new();
    for (name, like) in &changes.add_node {
        if state.nodes.contains(name) {
            return Err(CliError::usage(format!("there is a node {name} already")));
        }
        let description = node(like)?.description.clone();
        let writer = Writer::Agent(name.clone());
        let (term, instance) = (state.term(&writer) + 1, "supposed".to_owned());
        let taken = LeadershipTaken { writer: writer.clone(), term, instance };
        events.push((writer.clone(), vec![taken.into()]));
        let described = NodeDescribed { node: name.clone(), description };
        events.push((writer, vec![described.into()]));
    }
    for name in &changes.kill_node {
        node(name)?;
        let suspected = NodeSuspected { node: name.clone(), silent_ms: 3_000 };
        let lost = NodeLost { node: name.clone(), silent_ms: 6_000 };
        events.push((Writer::Health, vec![suspected.into()]));
        events.push((Writer::Health, vec![lost.into()]));
    }
    Ok(events)
}

/// What would have been commanded. What is changed of one app's declaration is one deploy.
fn commands(state: &State, changes: &Changes) -> Result<Vec<(Command, Common)>, CliError> {
    let mut specs: BTreeMap<AppKey, AppSpec> = BTreeMap::new();
    for (workload, image) in &changes.image {
        edit(state, &mut specs, workload, |spec| spec.image.clone_from(image))?;
    }
    for (workload, strategy) in &changes.policy {
        edit(state, &mut specs, workload, |spec| spec.placement.strategy = *strategy)?;
    }
    let common = |app: &AppKey| Common { tenant: Some(app.tenant.clone()), ..Common::default() };
    let deploys =
        specs.into_iter().map(|(key, app)| (Command::Deploy(Deploy { app }), common(&key)));
    let scales = changes.scale.iter().map(|(Workload { app, name }, replicas)| {
        let (workload, replicas) = (name.clone(), *replicas);
        let scale = Scale { app: app.name.clone(), workload, replicas };
        (Command::Scale(scale), common(app))
    });
    Ok(deploys.chain(scales).collect())
}

fn edit(
    state: &State,
    specs: &mut BTreeMap<AppKey, AppSpec>,
    workload: &Workload,
    change: impl FnOnce(&mut schemas::spec::WorkloadSpec),
) -> Result<(), CliError> {
    let Workload { app, name } = workload;
    if let Some(declared) = state.declared(app).filter(|_| !specs.contains_key(app)) {
        specs.insert(app.clone(), declared);
    }
    match specs.get_mut(app).and_then(|app| app.workloads.get_mut(name)) {
        Some(spec) => {
            change(spec);
            Ok(())
        }
        None => {
            let got = format!("{}/{name}", app.short());
            let valid = "a declared workload: `muster apps` lists them";
            Err(CliError::rejected(&Problem::new("not_found", "", &got, valid)))
        }
    }
}

/// Every node that there is, or would be.
pub(super) fn loads(before: &State, after: &State) -> Vec<NodeLoad> {
    let load = |state: &State, name: &NodeName| state.index.loads.get(name).cloned();
    after
        .nodes
        .iter()
        .map(|(name, node)| {
            let from = load(before, name).unwrap_or_default();
            let to = load(after, name).unwrap_or_default();
            NodeLoad {
                node: name.clone(),
                state: node.status.as_str().to_owned(),
                replicas: Change { from: from.replicas, to: to.replicas },
                cpu_milli: Change { from: from.cpu_millis, to: to.cpu_millis },
                memory_bytes: Change { from: from.memory_bytes, to: to.memory_bytes },
            }
        })
        .collect()
}

/// How full nodes are and would be, for people.
pub(super) fn told(nodes: &[NodeLoad]) -> String {
    let arrow = |change: &Change<u64>, say: fn(u64) -> String| match change {
        Change { from, to } if from == to => say(*to),
        Change { from, to } => format!("{} → {}", say(*from), say(*to)),
    };
    let row = |node: &NodeLoad| {
        vec![
            node.node.to_string(),
            crate::colour::state(&node.state),
            arrow(&node.replicas, |n| n.to_string()),
            arrow(&node.cpu_milli, |n| format!("{n}m")),
            arrow(&node.memory_bytes, bytes),
        ]
    };
    let rows: Vec<_> = nodes.iter().map(row).collect();
    table(&["NODE", "STATUS", "REPLICAS", "CPU", "MEMORY"], &rows)
}

impl Answer {
    /// For people.
    fn told(&self) -> String {
        let mut text = String::new();
        for outcome in &self.items {
            text.push_str(&outcome.body());
        }
        if self.items.is_empty() {
            text.push_str("No app would change.\n");
        }
        text.push('\n');
        text.push_str(&told(&self.nodes));
        text.push_str(&format!("\nAs of r{}. Nothing was written.\n", self.at.position));
        text
    }
}

#[cfg(test)]
mod tests {
    use cluster::history::{app, node, workload};
    use schemas::spec::Strategy;

    use super::*;
    use crate::plan::tests::{running, shop};

    fn nothing() -> Changes {
        let (kill_node, add_node, scale, image, policy) = Default::default();
        Changes { kill_node, add_node, scale, image, policy }
    }

    fn answer(fold: Fold, changes: &Changes) -> Answer {
        let (at, before) = (fold.place(), fold.state().clone());
        let events = supposed(&before, changes).expect("it is valid");
        let messages = commands(&before, changes).expect("it is valid");
        let messages = messages.iter().map(|(command, common)| {
            CommandMessage::new(
                u64::MAX,
                &schemas::subject::command(command.verb()),
                None,
                Some("ana"),
                2_000,
                command.encode(common),
            )
        });
        follow_up(fold, events, messages.collect(), &before, at).expect("it folds")
    }

    fn web() -> Workload {
        Workload { app: app("shop"), name: workload("web") }
    }

    #[test]
    fn the_replicas_of_a_dead_node_go_to_the_others() {
        let fold = running(&shop(4), &["n1", "n2"]);
        let changes = Changes { kill_node: vec![node("n1")], ..nothing() };
        let answer = answer(fold, &changes);
        let n2 = answer.nodes.iter().find(|load| load.node == node("n2")).expect("it is there");
        assert_eq!((n2.replicas.from, n2.replicas.to), (2, 4));
        assert!(answer.items[0].unplaced().is_none());
        assert!(answer.told().contains("2 → 4"), "{}", answer.told());
    }

    #[test]
    fn a_new_node_takes_what_is_added() {
        let fold = running(&shop(2), &["n1"]);
        let changes = Changes {
            add_node: vec![(node("n9"), node("n1"))],
            scale: vec![(web(), 4)],
            ..nothing()
        };
        let answer = answer(fold, &changes);
        let n9 = answer.nodes.iter().find(|load| load.node == node("n9")).expect("it is there");
        assert_eq!((n9.replicas.from, n9.replicas.to), (0, 2));
    }

    #[test]
    fn several_changes_of_one_app_are_one_deploy() {
        let fold = running(&shop(2), &["n1"]);
        let changes = Changes {
            image: vec![(web(), "web:2".to_owned())],
            policy: vec![(web(), Strategy::BinPack)],
            ..nothing()
        };
        assert_eq!(commands(fold.state(), &changes).expect("it is valid").len(), 1);
        let answer = answer(fold, &changes);
        assert!(answer.items[0].changed);
        assert!(answer.told().contains("web:2"), "{}", answer.told());
    }

    #[test]
    fn what_is_not_there_cannot_be_supposed() {
        let fold = running(&shop(1), &["n1"]);
        let state = fold.state();
        let kill = Changes { kill_node: vec![node("n7")], ..nothing() };
        assert!(supposed(state, &kill).is_err_and(|error| error.code == Code::NotFound));
        let other = Workload { name: workload("db"), ..web() };
        let image = Changes { image: vec![(other, "db:2".to_owned())], ..nothing() };
        assert!(commands(state, &image).is_err_and(|error| error.code == Code::NotFound));
        let twice = Changes { add_node: vec![(node("n1"), node("n1"))], ..nothing() };
        assert!(supposed(state, &twice).is_err_and(|error| error.code == Code::Usage));
    }
}
