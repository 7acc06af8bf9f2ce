//! Commands that change something: published, then followed until what was asked has come about.

use std::collections::VecDeque;
use std::time::Duration;

use bus::Follow;
use schemas::command::{
    AddNote, Command, Common, DeleteApp, Deploy as DeployCommand, Label as LabelCommand,
    Restart as RestartCommand, Scale as ScaleCommand,
};
use schemas::envelope::Envelope;
use schemas::event::{Event, RolloutFailed};
use schemas::id::{AppKey, CommandId, Digest};
use schemas::place::Place;
use schemas::read::{AppView, LogRequest, StateRequest};
use schemas::stream;

use crate::args::{
    AtOnce, Condition, Format, Label, Note, OnApp, OnNode, Patience, Progress as Shown, Restart,
    Scale, Wait, Waiting,
};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::input::{self, Input};
use crate::look;
use crate::progress::{Display, REDRAW};
use crate::rollout;

/// How long a receipt may take.
const RECEIPT: Duration = Duration::from_secs(15);

pub(crate) async fn deploy(
    client: &Client,
    input: Input,
    patience: &Patience,
) -> Result<(), CliError> {
    let Input { common, deploy: command, contents } = input;
    let key = deployed(&common, &command)?;
    for (digest, content) in &contents {
        store(client, &key, digest, content).await?;
    }
    let common = Common {
        reason: patience.remark.reason.clone().or(common.reason.clone()),
        expect_position: patience.expect_position.or(common.expect_position),
        ..common
    };
    let change = Change { command: Command::Deploy(command), common, app: Some(key) };
    carry_out(client, change, Some(patience)).await
}

/// The app that a deploy is about.
pub(crate) fn deployed(common: &Common, command: &DeployCommand) -> Result<AppKey, CliError> {
    Ok(AppKey {
        tenant: common.tenant.clone().map_or_else(default_tenant, Ok)?,
        name: command.app.name.clone(),
    })
}

fn default_tenant() -> Result<schemas::id::Tenant, CliError> {
    schemas::id::Tenant::new(schemas::id::DEFAULT_TENANT)
        .map_err(|e| CliError::internal(e.to_string()))
}

