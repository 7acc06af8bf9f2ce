//! `muster-torture`: faults that are really injected into real processes, and what must hold after
//! each: nothing that was answered is lost, nothing is there twice, the chain and the batches are
//! whole; and no request fails because of what becomes of replicas.
//!
//! A scenario is one file in `scenarios/` and one row of its table. Each takes away what it made, also
//! after a failure and after Ctrl-C. The seed decides what is random here; what the system does at
//! the moment of a fault nobody decides, so a seed tells the faults again and not the outcome.
//!
//! Not here: speed, and faults of the model (`tests/sim` has those, by the million).

mod audit;
mod dev;
mod dice;
mod load;
mod mount;
mod process;
mod run;
mod scenarios;

use std::process::ExitCode;

use clap::Parser as _;
use runtime::{Failure, Shutdown};

use run::Run;
use scenarios::{SCENARIOS, Scenario};

/// Injects faults, and says what held.
#[derive(Debug, clap::Parser)]
#[command(
    name = "muster-torture",
    version,
    after_help = "Root is needed to mount, and for hosts of their own; --list says where."
)]
struct Args {
    /// Only these scenarios, in this order
    scenario: Vec<String>,
    /// List the scenarios
    #[arg(long)]
    list: bool,
    /// How many faults each injects. Default: as many as a claim needs
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: Option<u32>,
    /// Only a slice of each, as `make test` runs it
    #[arg(long, conflicts_with = "rounds")]
    slice: bool,
    /// What the random choices follow from. Default: a random one, which is told
    #[arg(long)]
    seed: Option<u64>,
    /// The programs of another release, for upgrade, which is not run without
    #[arg(long, value_name = "DIR")]
    old: Option<std::path::PathBuf>,
    /// Print one JSON value a scenario instead of a line
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(served) = process::serve_unsynced() {
        return served;
    }
    let args = Args::parse();
    if args.list {
        for scenario in SCENARIOS {
            println!("{:13} {:>5} rounds  {}", scenario.name, scenario.rounds, scenario.what);
        }
        return ExitCode::SUCCESS;
    }
    runtime::process::log_to_stderr("error");
    match runtime::process::block_on(|shutdown| all(args, shutdown)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("muster-torture: {}", runtime::process::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for. Whether everything held.
async fn all(args: Args, shutdown: Shutdown) -> Result<bool, Failure> {
    let seed = args.seed.unwrap_or_else(dice::seed);
    let mut held = true;
    for scenario in chosen(&args)? {
        let rounds = match args.slice {
            true => scenario.slice,
            false => Some(args.rounds.unwrap_or(scenario.rounds)),
        };
        let Some(rounds) = rounds else { continue };
        eprintln!("{}: {rounds} rounds, seed {seed} …", scenario.name);
        let mut run = Run::new(scenario.name, rounds, seed, args.old.clone())?;
        let outcome = tokio::select! {
            outcome = scenarios::run(scenario.name, &mut run) => outcome,
            () = shutdown.requested() => Err("interrupted".into()),
        };
        let kept = run.finish(outcome.is_ok());
        let told = match &outcome {
            Ok(checked) => checked.clone(),
            Err(_) => run::Checked::default(),
        };
        let error = outcome.err().map(|error| runtime::process::chain(error.as_ref()));
        told.print(scenario.name, seed, args.json, error.as_deref());
        if error.is_some() {
            if let Some(kept) = kept {
                eprintln!("{}: its logs are in {}", scenario.name, kept.display());
            }
            held = false;
        }
        if shutdown.is_requested() {
            return Ok(false);
        }
    }
    Ok(held)
}

fn chosen(args: &Args) -> Result<Vec<&'static Scenario>, Failure> {
    if args.scenario.is_empty() {
        let can = |scenario: &&Scenario| scenario.name != scenarios::upgrade::NAME;
        return Ok(SCENARIOS.iter().filter(|one| args.old.is_some() || can(one)).collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| format!("there is no scenario {name}: see --list").into())
    };
    args.scenario.iter().map(find).collect()
}
