//! `muster-bench`: how fast and how large Muster is, each figure beside a yardstick that is measured
//! in the same run, in turns with it.
//!
//! Real processes of the build it lies in, a real nats-server, the engine of this machine. It takes
//! away what it makes. A goal that is missed is shown, and is not an error: what did not work is.
//!
//! Not here: any judgement of right or wrong behaviour, which is what the other layers test.

mod clock;
mod cluster;
mod cut;
mod deploy;
mod engine;
mod figure;
mod gateway;
mod heal;
mod idle;
mod log;
mod memory;
mod place;
mod receipt;
mod script;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use runtime::{Failure, Shutdown};

use figure::Row;

/// Measures Muster beside its yardsticks.
#[derive(Debug, clap::Parser)]
#[command(name = "muster-bench", version)]
struct Args {
    /// Only this figure. May be given again.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// List the figures
    #[arg(long)]
    list: bool,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Print one JSON value a line instead of the table
    #[arg(long)]
    json: bool,
    /// The image that is run. It must be on the engine.
    #[arg(long, default_value = "muster/web:1")]
    image: String,
    /// The engine's socket
    #[arg(long, default_value = "/var/run/docker.sock")]
    socket: std::path::PathBuf,
    /// How many replicas the first figure deploys
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=400))]
    replicas: u32,
    /// How many events the long history has
    #[arg(long, default_value_t = 10_000_000)]
    events: u64,
    /// Where logs are written and deleted again; the folder for temporary files, if not given
    #[arg(long, value_name = "DIR")]
    folder: Option<std::path::PathBuf>,
    /// The gateway that is measured beside other proxies; the one beside this program, if not given
    #[arg(long, value_name = "PATH")]
    gateway: Option<std::path::PathBuf>,
    /// Makes connections to this port here for a second, and prints how many: what a figure is measured by
    #[arg(long, value_name = "PORT", hide = true)]
    connect: Option<u16>,
    #[arg(skip)]
    shutdown: Option<Shutdown>,
}

impl Args {
    /// Waits until somebody wants this to end.
    async fn interrupted(&self) {
        match &self.shutdown {
            Some(shutdown) => shutdown.requested().await,
            None => std::future::pending().await,
        }
    }

    /// Prints what was measured.
    fn show(&self, figure: &str, rows: &[Row]) -> Result<(), Failure> {
        for row in rows {
            if self.json { row.print_json(figure)? } else { row.print(figure) }
        }
        Ok(())
    }

    /// Fails once somebody wants this to end: for what is too busy to wait.
    fn goes_on(&self) -> Result<(), Failure> {
        match &self.shutdown {
            Some(shutdown) if shutdown.is_requested() => Err("interrupted".into()),
            _ => Ok(()),
        }
    }
}

const FIGURES: [(&str, &str); 10] = [
    ("place", "placements in memory, at 1,000 and 5,000 nodes"),
    ("fold", "memory of a replica in the fold, and how fast history is replayed"),
    ("append", "durable appends, at group sizes and at rates"),
    ("log", "a history of --events: replay, size, start, reads"),
    ("receipt", "a command until its durable receipt"),
    ("deploy", "a command until all of its replicas run"),
    ("heal", "a killed container until its next run"),
    ("cut", "a node that falls silent until its replicas run elsewhere"),
    ("idle", "cpu and memory of a `muster dev` of three nodes at rest"),
    (
        GATEWAY,
        "requests and connections through the gateway; only when named: `make bench-gateway`",
    ),
];

/// It needs programs that the others do not.
const GATEWAY: &str = "gateway";

async fn measure(name: &str, args: &Args) -> Result<Vec<Row>, Failure> {
    match name {
        "place" => Ok(place::measure(args)),
        "fold" => memory::measure(args),
        "append" => log::append(args).await,
        "log" => log::long(args).await,
        "receipt" => receipt::measure(args).await,
        "deploy" => deploy::measure(args).await,
        "heal" => heal::measure(args).await,
        "cut" => cut::measure(args).await,
        "idle" => idle::measure(args).await,
        GATEWAY => gateway::measure(args).await,
        other => Err(format!("there is no figure {other}: see --list").into()),
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        for (name, what) in FIGURES {
            println!("{name:8} {what}");
        }
        return ExitCode::SUCCESS;
    }
    runtime::process::log_to_stderr("error");
    let run = runtime::process::block_on(|shutdown| async move {
        match args.connect {
            Some(port) => gateway::load::connect(port).await,
            None => all(&Args { shutdown: Some(shutdown), ..args }).await,
        }
    });
    match run {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("muster-bench: {}", runtime::process::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn all(args: &Args) -> Result<(), Failure> {
    let names: Vec<&str> = match args.only.as_slice() {
        [] => FIGURES.iter().map(|(name, _)| *name).filter(|name| *name != GATEWAY).collect(),
        only => only.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = names.iter().find(|name| !FIGURES.iter().any(|(n, _)| n == *name)) {
        return Err(format!("there is no figure {unknown}: see --list").into());
    }
    if !args.json {
        figure::heading();
    }
    for name in names {
        eprintln!("measuring {name} …");
        let rows = measure(name, args)
            .await
            .map_err(|error| format!("{name}: {}", runtime::process::chain(error.as_ref())))?;
        args.show(name, &rows)?;
    }
    Ok(())
}