/// Has a config's content stored, unless history has it already.
async fn store(
    client: &Client,
    app: &AppKey,
    digest: &Digest,
    content: &[u8],
) -> Result<(), CliError> {
    let entity = Some(format!("config/{digest}"));
    let known = LogRequest { entity, limit: Some(1), ..LogRequest::default() };
    if !client.log(&known).await?.events.is_empty() {
        return Ok(());
    }
    let common = Common { tenant: Some(app.tenant.clone()), ..Common::default() };
    let command = Command::PutConfig(input::put_config(content));
    send(client, Change { command, common, app: None }, Shown::Quiet).await.map(|_| ())
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

/// Sends a command about an app, and waits as long as one has patience.
pub(crate) async fn on_app(
    client: &Client,
    command: Command,
    app: &AppKey,
    patience: &Patience,
) -> Result<(), CliError> {
    let common = Common {
        tenant: Some(app.tenant.clone()),
        reason: patience.remark.reason.clone(),
        expect_position: patience.expect_position,
        ..Common::default()
    };
    let change = Change { command, common, app: Some(app.clone()) };
    carry_out(client, change, Some(patience)).await
}

pub(crate) async fn node(client: &Client, verb: &str, on: &OnNode) -> Result<(), CliError> {
    let payload = serde_json::json!({ "node": on.node });
    let payload = serde_json::to_vec(&payload).map_err(|e| CliError::internal(e.to_string()))?;
    let (_, command) =
        Command::decode(verb, &payload).map_err(|problem| CliError::usage(problem.to_string()))?;
    at_once(client, command, &on.at_once).await
}

pub(crate) async fn label(client: &Client, label: &Label) -> Result<(), CliError> {
    let labels = label.labels.iter().cloned().collect();
    let command = Command::Label(LabelCommand { node: label.node.clone(), labels });
    at_once(client, command, &label.at_once).await
}

pub(crate) async fn note(client: &Client, note: &Note) -> Result<(), CliError> {
    let (object, text) = (look::entity(&note.object), note.text.clone());
    let fields = note.field.iter().cloned().collect();
    let carries = AtOnce { remark: note.remark.clone(), expect_position: None };
    at_once(client, Command::AddNote(AddNote { object, text, fields }), &carries).await
}

/// A command that has come about with its receipt.
async fn at_once(client: &Client, command: Command, carries: &AtOnce) -> Result<(), CliError> {
    let common = Common {
        reason: carries.remark.reason.clone(),
        expect_position: carries.expect_position,
        ..Common::default()
    };
    carry_out(client, Change { command, common, app: None }, None).await
}

/// What is asked for.
pub(crate) struct Change {
    pub(crate) command: Command,
    pub(crate) common: Common,
    /// The app that it changes, which takes its time.
    pub(crate) app: Option<AppKey>,
}

/// Publishes, shows what follows from it as it happens, and ends when it has come about.
async fn carry_out(
    client: &Client,
    change: Change,
    patience: Option<&Patience>,
) -> Result<(), CliError> {
    let shown = patience.map_or(Shown::Quiet, |patience| patience.waiting.progress);
    let held_back = rollout::may_be_held_back(&change.command);
    let (mut progress, accepted) = send(client, change, shown).await?;
    let deletes = progress.deletes;
    let patience = patience.filter(|patience| !patience.detach);
    let (Some(patience), Some(app)) = (patience, progress.app.clone()) else {
        println!("accepted at r{accepted}; follow it with: muster why {}", progress.id);
        return Ok(());
    };
    let outcome = tokio::select! {
        biased;
        outcome = tokio::time::timeout(patience.waiting.timeout, progress.outcome()) => outcome,
        held = rollout::held_back(client, &app), if held_back => Ok(held),
        () = client.shutdown.requested() => return Err(detached(&app, deletes)),
    };
    // What is left on the terminal is how it is now.
    if progress.display.is_live()
        && let Ok(page) = client.state(of(&app)).await
    {
        progress.display.draw(&page, runtime::clock::utc_ms());
    }
    match outcome {
        Ok(outcome) => {
            println!("{}; how it came about: muster why {}", outcome?, progress.id);
            Ok(())
        }
        Err(_) => Err(timed_out(client, &app, &patience.waiting, &progress.id).await),
    }
}

/// Publishes, and waits for the receipt: what follows, and where the command was accepted.
pub(crate) async fn send(
    client: &Client,
    change: Change,
    shown: Shown,
) -> Result<(Progress<'_>, u64), CliError> {
    let deletes = matches!(change.command, Command::DeleteApp(_));
    let aborts = matches!(change.command, Command::AbortRollout(_));
    let head = client.head().await?.place.position;
    let follow = client.bus.follow(stream::EVENTS.name, head + 1, None);
    let id = client.command(&change.command, change.common).await?;
    let (display, come) = (Display::new(shown), VecDeque::new());
    let app = change.app;
    let mut progress = Progress { client, follow, id, app, deletes, aborts, display, come };
    let Ok(accepted) = tokio::time::timeout(RECEIPT, progress.receipt()).await else {
        let text = format!(
            "no receipt after {} s: is the controller running? The command is kept; see `muster why {}`",
            RECEIPT.as_secs(),
            progress.id
        );
        return Err(CliError::new(Code::TimedOut, text));
    };
    let accepted = accepted?;
    Ok((progress, accepted))
}

/// Ctrl-C ends the waiting, never what was asked for.
fn detached(app: &AppKey, deletes: bool) -> CliError {
    let until = if deletes { " --for deleted" } else { "" };
    let text =
        format!("it goes on without you; follow it with: muster wait {}{until}", app.short());
    CliError::new(Code::Interrupted, text)
}

/// What fits nowhere is refused, however long one waits; the rest is on its way.
async fn timed_out(client: &Client, app: &AppKey, waiting: &Waiting, id: &CommandId) -> CliError {
    let seconds = waiting.timeout.as_secs();
    let found = view(client, app).await.ok().flatten();
    let unplaced = found.into_iter().flat_map(|app| app.workloads).find_map(|(name, workload)| {
        (!workload.unplaced.is_empty()).then(|| format!("{name}: {}", workload.unplaced.join("; ")))
    });
    match unplaced {
        Some(why) => {
            let text = format!("after {seconds} s {} still fits nowhere: {why}", app.short());
            CliError::new(Code::Refused, text)
        }
        None => {
            let app = app.short();
            let text = format!(
                "not there after {seconds} s, and still on its way: muster wait {app}, muster why {id}"
            );
            CliError::new(Code::TimedOut, text)
        }
    }
}

pub(crate) async fn view(client: &Client, app: &AppKey) -> Result<Option<AppView>, CliError> {
    Ok(client.state(of(app)).await?.apps.into_iter().next())
}

pub(crate) fn of(app: &AppKey) -> StateRequest {
    StateRequest {
        tenant: Some(app.tenant.clone()),
        app: Some(app.name.clone()),
        ..StateRequest::default()
    }
}

/// What follows from one command.
pub(crate) struct Progress<'a> {
    client: &'a Client,
    follow: Follow,
    pub(crate) id: CommandId,
    app: Option<AppKey>,
    deletes: bool,
    aborts: bool,
    display: Display,
    /// What has come and was not looked at yet.
    come: VecDeque<Envelope>,
}

