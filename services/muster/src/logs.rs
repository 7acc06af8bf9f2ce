//! `muster logs`: what replicas wrote, from all nodes in one stream.

mod print;

use std::collections::BTreeMap;
use std::time::Duration;

use bus::{Follow, Message};
use futures_util::{StreamExt as _, stream};
use runtime::tasks::Tasks;
use runtime::{Shutdown, clock};
use schemas::event::Event;
use schemas::id::{NodeName, ReplicaId};
use schemas::live::{Line, LogWanted, Said, Want};
use schemas::read::{LogRequest, ReplicaView, StateRequest};
use schemas::{stream as streams, subject};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::args::{Logs, Tail};
use crate::client::Client;
use crate::error::{CliError, Code};
use crate::session::Session;
use crate::{look, target};
use print::Printer;

/// How many replicas are read at once.
const AT_ONCE: usize = 8;

/// How many parts may wait to be printed.
const QUEUE: usize = 16;

/// How often the state is looked at while nothing happens.
const LOOK: Duration = Duration::from_secs(5);

/// How long the agents may take to be told that nobody listens any more.
const END: Duration = Duration::from_secs(1);

/// How much of a replica's history is searched for its last lines, in events.
const HISTORY: u64 = 50;

/// A run of a replica, and its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    replica: ReplicaId,
    node: NodeName,
    run: u32,
}

pub(crate) async fn logs(
    client: &Client,
    logs: &Logs,
    shutdown: &Shutdown,
) -> Result<(), CliError> {
    let wanted = LogWanted {
        run: None,
        tail: match logs.tail {
            Tail::All => None,
            Tail::Lines(lines) => Some(lines),
        },
        since_ms: logs.since.map(|since| {
            clock::utc_ms().saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        }),
        follow: logs.follow,
        timestamps: true,
    };
    let mut printer = Printer::new(logs);
    let ended = ended(client, &logs.targets).await?;
    for (replica, lines) in ended {
        printer.lines(&replica, lines)?;
    }
    if logs.follow {
        follow(client, logs, wanted, &mut printer, shutdown).await
    } else {
        tokio::select! {
            outcome = once(client, logs, &wanted, &mut printer) => outcome,
            () = shutdown.requested() => Err(CliError::interrupted()),
        }
    }
}

/// The runs that a person means, as the state has them now.
async fn runs(
    client: &Client,
    targets: &[String],
    at_least: Option<u64>,
) -> Result<Vec<Run>, CliError> {
    let page = client.state(StateRequest { at_least, ..StateRequest::default() }).await?;
    let found: Vec<&ReplicaView> = match targets {
        [] => page.replicas.iter().collect(),
        names => names.iter().flat_map(|name| target::replicas(&page, name)).collect(),
    };
    let mut runs: Vec<Run> = found
        .into_iter()
        .filter(|replica| replica.run > 0)
        .filter_map(|r| Some(Run { replica: r.replica.clone(), node: r.node.clone()?, run: r.run }))
        .collect();
    runs.sort();
    runs.dedup();
    Ok(runs)
}

/// The last lines of replicas that are named and have ended. A name that means nothing is an error.
async fn ended(
    client: &Client,
    targets: &[String],
) -> Result<Vec<(ReplicaId, Vec<Line>)>, CliError> {
    let mut found = Vec::new();
    if targets.is_empty() {
        return Ok(found);
    }
    let page = client.state(StateRequest::default()).await?;
    for name in targets {
        let is_app = page.apps.iter().any(|view| {
            let mut names = vec![view.app.to_string()];
            if view.app.tenant.as_str() == schemas::id::DEFAULT_TENANT {
                names.push(view.app.name.to_string());
            }
            names.iter().any(|app| {
                let workload = name.strip_prefix(app.as_str()).and_then(|w| w.strip_prefix('/'));
                let has = |w: &str| view.workloads.keys().any(|known| known.as_str() == w);
                name == app || workload.is_some_and(has)
            })
        });
        if is_app || !target::replicas(&page, name).is_empty() {
            continue;
        }
        let lines = match ReplicaId::new(name) {
            Ok(id) => evidence(client, &id).await?.map(|lines| (id, lines)),
            Err(_) => None,
        };
        let unknown = || {
            let text = format!("there is no {name}: name APP, APP/WORKLOAD or a replica");
            CliError::new(Code::NotFound, text)
        };
        found.push(lines.ok_or_else(unknown)?);
    }
    Ok(found)
}

