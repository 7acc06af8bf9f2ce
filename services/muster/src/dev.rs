//! `muster dev`: everything in one process, with a nats-server as its child.
//!
//! Each service has its own connection under its own user, as it would have as a process of its own:
//! what the permissions forbid there fails here too.

mod checks;
mod nodes;
mod range;
mod server;
mod users;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::{Bus, Connect};
use clap::Parser as _;
use runtime::{Admin, Failure, Shutdown, tasks::Tasks};
use schemas::id::NodeName;
use schemas::read::{StatePage, StateRequest};
use schemas::registry::Role;
use schemas::subject;

use crate::args::{Dev, To};
use crate::context::{self, DevContext};
use crate::error::CliError;
use nodes::Nodes;
use server::Server;
use users::Users;

/// What of our settings are those of the gateway.
fn serving(dev: &Dev) -> Vec<String> {
    let mut args = vec!["--listen".to_owned(), dev.listen.to_string()];
    let ports = [("--http-port", dev.http_port), ("--https-port", dev.https_port)];
    for (name, port) in ports {
        args.extend(port.into_iter().flat_map(|port| [name.to_owned(), port.to_string()]));
    }
    if let Some(folder) = &dev.certificates {
        args.extend(["--certificates".to_owned(), folder.display().to_string()]);
    }
    args.extend(dev.access_log.then(|| "--access-log".to_owned()));
    let one = |name: &str, value: String| [name.to_owned(), value];
    args.extend(dev.acme_directory.iter().flat_map(|url| one("--acme-directory", url.clone())));
    args.extend(dev.acme_contact.iter().flat_map(|url| one("--acme-contact", url.clone())));
    args.extend(dev.acme_agree_terms.then(|| "--acme-agree-terms".to_owned()));
    let root = dev.acme_ca_root.iter().map(|file| file.display().to_string());
    args.extend(root.flat_map(|file| one("--acme-ca-root", file)));
    args
}

/// The file with the key that seals private keys on the bus, made at the first start.
const SEAL_KEY: &str = "seal-key";

/// The user of the command line.
const USER: &str = "dev";

/// How long a service that failed waits before it starts again.
const RESTART: Duration = Duration::from_millis(500);

/// How long everything may take to stop.
const STOP: Duration = Duration::from_secs(9);

/// event-log, controller, scheduler, autoscaler, health and gateway: each says what it waits for as soon
/// as it runs.
const SERVICES: usize = 6;

/// How often it is looked whether everything serves.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn run(dev: &Dev, to: &To, shutdown: Shutdown) -> Result<(), CliError> {
    let folder = checks::folder(&nodes::folder(dev))?;
    // Held for as long as this process lives.
    let _lock = checks::lock(&folder)?;
    let nodes = Nodes::of(dev).await?;
    let users = Users::kept(&folder, &nodes.known)?;
    let server = match &to.nats_url {
        Some(url) if dev.nats_port.is_some() => {
            let text = format!("--nats-port and --nats-url or MUSTER_NATS_URL, {url}: give one");
            return Err(CliError::usage(text));
        }
        Some(url) if dev.fork.is_some() => {
            let text = format!(
                "a fork has a nats-server of its own: unset MUSTER_NATS_URL, or do without --nats-url {url}"
            );
            return Err(CliError::usage(text));
        }
        Some(_) => None,
        None => Some(Server::configure(dev, &folder, &users).await?),
    };
    let url = match (&to.nats_url, &server) {
        (Some(url), _) => {
            checks::foreign_server(url, &folder, &users).await?;
            url.clone()
        }
        (None, Some(server)) => server.url(),
        (None, None) => return Err(CliError::internal("neither a server nor its address")),
    };
    let serving = serve(dev, &folder, &users, nodes, url, server, shutdown.clone());
    let late = async {
        shutdown.requested().await;
        tokio::time::sleep(STOP).await;
    };
    tokio::select! {
        outcome = serving => Ok(outcome?),
        () = late => {
            tracing::warn!("not everything stopped in time; leaving it at that");
            Ok(())
        }
    }
}

