//! Commands that change something: published, then followed until what was asked has come about.

use std::time::Duration;

use bus::Follow;
use schemas::command::{
    Command, Common, DeleteApp, PutConfig, Restart as RestartCommand, Scale as ScaleCommand,
};
use schemas::envelope::Envelope;
use schemas::event::Event;
use schemas::id::{AppKey, CommandId, Digest};
use schemas::read::{LogRequest, StateRequest};
use schemas::stream;

use crate::args::{OnApp, OnNode, Patience, Restart, Scale};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::input::Input;
use crate::tell;

/// How long a receipt may take.
const RECEIPT: Duration = Duration::from_secs(15);

pub(crate) async fn deploy(
    client: &Client,
    input: Input,
    patience: &Patience,
) -> Result<(), CliError> {
    let Input { common, deploy, contents } = input;
    let key = AppKey {
        tenant: common.tenant.clone().map_or_else(default_tenant, Ok)?,
        name: deploy.app.name.clone(),
    };
    for (digest, content) in &contents {
        store(client, &key, digest, content).await?;
    }
    let common = Common { reason: patience.reason.clone().or(common.reason.clone()), ..common };
    carry_out(client, Command::Deploy(deploy), common, Some(key), patience).await
}

/// Has a config's content stored, unless history has it already.
async fn store(
    client: &Client,
    app: &AppKey,
    digest: &Digest,
    content: &[u8],
) -> Result<(), CliError> {
    use base64::Engine as _;
    let entity = Some(format!("config/{digest}"));
    let known = LogRequest { entity, limit: Some(1), ..LogRequest::default() };
    if !client.log(&known).await?.events.is_empty() {
        return Ok(());
    }
    let content_base64 = base64::engine::general_purpose::STANDARD.encode(content);
    let common = Common { tenant: Some(app.tenant.clone()), ..Common::default() };
    send(client, Command::PutConfig(PutConfig { content_base64 }), common).await.map(|_| ())
}

fn default_tenant() -> Result<schemas::id::Tenant, CliError> {
    schemas::id::Tenant::new(schemas::id::DEFAULT_TENANT)
        .map_err(|e| CliError::internal(e.to_string()))
}

pub(crate) async fn delete(client: &Client, delete: &OnApp) -> Result<(), CliError> {
    let command = Command::DeleteApp(DeleteApp { app: delete.app.name.clone() });
    on_app(client, command, &delete.app, &delete.patience).await
}

pub(crate) async fn scale(client: &Client, scale: &Scale) -> Result<(), CliError> {
    let (workload, replicas) = scale.workload.clone();
    let command = Command::Scale(ScaleCommand { app: scale.app.name.clone(), workload, replicas });
    on_app(client, command, &scale.app, &scale.patience).await
}

pub(crate) async fn restart(client: &Client, restart: &Restart) -> Result<(), CliError> {
    let (app, workload) = (restart.app.name.clone(), restart.workload.clone());
    let command = Command::Restart(RestartCommand { app, workload });
    on_app(client, command, &restart.app, &restart.patience).await
}

async fn on_app(
    client: &Client,
    command: Command,
    app: &AppKey,
    patience: &Patience,
) -> Result<(), CliError> {
    let common = Common {
        tenant: Some(app.tenant.clone()),
        reason: patience.reason.clone(),
        ..Common::default()
    };
    carry_out(client, command, common, Some(app.clone()), patience).await
}

pub(crate) async fn node(client: &Client, verb: &str, on: &OnNode) -> Result<(), CliError> {
    let payload = serde_json::json!({ "node": on.node, "reason": on.reason });
    let payload = serde_json::to_vec(&payload).map_err(|e| CliError::internal(e.to_string()))?;
    let (common, command) =
        Command::decode(verb, &payload).map_err(|problem| CliError::usage(problem.to_string()))?;
    let patience = Patience { detach: true, timeout: RECEIPT, reason: None };
    carry_out(client, command, common, None, &patience).await
}

