//! `muster plan`: what a deploy would change and where replicas would go. Nothing is written.
//!
//! The cluster's history is folded here, and the rules of the real controller and the real scheduler
//! run over that copy, with a ledger in memory that numbers what they decide.

mod ledger;
mod outcome;
mod world;

#[cfg(test)]
mod tests;

use cluster::Fold;
use controller::commands::CommandMessage;
use schemas::command::Command;
use schemas::place::Place;
use schemas::read::LogRequest;
use schemas::{command::Common, subject};

use crate::args::{Format, Plan};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::input::{Input, put_config};
use crate::{follow, look};
use outcome::Outcome;
use world::World;

pub(crate) async fn plan(client: &Client, plan: &Plan, input: Input) -> Result<(), CliError> {
    let Input { common, deploy, contents } = input;
    let key = follow::deployed(&common, &deploy)?;
    let fold = history(client).await?;
    if let Some(what) = fold.blocked() {
        let text = format!("{what} needs a newer release than this one to be understood");
        return Err(CliError::internal(text));
    }
    let (at, before) = (fold.place(), fold.state().clone());
    let contents = contents.values().map(|content| Command::PutConfig(put_config(content)));
    let commands = contents.map(|command| (command, Common::default()));
    let messages: Vec<CommandMessage> = commands
        .chain([(Command::Deploy(deploy), common)])
        .map(|(command, common)| message(client, &command, &common))
        .collect();
    let world = World::new(fold, key.clone(), runtime::clock::now());
    let after = world.run(messages).map_err(|error| CliError::internal(error.to_string()))?;
    let outcome = Outcome::of(&key, &before, &after, at);
    if let Some(problem) = &outcome.rejected {
        return Err(CliError::rejected(problem));
    }
    match plan.output {
        Format::Json => look::json(&outcome)?,
        Format::Table => print!("{}", outcome.told()),
    }
    verdict(&outcome, plan.exit_code)
}

fn verdict(outcome: &Outcome, exit_code: bool) -> Result<(), CliError> {
    if let Some(unplaced) = outcome.unplaced() {
        return Err(CliError::new(Code::Refused, unplaced));
    }
    if exit_code && outcome.changed {
        return Err(CliError::new(Code::No, ""));
    }
    Ok(())
}

/// The command as it would arrive.
fn message(client: &Client, command: &Command, common: &Common) -> CommandMessage {
    let payload = command.encode(common);
    let subject = subject::command(command.verb());
    let now = runtime::clock::utc_ms();
    CommandMessage::new(u64::MAX, &subject, None, Some(&client.user), now, payload)
}

/// The cluster's history up to its head, folded.
async fn history(client: &Client) -> Result<Fold, CliError> {
    let head: Place = client.head().await?.place;
    let mut fold = runtime::history::snapshot(&client.bus).await.unwrap_or_else(Fold::new);
    let request = LogRequest { from: fold.cursor().position + 1, ..LogRequest::default() };
    look::events(client, request, |text| {
        if fold.cursor().position < head.position {
            let read = fold.push(text.as_bytes());
            read.map_err(|error| CliError::internal(error.to_string()))?;
        }
        Ok(())
    })
    .await?;
    Ok(fold)
}
