//! `muster dev`: everything in one process, with a nats-server as its child.
//!
//! Each service has its own connection under its own user, as it would have as a process of its own:
//! what the permissions forbid there fails here too.

mod server;
mod users;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser as _;
use runtime::{Admin, Failure, Shutdown, tasks::Tasks};
use schemas::registry::Role;

use crate::args::Dev;
use crate::client::{Context, default_dev_dir};
use crate::error::CliError;
use server::Server;
use users::Users;

/// The user of the command line.
const USER: &str = "dev";

/// How long a service that failed waits before it starts again.
const RESTART: Duration = Duration::from_millis(500);

/// How many nodes one machine may pretend to be.
const NODES_MAX: u16 = 64;

pub(crate) async fn run(dev: &Dev, shutdown: Shutdown) -> Result<(), CliError> {
    if dev.nodes > NODES_MAX {
        return Err(CliError::usage(format!("--nodes {}: at most {NODES_MAX}", dev.nodes)));
    }
    Ok(serve(dev, shutdown).await?)
}

async fn serve(dev: &Dev, shutdown: Shutdown) -> Result<(), Failure> {
    let folder = dev.state_dir.clone().unwrap_or_else(default_dev_dir);
    std::fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make --state-dir {}: {error}", folder.display()))?;
    let users = Users::kept(&folder, dev)?;
    let server = Server::configure(dev, &folder, &users)?;
    let url = server.url();
    leave_context(&folder, &url, &users)?;

    let admin = Admin::default();
    let mut tasks = Tasks::default();
    let page = admin.clone().serve(dev.admin_address, shutdown.clone());
    tasks.spawn("health page", page);
    tasks.spawn("nats-server", server.run(shutdown.clone()));
    let settings = |role: &Role| common(&url, &folder, &users, role);
    keep(&mut tasks, &shutdown, "event-log", {
        let (args, admin, shutdown) = (settings(&Role::EventLog)?, admin.clone(), shutdown.clone());
        move || {
            let config = event_log::Config::try_parse_from(&args);
            let (admin, shutdown) = (admin.clone(), shutdown.clone());
            async move { event_log::run(config?, admin, shutdown).await }
        }
    });
    macro_rules! decider {
        ($name:literal, $module:ident) => {
            keep(&mut tasks, &shutdown, $name, {
                let args = settings(&Role::Decider($name))?;
                let (admin, shutdown) = (admin.clone(), shutdown.clone());
                move || {
                    let config = $module::Config::try_parse_from(&args);
                    let (admin, shutdown) = (admin.clone(), shutdown.clone());
                    async move { $module::run(config?, admin, shutdown).await }
                }
            });
        };
    }
    decider!("controller", controller);
    decider!("scheduler", scheduler);
    decider!("health", health);
    for node in users::node_names(dev, dev.nodes)? {
        let mut args = settings(&Role::Agent(node.clone()))?;
        args.extend([
            "--node".to_owned(),
            node.to_string(),
            "--engine".to_owned(),
            dev.engine.clone(),
        ]);
        for path in &dev.allow_mount {
            args.extend(["--allow-mount".to_owned(), path.display().to_string()]);
        }
        let (admin, shutdown) = (admin.clone(), shutdown.clone());
        keep(&mut tasks, &shutdown.clone(), &format!("node-agent {node}"), move || {
            let config = node_agent::Config::try_parse_from(&args);
            let (admin, shutdown) = (admin.clone(), shutdown.clone());
            async move { node_agent::run(config?, admin, shutdown).await }
        });
    }
    tasks.spawn("greeting", greet(admin, shutdown, folder));
    tasks.all().await
}

/// The arguments that every service takes, as this process would give them to it.
fn common(url: &str, folder: &Path, users: &Users, role: &Role) -> Result<Vec<String>, Failure> {
    let password = users.password(role)?;
    Ok(vec![
        role.user(),
        "--nats-url".to_owned(),
        url.to_owned(),
        "--nats-password".to_owned(),
        password,
        "--state-dir".to_owned(),
        folder.join("state").display().to_string(),
    ])
}

/// Runs a service, and starts it again when it fails: its state is in the log.
fn keep<F, Fut>(tasks: &mut Tasks, shutdown: &Shutdown, name: &str, start: F)
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    let (shutdown, named) = (shutdown.clone(), name.to_owned());
    tasks.spawn(name, async move {
        loop {
            match start().await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let error = runtime::process::chain(error.as_ref());
                    tracing::error!(service = named, error, "failed; starting it again");
                }
            }
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(RESTART) => {}
            }
        }
    });
}

/// Lets the command line find this cluster.
fn leave_context(folder: &Path, url: &str, users: &Users) -> Result<(), Failure> {
    let context = Context {
        url: url.to_owned(),
        user: USER.to_owned(),
        password: users.password(&Role::User(USER.to_owned()))?,
    };
    let path = Context::path(folder);
    users::write_secret(&path, &serde_json::to_vec_pretty(&context)?)
}

/// Says when everything is there, and what to try.
async fn greet(admin: Admin, shutdown: Shutdown, folder: PathBuf) -> Result<(), Failure> {
    loop {
        if admin.readiness.missing().is_empty() && admin.readiness.checks() > 1 {
            break;
        }
        tokio::select! {
            () = shutdown.requested() => return Ok(()),
            () = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
    }
    println!("muster dev is ready. State: {}", folder.display());
    println!("Try: muster deploy -f app.json    muster ps    muster log -f    muster why REPLICA");
    shutdown.requested().await;
    Ok(())
}
