//! History, looked at: `log`, `show`, `why`, `blame`, `diff`, `audit`, and reads of another moment.
//!
//! What needs thought is a pure rule over events and states; what fetches them is beside it.

mod audit;
mod blame;
mod cloud_event;
mod diff;
mod filter;
mod graph;
mod log;
mod object;
mod show;
mod why;

use schemas::envelope::Envelope;
use schemas::id::CommandId;
use schemas::read::{LogRequest, Moment};

use crate::args::At;
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::{look, tell};

pub(crate) use audit::{audit, check};
pub(crate) use blame::blame;
pub(crate) use diff::diff;
pub(crate) use log::log;
pub(crate) use show::show;
pub(crate) use why::why;

/// The moment at which a read is to be true; none: now.
pub(crate) async fn moment(client: &Client, at: &At) -> Result<Option<Moment>, CliError> {
    let Some(when) = at.at else { return Ok(None) };
    let moment = client.moment(when).await?;
    if moment.place.position == 0 {
        let text =
            "nothing was recorded by then: `muster log -n 1 --to r1` shows how history begins";
        return Err(CliError::new(Code::NotFound, text));
    }
    Ok(Some(moment))
}

/// At which place and time something is true, for the head of what is printed.
pub(crate) fn head(moment: &Moment) -> String {
    let ago = crate::table::ago(runtime::clock::utc_ms().saturating_sub(moment.recorded_ms));
    format!("as of r{}, {} ({ago} ago)", moment.place.position, tell::time(moment.recorded_ms))
}

/// The events of a request, all of its pages.
async fn events(client: &Client, request: LogRequest) -> Result<Vec<Envelope>, CliError> {
    let mut found = Vec::new();
    look::events(client, request, |text| {
        // What only a newer release knows explains nothing here; `muster log -o json` has it.
        found.extend(look::decode(text).ok());
        Ok(())
    })
    .await?;
    Ok(found)
}

/// What was answered to a command.
async fn receipt(client: &Client, command: &CommandId) -> Result<Option<Envelope>, CliError> {
    let entity = Some(schemas::event::command_entity(command));
    let request = LogRequest { entity, limit: Some(1), ..LogRequest::default() };
    Ok(events(client, request).await?.into_iter().next())
}
