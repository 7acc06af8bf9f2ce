//! The gateway as a process of its own. Wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use gateway::handover::Handover;
use runtime::{Admin, process, tasks::Tasks};

fn main() -> ExitCode {
    let config = gateway::Config::parse();
    process::main("gateway", |shutdown| async move {
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let address = config.settings.admin_address;
        let handover = Handover::default();
        let (page, stop, over) = (admin.clone(), shutdown.clone(), handover.over());
        tasks.spawn("health page", async move {
            tokio::select! {
                ended = page.serve_in_turn(address, stop) => ended,
                // The next one may want the same port.
                () = over.requested(), if address.port() != 0 => Ok(()),
            }
        });
        let gateway = gateway::run_in_turn(config, handover, admin, shutdown);
        tasks.spawn("gateway", gateway);
        // The page ends with the gateway, which ends when another one has taken over.
        while let Some((name, outcome)) = tasks.ended().await {
            outcome.map_err(|error| format!("{name}: {}", process::chain(error.as_ref())))?;
            if name == "gateway" {
                break;
            }
        }
        Ok(())
    })
}
