//! `muster`: the command line, and `muster dev`, which runs everything in one process.
//!
//! A client of the bus like any other: it publishes commands, reads what event-log answers, and
//! follows events. What it can do, any NATS client can.
//!
//! Not here: any rule of the cluster.

#[macro_use]
mod out;

mod args;
mod backup;
mod bisect;
mod bundle;
mod client;
mod colour;
mod config;
mod context;
mod dev;
mod difference;
mod doctor;
mod drain;
mod error;
mod exec;
mod follow;
mod fork;
mod history;
mod input;
mod lists;
mod logs;
mod look;
mod meter;
mod plan;
mod progress;
mod rebalance;
mod replay;
mod rollout;
mod session;
mod table;
mod target;
mod tell;
mod terminal;
mod traffic;
mod undo;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Args, Audit, Command};
use client::Client;
use error::{CliError, Code};

fn main() -> ExitCode {
    let args = Args::parse();
    colour::set_up(args.no_color);
    let quiet = !matches!(args.command, Command::Dev(_));
    runtime::process::log_to_stderr(if quiet { "error" } else { "info,async_nats=warn" });
    // These have something to say before they end.
    let ends_itself = matches!(args.command, Command::Dev(_) | Command::Logs(_) | Command::Exec(_));
    let outcome = runtime::process::block_on(|shutdown| async move {
        Ok(tokio::select! {
            biased;
            outcome = run(&args, &shutdown) => outcome,
            () = async { shutdown.requested().await }, if !ends_itself => Err(CliError::interrupted()),
        })
    });
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            if !error.text.is_empty() {
                eprintln!("{} {}", trouble(), error.text);
            }
            error.code.into()
        }
        Err(error) => {
            eprintln!("{} {error}", trouble());
            Code::Internal.into()
        }
    }
}

fn trouble() -> String {
    colour::painted(colour::wanted(&std::io::stderr()), colour::Colour::Red, "muster:")
}

async fn run(args: &Args, shutdown: &runtime::Shutdown) -> Result<(), CliError> {
    match &args.command {
        Command::Dev(dev) => return dev::run(dev, &args.to, shutdown.clone()).await,
        Command::Completion { shell } => {
            args::completion(*shell);
            return Ok(());
        }
        Command::Schema { name, output } => return look::schema(name.as_deref(), *output),
        Command::Context { command } => return context::run(&args.to, command),
        Command::Audit { command: Audit::Check { proof, head, key } } => {
            return history::check(proof, head.as_deref(), key.as_deref());
        }
        Command::Config(config) => return config::config(config),
        Command::Restore(wanted) => return backup::restore(wanted),
        _ => {}
    }
    // What is to be deployed is read first: a mistake in it is told without a cluster.
    let input = match &args.command {
        Command::Deploy(deploy) => Some(input::read(&deploy.files)?),
        Command::Plan(plan) => Some(input::read(&plan.files)?),
        _ => None,
    };
    let client = Client::connect(&args.to, shutdown.clone()).await?;
    match (&args.command, input) {
        (Command::Deploy(deploy), Some(input)) => {
            return follow::deploy(&client, input, &deploy.patience).await;
        }
        (Command::Plan(plan), Some(input)) => return plan::plan(&client, plan, input).await,
        _ => {}
    }
    match &args.command {
        Command::Delete(delete) => follow::delete(&client, delete).await,
        Command::Scale(scale) => follow::scale(&client, scale).await,
        Command::Restart(restart) => follow::restart(&client, restart).await,
        Command::Rollout { command } => rollout::rollout(&client, command).await,
        Command::Cordon(node) => follow::node(&client, "node.cordon", node).await,
        Command::Uncordon(node) => follow::node(&client, "node.uncordon", node).await,
        Command::Drain(args) => drain::drain(&client, args).await,
        Command::Rebalance(args) => rebalance::rebalance(&client, args).await,
        Command::Forget(node) => follow::node(&client, "node.remove", node).await,
        Command::Lost(node) => follow::node(&client, "node.lost", node).await,
        Command::Label(label) => follow::label(&client, label).await,
        Command::Note(note) => follow::note(&client, note).await,
        Command::Ps(look) => look::ps(&client, look).await,
        Command::Routes(look) => traffic::routes(&client, look).await,
        Command::Apps(look) => look::apps(&client, look).await,
        Command::Nodes(look) => look::nodes(&client, look).await,
        Command::State(look) => look::state(&client, look).await,
        Command::Log(log) => history::log(&client, log).await,
        Command::Logs(args) => logs::logs(&client, args, shutdown).await,
        Command::Exec(args) => exec::exec(&client, args, shutdown).await,
        Command::Replay { verify, to, output } => {
            replay::replay(&client, *verify, *to, *output).await
        }
        Command::Whatif(args) => plan::whatif(&client, args).await,
        Command::Fork(args) => fork::fork(&client, args).await,
        Command::Export(args) => bundle::export(&client, args).await,
        Command::Undo(args) => undo::undo(&client, args).await,
        Command::Bisect(args) => bisect::bisect(&client, args).await,
        Command::Backup(wanted) => backup::backup(&client, wanted).await,
        Command::Show(show) => history::show(&client, show).await,
        Command::Why(why) => history::why(&client, why).await,
        Command::Blame(blame) => history::blame(&client, blame).await,
        Command::Diff(diff) => history::diff(&client, diff).await,
        Command::Audit { command } => history::audit(&client, command).await,
        Command::Wait(wait) => follow::wait(&client, wait).await,
        Command::Doctor(plain) => doctor::doctor(&client, plain.output).await,
        Command::Dev(_)
        | Command::Deploy(_)
        | Command::Plan(_)
        | Command::Config(_)
        | Command::Restore(_)
        | Command::Completion { .. }
        | Command::Schema { .. }
        | Command::Context { .. } => {
            Args::command().print_help().map_err(|error| CliError::internal(error.to_string()))
        }
    }
}
