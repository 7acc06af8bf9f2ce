//! Cpu and memory of a `muster dev` of three nodes that has nothing to do but to watch ten replicas.

use std::time::Duration;

use runtime::Failure;
use schemas::event::Event;

use crate::Args;
use crate::clock::Since;
use crate::cluster::{Cluster, NODES};
use crate::figure::{Goal, Row, Spread, Unit};

/// How long it is watched, all repetitions together.
const WATCHED: Duration = Duration::from_secs(30);

/// How long it is left alone before.
const SETTLES: Duration = Duration::from_secs(5);

const REPLICAS: u32 = 10;

/// The goals: thousandths of a core, and bytes.
const CPU: u64 = 20;
const MEMORY: u64 = 100_000_000;

/// The clock ticks of `/proc`, which Linux fixes at a hundred a second for whoever reads them.
const US_PER_TICK: u64 = 10_000;

pub(crate) async fn measure(args: &Args) -> Result<Vec<Row>, Failure> {
    Cluster::with(args, async |cluster| {
        cluster.deploy(args, "resting", REPLICAS).await?;
        cluster
            .until("the app is there", |e| matches!(e, Event::AppConverged(_)).then_some(()))
            .await?;
        tokio::time::sleep(SETTLES).await;
        let processes = [cluster.process(), cluster.nats_server()?];
        let mut cpu: [Vec<u64>; 2] = Default::default();
        let mut memory: [Vec<u64>; 2] = Default::default();
        for _ in 0..args.repeat {
            let since = Since::now();
            let before = [cpu_us(processes[0])?, cpu_us(processes[1])?];
            tokio::time::sleep(WATCHED / args.repeat).await;
            for (i, pid) in processes.into_iter().enumerate() {
                let used = cpu_us(pid)?.saturating_sub(before[i]);
                cpu[i].push(used * 1_000 / since.us().max(1));
                memory[i].push(resident_bytes(pid)?);
            }
        }
        let row = |what: &str, unit, [ours, beside]: [Vec<u64>; 2], most| Row {
            what: format!("muster dev, {NODES} nodes, {REPLICAS} replicas: {what}"),
            unit,
            ours: Spread::of(ours),
            beside: Some(("its nats-server, apart".to_owned(), Spread::of(beside))),
            goal: Some(Goal::AtMost(most)),
        };
        Ok(vec![
            row("cpu, of a core", Unit::CpuMillis, cpu, CPU),
            row("resident memory", Unit::Bytes, memory, MEMORY),
        ])
    })
    .await
}

/// The cpu time of a process so far.
fn cpu_us(pid: u32) -> Result<u64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold spaces; what follows it does not.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? * US_PER_TICK)
}

/// The memory of a process that is in use now.
pub(crate) fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    Ok(kib.ok_or("no VmRSS in /proc: is this Linux?")?.parse::<u64>()? * 1_024)
}
