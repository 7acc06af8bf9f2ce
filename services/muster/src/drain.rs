//! `muster drain`: cordons a node, then waits until nothing is left on it that can move.

use std::time::Duration;

use schemas::command::{Command, Common, Drain as DrainCommand};
use schemas::id::{CommandId, NodeName};
use schemas::read::{StatePage, StateRequest};

use crate::args::Drain;
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::follow::{self, Change, Progress};
use crate::progress::{Display, REDRAW};

/// For how long replicas must be seen to stay, in ms: right after a drain has begun, what was stalled
/// before it is still said to.
const STAYS_MS: u64 = 2_000;

pub(crate) async fn drain(client: &Client, drain: &Drain) -> Result<(), CliError> {
    let (node, patience) = (&drain.node, &drain.patience);
    let common = Common {
        reason: patience.remark.reason.clone(),
        expect_position: patience.expect_position,
        ..Common::default()
    };
    let command = Command::Drain(DrainCommand { node: node.clone() });
    let change = Change { command, common, app: None };
    let shown = patience.waiting.progress;
    let (mut progress, accepted) = follow::send(client, change, shown).await?;
    let id = progress.id.clone();
    if patience.detach {
        println!("accepted at r{accepted}; follow it with: muster why {id}");
        return Ok(());
    }
    let mut display = Display::new(shown);
    let (at, staying) = tokio::select! {
        biased;
        emptied = emptied(client, node, accepted, &mut display) => emptied?,
        error = events(&mut progress) => return Err(error),
        () = tokio::time::sleep(patience.waiting.timeout) => {
            return Err(timed_out(client, node, patience.waiting.timeout, &id).await);
        }
        () = client.shutdown.requested() => {
            let text = format!("it goes on without you; follow it with: muster why {id}");
            return Err(CliError::new(Code::Interrupted, text));
        }
    };
    let but = match staying.len() {
        0 => String::new(),
        1 => " but for 1 that stays".to_owned(),
        n => format!(" but for {n} that stay"),
    };
    println!("{node} is drained at r{at}{but}; how it came about: muster why {id}");
    for one in &staying {
        println!("  {one}");
    }
    Ok(())
}

/// Shows the events that follow from the command, for as long as they come.
async fn events(progress: &mut Progress<'_>) -> CliError {
    loop {
        if let Err(error) = progress.next().await {
            return error;
        }
    }
}

async fn timed_out(client: &Client, node: &NodeName, after: Duration, id: &CommandId) -> CliError {
    let seconds = after.as_secs();
    let moving = match page(client, 0).await.and_then(|page| left(&page, node)) {
        Ok(Left::Moving(n)) => format!("{n} of its replicas are still to move"),
        _ => "not all that stays was seen to".to_owned(),
    };
    let text = format!(
        "{node} is not drained after {seconds} s: {moving}; follow it with: muster why {id}"
    );
    CliError::new(Code::TimedOut, text)
}

async fn page(client: &Client, at_least: u64) -> Result<StatePage, CliError> {
    client.state(StateRequest { at_least: Some(at_least), ..StateRequest::default() }).await
}

/// Waits until nothing is left that can move: where that was so, and what stays, each with the reason.
async fn emptied(
    client: &Client,
    node: &NodeName,
    accepted: u64,
    display: &mut Display,
) -> Result<(u64, Vec<String>), CliError> {
    let mut still_since = None;
    loop {
        let mut page = page(client, accepted).await?;
        let now_ms = runtime::clock::mono_ms();
        match left(&page, node)? {
            Left::Nothing => return Ok((page.place.position, Vec::new())),
            Left::Moving(_) => still_since = None,
            Left::Staying(all) => {
                if now_ms >= *still_since.get_or_insert(now_ms) + STAYS_MS {
                    return Ok((page.place.position, all));
                }
            }
        }
        // What is on the node is what one waits for.
        page.apps.clear();
        page.replicas.retain(|replica| replica.node.as_ref() == Some(node));
        display.draw(&page, runtime::clock::utc_ms());
        tokio::time::sleep(REDRAW).await;
    }
}

/// What is left on a node that drains.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    /// So many replicas are on their way.
    Moving(u64),
    /// None is; these stay, each with the reason.
    Staying(Vec<String>),
}

fn left(page: &StatePage, node: &NodeName) -> Result<Left, CliError> {
    let Some(view) = page.nodes.iter().find(|view| view.node == *node) else {
        return Ok(Left::Nothing);
    };
    if view.admission != "draining" {
        let text = format!("another command meanwhile made {node} be {}", view.admission);
        return Err(CliError::new(Code::Conflict, text));
    }
    let staying = u64::try_from(view.staying.len()).unwrap_or(u64::MAX);
    Ok(match view.replicas.saturating_sub(staying) {
        0 if staying == 0 => Left::Nothing,
        0 => Left::Staying(view.staying.clone()),
        moving => Left::Moving(moving),
    })
}

#[cfg(test)]
mod tests {
    use schemas::place::Place;
    use schemas::read::NodeView;

    use super::*;

    fn drained(admission: &str, replicas: u64, staying: &[&str]) -> Result<Left, CliError> {
        let node = NodeName::new("n1").expect("a name");
        let view = NodeView {
            node: node.clone(),
            status: "ready".to_owned(),
            admission: admission.to_owned(),
            address: String::new(),
            cpu_millis: (0, 0),
            memory_bytes: (0, 0),
            replicas,
            labels: Default::default(),
            engine: String::new(),
            agent: String::new(),
            staying: staying.iter().map(|one| (*one).to_owned()).collect(),
        };
        let (apps, replicas, next) = (Vec::new(), Vec::new(), None);
        left(&StatePage { place: Place::START, apps, nodes: vec![view], replicas, next }, &node)
    }

    #[test]
    fn what_moves_is_what_does_not_stay() {
        let stays = "db-1: its volume lives here";
        assert!(drained("draining", 0, &[]).is_ok_and(|left| left == Left::Nothing));
        assert!(drained("draining", 3, &[stays]).is_ok_and(|left| left == Left::Moving(2)));
        let left = drained("draining", 1, &[stays]);
        assert!(left.is_ok_and(|left| left == Left::Staying(vec![stays.to_owned()])));
    }

    #[test]
    fn a_drain_that_another_command_ended_is_told() {
        let error = drained("open", 3, &[]).expect_err("it is over");
        assert_eq!(error.code, Code::Conflict);
        assert!(error.text.contains("open"), "{}", error.text);
    }
}
