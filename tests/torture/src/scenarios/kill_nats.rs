//! `kill-nats`: SIGKILL of nats-server, alone or together with event-log, in any order.
//!
//! Append requests are in its memory and go with it; events that it had acknowledged are in the page
//! cache and do not.

use std::time::Duration;

use bus::testing::Server;
use runtime::Failure;

use super::kill_log::settle;
use crate::audit::Audit;
use crate::load::{Load, connect};
use crate::mount;
use crate::process::{Kind, Log};
use crate::run::{Checked, Run};

/// How long they work before one is killed, and how long the second lives on, at most, in ms.
const WORKS_MS: u64 = 300;
const LIVES_ON_MS: u64 = 30;

pub(crate) async fn run(run: &mut Run) -> Result<Checked, Failure> {
    let mut server = Server::start();
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
        let between = Duration::from_millis(run.dice.below(LIVES_ON_MS));
        let log_dies = match run.dice.below(3) {
            0 => {
                server.kill();
                false
            }
            1 => {
                server.kill();
                tokio::time::sleep(between).await;
                log.kill();
                true
            }
            _ => {
                log.kill();
                tokio::time::sleep(between).await;
                server.kill();
                true
            }
        };
        tokio::task::block_in_place(|| server.launch());
        checked.add("kills of nats-server", 1);
        if log_dies {
            let copy = run.folder().join("copy");
            mount::copy_folder(&log.folder(), &copy)?;
            let found = seen.dead(&copy, &load, Some(&bus), &mut checked).await;
            found.map_err(|error| format!("round {round}: {error}"))?;
            log.launch()?;
            checked.add("kills of both", 1);
        }
        log.serving(&bus).await?;
    }
    settle(&load, &bus, &mut log, &state, &mut checked).await?;
    Ok(checked)
}
