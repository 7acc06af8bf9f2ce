//! The gateway as a process of its own. Wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use gateway::handover::Turn;
use runtime::manager::Managed;
use runtime::{Admin, process, tasks::Tasks};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let managed = Managed::begin();
    let config = gateway::Config::parse();
    process::main("gateway", |shutdown| async move {
        let admin = Admin::default();
        let turn = Turn::ask(&config, managed).await?;
        // Before anything is taken over: should that fail, nothing has happened.
        let page = turn.page(config.settings.admin_address).await?;
        let mut tasks = Tasks::default();
        tasks.spawn("health page", page.serve(admin.clone(), shutdown.clone()));
        tasks.spawn("gateway", gateway::run_in_turn(config, turn, admin, shutdown));
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
