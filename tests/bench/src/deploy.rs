//! A command until all of its replicas run, beside the best that the bare engine does.

use runtime::Failure;
use schemas::event::Event;

use crate::Args;
use crate::clock::Since;
use crate::cluster::Cluster;
use crate::figure::{Goal, Row, Spread, Unit};

/// How many containers the bare client makes at once; the best of them is the yardstick.
const AT_ONCE: [u32; 4] = [8, 16, 24, 50];

/// The goal, in hundredths of the yardstick.
const GOAL: u64 = 125;

const APP: &str = "many";

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    Cluster::with(args, async |cluster| {
        cluster.engine().make_network().await?;
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        let mut best = None;
        for _ in 0..args.repeat {
            ours.push(deployed(cluster, args).await?);
            let at_once = match best {
                Some(at_once) => at_once,
                None => *best.insert(best_at_once(cluster, args).await?),
            };
            bare.push(by_hand(cluster, args.replicas, at_once).await?);
        }
        let at_once = best.unwrap_or_default();
        Ok(vec![Row {
            what: format!("{} replicas: command → all running", args.replicas),
            unit: Unit::Microseconds,
            ours: Spread::of(ours),
            beside: Some((format!("bare create+start, {at_once} at once"), Spread::of(bare))),
            goal: Some(Goal::TimesYardstick(GOAL)),
        }])
    })
    .await
}

async fn deployed(cluster: &mut Cluster, args: &Args) -> Result<u64, Failure> {
    let mut left = args.replicas;
    let since = Since::now();
    cluster.deploy(args, APP, args.replicas).await?;
    cluster
        .until("all replicas run", |event| {
            left -= u32::from(matches!(event, Event::RunStarted(e) if e.run == 1));
            (left == 0).then_some(())
        })
        .await?;
    let took = since.us();
    cluster.delete(APP).await?;
    Ok(took)
}

async fn by_hand(cluster: &Cluster, count: u32, at_once: u32) -> Result<u64, Failure> {
    let took = cluster.engine().run_all(count, at_once).await?;
    cluster.engine().clear().await?;
    Ok(took)
}

/// How many at once the engine likes best today.
async fn best_at_once(cluster: &Cluster, args: &Args) -> Result<u32, Failure> {
    let mut tried = Vec::new();
    for at_once in AT_ONCE {
        tried.push((by_hand(cluster, args.replicas, at_once).await?, at_once));
    }
    Ok(tried.into_iter().min().map_or(1, |(_, at_once)| at_once))
}