async fn serve(
    dev: &Dev,
    folder: &Path,
    users: &Users,
    nodes: Nodes,
    url: String,
    server: Option<Server>,
    shutdown: Shutdown,
) -> Result<(), Failure> {
    let _while_running = leave_context(folder, &url, users)?;
    let store = server.as_ref().map(|server| server.store().display().to_string());
    let admin = Admin::default();
    let mut tasks = Tasks::default();
    let page = admin.clone().serve(dev.admin_address, shutdown.clone());
    tasks.spawn("health page", page);
    if let Some(server) = server {
        tasks.spawn("nats-server", server.run(shutdown.clone()));
    }
    let settings = |role: &Role| common(&url, folder, users, role);
    // A service reads its settings from arguments, as a process of its own would.
    macro_rules! service {
        ($name:expr, $module:ident, $args:expr) => {{
            let (args, admin, stop) = ($args, admin.clone(), shutdown.clone());
            keep(&mut tasks, &shutdown, $name, move || {
                let config = $module::Config::try_parse_from(&args);
                let (admin, stop) = (admin.clone(), stop.clone());
                async move { $module::run(config?, admin, stop).await }
            });
        }};
    }
    let mut args = settings(&Role::EventLog)?;
    args.extend(store.into_iter().flat_map(|store| ["--nats-store-dir".to_owned(), store]));
    service!("event-log", event_log, args);
    service!("controller", controller, settings(&Role::Decider("controller"))?);
    service!("scheduler", scheduler, settings(&Role::Decider("scheduler"))?);
    service!("autoscaler", autoscaler, settings(&Role::Decider("autoscaler"))?);
    service!("health", health, settings(&Role::Decider("health"))?);
    let names = nodes.names();
    let range = range::kept(dev.service_range, folder).await?;
    let in_range = ["--service-range".to_owned(), range.to_string()];
    for (node, more) in nodes.run {
        let mut args = settings(&Role::Agent(node.clone()))?;
        args.extend(["--node".to_owned(), node.to_string()]);
        args.extend(in_range.clone());
        args.extend(more);
        service!(&format!("node-agent {node}"), node_agent, args);
    }
    // One serves the ports of all nodes: they share this machine.
    let mut args = settings(&Role::Gateway(names[0].clone()))?;
    args.extend(["--node".to_owned(), names[0].to_string()]);
    args.extend(serving(dev));
    runtime::entropy::kept_seed(folder, SEAL_KEY)?;
    args.extend(["--seal-key-file".to_owned(), folder.join(SEAL_KEY).display().to_string()]);
    args.extend(in_range);
    // Simulated containers ask nobody.
    args.extend(dev.fork.iter().map(|_| "--no-names".to_owned()));
    service!("gateway", gateway, args);
    let password = users.password(&Role::User(USER.to_owned()))?;
    let folder = folder.to_owned();
    let greeting = Greeting { admin, shutdown, folder, url, password, nodes: names };
    tasks.spawn("greeting", greeting.run());
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

/// A file that goes when this does.
struct WhileRunning(PathBuf);

impl Drop for WhileRunning {
    fn drop(&mut self) {
        // One that stays names a server that nobody reaches any more.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Lets the command line find this cluster.
fn leave_context(folder: &Path, url: &str, users: &Users) -> Result<WhileRunning, Failure> {
    let context = DevContext {
        url: url.to_owned(),
        user: USER.to_owned(),
        password: users.password(&Role::User(USER.to_owned()))?,
    };
    let text = serde_json::to_vec_pretty(&context)?;
    users::write_secret(&DevContext::path(folder), &text)?;
    let path = DevContext::path_while_running();
    std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
    users::write_secret(&path, &text)?;
    Ok(WhileRunning(path))
}

/// Says when everything serves.
struct Greeting {
    admin: Admin,
    shutdown: Shutdown,
    folder: PathBuf,
    url: String,
    password: String,
    nodes: Vec<NodeName>,
}

impl Greeting {
    async fn run(self) -> Result<(), Failure> {
        tokio::select! {
            () = self.shutdown.requested() => return Ok(()),
            served = self.served() => served?,
        }
        // The one line on standard output: whoever started this may wait for it.
        println!("ready {}", self.url);
        eprintln!("State: {}", self.folder.display());
        eprintln!("Try: muster deploy    muster ps    muster log -f    muster why REPLICA");
        if let Some(name) = context::selected() {
            let folder = self.folder.display();
            eprintln!(
                "NATS context {name} is selected: MUSTER_DEV_DIR={folder} reaches this cluster"
            );
        }
        self.shutdown.requested().await;
        Ok(())
    }

    /// Waits until every service is ready, and every node is known to be.
    async fn served(&self) -> Result<(), Failure> {
        let services = SERVICES + self.nodes.len();
        while self.admin.readiness.checks() < services || !self.admin.readiness.missing().is_empty()
        {
            tokio::time::sleep(LOOK).await;
        }
        let role = Role::User(USER.to_owned());
        let to = Connect {
            url: self.url.clone(),
            name: "muster dev".to_owned(),
            credentials: Some((USER.to_owned(), self.password.clone())),
            inbox_prefix: role.inbox_prefix(),
        };
        let bus = Bus::connect(&to).await?;
        let request = serde_json::to_vec(&StateRequest::default())?;
        loop {
            let answer = bus.request(&subject::api("state"), request.clone(), RESTART * 4).await;
            let page = answer.ok().and_then(|text| serde_json::from_slice::<StatePage>(&text).ok());
            let ready = |name: &NodeName| {
                let found =
                    page.iter().flat_map(|page| &page.nodes).find(|node| node.node == *name);
                found.is_some_and(|node| node.status == "ready")
            };
            if self.nodes.iter().all(ready) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