/// The last lines of a replica's last run, as history has them. Nothing: history does not know it.
async fn evidence(client: &Client, replica: &ReplicaId) -> Result<Option<Vec<Line>>, CliError> {
    let mut found = None;
    let request = LogRequest {
        entity: Some(look::entity(replica.as_str())),
        newest: true,
        limit: Some(HISTORY),
        ..LogRequest::default()
    };
    look::events(client, request, |text| {
        let envelope = look::decode(text)?;
        found.get_or_insert_with(Vec::new);
        if let Event::RunEnded(ended) = envelope.event {
            let at = envelope.header.time_ms;
            let stream = schemas::live::Stream::Stdout;
            let line = |text| Line { time_ms: Some(at), stream, text };
            found = Some(ended.evidence.last_lines.into_iter().map(line).collect());
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

/// Everything that is there, in the order of time.
async fn once(
    client: &Client,
    logs: &Logs,
    wanted: &LogWanted,
    printer: &mut Printer,
) -> Result<(), CliError> {
    let runs = runs(client, &logs.targets, None).await?;
    printer.expect(runs.iter().map(|run| &run.replica));
    let reading = stream::iter(&runs).map(async |run| (run, read(client, run, wanted).await));
    let mut reading = reading.buffer_unordered(AT_ONCE);
    let mut found = BTreeMap::new();
    let mut failed = None;
    while let Some((run, lines)) = reading.next().await {
        match lines {
            Ok(lines) => {
                found.insert(run.replica.clone(), lines);
            }
            Err(error) => {
                eprintln!("muster: {}: {}", run.replica, error.text);
                failed = Some(error.code);
            }
        }
    }
    let mut all: Vec<(ReplicaId, Line)> = found
        .into_iter()
        .flat_map(|(replica, lines)| lines.into_iter().map(move |line| (replica.clone(), line)))
        .collect();
    all.sort_by_key(|(_, line)| line.time_ms);
    for (replica, line) in all {
        printer.lines(&replica, vec![line])?;
    }
    failed.map_or(Ok(()), |code| Err(CliError::new(code, "not everything could be read")))
}

async fn read(client: &Client, run: &Run, wanted: &LogWanted) -> Result<Vec<Line>, CliError> {
    let (lines, mut arrived) = channel(QUEUE);
    let mut read = Vec::new();
    let collecting = async {
        while let Some((_, more)) = arrived.recv().await {
            read.extend(more);
        }
    };
    let (outcome, ()) = tokio::join!(pass(client, run, wanted.clone(), lines), collecting);
    outcome.map(|()| read)
}

/// Passes a run's lines on to its end. Those of one whose container is gone come from history.
async fn pass(
    client: &Client,
    run: &Run,
    wanted: LogWanted,
    lines: Sender<(ReplicaId, Vec<Line>)>,
) -> Result<(), CliError> {
    let subject = subject::container_log(&run.node, run.replica.as_str());
    let wanted = LogWanted { run: Some(run.run), ..wanted };
    let tail = wanted.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
    let since_ms = wanted.since_ms.unwrap_or(0);
    let mut session = match Session::begin(client, &run.node, subject, Want::Log(wanted)).await {
        Ok((session, _)) => session,
        Err(error) if error.code == Code::NotFound => {
            let mut last = evidence(client, &run.replica).await?.unwrap_or_default();
            last.retain(|line| line.time_ms.is_none_or(|at| at >= since_ms));
            last.drain(..last.len().saturating_sub(tail));
            // Nobody is left to print it for.
            let _ = lines.send((run.replica.clone(), last)).await;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    loop {
        let said = tokio::select! {
            said = session.next() => said?,
            () = lines.closed() => {
                session.stop().await;
                return Ok(());
            }
        };
        match said {
            Said::Lines { lines: more, lost } => {
                if lost > 0 {
                    let id = &run.replica;
                    eprintln!(
                        "muster: {id}: {lost} lines came faster than they were read, and are left out"
                    );
                }
                // Whoever it was for is gone: that is met above.
                let _ = lines.send((run.replica.clone(), more)).await;
            }
            Said::Ended { .. } => return Ok(()),
            _ => {}
        }
    }
}

/// What is there, then what comes, of runs that begin meanwhile as well.
async fn follow(
    client: &Client,
    logs: &Logs,
    wanted: LogWanted,
    printer: &mut Printer,
    shutdown: &Shutdown,
) -> Result<(), CliError> {
    let head = client.head().await?.place.position;
    let events = client.bus.follow(streams::EVENTS.name, head + 1, None);
    // A task of its own: lines that come all the time would never let it begin to read.
    let (positions, mut begun) = channel(1);
    let mut watching = Tasks::default();
    watching.spawn("events", watch(events, positions));
    let (lines, mut arrived) = channel(QUEUE);
    let mut following = Following {
        client,
        wanted,
        lines,
        known: BTreeMap::new(),
        tasks: Tasks::default(),
        joined: false,
    };
    following.join(runs(client, &logs.targets, None).await?, printer);
    let mut look_again = tokio::time::interval(LOOK);
    look_again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let look = tokio::select! {
            Some((replica, more)) = arrived.recv() => {
                following.seen(&replica, &more);
                if let Err(error) = printer.lines(&replica, more) {
                    following.end(arrived).await;
                    return Err(error);
                }
                None
            }
            Some((task, ended)) = following.tasks.ended(), if !following.tasks.is_empty() => {
                following.ended(&task, ended);
                None
            }
            Some(position) = begun.recv() => Some(Some(position)),
            Some((_, Err(error))) = watching.ended(), if !watching.is_empty() => {
                following.end(arrived).await;
                return Err(CliError::new(Code::Unreachable, error.to_string()));
            }
            _ = look_again.tick() => Some(None),
            () = shutdown.requested() => {
                following.end(arrived).await;
                return Err(CliError::interrupted());
            }
        };
        if let Some(at_least) = look {
            // A cluster that is away for a moment ends nothing that is followed.
            match runs(client, &logs.targets, at_least).await {
                Ok(runs) => following.join(runs, printer),
                Err(error) => eprintln!("muster: {}", error.text),
            }
        }
    }
}

/// Tells where runs began.
async fn watch(mut events: Follow, positions: Sender<u64>) -> Result<(), runtime::Failure> {
    let began = |message: &&Message| message.subject.ends_with(".run-started");
    loop {
        let batch = events.next_batch(64).await?;
        // The state is asked for as it is after that, not a moment before.
        if let Some(message) = batch.iter().rfind(began)
            && positions.send(message.sequence).await.is_err()
        {
            return Ok(());
        }
    }
}

/// The runs that are followed.
struct Following<'a> {
    client: &'a Client,
    wanted: LogWanted,
    lines: Sender<(ReplicaId, Vec<Line>)>,
    known: BTreeMap<Run, Known>,
    tasks: Tasks,
    /// Whether the runs that were there at first have been met.
    joined: bool,
}

/// A run that was met.
#[derive(Default)]
struct Known {
    /// Whether it is being followed, or was to its end.
    follows: bool,
    /// When its last line was said.
    last_ms: Option<u64>,
}

impl Following<'_> {
    fn join(&mut self, runs: Vec<Run>, printer: &mut Printer) {
        printer.expect(runs.iter().map(|run| &run.replica));
        // What begins while we look is wanted from its beginning.
        let tail = self.wanted.tail.filter(|_| !self.joined);
        self.joined = true;
        for run in runs {
            let known = self.known.entry(run.clone()).or_default();
            if std::mem::replace(&mut known.follows, true) {
                continue;
            }
            let mut wanted = LogWanted { tail, ..self.wanted.clone() };
            if let Some(last_ms) = known.last_ms {
                wanted.since_ms = Some(last_ms + 1);
            }
            let (client, lines) = (self.client.clone(), self.lines.clone());
            self.tasks.spawn(name(&run), async move {
                pass(&client, &run, wanted, lines).await.map_err(|error| error.text.into())
            });
        }
    }

    fn seen(&mut self, replica: &ReplicaId, lines: &[Line]) {
        let last = lines.last().and_then(|line| line.time_ms);
        let known = self.known.iter_mut().rev().find(|(run, _)| run.replica == *replica);
        if let Some((_, known)) = known.filter(|_| last.is_some()) {
            known.last_ms = last;
        }
    }

    /// One that broke is begun again when the state is looked at next.
    fn ended(&mut self, task: &str, ended: Result<(), runtime::Failure>) {
        let Err(error) = ended else { return };
        let known = self.known.iter_mut().find(|(run, _)| name(run) == task);
        if let Some((run, known)) = known {
            eprintln!("muster: {}: {error}", run.replica);
            known.follows = false;
        }
    }

    /// Lets every task tell its agent.
    async fn end(&mut self, arrived: Receiver<(ReplicaId, Vec<Line>)>) {
        drop(arrived);
        let _ =
            tokio::time::timeout(END, async { while self.tasks.ended().await.is_some() {} }).await;
    }
}

fn name(run: &Run) -> String {
    format!("{}-{}", run.replica, run.run)
}
