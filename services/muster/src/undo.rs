//! `muster undo`: commands that bring apps back to what was declared at another moment.

mod steps;

use cluster::Fold;
use schemas::command::{Command, DeleteApp, Deploy};
use schemas::id::AppKey;
use schemas::place::Place;
use serde::Serialize;

use crate::args::{Format, Patience, Undo};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::{follow, look};
use steps::{Change, Kept, Step};

/// What would be sent.
#[derive(Serialize)]
struct Undoing<'a> {
    kind: &'static str,
    at: Place,
    /// The moment to go back to.
    to: Place,
    kept: &'a [Kept],
    items: &'a [Step],
}

pub(crate) async fn undo(client: &Client, args: &Undo) -> Result<(), CliError> {
    let to = client.moment(args.to).await?.place.position;
    let head = client.head().await?.place.position;
    let then = runtime::history::at(&client.bus, to).await?;
    let now = runtime::history::at(&client.bus, head).await?;
    are_known(&args.apps, &then, &now)?;
    let steps = steps::steps(then.state(), now.state(), &args.apps);
    let kept = steps::kept(then.state(), now.state(), &steps);
    if args.dry_run && args.output == Format::Json {
        let (at, to) = (now.place(), then.place());
        return look::json(&Undoing { kind: "UndoPlan", at, to, kept: &kept, items: &steps });
    }
    tell(&then, &steps, &kept);
    if args.dry_run {
        return Ok(());
    }
    for step in steps {
        send(client, step, (to, &now), &args.patience).await?;
    }
    Ok(())
}

fn are_known(apps: &[AppKey], then: &Fold, now: &Fold) -> Result<(), CliError> {
    let known = |app: &&AppKey| then.state().apps.contains(*app) || now.state().apps.contains(*app);
    match apps.iter().find(|app| !known(app)) {
        Some(app) => {
            let text = format!("there was no app {} then, and there is none now", app.short());
            Err(CliError::new(Code::NotFound, text))
        }
        None => Ok(()),
    }
}

fn tell(then: &Fold, steps: &[Step], kept: &[Kept]) {
    let to = then.place().position;
    if steps.is_empty() {
        println!("nothing to undo: everything is declared as it was at r{to}");
        return;
    }
    if !kept.is_empty() {
        println!("No command brings back:");
        for Kept { app, what } in kept {
            println!("  {}: {what}", app.short());
        }
    }
    println!("To what was declared at r{to}:");
    for step in steps {
        let app = step.app.short();
        match &step.change {
            Change::Delete => println!("  delete {app}: it was not declared then"),
            Change::Deploy { .. } if step.fields.is_empty() => {
                println!("  deploy {app}: it is not declared now");
            }
            Change::Deploy { .. } => println!("  deploy {app}"),
        }
        for field in &step.fields {
            println!("      {}: {} → {}", field.path, field.from, field.to);
        }
    }
}

async fn send(
    client: &Client,
    step: Step,
    (to, now): (u64, &Fold),
    patience: &Patience,
) -> Result<(), CliError> {
    let command = match step.change {
        Change::Deploy { spec } => Command::Deploy(Deploy { app: spec }),
        Change::Delete => Command::DeleteApp(DeleteApp { app: step.app.name.clone() }),
    };
    let mut patience = Patience {
        // What somebody changed since it was looked at is not undone by this.
        expect_position: patience.expect_position.or(Some(now.place().position)),
        ..patience.clone()
    };
    if matches!(command, Command::DeleteApp(_)) {
        // What is deployed next may want a port that this still has.
        patience.detach = false;
    }
    patience.remark.reason.get_or_insert_with(|| format!("undo, back to r{to}"));
    follow::on_app(client, command, &step.app, &patience).await
}
