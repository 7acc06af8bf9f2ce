//! `muster rollout`: how far a revision is, and what a person has to say about it.

use std::time::Duration;

use schemas::command::{AbortRollout, Command, PauseRollout, PromoteRollout, ResumeRollout};
use schemas::event::RolloutFailed;
use schemas::id::AppKey;
use schemas::read::{AppView, RolloutView, WorkloadView};
use schemas::spec::UpdateStrategy;

use crate::args::{Format, Rollout, RolloutOf, RolloutStatus};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::progress::Display;
use crate::table::{ago, table};
use crate::{follow, look};

/// How often is looked whether it waits for somebody.
const LOOK: Duration = Duration::from_millis(500);

/// How many of the last lines of what failed are shown.
const LINES: usize = 10;

pub(crate) async fn rollout(client: &Client, command: &Rollout) -> Result<(), CliError> {
    match command {
        Rollout::Status(args) => status(client, args).await,
        Rollout::Pause(of) => {
            let (app, workload) = (of.app.name.clone(), of.workload.clone());
            let command = Command::PauseRollout(PauseRollout { app, workload });
            // It has come about with its receipt.
            let mut patience = of.patience.clone();
            patience.detach = true;
            follow::on_app(client, command, &of.app, &patience).await
        }
        Rollout::Resume(of) => {
            let (app, workload) = (of.app.name.clone(), of.workload.clone());
            let command = Command::ResumeRollout(ResumeRollout { app, workload });
            on(client, command, of).await
        }
        Rollout::Promote { of, full } => {
            let (app, workload) = (of.app.name.clone(), of.workload.clone());
            let command = Command::PromoteRollout(PromoteRollout { app, workload, full: *full });
            on(client, command, of).await
        }
        Rollout::Abort(of) => {
            let command = Command::AbortRollout(AbortRollout { app: of.app.name.clone() });
            follow::on_app(client, command, &of.app, &of.patience).await
        }
    }
}

async fn on(client: &Client, command: Command, of: &RolloutOf) -> Result<(), CliError> {
    follow::on_app(client, command, &of.app, &of.patience).await
}

