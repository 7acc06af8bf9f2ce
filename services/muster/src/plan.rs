//! `muster plan` and `muster whatif`: what would follow from a deploy, or from anything. Nothing is
//! written.
//!
//! The cluster's history is folded here, and the rules of the real controller and the real scheduler
//! run over that copy, with a ledger in memory that numbers what they decide.

mod ledger;
mod outcome;
mod rebalance;
mod whatif;
mod world;

#[cfg(test)]
mod tests;

use controller::commands::CommandMessage;
use schemas::command::Command;
use schemas::{command::Common, subject};

use crate::args::{Format, Plan};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::input::{Input, put_config};
use crate::{follow, look};
use outcome::Outcome;
pub(crate) use rebalance::{command as rebalance_command, moves};
pub(crate) use whatif::whatif;
use world::World;

pub(crate) async fn plan(client: &Client, plan: &Plan, input: Input) -> Result<(), CliError> {
    let Input { common, deploy, contents } = input;
    let key = follow::deployed(&common, &deploy)?;
    let head = client.head().await?.place.position;
    let fold = runtime::history::at(&client.bus, head).await?;
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
    let world = World::new(fold, Some(key.clone()), runtime::clock::now());
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
