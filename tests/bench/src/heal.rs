//! A killed container until its next run, beside one bare create and start.

use std::time::Duration;

use runtime::Failure;
use schemas::event::Event;

use crate::Args;
use crate::clock::Since;
use crate::cluster::Cluster;
use crate::figure::{Goal, Row, Spread, Unit};

/// The goal, in hundredths of the yardstick.
const GOAL: u64 = 150;

/// How long a run lasts before it is killed: long enough to count as one that worked.
const LASTED: Duration = Duration::from_secs(11);

const APP: &str = "healed";

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    Cluster::with(args, async |cluster| {
        cluster.engine().make_network().await?;
        // Each measurement has a replica of its own, so that none has been killed before.
        let mut containers = Vec::new();
        cluster.deploy(args, APP, args.repeat).await?;
        let wanted = usize::try_from(args.repeat)?;
        cluster
            .until("all replicas run", |event| {
                if let Event::RunStarted(e) = event {
                    containers.push((e.replica.clone(), e.container.clone()));
                }
                (containers.len() == wanted).then_some(())
            })
            .await?;
        tokio::time::sleep(LASTED).await;
        let (mut ours, mut again, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for (replica, container) in &containers {
            bare.push(cluster.engine().run_all(1, 1).await?);
            cluster.engine().clear().await?;
            let (took, next) = killed(cluster, replica, container, 2).await?;
            ours.push(took);
            again.push(killed(cluster, replica, &next, 3).await?.0);
        }
        let beside = ("one bare create+start".to_owned(), Spread::of(bare));
        Ok(vec![
            Row {
                what: "container killed → next run running".to_owned(),
                unit: Unit::Microseconds,
                ours: Spread::of(ours),
                beside: Some(beside.clone()),
                goal: Some(Goal::TimesYardstick(GOAL)),
            },
            Row {
                what: "killed again at once, with the default back-off".to_owned(),
                unit: Unit::Microseconds,
                ours: Spread::of(again),
                beside: Some(beside),
                goal: None,
            },
        ])
    })
    .await
}

/// Kills a container: how long until the replica's next run, and that one's container.
async fn killed(
    cluster: &mut Cluster,
    replica: &schemas::id::ReplicaId,
    container: &str,
    run: u32,
) -> Result<(u64, String), Failure> {
    let since = Since::now();
    cluster.engine().kill(container).await?;
    cluster
        .until("the next run is on", |event| match event {
            Event::RunStarted(e) if e.replica == *replica && e.run == run => {
                Some((since.us(), e.container.clone()))
            }
            _ => None,
        })
        .await
}
