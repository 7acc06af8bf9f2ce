//! The node-agent as a process of its own. Wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use runtime::tasks::Tasks;
use runtime::{Admin, process};

fn main() -> ExitCode {
    let config = node_agent::Config::parse();
    process::main("node-agent", |shutdown| async move {
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let address = config.settings.admin_address;
        tasks.spawn("health page", admin.clone().serve(address, shutdown.clone()));
        tasks.spawn("node-agent", node_agent::run(config, admin, shutdown));
        tasks.all().await
    })
}
