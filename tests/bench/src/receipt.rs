//! A command until its durable receipt, beside what it cannot do without: one sync of the disk, and
//! one publish that the server acknowledges.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use runtime::Failure;
use serde_json::json;

use crate::Args;
use crate::clock::Since;
use crate::cluster::Cluster;
use crate::figure::{Row, Spread, Unit, percentile};

/// Commands in each repetition, one after another.
const COMMANDS: u32 = 200;

/// How long one may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What is measured of each: the receipt, the publish, the sync.
type Samples = [Vec<u64>; 3];

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    Cluster::with(args, async |cluster| {
        // Of each kind, the medians and the slowest of a hundred of each repetition.
        let mut percentiles: [[Vec<u64>; 3]; 2] = Default::default();
        for _ in 0..args.repeat {
            let samples = commands(cluster).await?;
            for (kind, mut sample) in samples.into_iter().enumerate() {
                sample.sort_unstable();
                percentiles[0][kind].push(percentile(&sample, 50));
                percentiles[1][kind].push(percentile(&sample, 99));
            }
        }
        let mut rows = Vec::new();
        for (name, [receipts, publishes, syncs]) in ["p50", "p99"].into_iter().zip(percentiles) {
            let yardsticks =
                [("one publish, acknowledged", publishes), ("one fdatasync of 1 KiB", syncs)];
            for (yardstick, values) in yardsticks {
                rows.push(Row {
                    what: format!("command → durable receipt, idle, {name}"),
                    unit: Unit::Microseconds,
                    ours: Spread::of(receipts.clone()),
                    beside: Some((format!("{yardstick}, {name}"), Spread::of(values))),
                    goal: None,
                });
            }
        }
        Ok(rows)
    })
    .await
}

async fn commands(cluster: &Cluster) -> Result<Samples, Failure> {
    let mut receipts = cluster.bus().subscribe("muster.v1.evt.main.command.>").await?;
    cluster.bus().flush().await?;
    let mut file = File::create(cluster.folder().join("yardstick"))?;
    let mut samples = Samples::default();
    for _ in 0..COMMANDS {
        let note = json!({ "object": "app/main/nothing", "text": "measured" });
        let since = Since::now();
        let id = cluster.command("note.add", &note).await?;
        samples[1].push(since.us());
        let received = async {
            while let Some(message) = receipts.next().await {
                if message.subject.contains(id.as_str()) {
                    return Ok::<(), Failure>(());
                }
            }
            Err("the connection is gone".into())
        };
        let late = |_| Err(format!("no receipt after {DEADLINE:?}").into());
        tokio::time::timeout(DEADLINE, received).await.unwrap_or_else(late)?;
        samples[0].push(since.us());
        let since = Since::now();
        file.write_all(&[1; 1_024])?;
        file.sync_data()?;
        samples[2].push(since.us());
    }
    Ok(samples)
}
