//! `kill-log`: SIGKILL of event-log at any moment of its work.
//!
//! The dead log is looked at before anything can repair it: what the writers were told and what is
//! published is in the store. Then it starts again on what it left.

use std::time::Duration;

use bus::testing::Server;
use runtime::Failure;

use crate::audit::{self, Audit};
use crate::load::{Load, connect};
use crate::mount;
use crate::process::{Kind, Log, verify};
use crate::run::{Checked, Run};

/// How long event-log works before it is killed, at most, in ms.
const WORKS_MS: u64 = 300;

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let server = Server::start();
    let bus = connect(&server.url(), "auditor").await?;
    let state = run.folder().join("state");
    let output = run.folder().join("event-log.log");
    let mut log = Log::start(Kind::Real, &server.url(), &state, &output)?;
    log.serving(&bus).await?;
    let load = Load::start(&server.url(), &mut run.dice).await?;
    let mut checked = Checked::default();
    let mut seen = Audit::default();
    for round in 0..run.rounds {
        load.until_answered(20).await?;
        tokio::time::sleep(Duration::from_millis(run.dice.below(WORKS_MS))).await;
        log.kill();
        // A copy: opening the store is what event-log must manage by itself.
        let copy = run.folder().join("copy");
        mount::copy_folder(&log.folder(), &copy)?;
        let found = seen.dead(&copy, &load, Some(&bus), &mut checked).await;
        found.map_err(|error| format!("round {round}: {error}"))?;
        log.launch()?;
        log.serving(&bus).await?;
        checked.add("kills", 1);
    }
    settle(&load, &bus, &mut log, &state, &mut checked).await?;
    Ok(checked)
}

/// No faults any more: everything offered is answered, stream and log are the same, and verify says
/// so.
pub(super) async fn settle(
    load: &Load,
    bus: &bus::Bus,
    log: &mut Log,
    state: &std::path::Path,
    checked: &mut Checked,
) -> Result<(), Failure> {
    load.pause().await?;
    let stream = audit::stream(bus, 1).await?;
    log.kill();
    audit::whole(&log.folder(), load, &stream, checked).await?;
    verify(state).await?;
    checked.add("verified", 1);
    Ok(())
}