/// Publishes, prints what follows from it as it happens, and ends when it has come about.
async fn carry_out(
    client: &Client,
    command: Command,
    common: Common,
    app: Option<AppKey>,
    patience: &Patience,
) -> Result<(), CliError> {
    let mut progress = send(client, command, common).await?;
    if patience.detach || app.is_none() {
        println!("{}", progress.id);
        return Ok(());
    }
    match tokio::time::timeout(patience.timeout, progress.outcome()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let text = format!(
                "not there after {} s, and still on its way: see `muster apps` and `muster why {}`",
                patience.timeout.as_secs(),
                progress.id
            );
            Err(CliError::new(Code::TimedOut, text))
        }
    }
}

/// Publishes, and waits until the command is accepted.
async fn send(client: &Client, command: Command, common: Common) -> Result<Progress, CliError> {
    let head = client.head().await?.place.position;
    let mut progress = Progress {
        follow: client.bus.follow(stream::EVENTS.name, head + 1, None),
        deletes: matches!(command, Command::DeleteApp(_)),
        id: client.command(&command, common).await?,
    };
    let accepted = tokio::time::timeout(RECEIPT, progress.receipt()).await;
    accepted.map_err(|_| {
        let text = format!("no receipt after {} s: is the controller running? The command is kept; see `muster why {}`", RECEIPT.as_secs(), progress.id);
        CliError::new(Code::TimedOut, text)
    })??;
    Ok(progress)
}

/// What follows from one command.
struct Progress {
    follow: Follow,
    id: CommandId,
    deletes: bool,
}

impl Progress {
    /// The next events of the command.
    async fn next(&mut self) -> Result<Vec<Envelope>, CliError> {
        let batch = self.follow.next_batch(64).await;
        let batch = batch.map_err(|error| CliError::new(Code::Unreachable, error.to_string()))?;
        let mut events = Vec::new();
        for message in batch {
            let Ok(envelope) = Envelope::decode(&message.payload) else { continue };
            if envelope.header.correlation.as_ref() == Some(&self.id) {
                eprintln!("{}", tell::line(&envelope));
                events.push(envelope);
            }
        }
        Ok(events)
    }

    async fn receipt(&mut self) -> Result<(), CliError> {
        loop {
            for envelope in self.next().await? {
                match envelope.event {
                    Event::CommandAccepted(_) => return Ok(()),
                    Event::CommandRejected(rejected) => {
                        let code = match rejected.problem.code.as_str() {
                            "not_found" => Code::NotFound,
                            "changed_meanwhile" => Code::Conflict,
                            _ => Code::Refused,
                        };
                        return Err(CliError::new(code, rejected.problem.to_string()));
                    }
                    _ => {}
                }
            }
        }
    }

    async fn outcome(&mut self) -> Result<(), CliError> {
        loop {
            for envelope in self.next().await? {
                match envelope.event {
                    Event::AppConverged(_) if !self.deletes => return Ok(()),
                    Event::AppDeleted(_) => return Ok(()),
                    Event::AppStalled(e) => {
                        let text = format!("{} stalled: {}: {}", e.app, e.workload, e.reason);
                        return Err(CliError::new(Code::Refused, text));
                    }
                    _ => {}
                }
            }
        }
    }
}

pub(crate) async fn wait(client: &Client, wait: &OnApp) -> Result<(), CliError> {
    let head = client.head().await?.place.position;
    let mut follow = client.bus.follow(stream::EVENTS.name, head + 1, None);
    let request = StateRequest {
        tenant: Some(wait.app.tenant.clone()),
        app: Some(wait.app.name.clone()),
        ..StateRequest::default()
    };
    let waiting = async {
        loop {
            let page = client.state(request.clone()).await?;
            let Some(app) = page.apps.first() else {
                return Err(CliError::new(Code::NotFound, format!("there is no app {}", wait.app)));
            };
            let as_declared = app.workloads.values().all(|w| {
                w.declared.is_none_or(|declared| w.ready + w.completed >= u64::from(declared))
            });
            if app.status == "converged" && as_declared {
                return Ok(());
            }
            if app.status == "stalled" {
                return Err(CliError::new(Code::No, app.reason.clone().unwrap_or_default()));
            }
            follow
                .next_batch(64)
                .await
                .map_err(|e| CliError::new(Code::Unreachable, e.to_string()))?;
        }
    };
    match tokio::time::timeout(wait.patience.timeout, waiting).await {
        Ok(outcome) => outcome,
        Err(_) => Err(CliError::new(Code::TimedOut, format!("{} is not there yet", wait.app))),
    }
}