impl Progress<'_> {
    /// The next event of the command, or of another one that changes the same app.
    pub(crate) async fn next(&mut self) -> Result<Envelope, CliError> {
        loop {
            if let Some(envelope) = self.come.pop_front() {
                return Ok(envelope);
            }
            let app = self.app.as_ref();
            let batch = next_batch(self.client, &mut self.follow, &mut self.display, app).await?;
            for payload in batch {
                let Ok(envelope) = Envelope::decode(&payload) else { continue };
                if envelope.header.correlation.as_ref() == Some(&self.id) {
                    self.display.event(&envelope);
                    self.come.push_back(envelope);
                } else if self.overtakes(&envelope.event) {
                    self.come.push_back(envelope);
                }
            }
        }
    }

    /// Whether an event that goes back to another command decides what becomes of this one: the app
    /// gets to where the last command wants it, and that is said in the last one's name.
    fn overtakes(&self, event: &Event) -> bool {
        let app = match event {
            Event::AppDeployed(e) => &e.app,
            Event::RolloutFailed(e) => &e.app,
            Event::AppDeleteStarted(e) => &e.app,
            Event::AppConverged(e) => &e.app,
            Event::AppStalled(e) => &e.app,
            Event::AppDeleted(e) => &e.app,
            _ => return false,
        };
        Some(app) == self.app.as_ref()
    }

    /// Where the command was accepted.
    async fn receipt(&mut self) -> Result<u64, CliError> {
        loop {
            let envelope = self.next().await?;
            match envelope.event {
                Event::CommandAccepted(_) => return Ok(envelope.header.position),
                Event::CommandRejected(e) => return Err(CliError::rejected(&e.problem)),
                _ => {}
            }
        }
    }

    /// That it has come about, in words.
    async fn outcome(&mut self) -> Result<String, CliError> {
        let mut failed: Option<RolloutFailed> = None;
        loop {
            let envelope = self.next().await?;
            let at = envelope.header.position;
            let own = envelope.header.correlation.as_ref() == Some(&self.id);
            match envelope.event {
                Event::RolloutFailed(e) => failed = Some(e),
                Event::AppConverged(e) if !self.deletes => {
                    let (app, revision) = (e.app.short(), e.revision);
                    if let Some(failed) = &failed {
                        return rollout::went_back(failed, revision, at, self.aborts);
                    }
                    let told = format!("{app} runs as declared at r{at}, revision {revision}");
                    let jobs: Vec<String> = e
                        .failed
                        .iter()
                        .map(|f| format!("{} failed: {}", f.workload, f.reason))
                        .collect();
                    if jobs.is_empty() {
                        return Ok(told);
                    }
                    let text = format!("{}\n{told}", jobs.join("\n"));
                    return Err(CliError::new(Code::No, text));
                }
                Event::AppDeployed(e)
                    if failed.as_ref().is_some_and(|f| f.revision + 1 == e.revision) => {}
                Event::AppDeleted(e) => return Ok(format!("{} is gone at r{at}", e.app.short())),
                Event::AppStalled(e) => {
                    let why = failed.as_ref().map(rollout::failure).unwrap_or_default();
                    let text =
                        format!("{why}{} stalled: {}: {}", e.app.short(), e.workload, e.reason);
                    return Err(CliError::new(Code::Refused, text));
                }
                Event::AppDeployed(_) | Event::AppDeleteStarted(_) if !own => {
                    let by = envelope.header.actor;
                    let text = format!("another command, by {by}, changed the app at r{at}");
                    return Err(CliError::new(Code::Conflict, text));
                }
                _ => {}
            }
        }
    }
}

