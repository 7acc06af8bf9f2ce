//! A node that falls silent until its replicas run elsewhere.
//!
//! Its agent is stopped in its tracks. That is what a pulled link looks like from here; the e2e tests
//! pull a real one.

use std::collections::BTreeSet;

use runtime::Failure;
use schemas::event::Event;
use schemas::id::{NodeName, ReplicaId};

use crate::Args;
use crate::clock::Since;
use crate::cluster::{Cluster, NODES};
use crate::figure::{Goal, Row, Spread, Unit};

/// The goal, in µs.
const GOAL: u64 = 10_000_000;

/// Replicas on each node.
const PER_NODE: u32 = 3;

const APP: &str = "moved";

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    Cluster::with(args, async |cluster| {
        cluster.engine().make_network().await?;
        let node = cluster.add_agent().await?;
        let (mut ours, mut lost, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..args.repeat {
            let [declared_lost, running] = silenced(cluster, args, &node).await?;
            ours.push(running);
            lost.push(declared_lost);
            bare.push(cluster.engine().run_all(PER_NODE, PER_NODE).await?);
            cluster.engine().clear().await?;
        }
        let row = |what: &str, ours, beside, goal| Row {
            what: what.to_owned(),
            unit: Unit::Microseconds,
            ours: Spread::of(ours),
            beside,
            goal,
        };
        let beside = Some((format!("{PER_NODE} bare create+start"), Spread::of(bare)));
        Ok(vec![
            row("node silent → declared lost", lost, None, None),
            row(
                "node silent → its replicas running elsewhere",
                ours,
                beside,
                Some(Goal::AtMost(GOAL)),
            ),
        ])
    })
    .await
}

/// Silences the node: how long until it is declared lost, and until its replicas run elsewhere.
async fn silenced(
    cluster: &mut Cluster,
    args: &Args,
    node: &NodeName,
) -> Result<[u64; 2], Failure> {
    cluster.nodes_ready(usize::from(NODES) + 1).await?;
    cluster.deploy(args, APP, PER_NODE * (u32::from(NODES) + 1)).await?;
    cluster
        .until("the app is there", |event| matches!(event, Event::AppConverged(_)).then_some(()))
        .await?;
    let state = cluster.state().await?;
    let on = state.replicas.iter().filter(|replica| replica.node.as_ref() == Some(node));
    let gone: BTreeSet<ReplicaId> = on.map(|replica| replica.replica.clone()).collect();
    if gone.is_empty() {
        return Err(format!("no replica was placed on {node}").into());
    }
    let since = Since::now();
    cluster.signal_agent("-STOP")?;
    let mut declared_lost = 0;
    let mut replacements = BTreeSet::new();
    let mut left = gone.len();
    let running = cluster
        .until("its replicas run elsewhere", |event| {
            match event {
                Event::NodeLost(e) if e.node == *node => declared_lost = since.us(),
                Event::ReplicasRequested(e) => replacements.extend(
                    e.replicas
                        .iter()
                        .filter(|r| r.replaces.as_ref().is_some_and(|id| gone.contains(id)))
                        .map(|r| r.id.clone()),
                ),
                Event::RunStarted(e) => left -= usize::from(replacements.remove(&e.replica)),
                _ => {}
            }
            (left == 0).then(|| since.us())
        })
        .await;
    cluster.signal_agent("-CONT")?;
    let running = running?;
    cluster.nodes_ready(usize::from(NODES) + 1).await?;
    cluster.delete(APP).await?;
    Ok([declared_lost, running])
}
