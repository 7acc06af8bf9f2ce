//! The gateway as a process of its own. Wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use runtime::{Admin, process, tasks::Tasks};

fn main() -> ExitCode {
    let config = gateway::Config::parse();
    process::main("gateway", |shutdown| async move {
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let address = config.settings.admin_address;
        tasks.spawn("health page", admin.clone().serve(address, shutdown.clone()));
        tasks.spawn("gateway", gateway::run(config, admin, shutdown));
        tasks.all().await
    })
}
