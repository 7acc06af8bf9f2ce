//! event-log as a process of its own. Wiring only.

use std::process::ExitCode;

use clap::Parser as _;
use event_log::config::Command;
use runtime::tasks::Tasks;
use runtime::{Admin, process};

fn main() -> ExitCode {
    let config = event_log::Config::parse();
    process::main("event-log", |shutdown| async move {
        match &config.command {
            Some(Command::Verify) => return event_log::verify(&config.folder()),
            Some(Command::Salvage { into, accept_loss }) => {
                let into = event_log::config::folder(into);
                println!("{}", event_log::salvage(&config.folder(), &into, *accept_loss)?);
                return Ok(());
            }
            Some(Command::Serve | Command::Take { .. }) | None => {}
        }
        let admin = Admin::default();
        let mut tasks = Tasks::default();
        let address = config.settings.admin_address;
        tasks.spawn("health page", admin.clone().serve(address, shutdown.clone()));
        tasks.spawn("event-log", event_log::run(config, admin, shutdown));
        tasks.all().await
    })
}