/// The next messages. Draws now and then until they come.
async fn next_batch(
    client: &Client,
    follow: &mut Follow,
    display: &mut Display,
    app: Option<&AppKey>,
) -> Result<Vec<Vec<u8>>, CliError> {
    let mut batch = std::pin::pin!(follow.next_batch(64));
    loop {
        tokio::select! {
            batch = &mut batch => {
                return Ok(batch?.into_iter().map(|message| message.payload.to_vec()).collect());
            }
            () = tokio::time::sleep(REDRAW), if display.is_live() => {}
        }
        if let Some(app) = app
            && let Ok(page) = client.state(of(app)).await
        {
            display.draw(&page, runtime::clock::utc_ms());
        }
    }
}

pub(crate) async fn wait(client: &Client, wait: &Wait) -> Result<(), CliError> {
    let deletes = wait.condition == Condition::Deleted;
    let outcome = tokio::select! {
        biased;
        outcome = tokio::time::timeout(wait.waiting.timeout, until(client, wait)) => outcome,
        () = client.shutdown.requested() => return Err(detached(&wait.app, deletes)),
    };
    match outcome {
        Ok(outcome) => outcome,
        Err(_) => {
            let seconds = wait.waiting.timeout.as_secs();
            let text = format!("{} is not there after {seconds} s", wait.app.short());
            Err(CliError::new(Code::TimedOut, text))
        }
    }
}

async fn until(client: &Client, wait: &Wait) -> Result<(), CliError> {
    let head = client.head().await?.place.position;
    let mut follow = client.bus.follow(stream::EVENTS.name, head + 1, None);
    let mut display = Display::new(wait.waiting.progress);
    let app = wait.app.short();
    loop {
        let page = client.state(of(&wait.app)).await?;
        match (page.apps.first(), wait.condition) {
            (None, Condition::Deleted) => {
                let told = format!("{app} is gone at r{}", page.place.position);
                return waited(wait, page.place, "deleted", None, &told);
            }
            (None, Condition::Converged) => {
                return Err(CliError::new(
                    Code::NotFound,
                    format!("there is no app {app}: `muster apps` lists them"),
                ));
            }
            (Some(view), Condition::Converged) if is_as_declared(view) => {
                let (at, revision) = (page.place.position, view.revision);
                let told = format!("{app} runs as declared at r{at}, revision {revision}");
                return waited(wait, page.place, "converged", Some(revision), &told);
            }
            (Some(view), Condition::Converged) if view.status == "stalled" => {
                let why = view.reason.clone().unwrap_or_default();
                return Err(CliError::new(Code::No, format!("{app} has stalled: {why}")));
            }
            (Some(_), _) => {}
        }
        for payload in next_batch(client, &mut follow, &mut display, Some(&wait.app)).await? {
            let Ok(envelope) = Envelope::decode(&payload) else { continue };
            if envelope.header.tenant == wait.app.tenant {
                display.event(&envelope);
            }
        }
    }
}

/// Says that what was waited for is so.
fn waited(
    wait: &Wait,
    at: Place,
    state: &str,
    revision: Option<u64>,
    told: &str,
) -> Result<(), CliError> {
    if wait.output == Format::Json {
        let app = wait.app.short();
        return look::json(&serde_json::json!({
            "kind": "Waited", "at": at, "app": app, "state": state, "revision": revision,
        }));
    }
    println!("{told}");
    Ok(())
}

fn is_as_declared(app: &AppView) -> bool {
    let as_declared = app
        .workloads
        .values()
        .all(|w| w.declared.is_none_or(|declared| w.ready + w.completed >= u64::from(declared)));
    app.status == "converged" && as_declared
}