/// Waits until the app is as declared, or waits for somebody, or has stalled; then says how it is.
async fn status(client: &Client, args: &RolloutStatus) -> Result<(), CliError> {
    let short = args.app.short();
    let mut display = Display::new(args.waiting.progress);
    let found = async {
        loop {
            let page = client.state(follow::of(&args.app)).await?;
            let Some(view) = page.apps.first() else {
                let text = format!("there is no app {short}: `muster apps` lists them");
                return Err(CliError::new(Code::NotFound, text));
            };
            if !args.detach {
                display.draw(&page, runtime::clock::utc_ms());
            }
            if args.detach || rests(view) {
                return Ok((page.place, view.clone()));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let (place, view) = match tokio::time::timeout(args.waiting.timeout, found).await {
        Ok(found) => found?,
        Err(_) => {
            let seconds = args.waiting.timeout.as_secs();
            let text = format!("{short} is still on its way after {seconds} s");
            return Err(CliError::new(Code::TimedOut, text));
        }
    };
    if args.output == Format::Json {
        look::json(&serde_json::json!({
            "kind": "RolloutStatus", "at": place, "app": view,
        }))?;
    } else {
        print!("{}", told(&view, runtime::clock::utc_ms()));
    }
    // What was told says why.
    match (&view.rolled_back, view.status.as_str()) {
        (Some(_), _) | (None, "stalled") => Err(CliError::new(Code::No, "")),
        _ => Ok(()),
    }
}

/// Whether nothing more happens by itself, but for what fails.
fn rests(view: &AppView) -> bool {
    let waits = view.workloads.values().any(|w| waits_for_somebody(w).is_some());
    view.status != "converging" || waits
}

/// What a rollout waits for that only a person does.
fn waits_for_somebody(workload: &WorkloadView) -> Option<&'static str> {
    let rollout = workload.rollout.as_ref()?;
    if rollout.paused {
        return Some("paused: muster rollout resume");
    }
    let wanted = rollout.wanted.filter(|_| rollout.hold_ms.is_none())?;
    (workload.ready >= u64::from(wanted)).then_some("waits to be promoted: muster rollout promote")
}

/// How an app is, and each of its rollouts.
fn told(view: &AppView, now_ms: u64) -> String {
    let why = view.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let mut text =
        format!("{} is {}, revision {}{why}\n", view.app.short(), view.status, view.revision);
    if let Some(failed) = &view.rolled_back {
        text.push_str(&format!(
            "revision {} failed and was taken back: {}: {}\n",
            failed.revision, failed.workload, failed.reason
        ));
    }
    let rows: Vec<Vec<String>> = view
        .workloads
        .iter()
        .filter_map(|(name, workload)| {
            let rollout = workload.rollout.as_ref()?;
            Some(vec![
                name.to_string(),
                rollout.strategy.clone(),
                rollout.from.clone(),
                rollout.old_ready.to_string(),
                workload.image.clone(),
                workload.ready.to_string(),
                share(rollout),
                progress(workload, rollout, now_ms),
            ])
        })
        .collect();
    if !rows.is_empty() {
        let head = ["WORKLOAD", "STRATEGY", "OLD", "READY", "NEW", "READY", "TRAFFIC", "STATE"];
        text.push_str(&table(&head, &rows));
    }
    text
}

fn share(rollout: &RolloutView) -> String {
    rollout.weight_percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"))
}

fn progress(workload: &WorkloadView, rollout: &RolloutView, now_ms: u64) -> String {
    if let Some(waits) = waits_for_somebody(workload) {
        return waits.to_owned();
    }
    let since = ago(now_ms.saturating_sub(rollout.since_ms));
    let hold = rollout.hold_ms.map(|ms| format!(" of {}", ago(ms))).unwrap_or_default();
    match (rollout.step, rollout.weight_percent) {
        (Some((step, of)), _) => format!("step {step} of {of} for {since}{hold}"),
        (None, Some(_)) => format!("beside the old one for {since}{hold}"),
        (None, None) => format!("taking over for {since}"),
    }
}

/// Whether what follows from a command may come to wait for somebody.
pub(crate) fn may_be_held_back(command: &Command) -> bool {
    match command {
        Command::Deploy(deploy) => {
            deploy.app.workloads.values().any(|spec| match &spec.update.strategy {
                UpdateStrategy::Rolling | UpdateStrategy::Recreate => false,
                UpdateStrategy::Canary { steps } => steps.iter().any(|step| step.hold_ms.is_none()),
                UpdateStrategy::BlueGreen { promote_after_ms } => promote_after_ms.is_none(),
            })
        }
        Command::PromoteRollout(_) | Command::ResumeRollout(_) => true,
        _ => false,
    }
}

/// Ends when a rollout of an app waits for somebody, and says so.
pub(crate) async fn held_back(client: &Client, app: &AppKey) -> Result<String, CliError> {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(view) = follow::view(client, app).await? else { continue };
        let waits =
            view.workloads.iter().find_map(|(name, w)| Some((name, waits_for_somebody(w)?)));
        if let Some((name, waits)) = waits.filter(|_| view.status == "converging") {
            let (short, revision) = (app.short(), view.revision);
            return Ok(format!("{short} is at revision {revision}; {name} {waits} {short}"));
        }
    }
}

/// What failed, and what was found.
pub(crate) fn failure(failed: &RolloutFailed) -> String {
    let mut text = format!(
        "revision {} of {} failed: {}: {}\n",
        failed.revision,
        failed.app.short(),
        failed.workload,
        failed.reason
    );
    for line in evidence(failed) {
        text.push_str(&format!("  {line}\n"));
    }
    text
}

/// What was found wrong, a line each.
pub(crate) fn evidence(failed: &RolloutFailed) -> Vec<String> {
    let Some(found) = &failed.evidence else { return Vec::new() };
    let mut said = Vec::new();
    if let Some(replica) = &failed.replica {
        said.push(format!("{replica}: {}", found.cause));
    }
    if found.out_of_memory {
        said.push("it was killed for lack of memory".to_owned());
    }
    let passed = found.last_lines.len().saturating_sub(LINES);
    let lines = &found.last_lines[passed..];
    if !lines.is_empty() {
        said.push("its last lines:".to_owned());
        said.extend(lines.iter().map(|line| format!("  {line}")));
    }
    said
}

/// What became of a deploy that failed, or of an abort.
pub(crate) fn went_back(
    failed: &RolloutFailed,
    revision: u64,
    at: u64,
    asked: bool,
) -> Result<String, CliError> {
    let (app, back_to) = (failed.app.short(), failed.back_to);
    let back =
        format!("{app} runs what revision {back_to} declared, as revision {revision}, at r{at}");
    if asked {
        return Ok(back);
    }
    let text = format!("{}{back}: muster why {app}", failure(failed));
    Err(CliError::new(Code::No, text))
}

#[cfg(test)]
mod tests;
