//! `muster rebalance`: says what would move, has it moved, and waits until nothing more is gained.

use schemas::command::{Command, SetRebalance};
use schemas::event::{Event, RebalanceEnded};
use schemas::read::StateRequest;

use crate::args::{AtOnce, Format, Rebalance, Switch};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::follow::{self, Change, Progress};
use crate::progress::{Display, REDRAW};
use crate::{look, plan, tell};

pub(crate) async fn rebalance(client: &Client, args: &Rebalance) -> Result<(), CliError> {
    let patience = &args.patience;
    if let Some(switch) = args.continuous {
        let command = Command::SetRebalance(SetRebalance { on: switch == Switch::On });
        let (remark, expect_position) = (patience.remark.clone(), None);
        return follow::at_once(client, command, &AtOnce { remark, expect_position }).await;
    }
    let moves = plan::moves(client, args.app.as_ref()).await?;
    if args.output == Format::Json {
        return look::json(&moves);
    }
    print!("{}", moves.told());
    if args.dry_run {
        print!("{}", moves.nothing_sent());
        return Ok(());
    }
    if moves.is_empty() {
        return Ok(());
    }
    carry_out(client, args).await
}

async fn carry_out(client: &Client, args: &Rebalance) -> Result<(), CliError> {
    let patience = &args.patience;
    let (command, mut common) = plan::rebalance_command(args.app.as_ref());
    common.reason.clone_from(&patience.remark.reason);
    common.expect_position = patience.expect_position;
    let shown = patience.waiting.progress;
    let change = Change { command, common, app: None };
    let (mut progress, accepted) = follow::send(client, change, shown).await?;
    let id = progress.id.clone();
    if patience.detach {
        println!("accepted at r{accepted}; follow it with: muster why {id}");
        return Ok(());
    }
    let mut display = Display::new(shown);
    let (at, ended) = tokio::select! {
        biased;
        ended = ended(&mut progress) => ended?,
        error = draw(client, &mut display), if display.is_live() => return Err(error),
        () = tokio::time::sleep(patience.waiting.timeout) => {
            let seconds = patience.waiting.timeout.as_secs();
            let text = format!(
                "not all is moved after {seconds} s, and it goes on; follow it with: muster why {id}"
            );
            return Err(CliError::new(Code::TimedOut, text));
        }
        () = client.shutdown.requested() => {
            let text = format!("it goes on without you; follow it with: muster why {id}");
            return Err(CliError::new(Code::Interrupted, text));
        }
    };
    println!("{}, at r{at}; how it came about: muster why {id}", tell::moves_ended(&ended));
    Ok(())
}

/// Waits for the end of what the command began.
async fn ended(progress: &mut Progress<'_>) -> Result<(u64, RebalanceEnded), CliError> {
    loop {
        let envelope = progress.next().await?;
        if let Event::RebalanceEnded(ended) = envelope.event {
            return Ok((envelope.header.position, ended));
        }
    }
}

/// Shows what comes and what leaves, for as long as it is looked at.
async fn draw(client: &Client, display: &mut Display) -> CliError {
    loop {
        let mut page = match client.state(StateRequest::default()).await {
            Ok(page) => page,
            Err(error) => return error,
        };
        page.apps.clear();
        page.replicas.retain(|replica| replica.status != "ready");
        display.draw(&page, runtime::clock::utc_ms());
        tokio::time::sleep(REDRAW).await;
    }
}
