//! `muster fork`: a copy of history up to a moment, which `muster dev --fork` opens with simulated nodes.

use std::collections::BTreeMap;
use std::path::Path;

use cluster::Fold;
use cluster::state::{Phase, Replica};
use node_agent::agent::Runner;
use node_agent::engine::simulated::{self, Container};
use schemas::event::NodeDescription;
use schemas::id::{NodeName, ReplicaId};
use schemas::place::Place;
use schemas::read::LogRequest;
use serde::{Deserialize, Serialize};

use crate::args::{Fork, When};
use crate::client::Client;
use crate::error::CliError;
use crate::look;
use crate::meter::Meter;

/// The file that says what the fork is of.
const FILE: &str = "fork.json";

/// Where the services' folders are in the fork, as in every cluster of `muster dev`.
const STATE: &str = "state";

/// What a fork is of.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Forked {
    /// The last place that both histories have.
    pub(crate) from: Place,
    /// The nodes there were.
    pub(crate) nodes: BTreeMap<NodeName, NodeDescription>,
}

impl Forked {
    /// Reads what the fork in a folder is of.
    pub(crate) fn read(folder: &Path) -> Result<Self, CliError> {
        let path = folder.join(FILE);
        let text = std::fs::read(&path).map_err(|error| {
            let text =
                format!("{}: {error}: `muster fork --into DIR` makes a fork", path.display());
            CliError::usage(text)
        })?;
        serde_json::from_slice(&text).map_err(|error| {
            CliError::usage(format!("{} does not decode: {error}", path.display()))
        })
    }
}

pub(crate) async fn fork(client: &Client, args: &Fork) -> Result<(), CliError> {
    let at = client.moment(args.at.unwrap_or(When::Now)).await?.place.position;
    let mut copy = begin(&args.into)?;
    let request = LogRequest { to: Some(at), ..LogRequest::default() };
    let mut meter = Meter::new("copied", 0, at);
    look::events(client, request, |text| {
        copy.take(text.as_bytes())?;
        meter.at(copy.place().position);
        Ok(())
    })
    .await?;
    drop(meter);
    let from = finish(copy, &args.into)?;
    let into = args.into.display();
    println!("a fork of history at r{} is in {into}: muster dev --fork {into}", from.position);
    Ok(())
}

/// Begins a fork in a folder that holds none.
pub(crate) fn begin(into: &Path) -> Result<event_log::Fork, CliError> {
    if into.join(FILE).exists() {
        let text = format!("{} holds a fork already: name another folder", into.display());
        return Err(CliError::usage(text));
    }
    Ok(event_log::Fork::begin(&into.join(STATE))?)
}

/// Ends it: everything was copied.
pub(crate) fn finish(copy: event_log::Fork, into: &Path) -> Result<Place, CliError> {
    let (from, fold) = copy.finish()?;
    for (node, replicas) in by_node(&fold) {
        let folder = into.join(STATE).join(format!("node-agent-{node}"));
        let containers = replicas.iter().filter_map(|(id, replica)| container(id, replica));
        let runners =
            replicas.iter().filter_map(|(id, replica)| Some(((*id).clone(), runner(replica)?)));
        let prepared = simulated::prepare(&folder, containers)
            .and_then(|()| node_agent::service::remember(&folder, runners.collect()));
        prepared.map_err(|error| CliError::internal(format!("{}: {error}", folder.display())))?;
    }
    let nodes = fold.state().nodes.iter();
    let nodes = nodes.map(|(name, node)| (name.clone(), node.description.clone())).collect();
    let forked = Forked { from, nodes };
    let text = serde_json::to_vec_pretty(&forked).map_err(|e| CliError::internal(e.to_string()))?;
    let path = into.join(FILE);
    let written = runtime::files::write_atomically(&path, &text);
    written.map_err(|error| CliError::internal(format!("{}: {error}", path.display())))?;
    Ok(forked.from)
}

/// The replicas of every node.
fn by_node(fold: &Fold) -> BTreeMap<NodeName, Vec<(&ReplicaId, &Replica)>> {
    let mut nodes: BTreeMap<NodeName, Vec<_>> = BTreeMap::new();
    for (id, replica) in fold.state().replicas.iter() {
        if let Some(node) = &replica.node {
            nodes.entry(node.clone()).or_default().push((id, replica));
        }
    }
    nodes
}

/// The container that the engine of its node is to have: what ran there, as history says.
fn container(id: &ReplicaId, replica: &Replica) -> Option<Container> {
    let runs = matches!(replica.phase, Phase::Running | Phase::Ready);
    let container = replica.container.clone().filter(|_| runs)?;
    Some(Container {
        replica: id.clone(),
        run: replica.run,
        id: container,
        running: true,
        endpoints: replica.endpoints.clone(),
    })
}

/// What the agent of its node is to know of it, so that it goes on with the run that is on and does
/// not begin to count runs anew.
fn runner(replica: &Replica) -> Option<Runner> {
    match replica.phase {
        Phase::Running => Some(Runner::amid(replica.run, false, replica.endpoints.clone())),
        Phase::Ready => Some(Runner::amid(replica.run, true, replica.endpoints.clone())),
        _ if replica.run > 0 => Some(Runner::before(replica.run + 1)),
        _ => None,
    }
}
