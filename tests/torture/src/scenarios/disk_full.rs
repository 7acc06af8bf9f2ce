//! `disk-full`: the disk fills up under the log, or under NATS, and is freed again, while a whole
//! `muster dev` works and nobody lends a hand.
//!
//! A tmpfs is made smaller around what is in it. In half of the rounds slowly: commands are refused
//! with a reason while agents are still heard, then nothing is answered any more. In the others at
//! once, so that a write fails in the middle of work.

use std::time::Duration;

use runtime::Failure;

use crate::audit;
use crate::dev::Dev;
use crate::load::Load;
use crate::mount::Mount;
use crate::process::verify;
use crate::run::{Checked, Run};

/// The marks, in MiB; and so much room that is between and below them, in KiB.
const CLOSE_MIB: &str = "48";
const STOP_MIB: &str = "24";
const BETWEEN_KIB: u64 = 40 * 1024;
const BELOW_KIB: u64 = 16 * 1024;

/// Plenty of room: a tmpfs takes only what is written.
const PLENTY_KIB: u64 = 20 * 1024 * 1024;

/// Almost none, so that a write of this very load fails.
const NOTHING_KIB: u64 = 128;

/// Within which intake must be back when there is room again.
const BACK: Duration = Duration::from_secs(30);

/// How long a round stays with a full disk.
const FULL: Duration = Duration::from_secs(4);

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let data = run.folder().join("data");
    let log = Mount::tmpfs(PLENTY_KIB, &data.join("state/event-log"))?;
    let nats = Mount::tmpfs(PLENTY_KIB, &data.join("nats"))?;
    let output = run.folder().join("dev.log");
    let settings = [("MUSTER_DISK_CLOSE_MIB", CLOSE_MIB), ("MUSTER_DISK_STOP_MIB", STOP_MIB)];
    let mut dev = Dev::start(&data, &output, &settings).await?;
    let load = Load::start_as(&dev.url, &mut run.dice, &|number| dev.joining(number)).await?;
    let mut checked = Checked::default();
    for round in 0..run.rounds {
        let (name, disk) = if round % 2 == 0 { ("log", &log) } else { ("NATS", &nats) };
        let how = if round % 4 < 2 { "slowly" } else { "at once" };
        let at = |error: Failure| format!("round {round}, disk of {name}, {how}: {error}");
        load.until_answered(50).await.map_err(at)?;
        let filled = match how {
            "slowly" => slowly(&dev, &load, disk, &mut checked).await,
            _ => at_once(disk).await,
        };
        filled.map_err(at)?;
        disk.resize(PLENTY_KIB)?;
        dev.until_noted(None, BACK).await.map_err(at)?;
        load.until_answered(50).await.map_err(at)?;
        checked.add("full disks that intake came back from", 1);
    }
    load.pause().await?;
    dev.bus.flush().await?;
    let stream = audit::stream(&dev.bus, 1).await?;
    dev.stop().await?;
    let mut seen = audit::Audit::default();
    seen.dead(log.at(), &load, None, &mut checked).await?;
    checked.add("published messages found in it", seen.covers(&stream)?);
    verify(&data.join("state")).await?;
    checked.add("events in a whole chain", seen.len());
    Ok(checked)
}

/// Below the first mark commands are refused and agents are heard; below the second nobody is
/// answered, and nothing breaks.
async fn slowly(
    dev: &Dev,
    load: &Load,
    disk: &Mount,
    checked: &mut Checked,
) -> Result<(), Failure> {
    disk.leave(BETWEEN_KIB)?;
    dev.until_noted(Some("storage_full"), BACK).await?;
    load.until_answered(20).await?;
    checked.add("times that commands were refused and agents heard", 1);
    disk.leave(BELOW_KIB)?;
    let stands = async {
        loop {
            let before = load.answered();
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            if load.answered() == before {
                return;
            }
        }
    };
    tokio::time::timeout(BACK, stands).await.map_err(|_| "appends are answered for ever")?;
    checked.add("times that nothing was taken", 1);
    Ok(())
}

/// A write fails.
async fn at_once(disk: &Mount) -> Result<(), Failure> {
    disk.leave(NOTHING_KIB)?;
    tokio::time::sleep(FULL).await;
    Ok(())
}
